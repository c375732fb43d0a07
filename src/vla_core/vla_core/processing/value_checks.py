# SPDX-License-Identifier: MIT
"""Checks of values that come from YAML or JSON, each with an error that says what is valid."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import yaml

from vla_core.errors import ConfigError


class UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses a repeated key, of which YAML would silently keep the last.

    A scalar that cannot be read as its tag says, such as the date 2026-99-99, is a YAMLError.
    """

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Build a value as SafeLoader does.

        Raises:
            yaml.constructor.ConstructorError: A scalar is not what its tag says.
        """
        try:
            return super().construct_object(node, deep)
        except ConfigError:
            raise
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise yaml.constructor.ConstructorError(
                None, None, f"{node.value!r} is no valid {node.tag}: {error}", node.start_mark
            ) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping as SafeLoader does.

        Raises:
            ConfigError: A key is given twice, or is a list or a mapping.
        """
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(
                    f"key in line {key.start_mark.line + 1} must be a name, got a {key.id}."
                )
            if key.value in seen:
                line = key.start_mark.line + 1
                raise ConfigError(f"key '{key.value}' is given twice, again in line {line}.")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def quoted(names: Iterable[object]) -> str:
    """Return names in quotes, separated by commas, for a message."""
    return ", ".join(f"'{name}'" for name in names) or "none"


def available(name: str, known: Iterable[str], title: str = "available") -> str:
    """Return the names that there are instead of an unknown one, and which may be meant."""
    names = list(known)
    near = nearest(name, names)
    meant = f"did you mean '{near[0]}'? {title.capitalize()}" if near else title
    return f"{meant}: {quoted(names)}"


def nearest(name: str, known: Iterable[str], count: int = 1) -> list[str]:
    """Return the known names that may be meant by an unknown one, the most similar first."""
    return get_close_matches(name.lower(), list(known), n=count)


def require_keys(
    name: str, data: object, valid: Sequence[str], optional: Sequence[str] = ()
) -> Mapping[str, Any]:
    """Return data if it is a mapping with exactly the valid keys, else raise ConfigError.

    Args:
        name: Name of the mapping, for the message.
        data: The mapping.
        valid: Keys that it may have.
        optional: Those of them that it may lack.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(
            f"{name} must be a mapping with the keys {', '.join(valid)}, got {data!r}."
        )
    unknown = [key for key in data if key not in valid]
    if unknown:
        raise ConfigError(
            f"{name} has unknown key {quoted(unknown)}; valid keys: {', '.join(valid)}."
        )
    missing = [key for key in valid if key not in data and key not in optional]
    if missing:
        raise ConfigError(f"{name} lacks {quoted(missing)}; its keys are {', '.join(valid)}.")
    return data


def require_text(name: str, value: object) -> None:
    """Raise ConfigError unless the value is a non-empty string."""
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{name} must be a non-empty string, got {value!r}.")


def require_flag(name: str, value: object) -> None:
    """Raise ConfigError unless the value is true or false."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be true or false, got {value!r}.")


def require_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise ConfigError unless the value is one of the choices."""
    if value not in choices:
        raise ConfigError(f"{name} {value!r} is unknown; available: {quoted(choices)}.")


def require_count(name: str, value: object) -> None:
    """Raise ConfigError unless the value is a whole number above zero."""
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ConfigError(f"{name} must be a positive whole number, got {value!r}.")


def require_number(name: str, value: object) -> None:
    """Raise ConfigError unless the value is a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not _is_finite(value):
        raise ConfigError(f"{name} must be a finite number, got {_shown(value)}.")


def require_positive(name: str, value: float) -> None:
    """Raise ConfigError unless the value is a finite number above zero."""
    require_number(name, value)
    if value <= 0:
        raise ConfigError(f"{name} must be positive, got {value!r}.")


def require_rate(name: str, value: float, slowest: float, fastest: float) -> None:
    """Raise ConfigError unless the value is a rate in Hz between two bounds."""
    require_number(name, value)
    if not slowest <= value <= fastest:
        raise ConfigError(f"{name} must be between {slowest:g} and {fastest:g} Hz, got {value!r}.")


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # A whole number that no float holds.
        return False


def _shown(value: object) -> str:
    if isinstance(value, int) and not _is_finite(value):
        return f"a whole number of {value.bit_length()} bits"
    return repr(value)


def require_unique_names(name: str, values: object) -> tuple[str, ...]:
    """Return a list of at least one name as a tuple, or raise ConfigError."""
    names = require_names(name, values)
    if not names:
        raise ConfigError(f"{name} must be a list of names, got {values!r}.")
    return names


def require_names(name: str, values: object) -> tuple[str, ...]:
    """Return a list of distinct names, which may be empty, as a tuple, or raise ConfigError."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ConfigError(f"{name} must be a list of names, got {values!r}.")
    wrong = [value for value in values if not isinstance(value, str) or not value]
    if wrong:
        raise ConfigError(f"{name} must be a list of names, got {wrong[0]!r} in it.")
    repeated = sorted({value for value in values if values.count(value) > 1})
    if repeated:
        raise ConfigError(f"{name} names {quoted(repeated)} more than once.")
    return tuple(values)


def require_prefixes(values: object, topics: tuple[str, ...]) -> dict[str, str]:
    """Return prefixes of joint names by topic, each a topic of the same section.

    Raises:
        ConfigError: It is no mapping, a topic is unknown, or a prefix is no text.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"prefixes must give a prefix by topic, got {values!r}.")
    unknown = [topic for topic in values if topic not in topics]
    if unknown:
        raise ConfigError(
            f"prefixes names topic {quoted(unknown)}; the topics here: {quoted(topics)}."
        )
    for topic, prefix in values.items():
        require_text(f"prefixes.{topic}", prefix)
    return dict(values)


def require_fraction(name: str, value: float) -> None:
    """Raise ConfigError unless a value is a number in [0, 1)."""
    require_number(name, value)
    if not 0 <= value < 1:
        raise ConfigError(f"{name} must be in [0, 1), got {value!r}.")


def require_at_least_zero(name: str, value: float) -> None:
    """Raise ConfigError unless a value is a number that is not negative."""
    require_number(name, value)
    if value < 0:
        raise ConfigError(f"{name} must be at least 0, got {value!r}.")
