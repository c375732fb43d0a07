# SPDX-License-Identifier: MIT
"""The interface that all frameworks share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from vla_core.errors import ConfigError, UnknownNameError
from vla_core.models.action_heads.committed import CommittedActions
from vla_core.models.encoders.vision import vision_encoder_from_config
from vla_core.models.frameworks.registry import framework_class
from vla_core.models.keywords import check_keywords, check_value_types
from vla_core.models.layers.backbone import Backbone
from vla_core.models.vlm.base import AbstractVLM
from vla_core.models.vlm.registry import vlm_from_config
from vla_core.models.weights import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    building_from,
    load_tensors,
    read_config,
    read_tensors,
    write_model,
)

VLA = TypeVar("VLA", bound="AbstractVLA")

_WEIGHTS_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


class AbstractVLA(nn.Module, ABC):
    """A policy: from images, an instruction and the robot's state to actions.

    A framework is one file with a subclass that is decorated by `register_framework`, builds its
    parts in the constructor, and implements `forward`, `predict_action`, `compute_loss` and
    `get_config`. Actions and states are normalised; units are the business of the processing.

    Attributes:
        framework: The name that checkpoints carry.
        presets: Constructor keywords by the name of a preset; `seed` is the constructor's own
            defaults.
        vlm: The backbone that `freeze_backbone` freezes, unless `backbone` says otherwise.
        looks_beside_vlm: Another part than the VLM reads the images as well, so that features of
            the VLM do not stand for them.
    """

    framework: str
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"seed": {}}
    vlm: AbstractVLM
    looks_beside_vlm: ClassVar[bool] = False

    @abstractmethod
    def forward(
        self,
        images: Tensor | None,
        text: str | Sequence[str] | None = None,
        proprioception: Tensor | None = None,
        actions: Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        """Compute the loss, or predict actions.

        Args:
            images: Camera frames in [0, 1], [B, C, H, W] or [B, N, C, H, W].
            text: One instruction for the whole batch, or one per row; None for no instruction.
            proprioception: Normalised robot state, [B, S].
            actions: Normalised true actions, [B, A] or [B, K, A].
            **kwargs: What a framework needs beside these.

        Returns:
            With actions, `loss` and each of its components by name; without, `actions`.

        Raises:
            ShapeError: If a tensor has another shape than the model was built for.
        """

    @abstractmethod
    def predict_action(
        self,
        images: Tensor | None,
        text: str | Sequence[str] | None = None,
        proprioception: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Predict normalised actions, [B, A] for single actions and [B, K, A] for chunks."""

    @abstractmethod
    def compute_loss(
        self,
        outputs: Mapping[str, Tensor],
        actions: Tensor,
        action_is_pad: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Compare what `forward` returned without actions with the true ones.

        Args:
            outputs: What `forward` returned.
            actions: Normalised true actions, [B, A] or [B, K, A].
            action_is_pad: True where a step is padding and must not count, bool [B, K].
            generator: Source of every random draw; None for the global one.

        Returns:
            `loss` and each of its components by name, scalars.
        """

    @abstractmethod
    def get_config(self) -> dict[str, Any]:
        """Return the constructor keywords as JSON values, and `framework`.

        A VLM is given by its own configuration under `vlm`.
        """

    @classmethod
    def from_config(cls: type[VLA], config: Mapping[str, Any]) -> VLA:
        """Build an untrained model from what `get_config` returned.

        Called on `AbstractVLA`, it builds the framework that the configuration names.

        Raises:
            ConfigError: If the configuration is for another framework, has unknown keys or a
                value of the wrong type.
            UnknownNameError: If the framework or the VLM is not registered.
        """
        framework = _select_framework(cls, config)
        keywords = {key: value for key, value in config.items() if key != "framework"}
        check_keywords(framework, keywords)
        check_value_types(framework, keywords)
        if isinstance(keywords.get("vlm"), Mapping):
            keywords["vlm"] = vlm_from_config(keywords["vlm"])
        elif not isinstance(keywords.get("vlm"), (AbstractVLM, type(None))):
            raise ConfigError(
                "vlm must be the configuration of a VLM, a mapping with its 'name', "
                f"got {keywords['vlm']!r}."
            )
        if isinstance(keywords.get("vision_encoder"), Mapping):
            keywords["vision_encoder"] = vision_encoder_from_config(keywords["vision_encoder"])
        return framework(**keywords)

    @classmethod
    def from_preset(cls: type[VLA], preset: str, **keywords: Any) -> VLA:
        """Build an untrained model with the settings of a preset.

        Args:
            preset: `seed` for the constructor's defaults, or another name in `presets`.
            **keywords: Constructor keywords that the preset does not set or that replace its own.

        Raises:
            ConfigError: If a keyword is unknown.
            UnknownNameError: If the framework has no such preset.
        """
        if preset not in cls.presets:
            names = ", ".join(map(repr, cls.presets))
            raise UnknownNameError(f"{cls.__name__} has no preset {preset!r}; available: {names}.")
        settings = {**cls.presets[preset], **keywords}
        check_keywords(cls, settings)
        return cls(**settings)

    @property
    def inpaints(self) -> bool:
        """Whether `predict_action` takes `committed` steps and fits the others to them."""
        return False

    @property
    def chunk_length(self) -> int:
        """Actions of one prediction, K."""
        return int(self.get_config().get("chunk_size", 1))

    def predict_chunk(
        self,
        images: Tensor | None,
        text: str | Sequence[str] | None = None,
        proprioception: Tensor | None = None,
        *,
        committed: Tensor | None = None,
        overlap: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Predict normalised actions as `predict_action` does, but [B, K, A] whatever K.

        Args:
            images: As in `forward`.
            text: As in `forward`.
            proprioception: As in `forward`.
            committed: Steps that the arm will have executed before the chunk can take effect:
                the first c steps of the chunk are these, [B, c, A], c below K; None for none.
                A framework that `inpaints` fits the other steps to them.
            overlap: What the chunk before says about the steps after the committed ones,
                [B, o, A]. A framework that `inpaints` is drawn towards them, the less the later;
                the others do not read it.
            **kwargs: Keywords of `predict_action`.

        Raises:
            ShapeError: If the committed steps do not fit the chunk.
        """
        if committed is None and overlap is None:
            return self._predict_chunk(images, text, proprioception, **kwargs)
        config = self.get_config()
        known = CommittedActions(committed, overlap, self.chunk_length, config["action_dim"])
        if self.inpaints:
            kwargs["committed"] = known
        return known.overwrite(self._predict_chunk(images, text, proprioception, **kwargs))

    def _predict_chunk(
        self,
        images: Tensor | None,
        text: str | Sequence[str] | None,
        proprioception: Tensor | None,
        **kwargs: Any,
    ) -> Tensor:
        """Predict [B, K, A] by `predict_action`."""
        predicted = self.predict_action(
            images=images, text=text, proprioception=proprioception, **kwargs
        )
        return predicted.unsqueeze(1) if predicted.dim() == 2 else predicted

    @property
    def backbone(self) -> Backbone:
        """The part that `freeze_backbone` freezes: the VLM where the framework has one."""
        return self.vlm

    def freeze_backbone(self) -> None:
        """Freeze the backbone: no gradients, eval mode whatever `train()` says."""
        self.backbone.freeze()

    def unfreeze_backbone(self) -> None:
        """Train the backbone as well."""
        self.backbone.unfreeze()
        self.backbone.train(self.training)

    def get_num_parameters(self, trainable_only: bool = False) -> int:
        """Count the parameters, or only those that get gradients."""
        return sum(
            parameter.numel()
            for parameter in self.parameters()
            if parameter.requires_grad or not trainable_only
        )

    def save_pretrained(self, path: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write weights (safetensors) and configuration (JSON), each file atomically.

        Args:
            path: A directory, which gets config.json and model.safetensors; or a file such as
                checkpoints/model.pt, which gets the weights and a model.json beside it. A file is
                what ends in .safetensors, .pt, .pth, .bin or .ckpt.
            dtype: What the weights are rounded to, such as torch.float16 for a file of half the
                size; None leaves them as they are.
        """
        write_model(*_checkpoint_files(Path(path)), self, self.get_config(), dtype)

    @classmethod
    def from_pretrained(cls: type[VLA], path: str | Path, strict: bool = True) -> VLA:
        """Load what `save_pretrained` wrote, in eval mode.

        Called on `AbstractVLA`, it loads whichever framework the checkpoint holds.

        Args:
            path: Directory or file, as given to `save_pretrained`.
            strict: Refuse missing and unexpected weights; misshapen ones are always refused.

        Raises:
            CheckpointError: If a file is missing, damaged or a pickle, if no model can be built
                from the configuration, if a weight does not fit, or if the checkpoint holds
                another framework.
            UnknownNameError: If the checkpoint's framework or VLM is not registered.
        """
        weights_path, config_path = _checkpoint_files(Path(path))
        tensors = read_tensors(weights_path)
        config = read_config(config_path)
        with building_from(config_path):
            model = cls.from_config(config)
        load_tensors(model, tensors, weights_path, strict)
        return model.eval()


def _select_framework(cls: type[VLA], config: Mapping[str, Any]) -> type[VLA]:
    if "framework" not in config:
        raise ConfigError(f"configuration must name its 'framework', got keys {sorted(config)}.")
    framework = framework_class(config["framework"])
    if not issubclass(framework, cls):
        raise ConfigError(
            f"configuration is for framework {config['framework']!r} ({framework.__name__}), "
            f"not for {cls.__name__}; use {framework.__name__} or AbstractVLA."
        )
    return framework


def _checkpoint_files(path: Path) -> tuple[Path, Path]:
    """Return the paths of weights and configuration."""
    if path.suffix.lower() in _WEIGHTS_SUFFIXES and not path.is_dir():
        return path, path.with_suffix(".json")
    return path / WEIGHTS_NAME, path / CONFIG_NAME
