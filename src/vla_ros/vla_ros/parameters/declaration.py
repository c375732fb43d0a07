# SPDX-License-Identifier: MIT
"""How a node's parameters, a frozen dataclass, are declared with type, meaning and bounds.

The values live in ``config/<node>.param.yaml`` and nowhere else: that file is what a node starts
with, and ``--params-file`` or ``-p name:=value`` override it. A parameter that the file lacks, or
that only the file has, is an error.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import yaml
from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    ParameterType,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from vla_core.errors import ConfigError
from vla_ros.graph import find_config

Changes = Literal["never", "unconfigured", "always"]
"""When a parameter may be set: at the start alone, while a managed node is not configured, at any
time."""

_TYPES: dict[Any, int] = {
    bool: ParameterType.PARAMETER_BOOL,
    int: ParameterType.PARAMETER_INTEGER,
    float: ParameterType.PARAMETER_DOUBLE,
    str: ParameterType.PARAMETER_STRING,
    tuple[str, ...]: ParameterType.PARAMETER_STRING_ARRAY,
    tuple[float, ...]: ParameterType.PARAMETER_DOUBLE_ARRAY,
    tuple[int, ...]: ParameterType.PARAMETER_INTEGER_ARRAY,
}


def parameter(
    description: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[str] = (),
    changes: Changes = "unconfigured",
    instead: str = "",
) -> Any:
    """Describe one field of a parameter dataclass.

    Args:
        description: Meaning and unit.
        minimum: Smallest value of a number; give both bounds or none.
        maximum: Largest value of a number.
        choices: Values of a string; empty allows any.
        changes: When it may be set.
        instead: What else does it while the node is configured.
    """
    return dataclasses.field(
        metadata={
            "description": description,
            "minimum": minimum,
            "maximum": maximum,
            "choices": tuple(choices),
            "changes": changes,
            "instead": instead,
        }
    )


fixed_parameter = functools.partial(parameter, changes="never")
"""Describe a field that is given at the start alone, as all of a node that does one thing."""


@dataclasses.dataclass(frozen=True)
class NodeParameters:
    """Base of all parameters; ``NODE`` is the name of the executable."""

    NODE: ClassVar[str]


@dataclasses.dataclass(frozen=True)
class ManagedParameters(NodeParameters):
    """Base of the parameters of lifecycle nodes."""

    autostart: bool = parameter(
        "Whether the node configures and activates itself; false waits for a lifecycle manager.",
        changes="never",
    )


ParametersT = TypeVar("ParametersT", bound=NodeParameters)


def load_parameter_file(path: Path) -> dict[str, Any]:
    """Return the parameters of a file that has one section, for any node name.

    Raises:
        ConfigError: The file does not have the form ``/**: ros__parameters: {name: value}``.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    section = content.get("/**") if isinstance(content, dict) else None
    values = section.get("ros__parameters") if isinstance(section, dict) else None
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path} must have the form '/**: {{ros__parameters: {{name: value}}}}'."
        )
    return values


def declare_parameters(node: Node, parameters: type[ParametersT]) -> ParametersT:
    """Declare every field of a dataclass on the node and return the values in force.

    Args:
        node: Node that gets the parameters; its file is that of ``parameters.NODE``.
        parameters: Dataclass whose fields are made by `parameter`.

    Raises:
        ConfigError: File and dataclass have different names, or a value has the wrong type or is
            out of bounds.
    """
    executable = parameters.NODE
    path = find_config(f"{executable}.param.yaml")
    defaults = load_parameter_file(path)
    fields = dataclasses.fields(parameters)
    names = [field.name for field in fields]
    if set(names) != set(defaults):
        missing, unknown = set(names) - set(defaults), set(defaults) - set(names)
        raise ConfigError(
            f"{path} must have exactly the parameters {sorted(names)}; "
            f"it lacks {sorted(missing)} and has unknown {sorted(unknown)}."
        )
    kinds = typing.get_type_hints(parameters)
    values = {
        field.name: _declare(node, field, kinds[field.name], defaults[field.name])
        for field in fields
    }
    return parameters(**values)


def _declare(node: Node, field: dataclasses.Field[Any], kind: Any, default: Any) -> Any:
    metadata = field.metadata
    fixed = " Fixed while the node is configured." if metadata["changes"] == "unconfigured" else ""
    descriptor = ParameterDescriptor(
        name=field.name,
        type=_TYPES[kind],
        description=metadata["description"] + fixed,
        read_only=metadata["changes"] == "never",
    )
    low, high = metadata["minimum"], metadata["maximum"]
    if low is not None and kind is float:
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)
        ]
    elif low is not None and kind is int:
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    choices = metadata["choices"]
    if choices:
        descriptor.additional_constraints = f"one of {', '.join(choices)}"
    try:
        value = node.declare_parameter(field.name, default, descriptor).value
    except InvalidParameterTypeException as error:
        raise ConfigError(
            f"parameter {field.name!r} must be {getattr(kind, '__name__', kind)}: {error}. "
            "A decimal number has a point, as in 10.0; a whole number has none."
        ) from error
    except InvalidParameterValueException as error:
        bounds = "" if low is None else f" between {low} and {high}"
        raise ConfigError(f"parameter {field.name!r} must be{bounds}: {error}.") from error
    if choices and value not in choices:
        raise ConfigError(
            f"parameter {field.name!r} is {value!r}; available: {', '.join(choices)}."
        )
    return tuple(value) if isinstance(default, list) else value


def follow_changes(
    node: Node,
    get: Callable[[], ParametersT],
    apply: Callable[[ParametersT], None],
    is_configured: Callable[[], bool],
) -> None:
    """Call back with the new values whenever a parameter is set while the node runs.

    Args:
        node: Node that has declared the parameters.
        get: Returns the values in force.
        apply: Takes all values. A ``ConfigError`` refuses the change with its text.
        is_configured: Whether the node is configured.
    """
    known = {field.name: field for field in dataclasses.fields(get())}

    def on_set(changes: list[Parameter]) -> SetParametersResult:
        in_force = get()
        values = {p.name: p.value for p in changes if p.name in known}
        for name, value in values.items():
            metadata, acting = known[name].metadata, getattr(in_force, name)
            if isinstance(acting, tuple):
                values[name] = value = tuple(value)
            reason = ""
            if metadata["choices"] and value not in metadata["choices"]:
                reason = f"{name} must be one of {', '.join(metadata['choices'])}."
            elif metadata["changes"] == "unconfigured" and value != acting and is_configured():
                instead = f", or {metadata['instead']}" if metadata["instead"] else ""
                reason = (
                    f"parameter {name!r} is fixed to {acting!r} while the node is configured; "
                    f"deactivate and clean it up first{instead}."
                )
            if reason:
                return SetParametersResult(successful=False, reason=reason)
        try:
            apply(dataclasses.replace(in_force, **values))
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(on_set)
