# SPDX-License-Identifier: MIT
"""The interface of a vision-language model that lends its features to a framework."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from vla_core.errors import CheckpointError, ConfigError, ShapeError
from vla_core.models.keywords import check_keywords, check_value_types
from vla_core.models.layers.backbone import Backbone
from vla_core.models.vlm.prefix import AttentionLayout as AttentionLayout
from vla_core.models.vlm.prefix import VLMExtension as VLMExtension
from vla_core.models.vlm.prefix import VLMPrefix as VLMPrefix
from vla_core.models.vlm.sampling import choose_tokens
from vla_core.models.weights import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    building_from,
    load_tensors,
    read_config,
    read_tensors,
    write_model,
)


@dataclass(frozen=True)
class VLMOutput:
    """Features of one batch, laid out in equal blocks, one block per camera.

    `L = num_blocks * block length`; inside a block, `image_span` and `text_span` say where the
    tokens of the image and of the text lie. A model that reads all cameras in one sequence
    returns a single block.

    Attributes:
        features: Final hidden states, [B, L, D].
        mask: True where a token is valid and False where it is padding, bool [B, L].
        image_span: Image tokens inside one block.
        text_span: Text tokens inside one block.
        num_blocks: Number of blocks (cameras) that L is made of.
        image_grid: Rows and columns of the image tokens of a block, row-major; None if the image
            tokens are no such grid.
    """

    features: Tensor
    mask: Tensor
    image_span: slice
    text_span: slice
    num_blocks: int = 1
    image_grid: tuple[int, int] | None = None

    def blocks(self) -> Tensor:
        """Return the features by camera, [B, num_blocks, L / num_blocks, D]."""
        batch, length, width = self.features.shape
        return self.features.view(batch, self.num_blocks, length // self.num_blocks, width)

    def image_tokens(self) -> Tensor:
        """Return the image tokens of each camera, [B, num_blocks, image tokens, D]."""
        return self.blocks()[:, :, self.image_span]

    def text_tokens(self) -> Tensor:
        """Return the text tokens beside each camera, [B, num_blocks, text tokens, D]."""
        return self.blocks()[:, :, self.text_span]

    def rows(self, index: Tensor) -> VLMOutput:
        """Return the batch rows that `index` (int64 or bool, [rows]) selects, as from a cache."""
        return replace(self, features=self.features[index], mask=self.mask[index])

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> VLMOutput:
        """Return the output on `device`, its features as `dtype` if one is given."""
        features = self.features.to(device=device, dtype=dtype)
        return replace(self, features=features, mask=self.mask.to(device))


class AbstractVLM(Backbone, ABC):
    """Turns images and text into token features of width `hidden_size`.

    Subclasses set `name` (as registered) and `hidden_size`, and implement `encode` and
    `get_config`. A language model that can be continued token by token also implements
    `prefill`, `extend`, `embed_tokens`, `logits`, `action_token_ids` and `attention_layout`;
    `begin`, `predict_hidden` and `generate` stand on those.
    """

    name: str
    hidden_size: int
    vocab_size: int

    @abstractmethod
    def encode(self, images: Tensor, text: str | Sequence[str]) -> VLMOutput:
        """Encode the images of every camera together with the text.

        Args:
            images: Camera frames in [0, 1], float [B, N, C, H, W] or [B, C, H, W].
            text: One instruction for the whole batch, or one per row.

        Returns:
            Features of all cameras, [B, L, D].

        Raises:
            ShapeError: If the images or the number of texts do not fit.
        """

    def prefill(self, images: Tensor, text: str | Sequence[str]) -> VLMPrefix:
        """Encode images and text once, so that tokens can be put after them.

        Its features are those of `encode`. Nothing that comes later changes it: compute it once
        and use it for every denoising step or generated token.

        Raises:
            ShapeError: If the images or the number of texts do not fit.
            ConfigError: If the model has no such capability.
        """
        self._lacks("prefill")

    def extend(
        self, embeddings: Tensor, prefix: VLMPrefix, *, causal: bool = True
    ) -> VLMExtension:
        """Run more tokens after a prefix; they attend to its valid tokens and to each other.

        Args:
            embeddings: The M new tokens, [B, M, D]; see `embed_tokens`.
            prefix: What `prefill` or an earlier `extend` returned.
            causal: Whether a new token sees only the new ones before it, or all of them.

        Raises:
            ConfigError: If the model has no such capability.
        """
        self._lacks("extend")

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """Return the input embeddings [B, M, D] of token ids, int64 [B, M].

        Raises:
            ConfigError: If the model has no such capability.
        """
        self._lacks("embed_tokens")

    def logits(self, hidden: Tensor) -> Tensor:
        """Return what hidden states [B, M, D] say about the next token, [B, M, vocab_size].

        Raises:
            ConfigError: If the model has no such capability.
        """
        self._lacks("logits")

    def action_token_ids(self, num_bins: int) -> Tensor:
        """Return the ids that stand for action bins, the last of the vocabulary, int64 [num_bins].

        Raises:
            ConfigError: If the vocabulary has fewer ids to give away.
        """
        self._lacks("action_token_ids")

    @property
    def attention_layout(self) -> AttentionLayout:
        """The form of the keys and values, for an action expert that attends to them.

        Raises:
            ConfigError: If the model has no such capability.
        """
        self._lacks("attention_layout")

    def begin(self, prefix: VLMPrefix) -> VLMExtension:
        """Return the hidden state that predicts the first token after the prefix, [B, 1, D]."""
        return VLMExtension(prefix.last_features().unsqueeze(1), prefix)

    def predict_hidden(self, prefix: VLMPrefix, ids: Tensor) -> Tensor:
        """Return the hidden states that predict given tokens (teacher forcing).

        Args:
            prefix: What `prefill` returned.
            ids: The tokens after the prefix, int64 [B, M].

        Returns:
            [B, M, D]; state m has seen the prefix and the tokens before m, and `logits` of it
            predicts token m.
        """
        start = self.begin(prefix)
        if ids.shape[1] == 1:
            return start.hidden
        later = self.extend(self.embed_tokens(ids[:, :-1]), start.prefix)
        return torch.cat([start.hidden, later.hidden], dim=1)

    @torch.no_grad()
    def generate(
        self,
        images: Tensor,
        text: str | Sequence[str],
        max_new_tokens: int,
        temperature: float = 0.0,
        top_k: int | None = None,
        allowed_ids: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Continue images and text token by token.

        Args:
            images: As for `encode`.
            text: As for `encode`.
            max_new_tokens: Tokens to generate, at least 1; always as many.
            temperature: 0 takes the likeliest token, more samples more evenly.
            top_k: Sample among the k likeliest only.
            allowed_ids: Take only these ids, int64 [number], for example `action_token_ids`.
            generator: Where sampling draws from; the same state gives the same tokens.

        Returns:
            Token ids, int64 [B, max_new_tokens].

        Raises:
            ConfigError: If a setting is out of range or the model cannot generate.
        """
        if max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens must be at least 1, got {max_new_tokens}.")
        step = self.begin(self.prefill(images, text))
        chosen: list[Tensor] = []
        while True:
            scores = self.logits(step.hidden[:, -1:])[:, 0]
            chosen.append(choose_tokens(scores, temperature, top_k, allowed_ids, generator))
            if len(chosen) == max_new_tokens:
                return torch.stack(chosen, dim=1)
            step = self.extend(self.embed_tokens(chosen[-1].unsqueeze(1)), step.prefix)

    def _lacks(self, capability: str) -> NoReturn:
        raise ConfigError(
            f"vlm {self.name!r} has no {capability}; choose one that continues its input token "
            "by token, such as 'tiny' or 'paligemma'."
        )

    @abstractmethod
    def get_config(self) -> dict[str, Any]:
        """Return the constructor keywords as JSON values, and `name`."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> AbstractVLM:
        """Build an untrained model from what `get_config` returned.

        Raises:
            ConfigError: If the configuration has keys that the model does not know, or a value of
                the wrong type.
        """
        keywords = {key: value for key, value in config.items() if key != "name"}
        check_keywords(cls, keywords)
        check_value_types(cls, keywords)
        return cls(**keywords)

    def forward(self, images: Tensor, text: str | Sequence[str]) -> VLMOutput:
        """Encode; see `encode`."""
        return self.encode(images, text)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write config.json and model.safetensors into `directory`, each atomically."""
        folder = Path(directory)
        write_model(folder / WEIGHTS_NAME, folder / CONFIG_NAME, self, self.get_config())

    @classmethod
    def from_pretrained(cls, source: str | Path | None = None, **overrides: Any) -> AbstractVLM:
        """Load a model that `save_pretrained` wrote.

        Args:
            source: Directory with config.json and model.safetensors; None for the weights that
                the package ships.
            **overrides: Constructor keywords that replace the saved ones.

        Raises:
            CheckpointError: If a file is missing or damaged, or a weight does not fit.
            ConfigError: If an override is unknown or has the wrong type.
        """
        check_keywords(cls, overrides)
        check_value_types(cls, overrides)
        folder = Path(source) if source is not None else _packaged_directory(cls.name)
        config = {**read_config(folder / CONFIG_NAME), **overrides}
        if config.get("name", cls.name) != cls.name:
            raise CheckpointError(
                f"{folder} holds a vlm {config['name']!r}, not {cls.name!r}; "
                f"use get_vlm({config['name']!r}, pretrained=...)."
            )
        with building_from(folder / CONFIG_NAME):
            model = cls.from_config(config)
        tensors = model._complete(read_tensors(folder / WEIGHTS_NAME))
        load_tensors(model, tensors, folder / WEIGHTS_NAME)
        return model

    def _complete(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add initial values of what a file written with fewer options has not."""
        return tensors


def _packaged_directory(name: str) -> Path:
    return Path(__file__).resolve().parents[2] / "checkpoints" / f"{name}_vlm"


def as_camera_images(images: Tensor) -> Tensor:
    """Return images as [B, N, C, H, W], with N = 1 if they came without a camera axis.

    Raises:
        ShapeError: If the rank, the channels or the dtype does not fit, or an axis is empty.
    """
    if images.dim() not in (4, 5) or images.shape[-3] != 3:
        raise ShapeError(
            "images must be [B, 3, H, W] or [B, N, 3, H, W] (N cameras), "
            f"got {list(images.shape)}."
        )
    if 0 in images.shape:
        raise ShapeError(
            f"images must have at least one row, camera and pixel, got {list(images.shape)}."
        )
    if not images.is_floating_point():
        raise ShapeError(
            f"images must be floating point in [0, 1], got {images.dtype}; "
            "convert and divide by 255 first."
        )
    return images if images.dim() == 5 else images.unsqueeze(1)


def as_text_list(text: str | Sequence[str] | None, batch_size: int) -> list[str]:
    """Return one text per batch row; a single string is used for all, and None is empty text.

    Raises:
        ShapeError: If the number of texts is not the batch size, or they are no strings.
    """
    if text is None:
        text = ""
    if isinstance(text, (bytes, Mapping)) or not hasattr(text, "__iter__"):
        raise ShapeError(
            f"text must be one string or a list of {batch_size} (the batch size of images), "
            f"got {type(text).__name__}."
        )
    texts = [text] * batch_size if isinstance(text, str) else list(text)
    if not all(isinstance(entry, str) for entry in texts):
        kinds = sorted({type(entry).__name__ for entry in texts})
        raise ShapeError(f"text must be strings, got a list of {', '.join(kinds)}.")
    if len(texts) != batch_size:
        raise ShapeError(
            f"text must be one string or a list of {batch_size} (the batch size of images), "
            f"got {len(texts)} strings."
        )
    return texts
