# SPDX-License-Identifier: MIT
"""The part of a robot contract that keeps the arm safe: limits, kinematics, workspace, modes."""

from __future__ import annotations

from dataclasses import dataclass

from vla_core.errors import ConfigError
from vla_core.processing.value_checks import (
    require_choice,
    require_flag,
    require_number,
    require_positive,
    require_text,
)

LIMIT_MODES = ("clamp", "strict")


@dataclass(frozen=True, slots=True, kw_only=True)
class JointLimits:
    """Limits of one joint, rad or m.

    Attributes:
        lower: Lowest position.
        upper: Highest position.
        velocity: Largest velocity.
        acceleration: Largest acceleration.
        jerk: Largest jerk; None: unbounded.
    """

    lower: float
    upper: float
    velocity: float
    acceleration: float
    jerk: float | None = None

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require_number("lower", self.lower)
        require_number("upper", self.upper)
        if self.lower >= self.upper:
            raise ConfigError(
                f"lower must be below upper, got lower {self.lower} and upper {self.upper}."
            )
        require_positive("velocity", self.velocity)
        require_positive("acceleration", self.acceleration)
        if self.jerk is not None:
            require_positive("jerk", self.jerk)


@dataclass(frozen=True, slots=True, kw_only=True)
class KinematicsContract:
    """Where the robot's geometry is described.

    Attributes:
        urdf: URDF file: absolute, relative to the contract, ``package://<package>/<path>``, or
            ``topic://<name>`` for a latched std_msgs/String such as ``topic://robot_description``.
        base_link: Link in whose axes poses are given (REP-103: x forward, y left, z up).
        tip_link: Link of the tool.
    """

    urdf: str
    base_link: str
    tip_link: str

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require_text("urdf", self.urdf)
        require_text("base_link", self.base_link)
        require_text("tip_link", self.tip_link)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceContract:
    """The box that the origin of the tool link must not leave, in axes of the base link, m."""

    lower: tuple[float, float, float]
    upper: tuple[float, float, float]

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("lower", "upper"):
            object.__setattr__(self, name, _point(name, getattr(self, name)))
        if not all(low < high for low, high in zip(self.lower, self.upper, strict=True)):
            raise ConfigError(
                f"lower must be below upper in x, y and z, got {self.lower} and {self.upper}."
            )


def _point(name: str, values: object) -> tuple[float, float, float]:
    if not isinstance(values, (list, tuple)) or len(values) != 3:
        raise ConfigError(f"{name} must be [x, y, z] in m, got {values!r}.")
    for value in values:
        require_number(name, value)
    x, y, z = values
    return float(x), float(y), float(z)


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetyContract:
    """How careful the command loop is.

    Attributes:
        limit_mode: ``clamp``: a target out of limits is followed as far as they allow, and
            reported. ``strict``: it stops the arm until the next instruction.
        max_step: Largest distance of a target from the measured position, rad or m; None: any. It
            does not hold for grippers: one that holds something is far from its target.
        dry_run: Whether commands are only previewed until the arm is armed. True for real robots.
        deadman_topic: std_msgs/Bool that must be true, and young, for the arm to move; empty:
            none.
        deadman_max_age_s: Age after which a deadman's word does not count.
    """

    limit_mode: str = "clamp"
    max_step: float | None = None
    dry_run: bool = False
    deadman_topic: str = ""
    deadman_max_age_s: float = 0.25

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require_choice("limit_mode", self.limit_mode, LIMIT_MODES)
        if self.max_step is not None:
            require_positive("max_step", self.max_step)
        require_flag("dry_run", self.dry_run)
        if not isinstance(self.deadman_topic, str):
            raise ConfigError(f"deadman_topic must be a string, got {self.deadman_topic!r}.")
        require_positive("deadman_max_age_s", self.deadman_max_age_s)
