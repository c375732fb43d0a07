# SPDX-License-Identifier: MIT
"""Measure what arrives of a robot's topics: rate, gaps, ages, losses, contents."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import JointState

from vla_core.errors import MessageError
from vla_core.processing.compressed_images import compressed_size
from vla_core.processing.contract import (
    CameraContract,
    InputContract,
    RobotContract,
    StateContract,
)
from vla_core.processing.frames import frame_from_message
from vla_core.processing.messages import (
    input_values_from_message,
    joint_values_from_message,
    prefix_joints,
    stamp_ns,
)
from vla_ros.conversions import sensor_subscription_qos
from vla_ros.message_types import (
    INPUT_MESSAGE_TYPES,
    camera_message_type,
    message_type_name,
)
from vla_ros.polled_subscription import PolledSubscription

_POLL_S = 0.002
# More than the 3 s in which Fast DDS as it comes announces a participant again.
_DISCOVERY_S = 4.0
# More than depth 1, so that what is lost was lost on the way and not here.
_DEPTH = 100


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """One received message.

    Attributes:
        received_ns: When it arrived.
        stamp_ns: What its header says.
        sequence: The publisher's number of it; None where the middleware has none.
    """

    received_ns: int
    stamp_ns: int
    sequence: int | None


@dataclass(kw_only=True)
class StreamMeasurement:
    """One topic, as received over a while.

    Attributes:
        name: What the contract calls it.
        topic: Absolute topic name.
        duration_s: How long it was measured.
        arrivals: Received messages, in order.
        type: Message type that the contract expects, e.g. ``sensor_msgs/msg/Image``.
        types: Message types that are published under this name.
        num_publishers: Publishers of the topic, whether they match or not.
        contents: What the last message holds, for a human, e.g. ``192x192 rgb8``.
        num_bytes: Size of the last message's data.
        width: Width of the last image in pixels, 0 for no image.
        height: Height of the last image in pixels, 0 for no image.
        joints: Joints that the messages have.
        content_error: Why the last message cannot be used; empty if it can.
    """

    name: str
    topic: str
    type: str
    duration_s: float = 0.0
    arrivals: list[Arrival] = field(default_factory=list)
    types: tuple[str, ...] = ()
    num_publishers: int = 0
    contents: str = ""
    num_bytes: int = 0
    width: int = 0
    height: int = 0
    joints: tuple[str, ...] = ()
    content_error: str = ""

    @property
    def rate_hz(self) -> float:
        """Received messages per second."""
        return len(self.arrivals) / self.duration_s if self.duration_s > 0.0 else 0.0

    @property
    def longest_gap_s(self) -> float:
        """Longest time between two arrivals; the whole duration with fewer than two."""
        if len(self.arrivals) < 2:
            return self.duration_s
        return float(np.diff([arrival.received_ns for arrival in self.arrivals]).max()) * 1e-9

    @property
    def ages_s(self) -> list[float]:
        """Age of every message when it arrived; negative if its stamp lies in the future."""
        return [(a.received_ns - a.stamp_ns) * 1e-9 for a in self.arrivals]

    @property
    def num_lost(self) -> int:
        """Messages that were published between the first and the last arrival but did not arrive.

        By the publisher's numbers; without numbers, or with several publishers, by the gaps in the
        stamps.
        """
        if len(self.arrivals) < 2:
            return 0
        sequences = [arrival.sequence for arrival in self.arrivals]
        if self.num_publishers == 1 and None not in sequences:
            steps = np.diff(np.array(sequences, dtype=np.int64))
            return int((steps[steps > 1] - 1).sum())
        gaps = np.diff([arrival.stamp_ns for arrival in self.arrivals])
        period = float(np.median(gaps))
        return int((np.rint(gaps / period) - 1).clip(min=0).sum()) if period > 0.0 else 0

    @property
    def lost_fraction(self) -> float:
        """Share of the published messages that did not arrive, in [0, 1]."""
        published = len(self.arrivals) + self.num_lost
        return self.num_lost / published if published else 0.0


@dataclass(frozen=True, kw_only=True)
class RobotMeasurement:
    """All topics that a contract reads.

    Attributes:
        cameras: In the contract's order.
        joint_states: By topic: the contract's own, then the extra ones.
        inputs: Further sensors, in the contract's order.
    """

    cameras: list[StreamMeasurement]
    joint_states: list[StreamMeasurement]
    inputs: list[StreamMeasurement]

    @property
    def streams(self) -> list[StreamMeasurement]:
        """All of them."""
        return [*self.cameras, *self.joint_states, *self.inputs]


def measure_streams(node: Node, contract: RobotContract, duration_s: float) -> RobotMeasurement:
    """Receive the contract's cameras, joint states and further inputs for a while.

    Args:
        node: Node outside any executor; its namespace is the robot's.
        contract: Names the topics.
        duration_s: How long to measure, after the publishers have been found.
    """
    cameras = [
        _Stream(
            node,
            camera_message_type(camera),
            name,
            camera.topic,
            functools.partial(_describe_image, camera),
        )
        for name, camera in contract.cameras.items()
    ]
    states = [
        _Stream(
            node,
            JointState,
            f"joint states {number}" if number > 1 else "joint states",
            topic,
            functools.partial(
                _describe_joints, contract.state, contract.state.prefixes.get(topic, "")
            ),
        )
        for number, topic in enumerate(contract.state.topics, start=1)
    ]
    inputs = [
        _Stream(
            node,
            INPUT_MESSAGE_TYPES[part.type],
            name,
            part.topic,
            functools.partial(_describe_input, part),
        )
        for name, part in contract.inputs.items()
    ]
    streams = [*cameras, *states, *inputs]
    _receive(streams, _DISCOVERY_S, until_all=True)
    for stream in streams:
        stream.measurement.arrivals.clear()
    elapsed_s = _receive(streams, duration_s, until_all=False)
    types = dict(node.get_topic_names_and_types())
    for stream in streams:
        stream.finish(node, types, elapsed_s)
    return RobotMeasurement(
        cameras=[stream.measurement for stream in cameras],
        joint_states=[stream.measurement for stream in states],
        inputs=[stream.measurement for stream in inputs],
    )


class _Stream:
    def __init__(
        self,
        node: Node,
        message_type: type[Any],
        name: str,
        topic: str,
        describe: Callable[[Any, StreamMeasurement], None],
    ) -> None:
        qos_profile = sensor_subscription_qos()
        qos_profile.depth = _DEPTH
        self._subscription = PolledSubscription(node, message_type, topic, qos_profile)
        self._describe = describe
        self._last: dict[tuple[str, ...], Any] = {}
        self.measurement = StreamMeasurement(
            name=name,
            topic=self._subscription.topic,
            type=message_type_name(message_type),
        )

    def take(self) -> None:
        while (taken := self._subscription.take_next_with_info()) is not None:
            message, info = taken
            received_ns = info["received_timestamp"] or time.time_ns()
            has_stamp = hasattr(message, "header")
            self.measurement.arrivals.append(
                Arrival(
                    received_ns=received_ns,
                    stamp_ns=stamp_ns(message) if has_stamp else received_ns,
                    sequence=info.get("publication_sequence_number"),
                )
            )
            # Publishers that share a topic of joint states each have their own joints.
            self._last[tuple(getattr(message, "name", ()))] = message

    def finish(self, node: Node, types: dict[str, list[str]], elapsed_s: float) -> None:
        measurement = self.measurement
        measurement.duration_s = elapsed_s
        measurement.types = tuple(types.get(measurement.topic, ()))
        measurement.num_publishers = node.count_publishers(measurement.topic)
        for message in self._last.values():
            try:
                self._describe(message, measurement)
            except MessageError as error:
                measurement.content_error = str(error)
        self._subscription.destroy()


def _describe_image(camera: CameraContract, message: Any, measurement: StreamMeasurement) -> None:
    measurement.num_bytes = len(message.data)
    if camera.transport == "compressed":
        measurement.contents = message.format
        measurement.width, measurement.height = compressed_size(message)
    else:
        measurement.width, measurement.height = int(message.width), int(message.height)
        measurement.contents = message.encoding
    size = f"{measurement.width}x{measurement.height}"
    measurement.contents = f"{size} {measurement.contents}".strip()
    # A wrong size has a finding of its own.
    if (measurement.width, measurement.height) == (camera.width, camera.height):
        frame_from_message(message, camera)


def _describe_joints(
    state: StateContract, prefix: str, message: Any, measurement: StreamMeasurement
) -> None:
    prefix_joints(message, prefix)
    measurement.joints += tuple(message.name)
    measurement.contents = f"{len(measurement.joints)} joints"
    measurement.num_bytes += 8 * len(message.position)
    wanted = [joint for joint in state.joints if joint in message.name]
    for name in state.fields:
        joint_values_from_message(message, wanted, name)


def _describe_input(part: InputContract, message: Any, measurement: StreamMeasurement) -> None:
    measurement.contents = part.type
    measurement.num_bytes = 8 * len(input_values_from_message(message, part.type))


def _receive(streams: Sequence[_Stream], duration_s: float, *, until_all: bool) -> float:
    """Receive for a while, or until every stream has something; return how long it took."""
    start = time.monotonic()
    while (elapsed := time.monotonic() - start) < duration_s:
        for stream in streams:
            stream.take()
        if until_all and all(stream.measurement.arrivals for stream in streams):
            break
        time.sleep(_POLL_S)
    return elapsed
