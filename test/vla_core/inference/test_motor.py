# SPDX-License-Identifier: MIT
"""Motor control in numpy: what torch computes, within one checkpoint, on top of the chunk."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vla_core.errors import CheckpointError, ChunkError, ConfigError, ShapeError
from vla_core.inference.checkpoint_files import CONFIG_NAME, WEIGHTS_NAME, find_checkpoint
from vla_core.inference.command_stream import CommandMode, CommandStream
from vla_core.inference.motor import MotorControl, MotorNetwork
from vla_core.models.frameworks import HelixVLA
from vla_core.models.frameworks.helix_tiers import HelixMotorControl, shift_sequence
from vla_core.models.weights import write_model
from vla_core.processing.contract import RobotContract, load_contract
from vla_core.processing.pipeline import ProcessingPipeline
from vla_core.types import ActionChunk

CONTRACT = load_contract("sim_200hz")
HORIZON, ACTIONS, STATES = 16, 7, 7
NOW_NS = 1_000_000_000


def trained_motor(hidden_dim=24):
    """A motor control whose correction is not zero, as training leaves it."""
    torch.manual_seed(0)
    motor = HelixMotorControl(ACTIONS, STATES, HORIZON, hidden_dim).eval()
    torch.nn.init.normal_(motor.correction.weight, std=0.3)
    torch.nn.init.normal_(motor.correction.bias, std=0.3)
    return motor


def arrays(module):
    return {name: value.numpy() for name, value in module.state_dict().items()}


MOTOR = trained_motor()
NETWORK = MotorNetwork(arrays(MOTOR), ACTIONS, HORIZON)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A whole Helix checkpoint whose motor control corrects."""
    source = find_checkpoint("untrained:helix", CONTRACT)
    model = HelixVLA.from_pretrained(source)
    torch.manual_seed(1)
    torch.nn.init.normal_(model.motor_control.correction.weight, std=0.3)
    folder = tmp_path_factory.mktemp("helix")
    model.save_pretrained(folder)
    ProcessingPipeline.load(source).save(folder)
    return folder


def chunk_of(checkpoint_id, seed=0):
    actions = np.random.default_rng(seed).uniform(-0.1, 0.1, (HORIZON, ACTIONS))
    return ActionChunk(
        actions=actions,
        policy_actions=actions.astype(np.float32),
        joints=CONTRACT.action.joints,
        dt_s=0.1,
        stamp_ns=NOW_NS,
        checkpoint_id=checkpoint_id,
        instruction="",
    )


@given(elapsed=st.floats(0.0, 40.0), seed=st.integers(0, 1000), scale=st.floats(0.0, 30.0))
def test_numpy_corrects_as_torch_does(elapsed, seed, scale):
    rng = np.random.default_rng(seed)
    sequence = rng.normal(size=(HORIZON, ACTIONS)).astype(np.float32)
    state = (scale * rng.normal(size=STATES)).astype(np.float32)
    batch = torch.from_numpy(sequence).unsqueeze(0)
    with torch.no_grad():
        action = MOTOR(batch, torch.from_numpy(state).unsqueeze(0), elapsed)
        due = shift_sequence(batch, elapsed)[:, 0]
    expected = (action - due)[0].numpy()
    np.testing.assert_allclose(
        NETWORK.correct(sequence, state, elapsed), expected, rtol=1e-3, atol=1e-4
    )


def test_wrong_shapes_are_refused():
    with pytest.raises(ShapeError, match=r"sequence must be \[16, 7\] and state \[7\]"):
        NETWORK.correct(np.zeros((3, ACTIONS), np.float32), np.zeros(STATES, np.float32), 0.0)


def test_missing_tensor_is_named():
    weights = arrays(MOTOR)
    del weights["correction.bias"]
    with pytest.raises(CheckpointError, match=r"lacks tensor 'correction\.bias'"):
        MotorNetwork(weights, ACTIONS, HORIZON)


def test_correction_is_in_robot_units_for_the_sequence_that_is_due(checkpoint):
    control = MotorControl.from_checkpoint(checkpoint, CONTRACT, max_correction_s=1.0)
    chunk, state = chunk_of(control.checkpoint_id), np.full(STATES, 0.05)
    pipeline = ProcessingPipeline.load(checkpoint)
    motor = HelixVLA.load_tier(checkpoint, "motor_control")
    sequence = torch.from_numpy(chunk.policy_actions).unsqueeze(0)
    normalized = torch.from_numpy(pipeline.normalize_state(state).astype(np.float32))
    with torch.no_grad():
        due = shift_sequence(sequence, 0.5)[0, 0].numpy().astype(np.float64)
        action = motor(sequence, normalized.unsqueeze(0), 0.5)[0].numpy().astype(np.float64)
    expected = pipeline.unnormalize_actions(action) - pipeline.unnormalize_actions(due)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(
        control.correction(chunk, state, NOW_NS + 50_000_000), expected, atol=1e-5
    )


def test_correction_is_at_most_what_a_joint_covers_in_the_given_time(checkpoint):
    wide, narrow = (
        MotorControl.from_checkpoint(checkpoint, CONTRACT, max_correction_s=seconds)
        for seconds in (1.0, 0.01)
    )
    chunk, state = chunk_of(wide.checkpoint_id), np.full(STATES, 0.05)
    bound = 0.01 * np.array([limit.velocity for limit in CONTRACT.action_limits.values()])
    wanted = wide.correction(chunk, state, NOW_NS)
    assert (np.abs(wanted) > bound).any()
    np.testing.assert_array_equal(
        narrow.correction(chunk, state, NOW_NS), np.clip(wanted, -bound, bound)
    )


def moved_by(motor, chunk, seconds):
    """Return the commands of each tick of a command loop that follows a chunk, [T, A]."""
    stream = CommandStream(CONTRACT, blend_s=0.0, motor=motor)
    step_ns = round(CONTRACT.command.dt_s * 1e9)
    commands = []
    for index in range(round(seconds / CONTRACT.command.dt_s)):
        now_ns = NOW_NS + index * step_ns
        stream.put_joint_state(np.full(STATES, 0.05), now_ns)
        if index == 0:
            stream.put_chunk(chunk, sequence=1, epoch=1, now_ns=now_ns)
        tick = stream.tick(now_ns)
        assert tick.mode == CommandMode.EXECUTING
        commands.append(tick.plan[0][0])
    return np.array(commands)


def test_command_loop_goes_to_the_corrected_target_within_its_limits(checkpoint):
    control = MotorControl.from_checkpoint(checkpoint, CONTRACT, max_correction_s=1.0)
    still = np.full((HORIZON, ACTIONS), 0.02)
    chunk = replace(
        chunk_of(control.checkpoint_id), actions=still, policy_actions=still.astype(np.float32)
    )
    with_motor, without = moved_by(control, chunk, 0.5), moved_by(None, chunk, 0.5)
    end_ns = NOW_NS + 495_000_000
    expected = control.correction(chunk, np.full(STATES, 0.05), end_ns)
    limits = CONTRACT.action_limits.values()
    reachable = np.array(
        [
            limit.lower < target < limit.upper
            for limit, target in zip(limits, without[-1] + expected, strict=True)
        ]
    )
    assert reachable.sum() >= 5
    np.testing.assert_allclose(
        (with_motor[-1] - without[-1])[reachable], expected[reachable], atol=1e-3
    )
    speeds = np.abs(np.diff(with_motor, axis=0)) / CONTRACT.command.dt_s
    assert (speeds <= [limit.velocity + 1e-6 for limit in limits]).all()


def test_chunk_of_another_checkpoint_is_refused_by_name(checkpoint):
    control = MotorControl.from_checkpoint(checkpoint, CONTRACT, max_correction_s=0.0015)
    stream = CommandStream(CONTRACT, motor=control)
    stream.put_joint_state(np.zeros(STATES), NOW_NS)
    with pytest.raises(ChunkError, match=f"'other', but .* is of '{control.checkpoint_id}'"):
        stream.put_chunk(chunk_of("other"), sequence=1, epoch=1, now_ns=NOW_NS)


@pytest.mark.parametrize(
    ("section", "values", "reason"),
    [
        ("action", {"kind": "joint_delta"}, "kind 'joint_position'; .* is 'joint_delta'"),
        ("state", {"fields": ["position", "velocity"]}, "a state of the action joints' positions"),
    ],
)
def test_robot_without_plain_joint_positions_is_refused(section, values, reason):
    data = CONTRACT.to_dict()
    data[section].update(values)
    with pytest.raises(ConfigError, match=reason):
        MotorControl.from_checkpoint(
            "untrained:helix", RobotContract.from_dict(data), max_correction_s=0.0015
        )


def test_other_frameworks_have_no_motor_control():
    with pytest.raises(CheckpointError, match="of framework 'act'; only 'helix'"):
        MotorControl.from_checkpoint("untrained:act", CONTRACT, max_correction_s=0.0015)


def test_checkpoint_of_another_robot_is_refused(checkpoint):
    values = CONTRACT.to_dict()
    values["action"]["rate_hz"] = 5.0
    other = RobotContract.from_dict(values)
    with pytest.raises(ConfigError, match=r"action\.rate_hz: 10\.0 != 5\.0"):
        MotorControl.from_checkpoint(checkpoint, other, max_correction_s=0.0015)


def test_motor_control_is_loaded_without_torch_and_without_the_other_tiers(checkpoint, tmp_path):
    """The other tiers are cut out of the file: whoever looks for them fails."""
    motor = HelixVLA.load_tier(checkpoint, "motor_control")
    alone = tmp_path / "alone"
    wrapped = torch.nn.ModuleDict({"motor_control": motor})
    write_model(alone / WEIGHTS_NAME, alone / "unused.json", wrapped, {})
    for name in (CONFIG_NAME, "processing.json"):
        (alone / name).write_text((checkpoint / name).read_text())
    code = (
        "import sys\n"
        "from vla_core.inference.motor import MotorControl\n"
        "from vla_core.processing.contract import load_contract\n"
        "contract = load_contract('sim_200hz')\n"
        f"MotorControl.from_checkpoint({str(alone)!r}, contract, max_correction_s=0.0015)\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
