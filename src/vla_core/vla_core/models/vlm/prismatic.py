# SPDX-License-Identifier: MIT
"""Prismatic (Karamcheti et al., 2024, arXiv:2402.07865): DINOv2 and SigLIP side by side, Llama.

The original is written with timm; here the same network is made of transformers' parts, and
`prismatic_weights` translates the names of the published weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from vla_core.models.vlm.decoder_backend import DecoderVLM
from vla_core.models.vlm.hub import check_complete
from vla_core.models.vlm.prismatic_weights import OPENVLA_CONFIG, read_published
from vla_core.models.vlm.registry import register_vlm
from vla_core.models.vlm.transformers_backend import (
    HALF,
    IMAGENET,
    import_transformers,
)

_MASK_TOKEN = "dino.embeddings.mask_token"


@register_vlm("prismatic")
class PrismaticVLM(DecoderVLM):
    """Prismatic 7B of 224 px with the weights of OpenVLA (arXiv:2406.09246).

    Both vision towers see the same image; their patch features before the last layer are joined
    by channel and projected. The arguments are those of `TransformersVLM`.
    """

    published = "openvla/openvla-7b"
    language_path = "language_model"
    prompt_head = "<s>"
    prompt = "In: {text}\nOut: "

    @classmethod
    def tiny_config(cls) -> dict[str, Any]:
        """Return the configurations of transformers of the three parts of a small model."""
        tower = {
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
        }
        return {
            "dino": {**tower, "mlp_ratio": 2, "num_register_tokens": 2},
            "siglip": {**tower, "intermediate_size": 32},
            "text": {
                "vocab_size": 520,
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 4,
            },
        }

    @classmethod
    def build(cls, config: Mapping[str, Any]) -> nn.Module:
        """Return a model of random weights for the configurations of its three parts."""
        import_transformers(cls.name)
        return _PrismaticModel(config)

    @classmethod
    def load(cls, source: str, dtype: torch.dtype) -> nn.Module:
        """Return the model of a directory or repository with the original weights."""
        import_transformers(cls.name)
        tensors = read_published(source, dtype)
        model = _PrismaticModel(OPENVLA_CONFIG)
        known = model.state_dict()
        check_complete(
            cls.name,
            source,
            {
                "missing": sorted(set(known) - set(tensors) - {_MASK_TOKEN}),
                "misshapen": sorted(
                    f"{key} ({list(tensor.shape)} in the file, {list(known[key].shape)} in the "
                    "model)"
                    for key, tensor in tensors.items()
                    if key in known and tensor.shape != known[key].shape
                ),
                "unknown": sorted(set(tensors) - set(known)),
            },
        )
        model.load_state_dict(tensors, strict=False, assign=True)
        return model

    @classmethod
    def config_of(cls, model: Any) -> dict[str, Any]:
        """Return the configuration that `build` makes such a model of."""
        return dict(model.config)

    @property
    def image_size(self) -> int:
        """Side of the square that images are resized to, px."""
        return int(self.model_config["siglip"]["image_size"])

    def embed_images(self, pixels: Tensor) -> Tensor:
        """Turn pixels [B*N, 3, H, W] in [0, 1] into tokens, [B*N, I, D]."""
        model: Any = self.model
        return model.embed_images(self._normalize(pixels, IMAGENET), self._normalize(pixels, HALF))


class _PrismaticModel(nn.Module):
    """The network; `config` holds the configurations 'dino', 'siglip' and 'text'."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        library = import_transformers("prismatic")
        self.config = {key: dict(config[key]) for key in ("dino", "siglip", "text")}
        dino = library.Dinov2WithRegistersConfig(**self.config["dino"])
        # timm's SigLIP has the exact GELU and no pooling head is needed.
        siglip = library.SiglipVisionConfig(
            **{"hidden_act": "gelu", "vision_use_head": False, **self.config["siglip"]}
        )
        text = library.LlamaConfig(**self.config["text"])
        sdpa = {"attn_implementation": "sdpa"}
        self.dino = library.Dinov2WithRegistersModel._from_config(dino, **sdpa)
        self.siglip = library.SiglipVisionModel._from_config(siglip, **sdpa)
        self.projector = _Projector(dino.hidden_size + siglip.hidden_size, text.hidden_size)
        self.language_model = library.LlamaModel._from_config(text, **sdpa)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)

    def embed_images(self, for_dino: Tensor, for_siglip: Tensor) -> Tensor:
        """Turn the pixels, normalised for each tower, into tokens, [B*N, I, D]."""
        first = self.dino(for_dino, output_hidden_states=True).hidden_states[-2]
        second = self.siglip(for_siglip, output_hidden_states=True).hidden_states[-2]
        patches = first[:, first.shape[1] - second.shape[1] :]  # Without class and registers.
        return self.projector(torch.cat([patches, second], dim=-1))


class _Projector(nn.Module):
    def __init__(self, vision_dim: int, text_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(vision_dim, 4 * vision_dim)
        self.fc2 = nn.Linear(4 * vision_dim, text_dim)
        self.fc3 = nn.Linear(text_dim, text_dim)

    def forward(self, patches: Tensor) -> Tensor:
        return self.fc3(gelu(self.fc2(gelu(self.fc1(patches)))))
