# SPDX-License-Identifier: MIT
import json

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


def timm_names(model):
    """Return the weights of a model under the names that OpenVLA's files have."""
    ours = model.state_dict()
    theirs = {}

    def take(name, *keys):
        theirs[name] = torch.cat([ours[key] for key in keys]).clone()

    for layer in range(2):
        for tower, block, attention, out, norm in (
            (DINO, "dino.encoder.layer", "attention", "o_proj", "norm"),
            (SIGLIP, "siglip.encoder.layers", "self_attn", "out_proj", "layer_norm"),
        ):
            new, old = f"{tower}.blocks.{layer}", f"{block}.{layer}"
            for kind in ("weight", "bias"):
                parts = [f"{old}.{attention}.{part}_proj.{kind}" for part in "qkv"]
                take(f"{new}.attn.qkv.{kind}", *parts)
                take(f"{new}.attn.proj.{kind}", f"{old}.{attention}.{out}.{kind}")
                for number in (1, 2):
                    take(f"{new}.norm{number}.{kind}", f"{old}.{norm}{number}.{kind}")
                    take(f"{new}.mlp.fc{number}.{kind}", f"{old}.mlp.fc{number}.{kind}")
        for number in (1, 2):
            key = f"dino.encoder.layer.{layer}.layer_scale{number}.lambda1"
            take(f"{DINO}.blocks.{layer}.ls{number}.scale_factor", key)
    for kind in ("weight", "bias"):
        take(
            f"{DINO}.patch_embed.proj.{kind}",
            f"dino.embeddings.patch_embeddings.projection.{kind}",
        )
        take(f"{SIGLIP}.patch_embed.proj.{kind}", f"siglip.embeddings.patch_embedding.{kind}")
        take(f"{DINO}.norm.{kind}", f"dino.layernorm.{kind}")
        take(f"{SIGLIP}.norm.{kind}", f"siglip.post_layernorm.{kind}")
    take(f"{DINO}.cls_token", "dino.embeddings.cls_token")
    take(f"{DINO}.reg_token", "dino.embeddings.register_tokens")
    theirs[f"{DINO}.pos_embed"] = ours["dino.embeddings.position_embeddings"][:, 1:].clone()
    theirs[f"{SIGLIP}.pos_embed"] = ours["siglip.embeddings.position_embedding.weight"][
        None
    ].clone()
    theirs[f"{SIGLIP}.attn_pool.latent"] = torch.zeros(1, 1, 16)
    for key in ours:
        if key.startswith("projector."):
            take(key, key)
        elif key.startswith("language_model."):
            take(f"language_model.model.{key.removeprefix('language_model.')}", key)
    take("language_model.lm_head.weight", "lm_head.weight")
    return theirs


def write_original(vlm, folder):
    """Write a model as OpenVLA's is published: in two files and an index of them."""
    with torch.no_grad():  # The original class token has no position.
        vlm.model.dino.embeddings.position_embeddings[:, 0] = 0.0
    tensors = timm_names(vlm.model)
    names = sorted(tensors)
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        weight_map.update(dict.fromkeys(part, file))
    index = json.dumps({"weight_map": weight_map})
    (folder / "model.safetensors.index.json").write_text(index)


def test_original_weights_give_the_same_features(vlm, tmp_path, monkeypatch):
    write_original(vlm, tmp_path)
    monkeypatch.setattr("vla_core.models.vlm.prismatic.OPENVLA_CONFIG", PrismaticVLM.tiny_config())
    loaded = PrismaticVLM.from_pretrained(str(tmp_path), tokenizer="bytes").eval()
    pixels = torch.rand(1, 2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    expected = vlm.encode(pixels, "lift it").features
    assert torch.equal(loaded.encode(pixels, "lift it").features, expected)


def test_published_weights_in_the_cache_need_no_hub(vlm, cached_repository, monkeypatch):
    write_original(vlm, cached_repository("openvla/openvla-7b"))
    monkeypatch.setattr("vla_core.models.vlm.prismatic.OPENVLA_CONFIG", PrismaticVLM.tiny_config())
    loaded = get_vlm("prismatic", pretrained=True).eval()
    assert loaded.encode(torch.rand(1, 3, 28, 28), "lift it").features.isfinite().all()
    expected = vlm.model.state_dict()
    for key, value in loaded.model.state_dict().items():
        assert key.endswith("mask_token") or torch.equal(value, expected[key])


def test_a_file_that_the_index_names_and_is_not_there_is_reported(vlm, tmp_path):
    write_original(vlm, tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="has no model-00002-of-00002"):
        PrismaticVLM.from_pretrained(str(tmp_path))


def test_a_misshapen_original_weight_is_named(vlm, tmp_path, monkeypatch):
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
