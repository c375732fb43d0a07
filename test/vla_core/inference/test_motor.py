# SPDX-License-Identifier: MIT
"""Motor control in numpy: what torch computes, within one checkpoint, on top of the chunk."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vla_core.errors import CheckpointError, ChunkError, ConfigError, ShapeError
from vla_core.inference.action_chunks import ChunkSampler
from vla_core.inference.checkpoint_files import CONFIG_NAME, WEIGHTS_NAME, find_checkpoint
from vla_core.inference.motor import MotorControl, MotorNetwork, motor_sampler
from vla_core.models.frameworks import HelixVLA
from vla_core.models.frameworks.helix_tiers import HelixMotorControl, shift_sequence
from vla_core.models.weight_files import weights_identity
from vla_core.models.weights import write_model
from vla_core.processing.contract import RobotContract, load_contract
from vla_core.processing.pipeline import ProcessingPipeline
from vla_core.types import ActionChunk

CONTRACT = load_contract("tabletop_200hz")
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


def test_target_is_the_chunk_plus_the_correction_in_robot_units(checkpoint):
    sampler = motor_sampler(checkpoint, CONTRACT, blend_s=0.0)
    plain = ChunkSampler(CONTRACT.action.joints, max_age_s=0.6, blend_s=0.0)
    chunk = chunk_of(weights_identity(checkpoint / WEIGHTS_NAME))
    state = np.full(STATES, 0.05)
    for each in (sampler, plain):
        each.add(chunk, now_ns=NOW_NS, start=np.zeros(ACTIONS))
    sampler.put_state(state)
    sampler.update(NOW_NS)
    pipeline = ProcessingPipeline.load(checkpoint)
    motor = HelixVLA.load_tier(checkpoint, "motor_control")
    sequence = torch.from_numpy(chunk.policy_actions).unsqueeze(0)
    normalized = torch.from_numpy(pipeline.normalize_state(state).astype(np.float32))
    with torch.no_grad():
        due = sequence[0, 0].numpy().astype(np.float64)
        action = motor(sequence, normalized.unsqueeze(0))[0].numpy().astype(np.float64)
    expected = pipeline.unnormalize_actions(action) - pipeline.unnormalize_actions(due)
    assert np.abs(expected).max() > 1e-3
    time_ns = NOW_NS + 50_000_000
    np.testing.assert_allclose(
        sampler.sample(time_ns)[0] - plain.sample(time_ns)[0], expected, atol=1e-5
    )
    np.testing.assert_array_equal(sampler.sample(time_ns)[1], plain.sample(time_ns)[1])


def test_without_a_state_the_chunk_is_played_as_it_is(checkpoint):
    sampler = motor_sampler(checkpoint, CONTRACT, blend_s=0.0)
    chunk = chunk_of(weights_identity(checkpoint / WEIGHTS_NAME))
    sampler.add(chunk, now_ns=NOW_NS, start=np.zeros(ACTIONS))
    sampler.update(NOW_NS)
    np.testing.assert_allclose(sampler.sample(NOW_NS + 100_000_000)[0], chunk.actions[0])


def test_chunk_of_another_checkpoint_is_refused_by_name(checkpoint):
    sampler = motor_sampler(checkpoint, CONTRACT, blend_s=0.0)
    own = weights_identity(checkpoint / WEIGHTS_NAME)
    with pytest.raises(ChunkError, match=f"of checkpoint 'other', but .* is of '{own}'"):
        sampler.add(chunk_of("other"), now_ns=NOW_NS, start=np.zeros(ACTIONS))
    assert sampler.chunk is None


def test_cleared_sampler_forgets_the_correction(checkpoint):
    sampler = motor_sampler(checkpoint, CONTRACT, blend_s=0.0)
    chunk = chunk_of(weights_identity(checkpoint / WEIGHTS_NAME))
    sampler.add(chunk, now_ns=NOW_NS, start=np.zeros(ACTIONS))
    sampler.put_state(np.full(STATES, 0.05))
    sampler.update(NOW_NS)
    sampler.clear()
    sampler.add(chunk, now_ns=NOW_NS, start=np.zeros(ACTIONS))
    np.testing.assert_allclose(sampler.sample(NOW_NS + 100_000_000)[0], chunk.actions[0])


def test_other_frameworks_have_no_motor_control():
    with pytest.raises(CheckpointError, match="of framework 'act'; only 'helix'"):
        MotorControl.from_checkpoint("untrained:act", CONTRACT)


def test_checkpoint_of_another_robot_is_refused(checkpoint):
    values = CONTRACT.to_dict()
    values["action"]["rate_hz"] = 5.0
    other = RobotContract.from_dict(values)
    with pytest.raises(ConfigError, match=r"action\.rate_hz: 10\.0 != 5\.0"):
        MotorControl.from_checkpoint(checkpoint, other)


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
        "from vla_core.inference.motor import motor_sampler\n"
        "from vla_core.processing.contract import load_contract\n"
        f"motor_sampler({str(alone)!r}, load_contract('tabletop_200hz'), blend_s=0.1)\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
