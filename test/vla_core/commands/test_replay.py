# SPDX-License-Identifier: MIT
"""`vla replay`: the shipped policy on demonstrations, and one made worse on purpose."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from vla_core.cli import EXIT_USER_ERROR, main
from vla_core.evaluation.replay.gate import find_faults, load_gate
from vla_core.inference.checkpoint_files import find_checkpoint
from vla_core.models.frameworks import AbstractVLA
from vla_core.processing.contract import load_contract
from vla_core.processing.pipeline import ProcessingPipeline
from vla_core.sim.env import TabletopEnv
from vla_core.sim.expert import ScriptedExpert

ROOT = Path(__file__).resolve().parents[3]
START_NS = 1_700_000_000_000_000_000
STEP_NS = 100_000_000
NUM_STEPS = 56
GATE = """
limits:
  error.total.policy.mae: {max: 0.08}
"""


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory):
    """The first steps of a demonstration of the scripted expert, and its instruction."""
    path = tmp_path_factory.mktemp("expert") / "bag"
    store = get_typestore(Stores.ROS2_JAZZY)
    contract = load_contract("sim")
    env = TabletopEnv()
    observation, info = env.reset(seed=100_001)
    expert = ScriptedExpert(env.sim)

    def stamp(at_ns):
        seconds, nanoseconds = divmod(at_ns, 1_000_000_000)
        time = store.types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds)
        return store.types["std_msgs/msg/Header"](stamp=time, frame_id="")

    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        kinds = {camera.topic: "sensor_msgs/msg/Image" for camera in contract.cameras.values()}
        kinds |= {contract.state.topic: "sensor_msgs/msg/JointState"}
        kinds |= {"leader": "sensor_msgs/msg/JointState"}
        topics = {
            name: (writer.add_connection(f"/{name}", kind, typestore=store), kind)
            for name, kind in kinds.items()
        }

        def write(topic, at_ns, **fields):
            connection, kind = topics[topic]
            message = store.types[kind](header=stamp(at_ns), **fields)
            writer.write(connection, at_ns, store.serialize_cdr(message, kind))

        def write_joints(topic, at_ns, positions):
            empty = np.zeros(0)
            joints = list(contract.state.joints)
            values = positions.astype(np.float64)
            write(topic, at_ns, name=joints, position=values, velocity=empty, effort=empty)

        for step in range(NUM_STEPS):
            now = START_NS + step * STEP_NS
            write_joints(contract.state.topic, now, env.sim.joint_positions())
            for name, camera in contract.cameras.items():
                image = observation[name]
                write(
                    camera.topic,
                    now,
                    height=image.shape[0],
                    width=image.shape[1],
                    encoding="rgb8",
                    is_bigendian=0,
                    step=3 * image.shape[1],
                    data=image.reshape(-1),
                )
            write_joints("leader", now, env.command)
            observation, *_ = env.step(expert.act(env.command))
    env.close()
    return path, info["instruction"]


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """The shipped policy with noise on its weights."""
    folder = tmp_path_factory.mktemp("noisy")
    shipped = find_checkpoint("groot")
    model = AbstractVLA.from_pretrained(shipped)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.action_head.parameters():
            scale = weight.std() if weight.numel() > 1 else 0.0
            weight += scale * torch.randn(weight.shape, generator=generator)
    model.save_pretrained(folder)
    ProcessingPipeline.load(shipped).save(folder)
    return folder


@pytest.fixture(scope="module")
def replay(demonstration, tmp_path_factory):
    """Return the function that runs the command and returns its status and figures."""
    bag, instruction = demonstration

    def run(*arguments, probe_every=0, folder=None):
        folder = folder or tmp_path_factory.mktemp("output")
        command = ["replay", str(bag), "--actions", "leader", "--instruction", instruction]
        command += ["--probe-every", str(probe_every), "--output", str(folder), *arguments]
        status = main(command)
        return status, json.loads((folder / "metrics.json").read_text()), folder

    return run


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    path = tmp_path_factory.mktemp("gate") / "gate.yaml"
    path.write_text(GATE, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def good(replay, gate):
    return replay("--gate", str(gate), "--max-ticks", "12", "--rerun", probe_every=6)


def test_the_shipped_policy_keeps_the_gate_and_leaves_a_page_that_loads_nothing(good):
    status, metrics, folder = good
    assert status == 0
    assert metrics["checkpoint"]["name"] == "groot"
    assert metrics["direction"]["p50"] > 0.9
    assert metrics["sensitivity"]["checks"]["camera wrist black"]["reacts"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "every limit of the gate is kept" in page
    assert page.count("data:image/jpeg") == len(metrics["worst"]) > 0
    assert "http" not in page.replace("http://www.w3.org", "")
    for link in {part.partition('"')[0] for part in page.split('href="#')[1:]}:
        assert f'id="{link}"' in page
    assert len(list(folder.glob("predictions/*/*.mcap"))) == 1
    layout = json.loads((folder / "predictions/foxglove.json").read_text())
    assert "Image!front" in layout["configById"]


def test_the_file_for_the_rerun_viewer_has_prediction_recording_and_cameras(good):
    (path,) = good[2].glob("predictions/*.rrd")
    command = [sys.executable, "-m", "rerun", "rrd", "print", str(path)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for entity in ("joint_1/predicted", "joint_1/recorded", "cameras/front", "cameras/wrist"):
        assert entity in printed


def test_the_example_of_a_gate_limits_figures_that_there_are(good):
    _, metrics, _ = good
    assert find_faults(load_gate(ROOT / "config/replay_gate.yaml"), metrics) == []


def test_noise_on_the_weights_breaks_the_gate_and_is_worse(replay, gate, noisy, capsys):
    status, metrics, folder = replay("--compare", "groot", str(noisy), "--gate", str(gate))
    assert status == 1
    assert "gate: error.total.policy.mae is" in capsys.readouterr().out
    assert metrics["comparison"]["policy"]["verdict"] == "worse"
    assert metrics["comparison"]["policy"]["lower"] > 0.0
    assert "gate broken" in (folder / "report.html").read_text(encoding="utf-8")


def test_ray_replays_as_this_process_does_and_resume_takes_what_is_done(replay, good):
    status, metrics, folder = replay("--max-ticks", "12", "--ray", "local", probe_every=6)
    assert status == 0
    assert metrics["error"] == good[1]["error"]
    _, resumed, _ = replay("--max-ticks", "12", "--resume", probe_every=6, folder=folder)
    assert resumed["timing"] == metrics["timing"]


def test_a_gate_on_no_figure_costs_no_results(replay, good, tmp_path, capsys):
    path = tmp_path / "gate.yaml"
    path.write_text("limits: {error.totale: {max: 1}}", encoding="utf-8")
    settings = ("--max-ticks", "12", "--resume", "--gate", str(path))
    status, metrics, folder = replay(*settings, probe_every=6, folder=good[2])
    assert status == EXIT_USER_ERROR
    assert metrics["error"] == good[1]["error"]
    assert (folder / "report.html").exists()
    message = capsys.readouterr().err
    assert "limits 'error.totale', but metrics.json has no 'totale' in 'error'" in message


def test_words_that_no_demonstration_said_are_named_once(replay, capsys):
    status, *_ = replay("--max-ticks", "1", "--instruction", "put the red block up")
    assert status == 0
    output = capsys.readouterr().out
    assert output.count("groot: no demonstration that the policy was trained on says 'put") == 1
    assert "'pick the red block up'" in output


def test_nothing_to_replay_is_an_error(capsys):
    assert main(["replay", "--bags", "nowhere/*.mcap"]) == EXIT_USER_ERROR
    assert "--bags 'nowhere/*.mcap' matches nothing" in capsys.readouterr().err
    assert main(["replay", "nowhere"]) == EXIT_USER_ERROR
    assert "there is no recording 'nowhere'" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--ray", "local"], ["--resume"], ["--max-ticks", "5"]])
def test_what_answers_cannot_heed_is_refused(tmp_path, capsys, option):
    arguments = [str(tmp_path), "--answers", str(tmp_path), *option, "--output", str(tmp_path)]
    assert main(["replay", *arguments]) == EXIT_USER_ERROR
    assert "--answers takes the one recording" in capsys.readouterr().err


def test_two_policies_and_a_third_are_refused(tmp_path, capsys):
    arguments = [str(tmp_path), "--compare", "groot", "act", "--checkpoint", "pi0"]
    assert main(["replay", *arguments]) == EXIT_USER_ERROR
    assert "--compare names both checkpoints" in capsys.readouterr().err


def test_threads_below_one_are_refused(tmp_path, capsys):
    arguments = [str(tmp_path), "--threads", "0", "--output", str(tmp_path / "out")]
    assert main(["replay", *arguments]) == EXIT_USER_ERROR
    assert "threads of torch must be at least 1, got 0" in capsys.readouterr().err


def test_a_recording_that_is_none_is_an_error(tmp_path, capsys):
    (tmp_path / "empty.mcap").write_bytes(b"")
    status = main(["replay", str(tmp_path / "empty.mcap"), "--output", str(tmp_path / "out")])
    assert status == EXIT_USER_ERROR
    assert "empty.mcap' cannot be" in capsys.readouterr().err
