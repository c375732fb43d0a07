# SPDX-License-Identifier: MIT
"""Read ROS messages by attribute: from rclpy on the robot, from ``rosbags`` out of a bag.

Both kinds have the same fields, so training and the robot decode with the same code. Nothing is
repaired: data that is not what its message says it is raises a ``MessageError``.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import MessageError
from vla_core.processing.contract_inputs import INPUT_COMPONENTS
from vla_core.processing.value_checks import quoted

QUATERNION = slice(3, 7)
"""Where the quaternion of a pose is, x, y, z, w."""

_PLURALS = {"position": "positions", "velocity": "velocities", "effort": "efforts"}
_SHORTEST_QUATERNION = 0.5


def time_ns(time: Any) -> int:
    """Return a ``builtin_interfaces/Time`` in nanoseconds."""
    return int(time.sec) * 1_000_000_000 + int(time.nanosec)


def stamp_ns(message: Any) -> int:
    """Return the header stamp of a message in nanoseconds."""
    return time_ns(message.header.stamp)


def stamp_or_none(message: Any) -> int | None:
    """Return the header stamp of a message in nanoseconds, None without a header or a time.

    Trajectories that begin at once have the stamp zero.
    """
    header = getattr(message, "header", None)
    return None if header is None else time_ns(header.stamp) or None


def joint_positions_from_message(message: Any, joints: Sequence[str]) -> NDArray[np.float64]:
    """Return the positions of a ``sensor_msgs/JointState`` in the order asked for.

    Args:
        message: Joint states; more joints than asked for are allowed, in any order.
        joints: Names of the joints to return.

    Returns:
        Positions in rad or m, float64 [len(joints)].

    Raises:
        MessageError: A joint is lacking or named twice, a position is missing or not finite.
    """
    return joint_values_from_message(message, joints, "position")


def joint_values_from_message(
    message: Any, joints: Sequence[str], field: str
) -> NDArray[np.float64]:
    """Return one field of a ``sensor_msgs/JointState`` in the order asked for.

    Args:
        message: Joint states; more joints than asked for are allowed, in any order.
        joints: Names of the joints to return.
        field: ``position``, ``velocity`` or ``effort``.

    Returns:
        Values in SI units, float64 [len(joints)].

    Raises:
        MessageError: A joint is lacking or named twice, a value is missing or not finite.
    """
    names, every = list(message.name), getattr(message, field)
    if len(every) != len(names):
        raise MessageError(
            f"joint state must have one {field} per name, got {len(every)} {_PLURALS[field]} for "
            f"{len(names)} names."
        )
    index = {name: i for i, name in enumerate(names)}
    if len(index) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise MessageError(f"joint state names {quoted(twice)} more than once.")
    missing = [joint for joint in joints if joint not in index]
    if missing:
        raise MessageError(f"joint state lacks {quoted(missing)}; it has {quoted(names)}.")
    values = np.array([every[index[joint]] for joint in joints], dtype=np.float64)
    if not np.isfinite(values).all():
        wrong = [f"{j} = {v}" for j, v in zip(joints, values, strict=True) if not np.isfinite(v)]
        raise MessageError(f"joint {_PLURALS[field]} must be finite, got {', '.join(wrong)}.")
    return values


def input_values_from_message(message: Any, kind: str) -> NDArray[np.float64]:
    """Return the values of a further sensor, in the order of ``INPUT_COMPONENTS``.

    Args:
        message: ``geometry_msgs/WrenchStamped``, ``geometry_msgs/PoseStamped`` or
            ``std_msgs/Float64``.
        kind: Which of them: ``wrench``, ``pose`` or ``float64``.

    Returns:
        Values in SI units; the quaternion of a pose has length 1, float64.

    Raises:
        MessageError: A value is not finite, or the quaternion has no direction.
    """
    components = INPUT_COMPONENTS[kind]
    body = message if kind == "float64" else getattr(message, kind)
    values = np.array([operator.attrgetter(part)(body) for part in components], dtype=np.float64)
    if not np.isfinite(values).all():
        wrong = [
            f"{part} = {value}"
            for part, value in zip(components, values, strict=True)
            if not np.isfinite(value)
        ]
        raise MessageError(f"{kind} must be finite, got {', '.join(wrong)}.")
    if kind == "pose":
        length = float(np.linalg.norm(values[QUATERNION]))
        if length < _SHORTEST_QUATERNION:
            raise MessageError(
                "orientation must be a quaternion of length 1, got one of length "
                f"{length:g}; nobody has set it."
            )
        values[QUATERNION] /= length
    return values


def prefix_joints(message: Any, prefix: str) -> Any:
    """Give the joints of a ``sensor_msgs/JointState`` the names that they have in the contract.

    Args:
        message: Joint states as the driver sends them; changed in place.
        prefix: What the contract's ``state.prefixes`` say for the topic; may be empty.

    Returns:
        The message.
    """
    if prefix:
        message.name[:] = [prefix + name for name in message.name]
    return message
