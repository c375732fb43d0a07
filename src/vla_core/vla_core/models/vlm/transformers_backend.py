# SPDX-License-Identifier: MIT
"""What the backends of Hugging Face transformers share: weights, adapters and the input tokens.

A backend says which classes it is made of, how its prompt reads and how its images become
tokens. Here these become one sequence [head | images of all cameras | text], padded on the
right.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad
from torch.utils.checkpoint import checkpoint

from vla_core.errors import CheckpointError, ConfigError
from vla_core.models.keywords import check_choice, check_keywords
from vla_core.models.vlm.base import AbstractVLM, VLMOutput, as_text_list
from vla_core.models.vlm.hub import read_pretrained, unreachable
from vla_core.models.vlm.lora import inject_lora, is_lora
from vla_core.models.vlm.tokenization import (
    BYTES,
    Tokenizer,
    load_tokenizer,
    padded_ids,
)
from vla_core.models.weights import CONFIG_NAME, read_config

Normalization = tuple[tuple[float, float, float], tuple[float, float, float]]
HALF: Normalization = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGENET: Normalization = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP: Normalization = (
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)

# What transformers raises for files that are absent, damaged or of another architecture.
_LOAD_ERRORS = (OSError, ValueError, RuntimeError, AttributeError, SafetensorError)


class TransformersVLM(AbstractVLM):
    """A vision-language model out of the parts of transformers.

    Args:
        size: 'tiny' for random weights of a small configuration, which needs no download and is
            for tests; None if `config` is given.
        config: The model's configuration as transformers writes it; the weights are random.
        tokenizer: 'bytes', a directory with a tokenizer, or a repository's name; None for that
            of the published model, or for bytes with size='tiny'.
        prompt: What the text stands in after the images, with `{text}` in its place; None for
            what the published model was trained with.
        max_text_tokens: Tokens of the text with its prompt; shorter ones are padded.
        dtype: 'float32', 'bfloat16' or 'float16': of the weights and of the features.
        lora_rank: Rank of low-rank adapters in the language model, the only parameters that are
            then trainable; 0 for none.
        lora_alpha: Their scale times `lora_rank`; None for min(lora_rank, 16).
        lora_dropout: Dropout before an adapter.
        seed: Seed of random weights; the global generator is left untouched.

    Raises:
        ConfigError: If a setting is out of range, neither size nor config is given, or
            transformers is not installed.
    """

    published: ClassVar[str]
    architecture: ClassVar[str]
    language_path: ClassVar[str] = "model.language_model"
    prompt_head: ClassVar[str] = ""
    prompt: str
    image_prefix: ClassVar[str] = ""
    image_suffix: ClassVar[str] = ""
    normalization: ClassVar[Normalization] = HALF

    def __init__(
        self,
        size: str | None = None,
        config: Mapping[str, Any] | None = None,
        tokenizer: str | None = None,
        prompt: str | None = None,
        max_text_tokens: int = 64,
        dtype: str = "float32",
        lora_rank: int = 0,
        lora_alpha: float | None = None,
        lora_dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_choice("dtype", dtype, ("float32", "bfloat16", "float16"))
        if (size is None) == (config is None):
            raise ConfigError(
                f"vlm {self.name!r} needs weights: get_vlm({self.name!r}, pretrained=True) loads "
                f"{self.published}, pretrained='<folder>' loads a folder, and size='tiny' "
                "builds a small random model for tests; give one of them."
            )
        if size is not None:
            check_choice("size", size, ("tiny",))
        if prompt is not None:
            if prompt.count("{text}") != 1:
                raise ConfigError(f"prompt must have '{{text}}' in it once, got {prompt!r}.")
            self.prompt = prompt
        self.max_text_tokens = max_text_tokens
        self.tokenizer_source = tokenizer or (BYTES if size == "tiny" else self.published)
        self._tokenizer: Tokenizer | None = None
        self._config = {
            "name": self.name,
            "size": size,
            "config": None if config is None else dict(config),
            "tokenizer": self.tokenizer_source,
            "prompt": prompt,
            "max_text_tokens": max_text_tokens,
            "dtype": dtype,
            "lora_rank": 0,
            "lora_alpha": lora_alpha,
            "lora_dropout": lora_dropout,
            "seed": seed,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = self.build(self.tiny_config() if config is None else config)
            _cast(self.model, getattr(torch, dtype))
        if lora_rank:
            self.add_lora(lora_rank, lora_alpha, lora_dropout)
        self.hidden_size = int(self.language_model.config.hidden_size)
        self.vocab_size = int(self.embedding.weight.shape[0])

    @classmethod
    @abstractmethod
    def tiny_config(cls) -> dict[str, Any]:
        """Return a configuration of transformers for a small model."""

    @classmethod
    def build(cls, config: Mapping[str, Any]) -> nn.Module:
        """Return a model of random weights for a configuration of transformers."""
        model_class = getattr(import_transformers(cls.name), cls.architecture)
        model_config = model_class.config_class.from_dict(dict(config))
        return model_class._from_config(model_config, attn_implementation="sdpa")

    @classmethod
    def load(cls, source: str, dtype: torch.dtype) -> nn.Module:
        """Return the model of a directory or repository that transformers wrote."""
        model_class = getattr(import_transformers(cls.name), cls.architecture)
        return read_pretrained(cls.name, model_class, source, dtype)

    @classmethod
    def config_of(cls, model: Any) -> dict[str, Any]:
        """Return the configuration that `build` makes such a model of."""
        return json.loads(model.config.to_json_string(use_diff=True))

    @abstractmethod
    def embed_images(self, pixels: Tensor) -> Tensor:
        """Turn pixels into image tokens.

        Args:
            pixels: [B*N, 3, H, W] in [0, 1], of `image_size`.

        Returns:
            [B*N, I, D], or [B*N, I, D + n D] with what is added after the first n layers.
        """

    @property
    def image_size(self) -> int:
        """Side of the square that images are resized to, px."""
        size = self.model_config.vision_config.image_size
        return int(size if isinstance(size, int) else size[0])

    @property
    def model_config(self) -> Any:
        """The configuration of transformers."""
        return self.model.config

    @property
    def language_model(self) -> Any:
        """The part that reads image and text tokens together."""
        return self.model.get_submodule(self.language_path)

    @property
    def embedding(self) -> nn.Embedding:
        """The table of token embeddings."""
        return self.language_model.embed_tokens

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, loaded at the first use."""
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(self.tokenizer_source, self.vocab_size)
        return self._tokenizer

    def get_config(self) -> dict[str, Any]:
        """Return the constructor keywords as JSON values, and `name`."""
        return dict(self._config)

    @classmethod
    def from_pretrained(cls, source: str | Path | None = None, **overrides: Any) -> AbstractVLM:
        """Load a model that `save_pretrained` or transformers wrote.

        Args:
            source: A directory, or the name of a repository; None for the published weights.
            **overrides: Constructor keywords that replace the saved ones.

        Raises:
            CheckpointError: If the weights are out of reach, damaged or do not fit.
            ConfigError: If an override is unknown, or says what the weights say.
        """
        check_keywords(cls, overrides)
        for key in ("size", "config"):
            if overrides.get(key) is not None:
                raise ConfigError(
                    f"{key} builds random weights and pretrained loads some; give only one."
                )
        source = cls.published if source is None else source
        lora = {key: overrides.pop(key) for key in tuple(overrides) if key.startswith("lora_")}
        if _is_ours(source):
            if read_config(Path(source) / CONFIG_NAME).get("lora_rank"):
                overrides.update(lora)  # The adapters are in the file.
                lora = {}
            vlm = super().from_pretrained(source, **overrides)
        else:
            vlm = cls._from_transformers(str(source), **overrides)
        assert isinstance(vlm, TransformersVLM)
        if lora.get("lora_rank"):
            vlm.add_lora(lora["lora_rank"], lora.get("lora_alpha"), lora.get("lora_dropout", 0.0))
        return vlm

    @classmethod
    def _from_transformers(cls, source: str, **overrides: Any) -> AbstractVLM:
        dtype = overrides.pop("dtype", "float32")
        check_choice("dtype", dtype, ("float32", "bfloat16", "float16"))
        try:
            model = cls.load(source, getattr(torch, dtype))
        except _LOAD_ERRORS as error:
            message = unreachable(f"vlm {cls.name!r}: weights", source, error)
            raise CheckpointError(message) from error
        config = cls.config_of(model)
        keywords = {"tokenizer": source, **overrides, "config": config, "dtype": dtype}
        with torch.device("meta"):  # Only the frame around the model is wanted.
            vlm = cls(**keywords)
        vlm.model = model
        return vlm.train()

    def add_lora(self, rank: int, alpha: float | None = None, dropout: float = 0.0) -> None:
        """Put low-rank adapters into the language model; only they stay trainable.

        They change nothing until they are trained, and the same `seed` gives the same ones.

        Args:
            rank: Rank of the adapters, at least 1.
            alpha: Their scale times `rank`; None for min(rank, 16).
            dropout: Dropout before an adapter.

        Raises:
            ConfigError: If peft is not installed, or there are adapters already.
        """
        if self._config["lora_rank"]:
            raise ConfigError(
                f"vlm {self.name!r} has adapters of rank {self._config['lora_rank']} already."
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._config["seed"])
            inject_lora(self.model, self.language_path, rank, alpha, dropout)
        self._config.update(lora_rank=rank, lora_alpha=alpha, lora_dropout=dropout)

    def unfreeze(self) -> None:
        """Undo `freeze`; with adapters, only they become trainable again."""
        super().unfreeze()
        if self._config["lora_rank"]:
            for name, parameter in self.named_parameters():
                parameter.requires_grad_(is_lora(name))

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """Return the input embeddings [B, M, D] of token ids, int64 [B, M]."""
        return self.embedding(ids)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return what hidden states [B, M, D] say about the next token, [B, M, vocab_size]."""
        return self.model.get_submodule("lm_head")(hidden)

    def action_token_ids(self, num_bins: int) -> Tensor:
        """Return the ids that stand for action bins, the last ordinary ones, int64 [num_bins].

        They are the rarest tokens of the vocabulary (Kim et al., 2024, arXiv:2406.09246).

        Raises:
            ConfigError: If the vocabulary has fewer.
        """
        size = self.tokenizer.vocab_size
        if num_bins > size:
            raise ConfigError(
                f"vlm {self.name!r} has {size} tokens and {num_bins} are needed for actions; "
                "use fewer bins."
            )
        return torch.arange(size - num_bins, size)

    def _read(self, images: Tensor, text: str | Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return the input tokens of images [B, N, C, H, W] and text, and their mask, bool [B, L].

        The tokens are as wide as `embed_images` makes them; those of the text end in zeros.
        """
        batch, cameras = images.shape[:2]
        texts = [self.prompt.replace("{text}", entry) for entry in as_text_list(text, batch)]
        ids, mask = padded_ids(self.tokenizer, texts, self.max_text_tokens)
        ids, mask = ids.to(images.device), mask.to(images.device)

        pixels = self._resize(images.flatten(0, 1).float())
        if self._recomputes():
            image_tokens = checkpoint(self.embed_images, pixels, use_reentrant=False)
        else:
            image_tokens = self.embed_images(pixels)
        image_tokens = image_tokens.unflatten(0, (batch, cameras))  # [B, N, I, D]
        extra = image_tokens.shape[-1] - self.hidden_size
        head, before, after = (
            pad(self._embed_marker(marker).expand(batch, -1, -1), (0, extra))
            for marker in (self.prompt_head, self.image_prefix, self.image_suffix)
        )
        parts = [head]
        for camera in range(cameras):
            parts += [before, image_tokens[:, camera].to(head.dtype), after]
        tokens = torch.cat([*parts, pad(self.embed_tokens(ids), (0, extra))], dim=1)
        given = mask.new_ones(batch, tokens.shape[1] - ids.shape[1])
        return tokens, torch.cat([given, mask], dim=1)

    def _output(self, features: Tensor, mask: Tensor, cameras: int) -> VLMOutput:
        length = mask.shape[1]
        text_start = length - self.max_text_tokens
        head = len(self.tokenizer.encode(self.prompt_head)) if self.prompt_head else 0
        per_camera = (text_start - head) // cameras
        side = round(per_camera**0.5)
        return VLMOutput(
            features=features,
            mask=mask,
            image_span=slice(head, text_start),
            text_span=slice(text_start, length),
            image_grid=(side * cameras, side) if side * side == per_camera else None,
        )

    def _embed_marker(self, text: str) -> Tensor:
        ids = torch.tensor([self.tokenizer.encode(text)] if text else [[]], dtype=torch.int64)
        return self.embed_tokens(ids.to(self.embedding.weight.device))  # [1, tokens, D]

    def _resize(self, pixels: Tensor) -> Tensor:
        size = (self.image_size, self.image_size)
        if pixels.shape[-2:] == size:
            return pixels
        return interpolate(pixels, size, mode="bicubic", antialias=True).clamp(0.0, 1.0)

    def _normalize(self, pixels: Tensor, normalization: Normalization | None = None) -> Tensor:
        chosen = self.normalization if normalization is None else normalization
        mean, std = (pixels.new_tensor(part)[:, None, None] for part in chosen)
        return ((pixels - mean) / std).to(self.embedding.weight.dtype)

    def _recomputes(self) -> bool:
        return self.gradient_checkpointing and self.training and torch.is_grad_enabled()


def import_transformers(name: str) -> Any:
    """Return the module transformers, imported late because it is heavy.

    Raises:
        ConfigError: If it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            f"vlm {name!r} needs transformers, which is not installed; "
            "run: pip install 'vla_core[hf]'."
        ) from error
    return transformers


def _cast(model: nn.Module, dtype: torch.dtype) -> None:
    """Change the type of all numbers but the rotary frequencies, which need float32."""
    buffers = [value for key, value in model.named_buffers() if not key.endswith("inv_freq")]
    for tensor in [*model.parameters(), *buffers]:
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)


def _is_ours(source: str | Path) -> bool:
    """Tell a directory of `save_pretrained` from one that transformers wrote."""
    path = Path(source) / CONFIG_NAME
    if not path.is_file():
        if isinstance(source, Path):
            read_config(path)  # Raises, saying what is there.
        return False
    return "model_type" not in read_config(path)
