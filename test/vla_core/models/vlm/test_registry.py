# SPDX-License-Identifier: MIT
import subprocess
import sys

import pytest
import torch

from vla_core.errors import ConfigError, UnknownNameError
from vla_core.models.vlm import TinyVLM, available_vlms, get_vlm, register_vlm, vlm_from_config

SMALL = {"image_size": 32, "hidden_size": 16, "depth": 1, "num_heads": 2}


def test_tiny_is_available():
    assert "tiny" in available_vlms()
    assert isinstance(get_vlm("tiny", **SMALL), TinyVLM)


def test_unknown_name_is_refused_with_the_available_ones():
    with pytest.raises(UnknownNameError, match=r"vlm 'tinny' is not registered.*'tiny'"):
        get_vlm("tinny")


@pytest.mark.parametrize("name", available_vlms())
def test_every_backend_has_the_size_tiny(name):
    pytest.importorskip("transformers")
    assert get_vlm(name, size="tiny").name == name


@pytest.mark.gpu
@pytest.mark.parametrize("name", available_vlms())
def test_every_backend_reads_on_a_cuda_device_what_it_reads_on_the_processor(name):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    pytest.importorskip("transformers")
    vlm, images = get_vlm(name, size="tiny").eval(), torch.rand(2, 2, 3, 32, 32)
    expected = vlm.encode(images, ["pick up the red block", "lift"])
    read = vlm.to("cuda").encode(images.to("cuda"), ["pick up the red block", "lift"])
    assert read.features.device.type == read.mask.device.type == "cuda"
    assert torch.equal(read.mask.cpu(), expected.mask)
    valid = expected.features[expected.mask]
    torch.testing.assert_close(read.features.cpu()[expected.mask], valid, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize(
    ("name", "keywords", "message"),
    [
        ("tiny", {"size": "huge"}, "size must be one of 'tiny', got 'huge'"),
        ("tiny", {"lora_rank": 2}, r"TinyVLM has unknown keys \['lora_rank'\]; valid: image_size"),
        ("tiny", {"dtype": "bfloat16"}, r"unknown keys \['dtype'\]"),
        ("tiny", {"depth": "two"}, "depth of TinyVLM must be int, got 'two'"),
        ("paligemma", {"sise": "tiny"}, r"PaliGemmaVLM has unknown keys \['sise'\]; valid: size"),
        ("paligemma", {"size": "tiny", "pretrained": "folder"}, "size builds random weights"),
    ],
)
def test_a_keyword_that_a_backend_lacks_is_refused(name, keywords, message):
    with pytest.raises(ConfigError, match=message):
        get_vlm(name, **keywords)


def test_a_name_cannot_be_taken_twice():
    class OtherVLM(TinyVLM):
        pass

    with pytest.raises(ConfigError, match="'tiny' is already registered by TinyVLM"):
        register_vlm("tiny")(OtherVLM)
    assert isinstance(get_vlm("tiny", **SMALL), TinyVLM)


def test_configuration_finds_its_class_by_name():
    config = get_vlm("tiny", **SMALL).get_config()
    assert vlm_from_config(config).get_config() == config


def test_configuration_without_a_name_is_refused():
    with pytest.raises(ConfigError, match=r"must have a 'name', got keys \['depth'\]"):
        vlm_from_config({"depth": 1})


def test_transformers_is_loaded_by_none_of_the_modules():
    code = "import sys, vla_core.models.vlm; print([m for m in sys.modules if m in {names}])"
    names = {"transformers", "peft", "tokenizers", "huggingface_hub"}
    command = [sys.executable, "-c", code.format(names=names)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("module", "keywords"), [("transformers", {}), ("peft", {"lora_rank": 2})]
)
def test_absent_library_is_named_with_how_to_install_it(monkeypatch, module, keywords):
    pytest.importorskip("transformers")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"needs {module}, .*pip install 'vla_core\[hf\]'"):
        get_vlm("paligemma", size="tiny", **keywords)
