# SPDX-License-Identifier: MIT
import dataclasses
import json

import numpy as np
import pytest
import torch

from vla_core.errors import CheckpointError, ConfigError, ContractError, SafetyError, ShapeError
from vla_core.inference.checkpoint_files import find_checkpoint
from vla_core.inference.policy import Policy, mix_seed
from vla_core.models.encoders import PatchVisionEncoder
from vla_core.models.frameworks import GR00TVLA, OctoVLA
from vla_core.models.vlm import get_vlm
from vla_core.processing.contract import RobotContract, load_contract
from vla_core.processing.normalization import Statistics
from vla_core.processing.pipeline import ProcessingPipeline
from vla_core.sim.env import TabletopEnv
from vla_core.types import EarlierStep, Observation

CHUNK_SIZE = 8


def make_model(**overrides):
    torch.manual_seed(0)
    sizes = {"action_dim": 7, "state_dim": 7, "num_cameras": 2, "chunk_size": CHUNK_SIZE}
    cheap = {"hidden_dim": 32, "sampler": "ddim", "inference_steps": 2}
    vlm = get_vlm("tiny", image_size=32, hidden_size=32, depth=1)
    return GR00TVLA(vlm=vlm, **{**sizes, **cheap, **overrides})


def make_pipeline(**overrides):
    rng = np.random.default_rng(0)
    arguments = {
        "contract": load_contract("sim"),
        "state_statistics": Statistics.from_array(rng.uniform(-1.0, 1.0, (50, 7))),
        "action_statistics": Statistics.from_array(rng.uniform(-2.0, 2.0, (50, 7))),
        "image_size": 32,
        "chunk_size": CHUNK_SIZE,
    }
    return ProcessingPipeline(**{**arguments, **overrides})


def make_observation(seed=0, **overrides):
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (2, 192, 192, 3), dtype=np.uint8)
    observation = Observation(
        images=dict(zip(("front", "wrist"), frames, strict=True)),
        state=rng.uniform(-1.0, 1.0, 7),
        instruction="pick up the red block",
        stamp_ns=1_700_000_000_000_000_000 + seed,
        image_stamps_ns={"front": 0, "wrist": 0},
        state_stamp_ns=0,
    )
    return dataclasses.replace(observation, **overrides)


@pytest.fixture
def checkpoint(tmp_path):
    make_model().save_pretrained(tmp_path)
    make_pipeline().save(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def _restore_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_chunk_says_everything_that_a_later_process_needs(checkpoint):
    policy = Policy.from_checkpoint(checkpoint)
    observation = make_observation()
    chunk = policy.predict_chunk(observation)
    assert chunk.actions.shape == chunk.policy_actions.shape == (CHUNK_SIZE, 7)
    assert (chunk.actions.dtype, chunk.policy_actions.dtype) == (np.float64, np.float32)
    assert chunk.joints == policy.contract.action.joints
    assert chunk.dt_s == pytest.approx(0.1)
    assert chunk.stamp_ns == observation.stamp_ns
    assert chunk.instruction == "pick up the red block"
    assert (chunk.kind, chunk.checkpoint_id) == ("joint_position", policy.checkpoint_id)


def test_actions_are_the_policy_actions_in_robot_units(checkpoint):
    policy = Policy.from_checkpoint(checkpoint)
    chunk = policy.predict_chunk(make_observation())
    expected = make_pipeline().unnormalize_actions(chunk.policy_actions.astype(np.float64))
    np.testing.assert_array_equal(chunk.actions, expected)


def test_the_same_observation_and_seed_give_the_identical_chunk(checkpoint):
    first, second = (Policy.from_checkpoint(checkpoint) for _ in range(2))
    first.predict_chunk(make_observation(1))
    torch.rand(3)
    chunks = [policy.predict_chunk(make_observation(), seed=3) for policy in (first, second)]
    np.testing.assert_array_equal(chunks[0].actions, chunks[1].actions)


def test_seed_and_stamp_both_change_the_noise(checkpoint):
    policy = Policy.from_checkpoint(checkpoint)
    chunks = [
        policy.predict_chunk(make_observation(), seed=0),
        policy.predict_chunk(make_observation(), seed=1),
        policy.predict_chunk(make_observation(stamp_ns=1), seed=0),
    ]
    for i in range(3):
        assert not np.array_equal(chunks[i].actions, chunks[i - 1].actions)


def test_the_global_generator_is_left_alone(checkpoint):
    policy = Policy.from_checkpoint(checkpoint)
    before = torch.get_rng_state()
    policy.predict_chunk(make_observation())
    assert torch.equal(torch.get_rng_state(), before)


def test_warming_up_changes_no_chunk(checkpoint):
    cold, warm = (Policy.from_checkpoint(checkpoint) for _ in range(2))
    warm.warm_up()
    np.testing.assert_array_equal(
        cold.predict_chunk(make_observation()).actions,
        warm.predict_chunk(make_observation()).actions,
    )


def test_committed_steps_are_the_first_of_the_chunk(checkpoint):
    policy = Policy.from_checkpoint(checkpoint)
    old = policy.predict_chunk(make_observation(1)).policy_actions
    chunk = policy.predict_chunk(make_observation(), committed=old[2:5], overlap=old[5:])
    np.testing.assert_array_equal(chunk.policy_actions[:3], old[2:5])
    expected = make_pipeline().unnormalize_actions(old[2:5].astype(np.float64))
    np.testing.assert_array_equal(chunk.actions[:3], expected)


def test_a_chunk_is_the_same_before_and_after_a_guided_one(checkpoint):
    policy = Policy.from_checkpoint(checkpoint)
    before = policy.predict_chunk(make_observation())
    policy.predict_chunk(make_observation(), committed=before.policy_actions[:1], overlap=None)
    policy.predict_chunk(make_observation(), overlap=before.policy_actions)
    after = policy.predict_chunk(make_observation())
    np.testing.assert_array_equal(before.policy_actions, after.policy_actions)


def test_guidance_keeps_the_shipped_policy_closer_to_its_old_chunk():
    policy, env = Policy.from_checkpoint("groot"), TabletopEnv()
    frames, info = env.reset(seed=60_000)

    def observe(frames, stamp_ns):
        images = {name: frames[name] for name in policy.contract.cameras}
        state = frames["state"].astype(np.float64)
        text = info["instruction"]
        return make_observation(images=images, state=state, instruction=text, stamp_ns=stamp_ns)

    old = policy.predict_chunk(observe(frames, 1))
    for action in old.actions[:4]:
        frames, *_ = env.step(action.astype(np.float32))
    env.close()
    committed, overlap = old.policy_actions[4:7], old.policy_actions[7:]
    errors = []
    for guide in (None, overlap):
        chunk = policy.predict_chunk(observe(frames, 2), committed=committed, overlap=guide)
        errors.append(np.abs(chunk.policy_actions[3:12] - overlap[:9]).mean())
    assert errors[1] < errors[0]


def test_more_committed_steps_than_the_chunk_has_are_refused(checkpoint):
    policy = Policy.from_checkpoint(checkpoint)
    old = policy.predict_chunk(make_observation()).policy_actions
    with pytest.raises(ShapeError, match="fewer than the chunk's 8"):
        policy.predict_chunk(make_observation(), committed=old)


def test_device_that_is_not_there_is_refused_with_what_to_do(checkpoint):
    if torch.cuda.is_available():
        assert Policy.from_checkpoint(checkpoint, device="cuda").device.type == "cuda"
        return
    with pytest.raises(ConfigError, match=r"'cuda' is not there.*use 'cpu' or 'auto'"):
        Policy.from_checkpoint(checkpoint, device="cuda")
    assert Policy.from_checkpoint(checkpoint, device="auto").device.type == "cpu"


def test_unknown_device_names_the_possible_ones(checkpoint):
    with pytest.raises(ConfigError, match="one of 'cpu', 'cuda', 'auto', got 'tpu'"):
        Policy.from_checkpoint(checkpoint, device="tpu")


def test_a_model_of_single_actions_gives_chunks_of_one():
    policy = Policy(make_model(chunk_size=1), make_pipeline(chunk_size=1), "0" * 12)
    assert policy.predict_chunk(make_observation()).actions.shape == (1, 7)


def test_threads_are_set_once(checkpoint):
    Policy.from_checkpoint(checkpoint, num_threads=2)
    assert torch.get_num_threads() == 2
    Policy.from_checkpoint(checkpoint)
    assert torch.get_num_threads() == 1


def test_the_checkpoint_id_follows_the_weights(checkpoint, tmp_path):
    before = Policy.from_checkpoint(checkpoint).checkpoint_id
    assert Policy.from_checkpoint(checkpoint).checkpoint_id == before
    model = make_model()
    torch.nn.init.ones_(model.missing_state)
    model.save_pretrained(tmp_path)
    assert Policy.from_checkpoint(checkpoint).checkpoint_id != before


def test_a_robot_with_other_topics_is_accepted_and_kept(checkpoint):
    data = load_contract("sim").to_dict()
    data["state"]["topic"] = "arm/joint_states"
    contract = RobotContract.from_dict(data)
    assert Policy.from_checkpoint(checkpoint, contract=contract).contract is contract


def test_a_robot_is_found_by_name(checkpoint):
    policy = Policy.from_checkpoint(checkpoint, contract="sim")
    assert policy.contract == load_contract("sim")


def test_a_robot_that_does_not_fit_is_refused_with_what_differs(checkpoint):
    data = load_contract("sim").to_dict()
    data["action"]["rate_hz"] = 20.0
    data["state"]["joints"].reverse()
    with pytest.raises(ContractError) as info:
        Policy.from_checkpoint(checkpoint, contract=RobotContract.from_dict(data))
    assert "action.rate_hz: 10.0 != 20.0" in str(info.value)
    assert "state.joints: ['joint_1'" in str(info.value)


def test_an_observation_of_another_size_is_refused(checkpoint):
    images = {name: np.zeros((480, 640, 3), np.uint8) for name in ("front", "wrist")}
    with pytest.raises(ShapeError, match=r"\[192, 192, 3\].*got uint8 \[480, 640, 3\]"):
        Policy.from_checkpoint(checkpoint).predict_chunk(make_observation(images=images))


def test_a_prediction_that_is_not_finite_stops_the_arm():
    model = make_model(clip_sample=None)
    for parameter in model.action_head.parameters():
        torch.nn.init.constant_(parameter, float("nan"))
    with pytest.raises(SafetyError, match="not finite for the observation at 17"):
        Policy(model, make_pipeline(), "0" * 12).predict_chunk(make_observation())


def test_a_shipped_name_is_no_folder_that_happens_to_be_called_so(tmp_path, monkeypatch):
    (tmp_path / "groot").mkdir()
    monkeypatch.chdir(tmp_path)
    assert (find_checkpoint("groot") / "config.json").is_file()
    with pytest.raises(CheckpointError, match=r"'groot' lacks config\.json"):
        find_checkpoint("./groot")


def test_an_unknown_checkpoint_names_what_is_possible():
    with pytest.raises(CheckpointError, match=r"'grot'.*; did you mean 'groot'\? Shipped: 'act'"):
        Policy.from_checkpoint("grot")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "processing.json"])
def test_a_missing_file_is_named_with_those_present(checkpoint, name):
    (checkpoint / name).unlink()
    with pytest.raises(CheckpointError, match=rf"lacks {name}; it holds \w+\.\w+, \w+\.\w+\."):
        Policy.from_checkpoint(checkpoint)


@pytest.mark.parametrize("num_bytes", [0, 4, 500, -1])
def test_truncated_weights_are_refused(checkpoint, num_bytes):
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:num_bytes])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is .*truncated"):
        Policy.from_checkpoint(checkpoint)


@pytest.mark.parametrize("name", ["config.json", "processing.json"])
def test_truncated_json_is_refused(checkpoint, name):
    path = checkpoint / name
    path.write_text(path.read_text()[:100])
    with pytest.raises(CheckpointError, match=rf"{name} is not valid JSON"):
        Policy.from_checkpoint(checkpoint)


@pytest.mark.parametrize("name", ["state_statistics", "action_statistics"])
def test_a_checkpoint_without_statistics_is_refused(checkpoint, name):
    path = checkpoint / "processing.json"
    data = json.loads(path.read_text())
    del data[name]
    path.write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match=rf"processing\.json cannot be used.*lacks '{name}'"):
        Policy.from_checkpoint(checkpoint)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"chunk_size": 4}, "chunk_size is 4 in the model, 8 in the processing"),
        ({"action_dim": 6}, "action_dim is 6 in the model, 7 in the processing"),
        ({"state_dim": 14}, "state_dim is 14 in the model, 7 in the processing"),
        ({"num_cameras": 3}, "num_cameras is 3 in the model, 2 in the processing"),
    ],
)
def test_a_model_of_another_training_is_refused(checkpoint, overrides, message):
    make_model(**overrides).save_pretrained(checkpoint)
    with pytest.raises(CheckpointError, match=message):
        Policy.from_checkpoint(checkpoint)


def test_a_history_that_the_model_does_not_take_is_refused():
    pipeline = make_pipeline(history_length=2)
    with pytest.raises(CheckpointError, match=r"history_length is 0 in the model.* 2 in the proc"):
        Policy(make_model(), pipeline, "test")


def test_tasks_that_the_model_does_not_know_are_refused():
    pipeline = make_pipeline(tasks=("lift", "drop"))
    with pytest.raises(CheckpointError, match=r"num_tasks is 0 in the model, .* has 2 tasks"):
        Policy(make_model(), pipeline, "test")


def test_a_model_with_history_sees_the_earlier_steps():
    torch.manual_seed(0)
    model = OctoVLA(
        vision_encoder=PatchVisionEncoder(output_dim=16, hidden_dims=(8, 8, 8, 16)),
        action_dim=7,
        state_dim=7,
        num_cameras=2,
        chunk_size=CHUNK_SIZE,
        hidden_dim=32,
        num_layers=2,
        num_heads=2,
        history_length=4,
    )
    with torch.no_grad():  # Untrained, the head answers zero to everything.
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    policy = Policy(model, make_pipeline(history_length=2), "test")
    step = EarlierStep(images=make_observation(1).images, state=np.ones(7), stamp_ns=0)
    without, with_history = (
        policy.predict_chunk(make_observation(history=history)).actions
        for history in ((), (step, step))
    )
    assert without.shape == with_history.shape == (CHUNK_SIZE, 7)
    assert not np.allclose(without, with_history)


def test_mixed_seeds_do_not_collide():
    mixed = {mix_seed(seed, stamp) for seed in range(100) for stamp in range(100)}
    assert len(mixed) == 100 * 100
    assert all(0 <= value < 1 << 63 for value in mixed)


def test_seeds_are_mixed_by_splitmix64():
    first_of_seed_0 = 0xE220A8397B1DCDAF  # published with the algorithm
    assert mix_seed(0, -first_of_seed_0) == first_of_seed_0 & ((1 << 63) - 1)
