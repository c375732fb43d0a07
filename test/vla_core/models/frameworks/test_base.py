# SPDX-License-Identifier: MIT
import json

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vla_core.errors import CheckpointError, ConfigError, UnknownNameError
from vla_core.models.frameworks import GR00TVLA, AbstractVLA, load, register_framework
from vla_core.models.vlm import TinyVLM


@pytest.fixture
def model():
    return make_model()


def make_model():
    vlm = TinyVLM(image_size=32, hidden_size=16, depth=1, num_heads=2)
    return GR00TVLA(vlm, action_dim=3, state_dim=5, hidden_dim=16, diffusion_steps=10)


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_directory_holds_configuration_and_weights(model, tmp_path):
    model.save_pretrained(tmp_path / "new" / "run")
    names = sorted(path.name for path in (tmp_path / "new" / "run").iterdir())
    assert names == ["config.json", "model.safetensors"]


def test_file_form_writes_exactly_that_file_and_json_beside_it(model, tmp_path):
    model.save_pretrained(str(tmp_path / "checkpoints" / "model.pt"))
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["model.json", "model.pt"]


def test_weights_may_be_rounded_in_the_file_and_are_not_in_the_model(model, tmp_path):
    exact = {name: value.clone() for name, value in model.state_dict().items()}
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "half", torch.float16)
    sizes = [(tmp_path / n / "model.safetensors").stat().st_size for n in ("whole", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    loaded = type(model).from_pretrained(tmp_path / "half").state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value, exact[name]), name
        assert loaded[name].dtype == value.dtype
        torch.testing.assert_close(loaded[name], value, rtol=1e-3, atol=1e-6)


def test_saving_again_replaces_the_checkpoint(model, tmp_path):
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        model.missing_state.fill_(3.0)
    model.save_pretrained(tmp_path)
    assert torch.equal(load(tmp_path).missing_state, model.missing_state)


def test_loaded_model_is_in_eval_mode(model, tmp_path):
    model.train().save_pretrained(tmp_path)
    assert not load(tmp_path).training


def test_all_keys_that_do_not_fit_are_reported_with_their_shapes(model, tmp_path):
    model.save_pretrained(tmp_path)
    edit_config(tmp_path, state_dim=6, action_dim=4, num_blocks=4)
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path)
    report = str(caught.value)
    assert "state_encoder.layers.0.weight: [16, 5] in the file, [16, 6] in the model" in report
    assert "action_head.denoiser.output.bias: [3] in the file, [4] in the model" in report
    assert "missing in the file (4):" in report
    assert "action_head.denoiser.blocks.3.mlp.0.weight: [16, 16]" in report


def test_unexpected_keys_are_reported(model, tmp_path):
    model.save_pretrained(tmp_path)
    edit_config(tmp_path, num_blocks=2)
    with pytest.raises(CheckpointError, match=r"unexpected in the file \(4\):\n.*blocks\.2"):
        load(tmp_path)


def test_lenient_loading_takes_what_fits_but_no_other_shape(model, tmp_path):
    model.save_pretrained(tmp_path)
    vlm_weights = model.vlm.norm.weight
    edit_config(tmp_path, num_queries=8, state_dim=5)
    state = {key: value for key, value in model.state_dict().items() if key != "missing_state"}
    from safetensors.torch import save_file

    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"missing in the file \(1\):\n    missing_state"):
        load(tmp_path)
    assert torch.equal(load(tmp_path, strict=False).vlm.norm.weight, vlm_weights)
    edit_config(tmp_path, state_dim=6)
    with pytest.raises(CheckpointError, match="wrong shape"):
        load(tmp_path, strict=False)


def test_configuration_of_unknown_framework_is_refused(model, tmp_path):
    model.save_pretrained(tmp_path)
    edit_config(tmp_path, framework="groot")
    with pytest.raises(UnknownNameError, match=r"framework 'groot' is not registered.*'gr00t'"):
        load(tmp_path)


def test_unknown_setting_in_a_checkpoint_is_named(model, tmp_path):
    model.save_pretrained(tmp_path)
    edit_config(tmp_path, hiden_dim=3)
    with pytest.raises(CheckpointError, match=r"config\.json cannot be used.*\['hiden_dim'\]"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_dim": "abc"}, "hidden_dim of GR00TVLA must be int, got 'abc'"),
        ({"hidden_dim": None}, "hidden_dim of GR00TVLA must be int, got None"),
        ({"hidden_dim": True}, "hidden_dim of GR00TVLA must be int, got True"),
        ({"hidden_dim": 0}, "hidden_dim|ZeroDivisionError"),
        ({"vlm": {"name": "tiny", "num_heads": -1}}, "num_heads must divide dim .*, got -1"),
        ({"inference_steps": "x"}, "inference_steps of GR00TVLA must be int.*, got 'x'"),
        ({"dropout": float("nan")}, "dropout of GR00TVLA must be float, got nan"),
        ({"framework": ["gr00t"]}, "TypeError: unhashable"),
        ({"framework": {}}, "TypeError: unhashable"),
        ({"vlm": "tiny"}, "vlm must be the configuration of a VLM.*'name'.*got 'tiny'"),
        ({"vlm": ["tiny"]}, "vlm must be the configuration of a VLM"),
        ({"vlm": None}, "vlm must be a vision-language model"),
        ({"vlm": {}}, "vlm configuration must have a 'name'"),
        ({"vlm": {"name": ["tiny"]}}, "TypeError: unhashable"),
        ({"vlm": {"name": "tiny", "depth": "x"}}, "depth of TinyVLM must be int, got 'x'"),
    ],
)
def test_a_damaged_configuration_is_refused_with_file_and_cause(model, tmp_path, changes, message):
    model.save_pretrained(tmp_path)
    edit_config(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=rf"config\.json cannot be used: .*({message})"):
        load(tmp_path)


CONFIG = make_model().get_config()
PLACES = [*CONFIG, *(f"vlm/{key}" for key in CONFIG["vlm"])]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    make_model().save_pretrained(folder)
    return folder


# No large whole number: a model of that size would be built.
damaged_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 40) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)


@example("num_queries", 0)
@example("num_blocks", 0)
@example("vlm/hidden_size", 0)
@example("vlm/mlp_ratio", 0)
@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted({*CONFIG, *(f"vlm/{key}" for key in CONFIG["vlm"])})), damaged_values
)
def test_any_damaged_value_is_refused_or_gives_a_model_of_the_same_weights(saved, key, value):
    config = json.loads(json.dumps(CONFIG))
    *section, last = key.split("/")
    (config[section[0]] if section else config)[last] = value
    (saved / "config.json").write_text(json.dumps(config))
    try:
        loaded = load(saved)
    except (CheckpointError, UnknownNameError):
        return  # Refused.
    assert loaded.state_dict().keys() == make_model().state_dict().keys()


def test_checkpoint_of_another_framework_is_refused_by_class(model, tmp_path):
    class OtherVLA(GR00TVLA):
        pass

    model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"'gr00t' \(GR00TVLA\), not for OtherVLA"):
        OtherVLA.from_pretrained(tmp_path)


def test_configuration_without_framework_is_refused():
    with pytest.raises(ConfigError, match=r"must name its 'framework', got keys \['vlm'\]"):
        AbstractVLA.from_config({"vlm": {}})


def test_a_framework_name_cannot_be_taken_twice():
    class OtherVLA(GR00TVLA):
        pass

    with pytest.raises(ConfigError, match="'gr00t' is already registered by GR00TVLA"):
        register_framework("gr00t")(OtherVLA)


def test_the_seed_preset_is_the_constructor_s_defaults():
    vlm = TinyVLM(image_size=32, hidden_size=16, depth=1, num_heads=2)
    assert GR00TVLA.from_preset("seed", vlm=vlm).get_config() == GR00TVLA(vlm).get_config()


def test_keywords_replace_those_of_a_preset():
    vlm = TinyVLM(image_size=32, hidden_size=16, depth=1, num_heads=2)
    model = GR00TVLA.from_preset("seed", vlm=vlm, action_dim=3)
    assert model.get_config()["action_dim"] == 3


def test_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(UnknownNameError, match="GR00TVLA has no preset 'sed'; available: 'seed'"):
        GR00TVLA.from_preset("sed")


def test_unknown_keyword_beside_a_preset_is_refused():
    with pytest.raises(ConfigError, match="unknown keys \\['chunk'\\]"):
        GR00TVLA.from_preset("seed", vlm=None, chunk=3)
