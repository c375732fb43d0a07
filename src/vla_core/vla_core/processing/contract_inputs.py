# SPDX-License-Identifier: MIT
"""The half of a robot contract that comes in: cameras, joint states, other sensors, alignment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vla_core.errors import ConfigError
from vla_core.processing.value_checks import (
    require_choice,
    require_count,
    require_names,
    require_number,
    require_positive,
    require_prefixes,
    require_text,
    require_unique_names,
)

CAMERA_TRANSPORTS = ("raw", "compressed")
STATE_FIELDS = ("position", "velocity", "effort")
INPUT_COMPONENTS = {
    "wrench": ("force.x", "force.y", "force.z", "torque.x", "torque.y", "torque.z"),
    "pose": (
        "position.x",
        "position.y",
        "position.z",
        "orientation.x",
        "orientation.y",
        "orientation.z",
        "orientation.w",
    ),
    "float64": ("data",),
}
"""Components of every type of further input, in the order in which a policy gets them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraContract:
    """One camera.

    Attributes:
        topic: Topic, relative to the namespace unless it begins with '/'.
        width: Image width in pixels.
        height: Image height in pixels.
        max_age_s: Age after which a frame must not be used.
        transport: ``raw`` for sensor_msgs/Image, ``compressed`` for sensor_msgs/CompressedImage.
        depth_range_m: Distances that become black and white, for a depth camera; None for colour.
        max_frozen_s: Longest time for which stamp or pixels may stay the same; None: for ever, as
            a simulation at rest does.
    """

    topic: str
    width: int
    height: int
    max_age_s: float
    transport: str = "raw"
    depth_range_m: tuple[float, float] | None = None
    max_frozen_s: float | None = None

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require_text("topic", self.topic)
        require_count("width", self.width)
        require_count("height", self.height)
        require_positive("max_age_s", self.max_age_s)
        require_choice("transport", self.transport, CAMERA_TRANSPORTS)
        if self.max_frozen_s is not None:
            require_positive("max_frozen_s", self.max_frozen_s)
        if self.depth_range_m is not None:
            object.__setattr__(self, "depth_range_m", _depth_range(self.depth_range_m))


def _depth_range(values: object) -> tuple[float, float]:
    if not isinstance(values, (list, tuple)) or len(values) != 2:
        raise ConfigError(f"depth_range_m must be [nearest, farthest] in m, got {values!r}.")
    nearest, farthest = values
    require_number("depth_range_m", nearest)
    require_number("depth_range_m", farthest)
    if not 0.0 <= nearest < farthest:
        raise ConfigError(f"depth_range_m must rise from 0 or more, got {list(values)}.")
    return float(nearest), float(farthest)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateContract:
    """The measured joints.

    Attributes:
        topic: sensor_msgs/JointState; messages of several publishers are merged by joint name.
        joints: Joints in the order of the policy.
        max_age_s: Age after which a joint's measurement must not be used.
        fields: What the policy gets of every joint, in this order, joint after joint within each.
        extra_topics: Further topics of the same type, such as that of a gripper's driver.
        prefixes: What stands before the names of a topic's messages in this contract, by topic:
            the drivers of two equal arms use the same names.
    """

    topic: str
    joints: tuple[str, ...]
    max_age_s: float
    fields: tuple[str, ...] = ("position",)
    extra_topics: tuple[str, ...] = ()
    prefixes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require_text("topic", self.topic)
        object.__setattr__(self, "joints", require_unique_names("joints", self.joints))
        require_positive("max_age_s", self.max_age_s)
        object.__setattr__(self, "fields", require_unique_names("fields", self.fields))
        for name in self.fields:
            require_choice("fields", name, STATE_FIELDS)
        object.__setattr__(self, "extra_topics", require_names("extra_topics", self.extra_topics))
        object.__setattr__(self, "prefixes", require_prefixes(self.prefixes, self.topics))

    @property
    def topics(self) -> tuple[str, ...]:
        """All topics of joint states."""
        return (self.topic, *self.extra_topics)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the values, ``joint`` for positions and ``joint.velocity`` and so on."""
        return tuple(
            joint if name == "position" else f"{joint}.{name}"
            for name in self.fields
            for joint in self.joints
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class InputContract:
    """A further sensor whose values are appended to the state.

    Attributes:
        type: ``wrench`` for geometry_msgs/WrenchStamped, ``pose`` for geometry_msgs/PoseStamped,
            ``float64`` for std_msgs/Float64, such as the opening of a gripper.
        topic: Topic.
        max_age_s: Age after which a value must not be used; std_msgs/Float64 has no stamp, so its
            age counts from its arrival.
    """

    type: str
    topic: str
    max_age_s: float

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require_choice("type", self.type, tuple(INPUT_COMPONENTS))
        require_text("topic", self.topic)
        require_positive("max_age_s", self.max_age_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignmentContract:
    """How far apart in time the parts of one observation may be.

    Attributes:
        max_skew_s: Largest difference between the stamp of the reference camera and that of any
            other frame, or of a measurement that cannot be interpolated to it; None: only the
            largest ages bound it.
    """

    max_skew_s: float | None = None

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.max_skew_s is not None:
            require_positive("max_skew_s", self.max_skew_s)
