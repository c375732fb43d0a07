# SPDX-License-Identifier: MIT
"""Read a robot's URDF: its joints, how they are connected, and their limits.

Only what moves the tool is read; visuals, inertias and collisions are not looked at.
"""

from __future__ import annotations

import importlib.util
import math
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import ConfigError, ContractError
from vla_core.processing.contract_safety import JointLimits, KinematicsContract
from vla_core.processing.value_checks import quoted

MOVING_TYPES = ("revolute", "continuous", "prismatic")
_TYPES = (*MOVING_TYPES, "fixed", "floating", "planar")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UrdfJoint:
    """One joint.

    Attributes:
        name: Its name.
        type: One of the types of URDF.
        parent: Link that carries it.
        child: Link that it moves.
        rotation: Of the joint's frame in that of the parent, float64 [3, 3].
        translation: Of the joint's frame in that of the parent, m, float64 [3].
        axis: Unit vector in the joint's frame, float64 [3].
        lower: Lowest position, rad or m; -inf where none is given.
        upper: Highest position; inf where none is given.
        velocity: Largest velocity; inf where none or 0 is given.
        is_mimic: Whether it follows another joint.
    """

    name: str
    type: str
    parent: str
    child: str
    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]
    axis: NDArray[np.float64]
    lower: float
    upper: float
    velocity: float
    is_mimic: bool


def parse_urdf(text: str) -> dict[str, UrdfJoint]:
    """Return the joints of a URDF by name.

    Args:
        text: The XML.

    Raises:
        ConfigError: The text is no URDF, or a joint lacks what it needs.
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ConfigError(f"URDF is not valid XML: {error}.") from error
    if root.tag != "robot":
        raise ConfigError(f"URDF must begin with <robot>, got <{root.tag}>.")
    if "xacro" in text and root.find("{http://www.ros.org/wiki/xacro}macro") is not None:
        raise ConfigError("URDF is a xacro file; expand it first: xacro robot.urdf.xacro.")
    joints: dict[str, UrdfJoint] = {}
    for element in root.iterfind("joint"):
        joint = _joint(element)
        if joint.name in joints:
            raise ConfigError(f"URDF has joint '{joint.name}' twice.")
        joints[joint.name] = joint
    return joints


def load_urdf(kinematics: KinematicsContract) -> str:
    """Return the text of the URDF that a contract names.

    Args:
        kinematics: Its ``urdf`` is a path or ``package://<package>/<path>``: below the share
            folder of a ROS package in AMENT_PREFIX_PATH, else in the folder of a Python package.

    Raises:
        ConfigError: It cannot be read, or is a topic, which only a node can.
    """
    name = kinematics.urdf
    if name.startswith("topic://"):
        raise ConfigError(
            f"urdf '{name}' is a topic; whoever subscribes to it passes the text on."
        )
    path = _package_file(name) if name.startswith("package://") else Path(name)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"urdf '{name}' cannot be read: {error}.") from error


def stricter_limits(
    limits: Mapping[str, JointLimits], joints: Mapping[str, UrdfJoint]
) -> dict[str, JointLimits]:
    """Return the limits of a contract, tightened where the URDF allows less.

    Args:
        limits: Limits of the contract by joint.
        joints: Joints of the URDF; one that is not among them keeps the contract's limits.

    Raises:
        ContractError: Both leave a joint no range.
    """
    strict = dict(limits)
    for name, limit in limits.items():
        joint = joints.get(name)
        if joint is None:
            continue
        lower, upper = max(limit.lower, joint.lower), min(limit.upper, joint.upper)
        if lower >= upper:
            raise ContractError(
                f"limits.{name} is {limit.lower:g} to {limit.upper:g}, but the URDF allows "
                f"{joint.lower:g} to {joint.upper:g}: nothing is left."
            )
        velocity = min(limit.velocity, joint.velocity)
        strict[name] = replace(limit, lower=lower, upper=upper, velocity=velocity)
    return strict


def _package_file(name: str) -> Path:
    package, _, inner = name.removeprefix("package://").partition("/")
    folders = [
        Path(prefix) / "share" / package
        for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
        if prefix
    ]
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    folders += [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    for folder in folders:
        if inner and (folder / inner).is_file():
            return folder / inner
    searched = ", ".join(str(folder) for folder in folders if folder.is_dir())
    raise ConfigError(
        f"urdf '{name}' is not there; searched: {searched or 'no such package'}. "
        "Install the package, or source its workspace."
    )


def _joint(element: ElementTree.Element) -> UrdfJoint:
    name = element.get("name", "")
    kind = element.get("type", "")
    if not name or kind not in _TYPES:
        raise ConfigError(
            f"joint '{name}' of the URDF needs a name and one of the types {', '.join(_TYPES)}, "
            f"got '{kind}'."
        )
    ends = [end.get("link", "") if end is not None else "" for end in map(element.find, _ENDS)]
    if not all(ends):
        raise ConfigError(f"joint '{name}' of the URDF needs a parent and a child link.")
    origin, limit = element.find("origin"), element.find("limit")
    axis_element = element.find("axis")
    axis = _numbers(axis_element, "xyz", (1.0, 0.0, 0.0), name)
    length = float(np.linalg.norm(axis))
    if kind in MOVING_TYPES and not length > 0.0:
        raise ConfigError(f"axis of joint '{name}' of the URDF must not be zero.")
    is_bounded = limit is not None and kind != "continuous"
    velocity = _number(limit, "velocity", math.inf, name)
    return UrdfJoint(
        name=name,
        type=kind,
        parent=ends[0],
        child=ends[1],
        rotation=_rotation(_numbers(origin, "rpy", (0.0, 0.0, 0.0), name)),
        translation=_numbers(origin, "xyz", (0.0, 0.0, 0.0), name),
        axis=axis / length if length > 0.0 else axis,
        # The format's own default for both is 0.
        lower=_number(limit, "lower", 0.0, name) if is_bounded else -math.inf,
        upper=_number(limit, "upper", 0.0, name) if is_bounded else math.inf,
        velocity=velocity if velocity > 0.0 else math.inf,
        is_mimic=element.find("mimic") is not None,
    )


_ENDS = ("parent", "child")


def _number(element: ElementTree.Element | None, key: str, default: float, joint: str) -> float:
    return float(_numbers(element, key, (default,), joint)[0])


def _numbers(
    element: ElementTree.Element | None, key: str, default: tuple[float, ...], joint: str
) -> NDArray[np.float64]:
    text = None if element is None else element.get(key)
    if text is None:
        return np.array(default, dtype=np.float64)
    try:
        values = np.array([float(part) for part in text.split()])
    except ValueError:
        values = np.array([])
    if values.shape != (len(default),) or not np.isfinite(values).all():
        raise ConfigError(
            f"{key} of joint '{joint}' of the URDF must be {len(default)} finite numbers, "
            f"got {quoted([text])}."
        )
    return values


def _rotation(rpy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the matrix of fixed-axis roll, pitch, yaw."""
    (sr, sp, sy), (cr, cp, cy) = np.sin(rpy), np.cos(rpy)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )
