# SPDX-License-Identifier: MIT
"""Checking the keywords that a stored configuration hands to a constructor."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from vla_core.errors import ConfigError

_TYPES: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "None": (type(None),),
}


def check_keywords(constructor: Callable[..., Any], keywords: Mapping[str, Any]) -> None:
    """Refuse keywords that a constructor does not have.

    A class whose constructor takes `**keywords` is taken to hand them to that of its base.

    Raises:
        ConfigError: Naming the unknown keywords and the valid ones.
    """
    valid = [parameter.name for parameter in _parameters_of(constructor)]
    unknown = sorted(set(keywords) - set(valid))
    if unknown:
        raise ConfigError(
            f"configuration of {constructor.__name__} has unknown keys {unknown}; "
            f"valid: {', '.join(valid)}."
        )


def check_value_types(constructor: Callable[..., Any], keywords: Mapping[str, Any]) -> None:
    """Refuse values of another type than the constructor's annotations say.

    Only keywords annotated with `bool`, `int`, `float`, `str` or `None`, or a union of these, are
    checked: they are what a stored configuration holds beside the configurations of parts.

    Raises:
        ConfigError: Naming the keyword, its type and the value.
    """
    for parameter in _parameters_of(constructor):
        kinds = str(parameter.annotation).split(" | ")
        if parameter.name in keywords and all(kind in _TYPES for kind in kinds):
            value = keywords[parameter.name]
            if not any(_is_a(kind, value) for kind in kinds):
                raise ConfigError(
                    f"{parameter.name} of {constructor.__name__} must be "
                    f"{' or '.join(kinds)}, got {value!r}."
                )


def _is_a(kind: str, value: Any) -> bool:
    if isinstance(value, bool):
        return kind == "bool"
    return isinstance(value, _TYPES[kind]) and not (
        isinstance(value, float) and not math.isfinite(value)
    )


def _parameters_of(constructor: Callable[..., Any]) -> list[inspect.Parameter]:
    levels: list[Callable[..., Any]] = [constructor]
    if inspect.isclass(constructor):
        levels = [vars(cls)["__init__"] for cls in constructor.__mro__ if "__init__" in vars(cls)]
    valid: list[inspect.Parameter] = []
    for level in levels:
        parameters = inspect.signature(level).parameters.values()
        variable = [p for p in parameters if p.kind is p.VAR_KEYWORD]
        valid += [p for p in parameters if p not in variable and p.name != "self"]
        if not variable:
            break
    return valid


def check_sizes(**sizes: int) -> None:
    """Refuse sizes below 1.

    Raises:
        ConfigError: Naming the setting and its value.
    """
    for name, size in sizes.items():
        if size < 1:
            raise ConfigError(f"{name} must be at least 1, got {size}.")


def check_probability(name: str, value: float) -> None:
    """Refuse a value outside of [0, 1].

    Raises:
        ConfigError: Naming the setting and its value.
    """
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"{name} must be from 0 to 1, got {value!r}.")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a value that is not one of the choices.

    Raises:
        ConfigError: Naming the setting, the value and the choices.
    """
    if value not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}.")
