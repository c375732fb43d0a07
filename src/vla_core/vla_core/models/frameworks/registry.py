# SPDX-License-Identifier: MIT
"""Frameworks by the name that their checkpoints carry."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from vla_core.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    from vla_core.models.frameworks.base import AbstractVLA

VLAType = TypeVar("VLAType", bound="type[AbstractVLA]")

_FRAMEWORKS: dict[str, type[AbstractVLA]] = {}


def register_framework(name: str) -> Callable[[VLAType], VLAType]:
    """Return a class decorator that lets `from_pretrained` find a framework by name.

    Raises:
        ConfigError: If another class already has the name.
    """

    def register(framework: VLAType) -> VLAType:
        if _FRAMEWORKS.get(name, framework) is not framework:
            raise ConfigError(
                f"framework {name!r} is already registered by {_FRAMEWORKS[name].__name__}; "
                "choose another name."
            )
        framework.framework = name
        _FRAMEWORKS[name] = framework
        return framework

    return register


def available_frameworks() -> tuple[str, ...]:
    """Return the registered names, sorted."""
    return tuple(sorted(_FRAMEWORKS))


def framework_class(name: str) -> type[AbstractVLA]:
    """Return the framework of a name.

    Raises:
        UnknownNameError: If the name is not registered.
    """
    if name not in _FRAMEWORKS:
        names = ", ".join(repr(known) for known in available_frameworks())
        raise UnknownNameError(f"framework {name!r} is not registered; available: {names}.")
    return _FRAMEWORKS[name]
