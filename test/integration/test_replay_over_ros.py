# SPDX-License-Identifier: MIT
"""`vla up replay`: real nodes answer a recording over DDS, judged as by a replay without ROS."""

import json

import numpy as np
import pytest
from rclpy.serialization import serialize_message
from vla_msgs.msg import ActionChunk, PolicyStatus

from vla_core.cli import main
from vla_core.dataset.recording import Recording as ReadRecording
from vla_core.evaluation.replay.recorded_answers import RecordedAnswers
from vla_core.inference.policy import Policy
from vla_core.processing.contract import load_contract
from vla_core.processing.image_encodings import image_from_message
from vla_core.processing.messages import stamp_ns
from vla_core.sim.arm_model import HOME
from vla_core.types import Observation
from vla_ros.conversions import (
    image_message,
    joint_state_message,
    joint_trajectory_message,
    time_message,
)
from vla_ros.graphs import get_graph
from vla_ros.message_types import message_type_name
from vla_ros.private_domain import private_domain
from vla_ros.recording import Recording
from vla_ros.supervisor import Supervisor

pytestmark = pytest.mark.ros

PATIENCE_S = 240.0
START_NS = 1_700_000_000_000_000_000
MS = 1_000_000
CONTRACT = load_contract("sim")
JOINTS = CONTRACT.action.joints
TASKS = {300: "pick up the red block", 1600: "pick up the blue block"}
PAUSE_MS, END_MS = 1500, 3000
FORMER_POLICY = "of the run"


def joints_at(at_ms):
    return np.asarray(HOME) + 0.1 * np.sin(at_ms * 1e-3 + np.arange(7)) * [1, 1, 1, 1, 1, 1, 0]


def recorded_messages():
    """Topic, time in ms and message, as recorder_node writes them in a demonstration."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    large = np.kron(pixels, np.ones((8, 8, 1), np.uint8))
    for at in range(0, END_MS, 50):
        stamp = START_NS + at * MS
        for topic, delay in (("front_camera/image_raw", 3), ("wrist_camera/image_raw", 5)):
            image = np.roll(large, at // 5 + delay, axis=1)
            yield topic, at + delay, image_message(image, stamp_ns=stamp)
    for at in range(0, END_MS, 10):
        stamp = START_NS + at * MS
        state = joint_state_message(JOINTS, joints_at(at), np.zeros(7), stamp_ns=stamp)
        yield "joint_states", at + 1, state
    for at in range(0, END_MS, 20):
        targets = [joints_at(at + 20), joints_at(at + 40)]
        yield (
            CONTRACT.command.topic,
            at,
            joint_trajectory_message(JOINTS, targets, None, [0.02, 0.04]),
        )
    asked = {0: "", **TASKS, PAUSE_MS: ""}
    for at, instruction in sorted(asked.items()):
        status = PolicyStatus(state=PolicyStatus.RUNNING, instruction=instruction)
        status.header.stamp = time_message(START_NS + at * MS)
        yield "policy_node/status", at, status
    for at in range(400, END_MS, 200):
        yield "action_chunk", at, ActionChunk(checkpoint_id=FORMER_POLICY, horizon=0)


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    path = tmp_path_factory.mktemp("recorded") / "bag"
    recording = Recording(path, compress=True, notes={})
    for topic, at, message in sorted(recorded_messages(), key=lambda each: each[1]):
        if not recording.has_topic(f"/{topic}"):
            recording.add_topic(f"/{topic}", message_type_name(type(message)), [])
        recording.write(f"/{topic}", START_NS + at * MS, serialize_message(message))
    recording.close()
    return path


def replay(bag, output, **values):
    """Return the running graph of a replay."""
    return Supervisor(
        get_graph("replay").nodes({"bag": str(bag), "output": str(output), **values})
    )


@pytest.fixture(scope="module")
def output(bag, tmp_path_factory):
    """Folder of a replay that has ended by itself."""
    folder = tmp_path_factory.mktemp("replay")
    with private_domain(), replay(bag, folder) as supervisor:
        assert supervisor.wait(PATIENCE_S) == 0, supervisor.output_of("replay_node")
    for node in ("replay_node", "command_node"):
        (folder / f"{node}.log").write_text("\n".join(supervisor.output_of(node)))
    return folder


@pytest.fixture(scope="module")
def metrics(output):
    return json.loads((output / "metrics.json").read_text())


@pytest.fixture(scope="module")
def answers(output):
    with ReadRecording(output / "answers") as recording:
        return list(RecordedAnswers(recording, CONTRACT))


@pytest.fixture(scope="module")
def observe(bag):
    """Return what the cameras and joints were at a stamp, read from the bag without a buffer."""
    with ReadRecording(bag) as recording:
        frames = {
            name: {
                stamp_ns(message): image_from_message(message)
                for _, message in recording.messages(f"/{camera.topic}")
            }
            for name, camera in CONTRACT.cameras.items()
        }
        states = [message for _, message in recording.messages("/joint_states")]
    times = np.array([stamp_ns(state) - START_NS for state in states])
    positions = np.array([state.position for state in states])

    def at(answer):
        since_ns = answer.chunk.stamp_ns - START_NS
        return Observation(
            images={name: frames[name][stamp] for name, stamp in answer.image_stamps_ns.items()},
            state=np.array([np.interp(since_ns, times, column) for column in positions.T]),
            instruction=answer.chunk.instruction,
            stamp_ns=answer.chunk.stamp_ns,
            image_stamps_ns=answer.image_stamps_ns,
            state_stamp_ns=answer.state_stamp_ns,
        )

    return at


def test_each_chunk_over_ros_is_the_one_that_the_policy_gives_for_the_recorded_observation(
    answers, observe
):
    policy = Policy.from_checkpoint("groot")
    compared = [each for each in answers if each.state_stamp_ns == each.chunk.stamp_ns]
    assert len(compared) >= 2
    for answer in compared:
        known = answer.chunk.policy_actions[: answer.num_committed].copy()
        expected = policy.predict_chunk(observe(answer), committed=known if len(known) else None)
        np.testing.assert_allclose(answer.chunk.policy_actions, expected.policy_actions, atol=1e-4)
        np.testing.assert_allclose(answer.chunk.actions, expected.actions, atol=1e-4)


def test_the_report_says_so_too(metrics, output, answers):
    online = metrics["online"]
    assert online["chunks"] == len(answers)
    assert 0 < online["same_observation"] == online["equal"]
    assert online["largest_difference"] < 1e-4
    assert "Over ROS and without" in (output / "report.html").read_text()


def test_no_controller_is_missed(output):
    log = (output / "command_node.log").read_text()
    assert "dry run" in log
    assert "nobody subscribes" not in log


def test_difference_of_the_total_error_is_stated(metrics, output):
    row = metrics["online"]["figures"]["mean error, rad"]
    assert row["online"] == metrics["error"]["total"]["rad"]["mae"] > 0.0
    assert row["difference"] == pytest.approx(row["online"] - row["offline"])
    assert "over ROS and without" in (output / "replay_node.log").read_text()


def test_the_recorded_answers_can_be_judged_later_and_are_judged_the_same(
    bag, output, metrics, tmp_path, capsys
):
    words = ["replay", str(bag), "--answers", str(output / "answers"), "--output", str(tmp_path)]
    assert main([*words, "--worst", "0", "--no-mcap"]) == 0
    again = json.loads((tmp_path / "metrics.json").read_text())
    for entry in ("online", "error", "limiter", "sensitivity"):
        assert again[entry] == metrics[entry]
    assert "over ROS and without" in capsys.readouterr().out


def test_policy_is_asked_what_the_recording_asks_in_its_episodes(answers):
    asked = [answer.chunk.instruction for answer in answers]
    first, second = TASKS.values()
    assert asked == [first] * asked.count(first) + [second] * asked.count(second)
    for at_ms, instruction in TASKS.items():
        start_ns = answers[asked.index(instruction)].start_ns
        assert start_ns >= START_NS + at_ms * MS


def test_commands_go_nowhere_and_chunks_of_the_recording_are_not_played(output):
    with ReadRecording(output / "answers") as recording:
        statuses = [message for _, message in recording.messages("/command_node/status")]
        chunks = [message for _, message in recording.messages("/action_chunk")]
    assert any(status.mode == status.EXECUTING for status in statuses)
    assert not any(status.armed for status in statuses)
    assert FORMER_POLICY not in {chunk.checkpoint_id for chunk in chunks}


def test_what_is_there_is_judged_after_ctrl_c(bag, tmp_path):
    with private_domain(), replay(bag, tmp_path, rate="0.1") as supervisor:
        while "is played" not in "".join(supervisor.output_of("replay_node")):
            assert supervisor.wait(0.1) is None, supervisor.output_of("replay_node")
        while "executing" not in "".join(supervisor.output_of("command_node")):
            assert supervisor.wait(0.1) is None, supervisor.output_of("command_node")
    output = "\n".join(supervisor.output_of("replay_node"))
    assert "Traceback" not in output
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["ticks"]["answered"] > 0
    assert metrics["bags"][0]["duration_s"] * CONTRACT.action.rate_hz > metrics["ticks"]["total"]
    assert metrics["online"]["equal"] is None
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("player_node", {"bag": "missing"}, "bag 'missing' cannot be opened"),
        ("replay_node", {"actions": "leader"}, "has no topic 'leader'"),
    ],
)
def test_what_cannot_be_played_or_judged_ends_the_graph_before_it_begins(
    bag, tmp_path, name, values, reason
):
    nodes = get_graph("replay").nodes(
        {"bag": str(bag), "output": str(tmp_path), "player": "own", **values}
    )
    (spec,) = [node for node in nodes if node.name == name]
    with private_domain(), Supervisor([spec]) as supervisor:
        assert supervisor.wait(PATIENCE_S) == 1
    assert reason in "".join(supervisor.output_of(name))
