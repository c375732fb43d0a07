# SPDX-License-Identifier: MIT
"""What published VLMs look like on the disk, in small, and the bags of a small robot."""

import importlib.util
import json
import socket
import sys
from pathlib import Path

import pytest
import torch

DINO = "vision_backbone.featurizer"
SIGLIP = "vision_backbone.fused_featurizer"


@pytest.fixture(scope="session")
def bags():
    """Return the module ``bags.py`` beside this file, which makes messages and bags."""
    specification = importlib.util.spec_from_file_location(
        "test_bags", Path(__file__).with_name("bags.py")
    )
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def cached_repository(tmp_path, monkeypatch):
    """Return the function that puts a repository with a tokenizer into the cache of the hub.

    It returns the folder for the repository's other files. The hub itself is out of reach.
    """
    pytest.importorskip("huggingface_hub")
    from tokenizers import Tokenizer, models, pre_tokenizers

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("the hub was asked"))

    def add(name):
        folder = tmp_path / f"models--{name.replace('/', '--')}"
        snapshot = folder / "snapshots/0123"
        snapshot.mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs/main").write_text("0123")
        words = {word: index for index, word in enumerate(["<unk>", "<s>", "<bos>", "lift", "it"])}
        tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.save(str(snapshot / "tokenizer.json"))
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<bos>"}
        (snapshot / "tokenizer_config.json").write_text(json.dumps(settings))
        return snapshot

    return add


@pytest.fixture
def timm_names():
    """The function that returns a Prismatic model's weights under OpenVLA's published names."""
    return _timm_names


@pytest.fixture
def write_original():
    """The function that writes a Prismatic model as OpenVLA's is published."""
    return _write_original


def _timm_names(model):
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


def _write_original(vlm, folder):
    """Write a model as OpenVLA's is published: in two files and an index of them."""
    from safetensors.torch import save_file

    with torch.no_grad():  # The original class token has no position.
        vlm.model.dino.embeddings.position_embeddings[:, 0] = 0.0
    tensors = _timm_names(vlm.model)
    names = sorted(tensors)
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        weight_map.update(dict.fromkeys(part, file))
    index = json.dumps({"weight_map": weight_map})
    (folder / "model.safetensors.index.json").write_text(index)
