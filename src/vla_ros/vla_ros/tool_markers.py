# SPDX-License-Identifier: MIT
"""Show where the policy wants the tool to go, and how far its last chunks disagree about it.

One line is the path of the tool along the newest chunk. The sphere around each of its points
reaches as far as an earlier chunk is from it at the same time: big spheres, a policy in doubt.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from geometry_msgs.msg import Point
from numpy.typing import NDArray
from rclpy.node import Node
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray
from vla_msgs.msg import ActionChunk

from vla_core import types
from vla_core.errors import MessageError
from vla_core.processing.chunk_messages import action_chunk_from_message
from vla_core.processing.contract import RobotContract
from vla_core.processing.kinematics import KinematicChain
from vla_ros.conversions import (
    command_qos,
    duration_message,
    status_qos,
    time_message,
)
from vla_ros.polled_subscription import PolledSubscription

_NUM_CHUNKS = 4
_LINE_WIDTH_M = 0.004
_PATH_COLOR = ColorRGBA(r=0.1, g=0.6, b=1.0, a=1.0)
_SPREAD_COLOR = ColorRGBA(r=1.0, g=0.6, b=0.1, a=0.25)


class ToolMarkers:
    """Publishes ``~/markers`` at a low rate, from the executor's thread.

    Args:
        node: Node that publishes.
        contract: The robot.
        chain: From the base to the tool.
        rate_hz: Rate of the markers.
    """

    def __init__(
        self, node: Node, contract: RobotContract, chain: KinematicChain, *, rate_hz: float
    ) -> None:
        assert contract.kinematics is not None
        self._node = node
        self._frame_id = contract.kinematics.base_link
        self._chain = chain
        self._max_age_ns = round(contract.action.max_age_s * 1e9)
        self._lifetime = duration_message(2.0 / rate_hz)
        self._chunks = PolledSubscription(node, ActionChunk, "action_chunk", command_qos())
        self._recent: deque[types.ActionChunk] = deque(maxlen=_NUM_CHUNKS)
        self._publisher = node.create_publisher(MarkerArray, "~/markers", status_qos())
        self._timer = node.create_timer(1.0 / rate_hz, self._publish)

    def _publish(self) -> None:
        message = self._chunks.take()
        if message is None or self._publisher.get_subscription_count() == 0:
            return
        try:
            chunk = action_chunk_from_message(message)
        except MessageError:
            return
        # Other kinds of actions are no joint positions.
        if chunk.kind != "joint_position" or not set(self._chain.joints) <= set(chunk.joints):
            return
        self._recent.append(chunk)
        paths = [(self._times_ns(c), self._tool_path(c)) for c in self._recent]
        times_ns, path = paths[-1]
        spread = np.zeros(len(path))
        for other_ns, other in paths[:-1]:
            if chunk.stamp_ns - other_ns[0] <= self._max_age_ns:
                spread = np.maximum(spread, _distances(times_ns, path, other_ns, other))
        self._publisher.publish(MarkerArray(markers=self._markers(chunk.stamp_ns, path, spread)))

    @staticmethod
    def _times_ns(chunk: types.ActionChunk) -> NDArray[np.float64]:
        steps = np.arange(1, len(chunk.actions) + 1, dtype=np.float64)
        return chunk.stamp_ns + steps * (chunk.dt_s * 1e9)

    def _tool_path(self, chunk: types.ActionChunk) -> NDArray[np.float64]:
        columns = [chunk.joints.index(joint) for joint in self._chain.joints]
        return self._chain.tool_positions(np.asarray(chunk.actions)[:, columns])

    def _markers(
        self, stamp_ns: int, path: NDArray[np.float64], spread: NDArray[np.float64]
    ) -> list[Marker]:
        line = self._marker("path", 0, stamp_ns, Marker.LINE_STRIP, _PATH_COLOR)
        line.scale.x = _LINE_WIDTH_M
        line.points = [Point(x=x, y=y, z=z) for x, y, z in path.tolist()]
        markers = [line]
        for index, ((x, y, z), radius) in enumerate(zip(path.tolist(), spread, strict=True)):
            if radius > 0.0:
                sphere = self._marker("spread", index, stamp_ns, Marker.SPHERE, _SPREAD_COLOR)
                sphere.pose.position = Point(x=x, y=y, z=z)
                sphere.scale.x = sphere.scale.y = sphere.scale.z = 2.0 * float(radius)
                markers.append(sphere)
        return markers

    def _marker(
        self, namespace: str, index: int, stamp_ns: int, kind: int, color: ColorRGBA
    ) -> Marker:
        marker = Marker(ns=namespace, id=index, type=kind, action=Marker.ADD, color=color)
        marker.header.frame_id = self._frame_id
        marker.header.stamp = time_message(stamp_ns)
        marker.pose.orientation.w = 1.0
        marker.lifetime = self._lifetime
        return marker

    def destroy(self) -> None:
        """Give the topics and the timer back."""
        self._node.destroy_timer(self._timer)
        self._chunks.destroy()
        self._node.destroy_publisher(self._publisher)


def _distances(
    times_ns: NDArray[np.float64],
    path: NDArray[np.float64],
    other_ns: NDArray[np.float64],
    other: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return how far another path is from each point at the same time, m, [K]; 0 after its end."""
    at_same_time = np.stack(
        [np.interp(times_ns, other_ns, other[:, axis]) for axis in range(3)], axis=1
    )
    distances = np.linalg.norm(at_same_time - path, axis=1)
    return np.where((times_ns >= other_ns[0]) & (times_ns <= other_ns[-1]), distances, 0.0)
