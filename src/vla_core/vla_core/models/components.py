# SPDX-License-Identifier: MIT
"""Parts that a framework is composed of, and that its checkpoint can name and rebuild."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import nn

from vla_core.errors import ConfigError, UnknownNameError
from vla_core.models.keywords import check_keywords

Part = TypeVar("Part", bound="Component")

_COMPONENTS: dict[str, type[Component]] = {}


class Component(nn.Module):
    """A module that remembers what it was built with.

    Every public subclass can be rebuilt by its class name, with no registration: the newest class
    of a name counts, so that a notebook may define one again.
    """

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Make the class known by its name."""
        super().__init_subclass__(**keywords)
        if not cls.__name__.startswith("_"):
            _COMPONENTS[cls.__name__] = cls

    def __new__(cls: type[Part], *args: Any, **kwargs: Any) -> Part:
        """Remember the constructor's keywords, with its defaults."""
        part = super().__new__(cls)
        try:
            bound = inspect.signature(cls).bind(*args, **kwargs)
        except TypeError:
            # The constructor reports wrong arguments itself; copy and pickle pass none.
            return part
        bound.apply_defaults()
        part.__dict__["_keywords"] = dict(bound.arguments)
        return part

    def get_config(self) -> dict[str, Any]:
        """Return the constructor keywords as JSON values, and the class as `name`.

        Raises:
            ConfigError: If a keyword has a value that JSON has not.
        """
        config = {key: _as_json(value) for key, value in self.__dict__["_keywords"].items()}
        try:
            json.dumps(config)
        except TypeError as error:
            raise ConfigError(
                f"{type(self).__name__} cannot be saved, because JSON has no such value ({error});"
                " build it from numbers, strings and lists."
            ) from error
        return {"name": type(self).__name__, **config}


def build_component(config: Mapping[str, Any], kind: type) -> Any:
    """Build an untrained component from what its `get_config` returned.

    Args:
        config: The configuration.
        kind: What it must be, for example `AbstractActionHead`.

    Raises:
        ConfigError: If the configuration has no name, unknown keys, or is for another kind.
        UnknownNameError: If there is no class of that name.
    """
    if "name" not in config:
        raise ConfigError(
            f"configuration of a {kind.__name__} must have a 'name', got keys {sorted(config)}."
        )
    name = config["name"]
    available = {known: cls for known, cls in _COMPONENTS.items() if issubclass(cls, kind)}
    if name not in available:
        names = ", ".join(map(repr, sorted(set(available) - {kind.__name__})))
        raise UnknownNameError(
            f"{kind.__name__} {name!r} is not known; available: {names}. "
            "Import the module that defines it before loading."
        )
    keywords = {key: value for key, value in config.items() if key != "name"}
    check_keywords(available[name], keywords)
    return available[name](**{key: _from_json(value) for key, value in keywords.items()})


def _as_json(value: Any) -> Any:
    return {"component": value.get_config()} if isinstance(value, Component) else value


def _from_json(value: Any) -> Any:
    if isinstance(value, Mapping) and set(value) == {"component"}:
        return build_component(value["component"], Component)
    return value
