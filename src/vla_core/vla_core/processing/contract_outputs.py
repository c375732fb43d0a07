# SPDX-License-Identifier: MIT
"""The half of a robot contract that goes out: actions of the policy, commands, grippers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vla_core.errors import ConfigError
from vla_core.processing.value_checks import (
    quoted,
    require_choice,
    require_number,
    require_positive,
    require_prefixes,
    require_rate,
    require_text,
    require_unique_names,
)

ACTION_KINDS = ("joint_position", "joint_delta", "end_effector_delta")
END_EFFECTOR_COMPONENTS = ("tool.x", "tool.y", "tool.z", "tool.rx", "tool.ry", "tool.rz")
"""Change of the tool's pose per step: m, then the rotation vector in rad (REP-103 axes)."""
COMMAND_OUTPUTS = (
    "joint_trajectory",
    "follow_joint_trajectory",
    "forward_position",
    "forward_velocity",
    "servo_twist",
    "servo_joint_jog",
    "servo_pose",
)
GRIPPER_OUTPUTS = ("joint", "gripper_command", "parallel_gripper_command", "float64")
GRIPPER_MODES = ("continuous", "binary")
DELTA_FRAMES = ("base", "tool")
SLOWEST_ACTION_HZ = 0.1
SLOWEST_COMMAND_HZ, FASTEST_COMMAND_HZ = 10.0, 1000.0
"""A slower command loop stops too late, and a faster one is more than a process here can keep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionContract:
    """What the policy returns.

    Attributes:
        kind: ``joint_position``: absolute targets. ``joint_delta``: change per step of every joint
            but the grippers, which stay absolute. ``end_effector_delta``: change per step of the
            tool's pose, then the absolute grippers.
        joints: Joints that are commanded, in order.
        rate_hz: Rate of the steps of a chunk.
        max_age_s: Age of a chunk's observation after which the arm stops.
        delta_frame: Axes of an end-effector delta: those of the ``base`` or of the ``tool``.
    """

    kind: str
    joints: tuple[str, ...]
    rate_hz: float
    max_age_s: float
    delta_frame: str = "base"

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require_choice("kind", self.kind, ACTION_KINDS)
        object.__setattr__(self, "joints", require_unique_names("joints", self.joints))
        require_rate("rate_hz", self.rate_hz, SLOWEST_ACTION_HZ, FASTEST_COMMAND_HZ)
        require_positive("max_age_s", self.max_age_s)
        require_choice("delta_frame", self.delta_frame, DELTA_FRAMES)

    @property
    def dt_s(self) -> float:
        """Time between two steps of a chunk."""
        return 1.0 / self.rate_hz


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandContract:
    """How commands leave.

    Attributes:
        rate_hz: Rate of the command loop.
        output: Kind of message or action, one of ``COMMAND_OUTPUTS``.
        topic: Topic, action, or name of the MoveIt Servo node, for all joints that no gripper's
            output takes; empty if ``topics`` splits them.
        topics: Joints by topic, for robots whose arms have a controller each.
        prefixes: What the names of a topic's joints begin with here and not in its messages, by
            topic, as for the joint states.
    """

    rate_hz: float
    output: str
    topic: str = ""
    topics: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    prefixes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require_rate("rate_hz", self.rate_hz, SLOWEST_COMMAND_HZ, FASTEST_COMMAND_HZ)
        require_choice("output", self.output, COMMAND_OUTPUTS)
        if not isinstance(self.topics, Mapping):
            raise ConfigError(f"topics must list joints by topic, got {self.topics!r}.")
        if not self.topics:
            require_text("topic", self.topic)
            object.__setattr__(self, "prefixes", require_prefixes(self.prefixes, (self.topic,)))
            return
        if self.topic:
            raise ConfigError(f"topic {self.topic!r} and topics exclude each other; keep one.")
        split = {
            topic: require_unique_names(f"topics.{topic}", joints)
            for topic, joints in self.topics.items()
        }
        object.__setattr__(self, "topics", split)
        object.__setattr__(self, "prefixes", require_prefixes(self.prefixes, tuple(split)))
        for topic, prefix in self.prefixes.items():
            wrong = [j for j in split[topic] if not j.startswith(prefix) or j == prefix]
            if wrong:
                raise ConfigError(
                    f"prefixes.{topic} is '{prefix}', but topics lists {quoted(wrong)} there; its "
                    "joints must be this prefix and their name in the messages."
                )

    @property
    def dt_s(self) -> float:
        """Time between two commands."""
        return 1.0 / self.rate_hz


@dataclass(frozen=True, slots=True, kw_only=True)
class GripperContract:
    """How one gripper joint is read and driven.

    Attributes:
        open: Position of the open gripper, in the unit of its joint, m or rad.
        closed: Position of the closed gripper.
        mode: ``continuous`` follows the policy, ``binary`` only opens and closes.
        threshold: Share of the way from closed to open above which a binary gripper opens.
        hysteresis: Share by which the policy must pass the threshold to change its mind.
        output: ``joint``: a joint of the arm's own command. ``gripper_command`` and
            ``parallel_gripper_command``: the actions of control_msgs. ``float64``: a topic.
        topic: Topic or action; only ``joint`` has none.
        max_effort: Effort limit that the action carries, N or Nm; 0 for the driver's own.
    """

    open: float
    closed: float
    mode: str = "continuous"
    threshold: float = 0.5
    hysteresis: float = 0.1
    output: str = "joint"
    topic: str = ""
    max_effort: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("open", "closed", "threshold", "hysteresis", "max_effort"):
            require_number(name, getattr(self, name))
        require_choice("mode", self.mode, GRIPPER_MODES)
        require_choice("output", self.output, GRIPPER_OUTPUTS)
        if self.open == self.closed:
            raise ConfigError(f"open and closed must differ, got {self.open} for both.")
        if not 0.0 < self.threshold - self.hysteresis <= self.threshold + self.hysteresis < 1.0:
            raise ConfigError(
                "threshold - hysteresis and threshold + hysteresis must be in (0, 1), got "
                f"{self.threshold} and {self.hysteresis}."
            )
        if self.max_effort < 0.0:
            raise ConfigError(f"max_effort must not be negative, got {self.max_effort}.")
        if self.output == "joint" and self.topic:
            raise ConfigError(
                f"topic {self.topic!r} is unused: output 'joint' goes with the arm's command."
            )
        if self.output != "joint":
            require_text("topic", self.topic)
