# SPDX-License-Identifier: MIT
"""What the demonstrator commanded, read from the commands of a recording.

An action of a dataset is what a policy should answer to an observation: the target to be reached
one step after the observation's stamp, as ``vla_core.types.ActionChunk`` places it in time.
Changes are those between the targets of two instants, so that a chunk adds up to the whole way.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import ConfigError, MessageError
from vla_core.processing.contract import RobotContract
from vla_core.processing.joint_history import JointHistory
from vla_core.processing.kinematics import limits_and_chain, vector_from_rotation
from vla_core.processing.messages import prefix_joints, stamp_ns, time_ns
from vla_core.processing.value_checks import quoted

TARGET_TYPES = (
    "sensor_msgs/msg/JointState",
    "trajectory_msgs/msg/JointTrajectory",
    "std_msgs/msg/Float64MultiArray",
    "std_msgs/msg/Float64",
    "vla_msgs/msg/CommandStatus",
)
"""Messages from which joint targets can be read."""

_SPAN_NS = 2_000_000_000
_LONGEST_HOLE_S = 0.2

_Targets = dict[str, float]


class TargetTopic:
    """The targets of one topic at any time of the last two seconds.

    Args:
        kind: Type of its messages, one of ``TARGET_TYPES``.
        joints: Joints of a message without names, in its order.
        prefix: What stands before the names of its joints in the contract.
    """

    def __init__(self, kind: str, joints: tuple[str, ...] = (), prefix: str = "") -> None:
        self._read: Callable[[Any, int, int], _Targets] = {
            "trajectory_msgs/msg/JointTrajectory": _trajectory_targets,
            "std_msgs/msg/Float64MultiArray": self._array_targets,
            "std_msgs/msg/Float64": self._array_targets,
        }.get(kind, _status_targets)
        self._is_measured = kind == "sensor_msgs/msg/JointState"
        self._joints = joints
        self._prefix = prefix
        self._history: JointHistory | None = None
        self._times: list[int] = []
        self._messages: list[Any] = []

    def put(self, message: Any, received_ns: int) -> None:
        """Keep a message."""
        if self._is_measured:
            prefix_joints(message, self._prefix)
            if self._history is None:
                self._history = JointHistory(tuple(message.name), span_s=_SPAN_NS * 1e-9)
            self._history.add(message)
            return
        place = bisect_right(self._times, received_ns)
        self._times.insert(place, received_ns)
        self._messages.insert(place, message)
        # A command stays in force, however old, until the next one.
        num_old = max(0, bisect_right(self._times, received_ns - _SPAN_NS) - 1)
        del self._times[:num_old], self._messages[:num_old]

    def clear(self) -> None:
        """Forget all messages."""
        self._history = None
        self._times.clear()
        self._messages.clear()

    def at(self, at_ns: int) -> _Targets:
        """Return the target of every joint at a time; empty before the first message.

        Raises:
            MessageError: A message cannot be used, or joint states have a hole there.
        """
        if self._is_measured:
            return self._measured(at_ns)
        place = bisect_right(self._times, at_ns) - 1
        if place < 0:
            return {}
        found = self._read(self._messages[place], self._times[place], at_ns)
        return {self._prefix + joint: value for joint, value in found.items()}

    def _measured(self, at_ns: int) -> _Targets:
        if self._history is None:
            return {}
        values = self._history.at(at_ns, _LONGEST_HOLE_S)
        distance_s = float(np.abs(values.stamps_ns - at_ns).max()) * 1e-9
        if distance_s > _LONGEST_HOLE_S:
            raise MessageError(f"the nearest joint states are more than {_LONGEST_HOLE_S} s away.")
        return dict(zip(self._history.joints, values.values.tolist(), strict=True))

    def _array_targets(self, message: Any, received_ns: int, at_ns: int) -> _Targets:
        values = np.atleast_1d(np.asarray(message.data, np.float64)).tolist()
        if len(values) != len(self._joints):
            raise MessageError(
                f"a command has {len(values)} values, the contract says {quoted(self._joints)}."
            )
        return dict(zip(self._joints, values, strict=True))


class DemonstratedActions:
    """The actions of a robot's demonstrator.

    Args:
        contract: The robot.
        topics: Where its targets come from.

    Raises:
        ConfigError: The contract needs kinematics that cannot be read.
    """

    def __init__(self, contract: RobotContract, topics: Mapping[str, TargetTopic]) -> None:
        self._action = contract.action
        self._topics = topics
        self._dt_ns = round(contract.action.dt_s * 1e9)
        self._is_gripper = np.array([j in contract.grippers for j in contract.action.joints])
        self._chain = None
        if contract.action.kind == "end_effector_delta":
            _, self._chain = limits_and_chain(contract)
            if self._chain is None:
                raise ConfigError("kinematics is missing, which end_effector_delta needs.")

    def clear(self) -> None:
        """Forget all messages."""
        for topic in self._topics.values():
            topic.clear()

    def targets(self, at_ns: int) -> NDArray[np.float64]:
        """Return the joint targets at a time, rad or m, float64 [A joints].

        Raises:
            MessageError: A joint was not commanded yet, or its message cannot be used.
        """
        found: _Targets = {}
        for name, topic in self._topics.items():
            try:
                found.update(topic.at(at_ns))
            except MessageError as error:
                raise MessageError(f"action on {name}: {error}") from error
        missing = [joint for joint in self._action.joints if joint not in found]
        if missing:
            raise MessageError(
                f"no action for {quoted(missing)} at that time on {', '.join(self._topics)}"
                + (f", which have {quoted(found)}." if found else ".")
            )
        targets = np.array([found[joint] for joint in self._action.joints])
        if not np.isfinite(targets).all():
            wrong = [j for j in self._action.joints if not np.isfinite(found[j])]
            raise MessageError(f"action must be finite, and is not for {quoted(wrong)}.")
        return targets

    def action(self, observed_ns: int) -> NDArray[np.float64]:
        """Return the action on what was observed at a time, in robot units, float64 [A].

        Raises:
            MessageError: A joint was not commanded yet, or a message cannot be used.
        """
        after = self.targets(observed_ns + self._dt_ns)
        if self._action.kind == "joint_position":
            return after
        before = self.targets(observed_ns)
        if self._action.kind == "joint_delta":
            return np.where(self._is_gripper, after, after - before)
        return np.concatenate((self._tool_change(before, after), after[self._is_gripper]))

    def _tool_change(
        self, before: NDArray[np.float64], after: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        assert self._chain is not None
        columns = [self._action.joints.index(joint) for joint in self._chain.joints]
        tool, rotation = self._chain.tool_pose(before[columns])
        next_tool, next_rotation = self._chain.tool_pose(after[columns])
        move = next_tool - tool
        if self._action.delta_frame == "tool":
            turn = rotation.T @ next_rotation
            move = rotation.T @ move
        else:
            turn = next_rotation @ rotation.T
        return np.concatenate((move, vector_from_rotation(turn)))


def _trajectory_targets(message: Any, received_ns: int, at_ns: int) -> _Targets:
    """Return where a trajectory is at a time: at its first point before, at its last after."""
    if not message.points:
        return {}
    start_ns = stamp_ns(message) or received_ns
    times = [start_ns + time_ns(point.time_from_start) for point in message.points]
    rows = np.array([point.positions for point in message.points], np.float64)
    if rows.shape != (len(times), len(message.joint_names)):
        raise MessageError(
            f"a trajectory of {len(message.joint_names)} joints has positions {list(rows.shape)}."
        )
    # Relative to the time asked for: absolute nanoseconds do not fit a float.
    offsets = [float(time - at_ns) for time in times]
    return {
        joint: float(np.interp(0.0, offsets, rows[:, column]))
        for column, joint in enumerate(message.joint_names)
    }


def _status_targets(message: Any, received_ns: int, at_ns: int) -> _Targets:
    return dict(
        zip(message.joint_names, np.asarray(message.command_positions).tolist(), strict=False)
    )
