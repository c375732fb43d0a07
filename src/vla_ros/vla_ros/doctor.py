# SPDX-License-Identifier: MIT
"""Tell what is wrong between a robot's topics and the policy, and what to do about it."""

from __future__ import annotations

import os
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla_core.errors import ConfigError
from vla_core.processing.contract import (
    CameraContract,
    InputContract,
    RobotContract,
    StateContract,
)
from vla_ros.graph import find_config
from vla_ros.stream_measurement import StreamMeasurement

PROFILE = "fastdds_large_images.xml"
DEFAULT_SEGMENT_BYTES = 512 * 1024
"""Shared memory that Fast DDS takes per participant when no profile says otherwise."""

_PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
_LOST_FRACTION = 0.02
_CLOCK_SKEW_S = 0.01


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that is wrong.

    Attributes:
        subject: Camera, topic or setting.
        problem: What was found, with the value that was expected.
        remedy: What to do.
    """

    subject: str
    problem: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Transport:
    """How messages travel, as far as this process can see.

    Attributes:
        rmw: Middleware, e.g. ``rmw_fastrtps_cpp``.
        profile: Fast DDS profile in use, None for none.
        profile_error: Why the profile cannot be read; empty if it can.
        segment_bytes: Shared memory that the profile, or Fast DDS by default, gives a participant.
        free_bytes: Free space in ``/dev/shm``.
    """

    rmw: str
    profile: Path | None
    profile_error: str
    segment_bytes: int
    free_bytes: int

    @property
    def uses_fastdds(self) -> bool:
        """Whether the middleware is Fast DDS, to which profile and segment apply."""
        return "fastrtps" in self.rmw

    @classmethod
    def of_process(cls, rmw: str, environment: Mapping[str, str] = os.environ) -> Transport:
        """Read the transport's settings from the environment.

        Args:
            rmw: Middleware that rclpy has loaded.
            environment: Variables.
        """
        name = next((v for v in map(environment.get, _PROFILE_VARIABLES) if v), None)
        profile = Path(name) if name else None
        segment_bytes, profile_error = DEFAULT_SEGMENT_BYTES, ""
        if profile is not None:
            try:
                segment_bytes = read_segment_bytes(profile)
            except ConfigError as error:
                profile_error = str(error)
        shared_memory = Path("/dev/shm")
        free = shutil.disk_usage(shared_memory).free if shared_memory.is_dir() else 0
        return cls(
            rmw=rmw,
            profile=profile,
            profile_error=profile_error,
            segment_bytes=segment_bytes,
            free_bytes=free,
        )


def read_segment_bytes(profile: Path) -> int:
    """Return the size of the shared-memory segment in a Fast DDS profile.

    Raises:
        ConfigError: The file is missing or is not XML, or the size is not a number.
    """
    try:
        root = ElementTree.parse(profile).getroot()
        sizes = [
            int(element.text or "")
            for element in root.iter()
            if element.tag.rpartition("}")[2] == "segment_size"
        ]
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise ConfigError(f"profile {str(profile)!r} cannot be read: {error}.") from error
    return max(sizes, default=DEFAULT_SEGMENT_BYTES)


def examine_process(environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Yield what is wrong with the Python that runs this."""
    active = environment.get("VIRTUAL_ENV")
    if active and Path(active).resolve() != Path(sys.prefix).resolve():
        yield Finding(
            subject="VIRTUAL_ENV",
            problem=f"{active} is active, but Python runs from {sys.prefix}",
            remedy="open a new terminal and use '. scripts/env.sh'",
        )


def examine_transport(transport: Transport) -> Iterator[Finding]:
    """Yield what is wrong with the transport, whatever is sent over it."""
    if not transport.uses_fastdds:
        return
    if transport.profile_error:
        yield Finding(
            subject=_PROFILE_VARIABLES[0],
            problem=transport.profile_error,
            remedy=f"export {_PROFILE_VARIABLES[0]}={_profile_path()}",
        )
    if transport.free_bytes < transport.segment_bytes:
        yield Finding(
            subject="/dev/shm",
            problem=f"{_size(transport.free_bytes)} are free, every participant takes up to "
            f"{_size(transport.segment_bytes)}",
            remedy="remove leftovers with 'fastdds shm clean'; in a container raise shm-size",
        )


def examine_camera(
    measurement: StreamMeasurement, camera: CameraContract, transport: Transport
) -> Iterator[Finding]:
    """Yield what is wrong with a camera."""
    yield from _examine_stream(measurement, camera.max_age_s)
    subject = f"camera {measurement.name}"
    if measurement.lost_fraction > _LOST_FRACTION:
        yield Finding(
            subject=subject,
            problem=f"{measurement.lost_fraction:.0%} of the frames were lost on the way "
            f"({measurement.num_lost})",
            remedy=_remedy_for_losses(measurement, transport),
        )
    size = (measurement.width, measurement.height)
    if measurement.arrivals and size != (camera.width, camera.height):
        yield Finding(
            subject=subject,
            problem=f"images are {size[0]}x{size[1]}, the contract says "
            f"{camera.width}x{camera.height}",
            remedy="set the camera to the contract's resolution",
        )


def examine_joint_states(
    measurements: Sequence[StreamMeasurement], state: StateContract
) -> Iterator[Finding]:
    """Yield what is wrong with the joint states, on one topic or on several."""
    for measurement in measurements:
        yield from _examine_stream(measurement, state.max_age_s)
    joints = dict.fromkeys(joint for part in measurements for joint in part.joints)
    missing = [joint for joint in state.joints if joint not in joints]
    if missing and joints:
        yield Finding(
            subject="joint states",
            problem=f"nobody publishes {', '.join(missing)}; published are {', '.join(joints)}",
            remedy="correct state.joints in the contract, or name the topic of the joints' driver "
            "in state.extra_topics",
        )


def examine_input(measurement: StreamMeasurement, part: InputContract) -> Iterator[Finding]:
    """Yield what is wrong with a further sensor."""
    yield from _examine_stream(measurement, part.max_age_s)


def examine_command_topic(
    contract: RobotContract, topic: str, num_publishers: int, num_subscriptions: int
) -> Iterator[Finding]:
    """Yield what is wrong with the topic that commands the arm.

    Args:
        contract: The robot's contract.
        topic: Absolute topic name.
        num_publishers: Publishers of the topic.
        num_subscriptions: Subscriptions of the topic.
    """
    if num_subscriptions == 0:
        yield Finding(
            subject=f"command topic {topic}",
            problem="nobody listens to it",
            remedy=f"start the controller of {contract.robot!r}, or correct command.topic in the "
            "contract",
        )
    if num_publishers > 1:
        yield Finding(
            subject=f"command topic {topic}",
            problem=f"{num_publishers} nodes publish commands for one arm",
            remedy="end all but one; 'ros2 topic info --verbose' names them",
        )


def describe_process() -> dict[str, str]:
    """Return what decides which ROS this process speaks to, for a report."""
    names = (
        "ROS_DISTRO",
        "ROS_DOMAIN_ID",
        "ROS_AUTOMATIC_DISCOVERY_RANGE",
        "ROS_LOCALHOST_ONLY",
        "FASTDDS_BUILTIN_TRANSPORTS",
        *_PROFILE_VARIABLES,
    )
    found = {name: os.environ[name] for name in names if name in os.environ}
    return {"python": f"{sys.version.split()[0]} in {sys.prefix}", **found}


def _examine_stream(measurement: StreamMeasurement, max_age_s: float) -> Iterator[Finding]:
    subject = f"topic {measurement.topic}"
    wrong_types = [name for name in measurement.types if name != measurement.type]
    if wrong_types:
        yield Finding(
            subject=subject,
            problem=f"it carries {', '.join(wrong_types)}, expected {measurement.type}",
            remedy="correct the topic in the contract, or remap it",
        )
    if not measurement.arrivals:
        if measurement.num_publishers == 0:
            yield Finding(
                subject=subject,
                problem="nobody publishes it",
                remedy="start the driver; check its topic names, its namespace and that it has "
                f"this ROS_DOMAIN_ID, {os.environ.get('ROS_DOMAIN_ID', '0')}",
            )
        elif not wrong_types:
            yield Finding(
                subject=subject,
                problem=f"nothing arrived, though {measurement.num_publishers} publish it",
                remedy="check that the driver runs and sends ('ros2 topic info --verbose' shows "
                "its QoS: a deadline or liveliness other than the default excludes readers); for "
                f"images, export {_PROFILE_VARIABLES[0]}={_profile_path()} for its process; "
                "between machines, check the firewall",
            )
        return
    if measurement.content_error:
        yield Finding(
            subject=subject,
            problem=measurement.content_error,
            remedy="change the driver's settings; the policy cannot use these messages",
        )
    ages = np.array(measurement.ages_s)
    if float(np.median(ages)) < -_CLOCK_SKEW_S:
        yield Finding(
            subject=subject,
            problem=f"its stamps lie {-float(np.median(ages)):.3f} s in the future",
            remedy="synchronise the clocks of the machines (chrony, PTP)",
        )
    if float(np.median(ages)) > max_age_s:
        yield Finding(
            subject=subject,
            problem=f"messages are {float(np.median(ages)):.3f} s old when they arrive, the "
            f"contract allows {max_age_s} s",
            remedy="synchronise the clocks of the machines (chrony, PTP); make the driver stamp "
            "the time of the measurement; lighten the transport",
        )
    elif measurement.longest_gap_s > max_age_s:
        yield Finding(
            subject=subject,
            problem=f"nothing came for {measurement.longest_gap_s:.3f} s, the contract allows "
            f"{max_age_s} s",
            remedy="raise the driver's rate; check the load of the machine",
        )


def _remedy_for_losses(measurement: StreamMeasurement, transport: Transport) -> str:
    # The sender's segment counts, whose environment cannot be seen from here.
    export = f"export {_PROFILE_VARIABLES[0]}={_profile_path()} for the camera's process"
    load = "check the load of the machine, and between machines the network"
    if not transport.uses_fastdds:
        return load
    if measurement.num_bytes > transport.segment_bytes:
        size = f"{_size(measurement.num_bytes)}, the shared-memory segment"
        if transport.profile is None:
            return f"an image has {size} only {_size(transport.segment_bytes)}: {export}"
        return f"raise segment_size in {transport.profile}: an image has {size} less"
    return f"{export}; {load}"


def _profile_path() -> Path:
    return find_config(PROFILE)


def _size(num_bytes: int) -> str:
    if num_bytes >= 1024 * 1024:
        return f"{num_bytes / (1024 * 1024):.0f} MiB"
    return f"{num_bytes / 1024:.0f} KiB"
