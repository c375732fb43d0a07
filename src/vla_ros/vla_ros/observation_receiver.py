# SPDX-License-Identifier: MIT
"""Receive cameras and joint states by polling, timed so that an inference sees young frames."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rclpy.node import Node
from sensor_msgs.msg import Image, JointState

from vla_core.processing.contract import RobotContract
from vla_core.types import Observation
from vla_ros.conversions import sensor_subscription_qos
from vla_ros.observation_buffer import Gap, ObservationBuffer
from vla_ros.polled_subscription import PolledSubscription

_POLL_PERIOD_S = 0.002


class ObservationReceiver:
    """The subscriptions of one policy.

    Args:
        node: Node that subscribes; it may be spun meanwhile.
        contract: Which topics, and how old their messages may be.
    """

    def __init__(self, node: Node, contract: RobotContract) -> None:
        self._reference = contract.reference_camera
        qos = sensor_subscription_qos()
        self._images = {
            name: PolledSubscription(node, Image, camera.topic, qos)
            for name, camera in contract.cameras.items()
        }
        self._joint_states = PolledSubscription(node, JointState, contract.state.topic, qos)
        by_topic = {contract.cameras[name].topic: source for name, source in self._images.items()}
        by_topic[contract.state.topic] = self._joint_states
        self.buffer = ObservationBuffer(contract, lambda topic: by_topic[topic].num_publishers)

    def wait_for_frames(
        self,
        is_over: threading.Event,
        *,
        frame_wait_s: float,
        camera_wait_s: float,
        camera_skew_s: float,
    ) -> None:
        """Wait for a new frame of the first camera, then for the others to catch up with it.

        What has not come by then is missing from the next observation, or older in it.

        Args:
            is_over: Ends the wait early.
            frame_wait_s: Longest wait for the first camera.
            camera_wait_s: Longest wait for the others after that.
            camera_skew_s: How much older a frame of the others may be.
        """
        self._take_images()
        _poll_until(lambda: self._take_image(self._reference), is_over, frame_wait_s)
        _poll_until(lambda: self._is_aligned(camera_skew_s), is_over, camera_wait_s)

    def observe(self, instruction: str, now_ns: int) -> Observation | Gap:
        """Return an observation of the newest messages, or the first gap.

        Args:
            instruction: What the robot is asked to do.
            now_ns: Time now, on the clock of the stamps.
        """
        message = self._joint_states.take()
        if message is not None:
            self.buffer.put_joint_state(message)
        return self.buffer.observe(instruction, now_ns)

    def destroy(self) -> None:
        """Unsubscribe; the object must not be used afterwards."""
        for source in (*self._images.values(), self._joint_states):
            source.destroy()

    def _take_image(self, camera: str) -> bool:
        message = self._images[camera].take()
        if message is None:
            return False
        self.buffer.put_image(camera, message)
        return True

    def _take_images(self) -> None:
        for camera in self._images:
            self._take_image(camera)

    def _is_aligned(self, camera_skew_s: float) -> bool:
        for camera in self._images:
            if camera != self._reference:
                self._take_image(camera)
        return self.buffer.is_aligned(camera_skew_s)


def _poll_until(condition: Callable[[], bool], is_over: threading.Event, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while not condition() and time.monotonic() < deadline:
        if is_over.wait(_POLL_PERIOD_S):
            return
