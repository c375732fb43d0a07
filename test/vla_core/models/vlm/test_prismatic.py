# SPDX-License-Identifier: MIT

import pytest
import torch
from safetensors.torch import save_file

from vla_core.errors import CheckpointError
from vla_core.models.vlm import PrismaticVLM, get_vlm
from vla_core.models.vlm import prismatic_weights as published

pytest.importorskip("transformers")

DINO = "vision_backbone.featurizer"
SIGLIP = "vision_backbone.fused_featurizer"


@pytest.fixture(scope="module")
def vlm():
    return get_vlm("prismatic", size="tiny", seed=2).eval()


def test_original_weights_give_the_same_features(vlm, tmp_path, monkeypatch, write_original):
    write_original(vlm, tmp_path)
    monkeypatch.setattr("vla_core.models.vlm.prismatic.OPENVLA_CONFIG", PrismaticVLM.tiny_config())
    loaded = PrismaticVLM.from_pretrained(str(tmp_path), tokenizer="bytes").eval()
    pixels = torch.rand(1, 2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    expected = vlm.encode(pixels, "lift it").features
    assert torch.equal(loaded.encode(pixels, "lift it").features, expected)


def test_published_weights_in_the_cache_need_no_hub(
    vlm, cached_repository, monkeypatch, write_original
):
    write_original(vlm, cached_repository("openvla/openvla-7b"))
    monkeypatch.setattr("vla_core.models.vlm.prismatic.OPENVLA_CONFIG", PrismaticVLM.tiny_config())
    loaded = get_vlm("prismatic", pretrained=True).eval()
    assert loaded.encode(torch.rand(1, 3, 28, 28), "lift it").features.isfinite().all()
    expected = vlm.model.state_dict()
    for key, value in loaded.model.state_dict().items():
        assert key.endswith("mask_token") or torch.equal(value, expected[key])


def test_a_file_that_the_index_names_and_is_not_there_is_reported(vlm, tmp_path, write_original):
    write_original(vlm, tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="has no model-00002-of-00002"):
        PrismaticVLM.from_pretrained(str(tmp_path))


def test_a_misshapen_original_weight_is_named(vlm, tmp_path, monkeypatch, timm_names):
    tensors = timm_names(vlm.model)
    tensors["language_model.lm_head.weight"] = torch.zeros(3, 32)
    save_file(tensors, tmp_path / "model.safetensors")
    monkeypatch.setattr("vla_core.models.vlm.prismatic.OPENVLA_CONFIG", PrismaticVLM.tiny_config())
    with pytest.raises(
        CheckpointError, match=r"misshapen: lm_head\.weight \(\[3, 32\] in the file"
    ):
        PrismaticVLM.from_pretrained(str(tmp_path))


def test_weights_of_another_model_are_refused(tmp_path, monkeypatch):
    save_file({"embedding.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    monkeypatch.setattr("vla_core.models.vlm.prismatic.OPENVLA_CONFIG", PrismaticVLM.tiny_config())
    with pytest.raises(CheckpointError, match=r"does not fit vlm 'prismatic': \d+ weights are"):
        PrismaticVLM.from_pretrained(str(tmp_path))


def test_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"has no \.safetensors files"):
        PrismaticVLM.from_pretrained(str(tmp_path))


def test_published_size_is_that_of_openvla():
    with torch.device("meta"):
        model = PrismaticVLM.build(published.OPENVLA_CONFIG)
    numbers = {key: value.numel() for key, value in model.state_dict().items()}
    # The files of openvla/openvla-7b hold 7 541 237 184 numbers. They have SigLIP's pooling head,
    # and no mask token and no position of the class token of DINOv2.
    width, inner = 1152, 4304
    pooling = width + 4 * (width**2 + width) + 2 * width + (2 * width * inner + inner + width)
    assert sum(numbers.values()) + pooling - 2 * 1024 == 7_541_237_184


def test_each_tower_sees_the_image_with_its_own_normalisation(vlm):
    seen = {}
    for tower in ("dino", "siglip"):
        part = getattr(vlm.model, tower)
        part.register_forward_pre_hook(
            lambda _, arguments, name=tower: seen.update({name: arguments[0]})
        )
    vlm.encode(torch.full((1, 3, 28, 28), 0.5), "red")
    assert seen["siglip"].abs().max() == 0.0
    expected = torch.tensor([(0.5 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0.5 - 0.406) / 0.225])
    torch.testing.assert_close(seen["dino"][0, :, 0, 0], expected)
