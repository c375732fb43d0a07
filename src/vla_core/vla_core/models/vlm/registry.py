# SPDX-License-Identifier: MIT
"""Vision-language models by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from vla_core.errors import ConfigError, UnknownNameError
from vla_core.models.keywords import check_keywords, check_value_types
from vla_core.models.vlm.base import AbstractVLM

VLMType = TypeVar("VLMType", bound=type[AbstractVLM])

_VLMS: dict[str, type[AbstractVLM]] = {}


def register_vlm(name: str) -> Callable[[VLMType], VLMType]:
    """Return a class decorator that makes a VLM available as `get_vlm(name)`.

    Raises:
        ConfigError: If another class already has the name.
    """

    def register(vlm_class: VLMType) -> VLMType:
        if _VLMS.get(name, vlm_class) is not vlm_class:
            raise ConfigError(
                f"vlm {name!r} is already registered by {_VLMS[name].__name__}; "
                "choose another name."
            )
        vlm_class.name = name
        _VLMS[name] = vlm_class
        return vlm_class

    return register


def available_vlms() -> tuple[str, ...]:
    """Return the registered names, sorted."""
    return tuple(sorted(_VLMS))


def get_vlm(name: str, pretrained: bool | str | Path = False, **kwargs: Any) -> AbstractVLM:
    """Build a vision-language model.

    Args:
        name: A name of `available_vlms()`.
        pretrained: False for untrained weights, True for the model's own published or packaged
            weights, or a directory that `save_pretrained` wrote; for the models of transformers
            also one that transformers wrote, or the name of a repository.
        **kwargs: Constructor keywords of the model.

    Raises:
        UnknownNameError: If the name is not registered.
        ConfigError: If the model has no such keyword, or a value is not possible.
        CheckpointError: If the weights cannot be loaded.
    """
    vlm_class = _vlm_class(name)
    check_keywords(vlm_class, kwargs)
    check_value_types(vlm_class, kwargs)
    if pretrained is False:
        return vlm_class(**kwargs)
    return vlm_class.from_pretrained(None if pretrained is True else pretrained, **kwargs)


def vlm_from_config(config: Mapping[str, Any]) -> AbstractVLM:
    """Build an untrained VLM from what its `get_config` returned.

    Raises:
        ConfigError: If the configuration has no name.
        UnknownNameError: If the name is not registered.
    """
    if "name" not in config:
        raise ConfigError(f"vlm configuration must have a 'name', got keys {sorted(config)}.")
    return _vlm_class(config["name"]).from_config(config)


def _vlm_class(name: str) -> type[AbstractVLM]:
    if name not in _VLMS:
        names = ", ".join(repr(known) for known in available_vlms())
        raise UnknownNameError(f"vlm {name!r} is not registered; available: {names}.")
    return _VLMS[name]
