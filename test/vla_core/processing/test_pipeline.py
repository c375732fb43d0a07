# SPDX-License-Identifier: MIT
import copy
import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_core.errors import CheckpointError, ConfigError, ShapeError
from vla_core.processing.contract import RobotContract, load_contract
from vla_core.processing.contract_outputs import END_EFFECTOR_COMPONENTS
from vla_core.processing.normalization import NORMALIZATION_MODES, Statistics
from vla_core.processing.pipeline import ProcessingPipeline
from vla_core.types import EarlierStep, Observation

RNG = np.random.default_rng(0)
STATES = RNG.uniform(-1.0, 1.0, (50, 7))
ACTIONS = RNG.uniform(-2.0, 2.0, (50, 7))


def make_pipeline(**overrides):
    arguments = {
        "contract": load_contract("sim"),
        "state_statistics": Statistics.from_array(STATES),
        "action_statistics": Statistics.from_array(ACTIONS),
    }
    return ProcessingPipeline(**{**arguments, **overrides})


def make_observation(seed=0, **overrides):
    rng = np.random.default_rng(seed)
    observation = Observation(
        images={
            name: rng.integers(0, 256, (192, 192, 3), dtype=np.uint8)
            for name in ("front", "wrist")
        },
        state=rng.uniform(-1.0, 1.0, 7),
        instruction=f"pick up block {seed}",
        stamp_ns=10,
        image_stamps_ns={"front": 10, "wrist": 9},
        state_stamp_ns=11,
    )
    return dataclasses.replace(observation, **overrides)


def test_a_batch_has_what_a_framework_takes():
    batch = make_pipeline().to_batch([make_observation(0), make_observation(1)])
    assert set(batch) == {"images", "text", "proprioception"}
    assert batch["images"].shape == (2, 2, 3, 96, 96)
    assert batch["text"] == ["pick up block 0", "pick up block 1"]
    assert batch["proprioception"].shape == (2, 7)
    assert batch["images"].dtype == batch["proprioception"].dtype == torch.float32


def test_an_observation_gives_the_same_row_alone_and_in_a_batch():
    pipeline = make_pipeline()
    observations = [make_observation(i) for i in range(3)]
    batch = pipeline.to_batch(observations)
    for i, observation in enumerate(observations):
        alone = pipeline.to_batch([observation])
        assert torch.equal(alone["images"][0], batch["images"][i])
        assert torch.equal(alone["proprioception"][0], batch["proprioception"][i])


def test_cameras_come_in_the_order_of_the_contract():
    pipeline, observation = make_pipeline(), make_observation()
    swapped = dict(reversed(observation.images.items()))
    assert torch.equal(
        pipeline.to_batch([dataclasses.replace(observation, images=swapped)])["images"],
        pipeline.to_batch([observation])["images"],
    )


def test_recorded_frames_give_the_images_of_the_live_observation():
    pipeline = make_pipeline()
    observations = [make_observation(i) for i in range(2)]
    frames = {
        name: np.stack([o.images[name] for o in observations]) for name in ("wrist", "front")
    }
    assert torch.equal(pipeline.to_images(frames), pipeline.to_batch(observations)["images"])


def test_an_extra_camera_is_ignored():
    observation = make_observation()
    images = {**observation.images, "side": np.zeros((5, 5, 3), np.uint8)}
    batch = make_pipeline().to_batch([dataclasses.replace(observation, images=images)])
    assert batch["images"].shape[1] == 2


@pytest.mark.parametrize("mode", NORMALIZATION_MODES)
def test_actions_come_back_from_the_space_of_the_policy(mode):
    pipeline = make_pipeline(normalization=mode)
    chunk = ACTIONS[:16]
    back = pipeline.unnormalize_actions(pipeline.normalize_actions(chunk))
    np.testing.assert_allclose(back, chunk, atol=1e-12)


def test_state_and_actions_have_scales_of_their_own():
    pipeline = make_pipeline()
    values = np.full(7, 0.5)
    assert (pipeline.normalize_state(values) != pipeline.normalize_actions(values)).all()


@pytest.mark.parametrize("mode", NORMALIZATION_MODES)
def test_a_pipeline_saved_as_json_makes_identical_batches(mode):
    pipeline = make_pipeline(image_size=64, chunk_size=8, normalization=mode)
    back = ProcessingPipeline.from_dict(json.loads(json.dumps(pipeline.to_dict())))
    assert back.to_dict() == pipeline.to_dict()
    before, after = (p.to_batch([make_observation()]) for p in (pipeline, back))
    assert torch.equal(before["images"], after["images"])
    assert torch.equal(before["proprioception"], after["proprioception"])
    assert (back.chunk_size, back.image_size) == (8, 64)


def images_with(**changed):
    images = {**make_observation().images, **changed}
    return {name: frame for name, frame in images.items() if frame is not None}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"images": images_with(wrist=None)}, r"lack camera 'wrist'.*'front', 'wrist'.*'front'"),
        (
            {"images": images_with(front=np.zeros((480, 640, 3), np.uint8))},
            r"'front' must be uint8 \[192, 192, 3\].*'sim', got uint8 \[480, 640, 3\]",
        ),
        (
            {"images": images_with(front=np.zeros((192, 192, 3), np.float32))},
            r"'front' must be uint8.*got float32 \[192, 192, 3\]",
        ),
        ({"state": np.zeros(6)}, r"state must be \[7\].*gripper_joint, got \[6\]"),
        ({"state": np.array([0, 0, np.nan, 0, 0, 0, 0])}, r"finite, got joint_3 = nan"),
        ({"state": np.array([0, 0, 0, 0, 0, 0, np.inf])}, r"finite, got gripper_joint = inf"),
    ],
)
def test_an_observation_that_the_contract_does_not_describe_is_refused(overrides, message):
    with pytest.raises(ShapeError, match=message):
        make_pipeline().to_batch([make_observation(), make_observation(**overrides)])


def robot_with(**sections):
    """The table-top arm, with further parts in its contract."""
    contract = load_contract("sim").to_dict()
    for section, part in sections.items():
        contract[section] = {**contract.get(section, {}), **part}
    return RobotContract.from_dict(contract)


def test_state_has_the_fields_and_inputs_of_the_contract():
    contract = robot_with(
        state={"fields": ["position", "velocity"]},
        inputs={"force": {"type": "wrench", "topic": "wrench", "max_age_s": 0.1}},
    )
    states = RNG.uniform(-1.0, 1.0, (50, 20))
    pipeline = make_pipeline(contract=contract, state_statistics=Statistics.from_array(states))
    batch = pipeline.to_batch([make_observation(state=states[0])])
    assert batch["proprioception"].shape == (1, 20)
    expected = r"state must be \[20\].*joint_1\.velocity.*force\.torque"
    with pytest.raises(ShapeError, match=expected):
        pipeline.to_batch([make_observation()])


def test_actions_have_the_names_of_the_contract():
    contract = robot_with(
        action={"kind": "end_effector_delta"},
        kinematics={"urdf": "arm.urdf", "base_link": "base", "tip_link": "tool"},
        grippers={"gripper_joint": {"open": 0.045, "closed": 0.0}},
    )
    assert contract.action_names == (*END_EFFECTOR_COMPONENTS, "gripper_joint")
    make_pipeline(contract=contract)
    with pytest.raises(ConfigError, match=r"one for each of tool\.x.*gripper_joint, got 3"):
        make_pipeline(contract=contract, action_statistics=Statistics.from_array(ACTIONS[:, :3]))


def earlier_step(seed):
    step = make_observation(seed)
    return EarlierStep(images=step.images, state=step.state, stamp_ns=0)


def test_history_comes_oldest_first_with_padding_before_what_is_missing():
    pipeline = make_pipeline(history_length=3)
    short = make_observation(history=(earlier_step(1), earlier_step(2)))
    full = make_observation(history=tuple(earlier_step(seed) for seed in range(4)))
    batch = pipeline.to_batch([make_observation(), short, full])
    assert batch["history_pad_mask"].tolist() == [
        [True, True, True],
        [True, False, False],
        [False, False, False],
    ]
    assert batch["history_images"].shape == (3, 3, 2, 3, 96, 96)
    assert batch["history_proprioception"].shape == (3, 3, 7)
    for row, column, seed in ((1, 1, 1), (1, 2, 2), (2, 0, 1), (2, 1, 2), (2, 2, 3)):
        alone = pipeline.to_batch([make_observation(seed)])
        assert torch.equal(batch["history_images"][row, column], alone["images"][0])
        assert torch.equal(
            batch["history_proprioception"][row, column], alone["proprioception"][0]
        )


def test_history_is_left_out_for_a_model_that_was_trained_without():
    batch = make_pipeline().to_batch([make_observation(history=(earlier_step(1),))])
    assert set(batch) == {"images", "text", "proprioception"}


def test_length_of_the_history_is_saved_and_zero_for_older_files():
    back = ProcessingPipeline.from_dict(make_pipeline(history_length=3).to_dict())
    assert back.history_length == 3
    assert ProcessingPipeline.from_dict(make_pipeline().to_dict()).history_length == 0


def test_an_empty_batch_is_refused():
    with pytest.raises(ShapeError, match="at least one observation"):
        make_pipeline().to_batch([])


@pytest.mark.parametrize("name", ["state_statistics", "action_statistics"])
def test_missing_statistics_are_refused(name):
    with pytest.raises(ConfigError, match="needs the statistics of the training data, got None"):
        make_pipeline(**{name: None})


@pytest.mark.parametrize("name", ["state_statistics", "action_statistics"])
def test_statistics_of_another_robot_are_refused(name):
    with pytest.raises(ConfigError, match=f"{name} must have 7 dimensions.*got 3"):
        make_pipeline(**{name: Statistics.from_array(STATES[:, :3])})


@pytest.mark.parametrize("name", ["image_size", "chunk_size"])
@pytest.mark.parametrize("value", [0, -1, 9.5, True])
def test_a_size_must_be_a_positive_whole_number(name, value):
    with pytest.raises(ConfigError, match=f"{name} must be a positive whole number"):
        make_pipeline(**{name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"action_statistics": None}, "statistics must be a mapping"),
        ({"format": 2}, "format 2 is unknown; this version reads 1"),
        ({"crop": 0.9}, "processing has unknown key 'crop'; valid keys: format, contract"),
    ],
)
def test_a_damaged_description_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        ProcessingPipeline.from_dict({**make_pipeline().to_dict(), **change})


def test_a_description_without_statistics_is_refused():
    data = make_pipeline().to_dict()
    del data["state_statistics"]
    with pytest.raises(ConfigError, match="processing lacks 'state_statistics'"):
        ProcessingPipeline.from_dict(data)


def with_value(data, path, value):
    """Return a copy of nested plain values with the value at a path replaced."""
    result = copy.deepcopy(data)
    place = result
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return result


NAN = float("nan")
SEVEN = [0.0] * 7


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("mean", ["0.1"] * 7, "'mean' must be a list of numbers, got .'0.1'"),
        ("mean", [None] * 7, "'mean' must be a list of numbers, got .None"),
        ("mean", [True, *SEVEN[1:]], "'mean' must be a list of numbers, got .True"),
        ("mean", [10**400, *SEVEN[1:]], "'mean' must be a list of numbers"),
        ("mean", {"joint_1": 0.1}, "'mean' must be a list of numbers, one per dimension"),
        ("mean", None, "'mean' must be a list of numbers, one per dimension, got None"),
        ("mean", 0.5, "'mean' must be a list of numbers, one per dimension, got 0.5"),
        ("mean", "0.5", "'mean' must be a list of numbers, one per dimension, got '0.5'"),
        ("mean", [], r"'mean' must be a list of numbers, one per dimension, got \[\]"),
        ("mean", [[0.0], [0.0, 1.0]], "'mean' must be a list of numbers"),
        ("mean", [NAN] * 7, r"'mean' must be finite, at most 1e\+18 in size, got \[nan"),
        ("max", [1e300] * 7, r"'max' must be finite, at most 1e\+18 in size"),
        ("q01", [0.0] * 6, r"'q01' must be \[7\] like 'mean', got \[6\]"),
        ("std", [-0.1, *SEVEN[1:]], r"'std' must not be negative, got \[-0.1"),
        ("max", [-9.0] * 7, r"'max' must not be below 'min', got max \[-9.0.*from the training"),
        ("q99", [-9.0] * 7, r"'q99' must not be below 'q01', got q99 \[-9.0"),
        ("count", "x", "'count' must be a positive whole number, got 'x'"),
        ("count", 0, "'count' must be a positive whole number, got 0"),
        ("count", NAN, "'count' must be a positive whole number, got nan"),
    ],
)
@pytest.mark.parametrize("name", ["state_statistics", "action_statistics"])
def test_damaged_statistics_are_refused_with_file_and_value(tmp_path, name, path, value, message):
    data = with_value(make_pipeline().to_dict(), (name, path), value)
    (tmp_path / "processing.json").write_text(json.dumps(data))
    expected = rf"processing\.json cannot be used: {name}: statistics {message}"
    with pytest.raises(CheckpointError, match=expected):
        ProcessingPipeline.load(tmp_path)


@pytest.mark.parametrize("section", ["action", "command"])
@pytest.mark.parametrize("rate", [1e-300, 0.01, 20_000.0, 10**400])
def test_a_stored_rate_at_which_no_arm_is_driven_is_refused(tmp_path, section, rate):
    data = with_value(make_pipeline().to_dict(), ("contract", section, "rate_hz"), rate)
    (tmp_path / "processing.json").write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match=rf"{section}\.rate_hz must be .*, got "):
        ProcessingPipeline.load(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"9" * 10_000, b'{"robot": "\xe9"}']
)
def test_a_file_that_is_no_description_is_refused_by_name(tmp_path, content):
    (tmp_path / "processing.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"processing\.json (is not valid JSON|cannot be)"):
        ProcessingPipeline.load(tmp_path)


def places_in(data, path=()):
    """Yield the path of every value in nested plain values."""
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places_in(value, (*path, key))


DESCRIPTION = make_pipeline().to_dict()
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([10**400, -1, 0, 1e300, 1e-300]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(places_in(DESCRIPTION))), json_values)
def test_any_damaged_value_is_refused_or_gives_finite_actions(tmp_path_factory, place, value):
    folder = tmp_path_factory.getbasetemp()
    (folder / "processing.json").write_text(json.dumps(with_value(DESCRIPTION, place, value)))
    try:
        pipeline = ProcessingPipeline.load(folder)
    except CheckpointError:
        return  # Refused.
    assert np.isfinite(pipeline.unnormalize_actions(np.ones((1, 7), np.float32))).all()
    assert np.isfinite(pipeline.normalize_state(np.ones((1, 7), np.float32))).all()
