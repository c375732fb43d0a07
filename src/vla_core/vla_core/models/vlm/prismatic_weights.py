# SPDX-License-Identifier: MIT
"""The published weights of OpenVLA, translated from the names of timm to those of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vla_core.models.vlm.hub import from_cache_or_hub
from vla_core.models.weights import read_config, read_tensors

OPENVLA_CONFIG: dict[str, Any] = {
    "dino": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "mlp_ratio": 4,
        "num_register_tokens": 4,
        "image_size": 224,
        "patch_size": 14,
    },
    "siglip": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 224,
        "patch_size": 14,
    },
    "text": {
        "vocab_size": 32064,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "pad_token_id": 32000,
    },
}

_INDEX_NAME = "model.safetensors.index.json"
_DINO = "vision_backbone.featurizer."
_SIGLIP = "vision_backbone.fused_featurizer."
_DINO_NAMES = {
    "blocks.": "encoder.layer.",
    ".attn.": ".attention.",
    ".proj.": ".o_proj.",
    ".ls1.gamma": ".layer_scale1.lambda1",
    ".ls1.scale_factor": ".layer_scale1.lambda1",
    ".ls2.gamma": ".layer_scale2.lambda1",
    ".ls2.scale_factor": ".layer_scale2.lambda1",
    "patch_embed.o_proj.": "embeddings.patch_embeddings.projection.",
    "reg_token": "embeddings.register_tokens",
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
}
_SIGLIP_NAMES = {
    "blocks.": "encoder.layers.",
    ".attn.": ".self_attn.",
    ".proj.": ".out_proj.",
    ".norm1.": ".layer_norm1.",
    ".norm2.": ".layer_norm2.",
    "patch_embed.out_proj.": "embeddings.patch_embedding.",
    "pos_embed": "embeddings.position_embedding.weight",
}


def translate(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """Return what one published tensor is in `PrismaticVLM.model`: nothing, one or three."""
    if name.startswith(_DINO):
        name = _rename(name.removeprefix(_DINO), _DINO_NAMES, "layernorm.")
        if name == "embeddings.position_embeddings":
            # In timm the class token has no position of its own.
            tensor = torch.cat([torch.zeros_like(tensor[:, :1]), tensor], dim=1)
        return _split_attention(f"dino.{name}", tensor)
    if name.startswith(_SIGLIP):
        name = _rename(name.removeprefix(_SIGLIP), _SIGLIP_NAMES, "post_layernorm.")
        if name.startswith("attn_pool."):
            return {}
        if name == "embeddings.position_embedding.weight":
            tensor = tensor[0]
        return _split_attention(f"siglip.{name}", tensor)
    if name.endswith("rotary_emb.inv_freq"):
        return {}
    name = name.replace("language_model.lm_head.", "lm_head.")
    return {name.replace("language_model.model.", "language_model."): tensor}


def _rename(name: str, names: Mapping[str, str], last_norm: str) -> str:
    if name.startswith("norm."):
        return last_norm + name.removeprefix("norm.")
    for theirs, ours in names.items():
        name = name.replace(theirs, ours)
    return name


def _split_attention(name: str, tensor: Tensor) -> dict[str, Tensor]:
    if ".qkv." not in name:
        return {name: tensor}
    parts = zip("qkv", tensor.chunk(3), strict=True)
    return {name.replace(".qkv.", f".{part}_proj."): piece for part, piece in parts}


def translate_all(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return all of a file's tensors under their names here."""
    translated: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        translated.update(translate(name, tensor))
    return translated


def weight_files(source: str) -> list[Path]:
    """Return the safetensors files of a directory, or of a repository after downloading it.

    Raises:
        OSError: If there are none, one is missing, or the repository is out of reach.
    """

    def load(place: str) -> list[Path]:
        folder = Path(place)
        if not folder.is_dir():
            from huggingface_hub import snapshot_download

            wanted = ["*.json", "*.safetensors"]
            folder = Path(snapshot_download(place, allow_patterns=wanted))
        return _files_of(folder)

    return from_cache_or_hub(source, load)


def _files_of(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise OSError(f"{folder} has no .safetensors files")
    index = folder / _INDEX_NAME
    if index.is_file():
        named = set(read_config(index)["weight_map"].values())
        absent = sorted(named - {path.name for path in files})
        if absent:
            raise OSError(f"{folder} has no {', '.join(absent)}, which {_INDEX_NAME} names")
    return files


def read_published(source: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the translated tensors of a directory or repository.

    Raises:
        OSError: If it has none or is out of reach.
    """
    tensors: dict[str, Tensor] = {}
    for path in weight_files(source):
        tensors.update(translate_all(read_tensors(path)))
    return {name: tensor.to(dtype) for name, tensor in tensors.items()}
