# SPDX-License-Identifier: MIT
"""Receive what a policy observes, timed so that an inference sees young frames."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rclpy.node import Node

from vla_core.processing.contract import RobotContract
from vla_core.processing.gaps import Gap, GapCause
from vla_core.processing.observation_buffer import ObservationBuffer
from vla_core.types import Observation
from vla_ros.arrivals import Arrivals
from vla_ros.conversions import sensor_subscription_qos
from vla_ros.joint_state_subscriptions import JointStateSubscriptions
from vla_ros.message_types import INPUT_MESSAGE_TYPES, camera_message_type
from vla_ros.node_clock import CLOCK_TOPIC, NodeClock
from vla_ros.polled_subscription import Periodic, PolledSubscription

# How late a wait notices that it is over, or that simulated time has come.
_LONGEST_SLEEP_S = 0.01
# Simulated time may stand still; the caller shall still be able to say so.
_LONGEST_WAIT_S = 1.0
# A second of joint states at 1 kHz: they wait here while an inference takes its time.
_STATE_DEPTH = 1000
_FASTEST_CAMERA_HZ = 60.0
# The graph is asked who publishes: too slow for every inference.
_CROWDS_PERIOD_S = 1.0


class ObservationReceiver:
    """The subscriptions of one policy.

    Cameras are read as they are waited for and keep only their newest frame meanwhile; where a
    policy takes earlier frames too, they keep as many as it needs. Joint states and other inputs
    wait in their queues until the next observation.

    Args:
        node: Node that subscribes; it may be spun meanwhile.
        contract: Which topics, and how old their messages may be.
        clock: Time of the node.
        history_length: Earlier steps that the policy takes.
    """

    def __init__(
        self,
        node: Node,
        contract: RobotContract,
        clock: NodeClock,
        *,
        history_length: int = 0,
    ) -> None:
        self._reference = contract.reference_camera
        self._clock = clock
        self._crowds_due = Periodic(_CROWDS_PERIOD_S)
        self._crowds = ""
        frames = sensor_subscription_qos()
        frames.depth += math.ceil(history_length * contract.action.dt_s * _FASTEST_CAMERA_HZ)
        states = sensor_subscription_qos()
        states.depth = _STATE_DEPTH
        self._images: dict[str, PolledSubscription[Any]] = {
            name: PolledSubscription(node, camera_message_type(camera), camera.topic, frames)
            for name, camera in contract.cameras.items()
        }
        self._frames = Arrivals(node, self._images.values())
        self._joint_states = JointStateSubscriptions(node, contract.state, states)
        self._inputs: dict[str, PolledSubscription[Any]] = {
            name: PolledSubscription(node, INPUT_MESSAGE_TYPES[part.type], part.topic, states)
            for name, part in contract.inputs.items()
        }
        by_topic = {
            **{contract.cameras[name].topic: source for name, source in self._images.items()},
            **{contract.inputs[name].topic: source for name, source in self._inputs.items()},
        }

        def count_publishers(topic: str) -> int:
            source = by_topic.get(topic)
            if source is None:
                return self._joint_states.num_publishers(topic)
            return source.num_publishers

        self.buffer = ObservationBuffer(
            contract,
            count_publishers,
            history_length=history_length,
        )

    def wait_for_frames(
        self,
        is_over: threading.Event,
        *,
        frame_wait_s: float,
        camera_wait_s: float,
        camera_skew_s: float,
    ) -> None:
        """Wait for a new frame of the first camera, then for the others to catch up with it.

        What has not come by then is missing from the next observation, or older in it. Durations
        count on the node's clock: a simulation at half speed is given twice as long.

        Args:
            is_over: Ends the wait early.
            frame_wait_s: Longest wait for the first camera.
            camera_wait_s: Longest wait for the others after that.
            camera_skew_s: How much older a frame of the others may be.
        """
        self._take_images()
        self._wait_until(lambda: self._reference in self._take_images(), is_over, frame_wait_s)
        self._wait_until(lambda: self._is_aligned(camera_skew_s), is_over, camera_wait_s)

    def observe(self, instruction: str) -> Observation | Gap:
        """Return an observation at the newest frame of the reference camera, or the first gap.

        Args:
            instruction: What the robot is asked to do.
        """
        states = self._joint_states.take_all()
        inputs = {name: source.take_all() for name, source in self._inputs.items()}
        # After the messages, or those that come meanwhile would be from the future.
        now_ns = self._clock.now_ns()
        if now_ns == 0:
            return Gap(
                "clock",
                GapCause.NOTHING_RECEIVED,
                f"clock on {CLOCK_TOPIC}: use_sim_time is true, but nothing was received yet.",
            )
        for message in states:
            self.buffer.put_joint_state(message, now_ns)
        for name, messages in inputs.items():
            for message in messages:
                self.buffer.put_input(name, message, now_ns)
        observed = self.buffer.observe(instruction, now_ns)
        # A replay beside a robot looks like clocks that differ.
        if isinstance(observed, Observation) or observed.cause is not GapCause.FUTURE:
            return observed
        if self._crowds_due.is_due():
            self._crowds = self.describe_crowds()
        if not self._crowds:
            return observed
        return replace(observed, reason=f"{observed.reason} {self._crowds}.")

    def describe_crowds(self) -> str:
        """Return who publishes what should have one publisher: a camera, an input, a joint."""
        sources = (*self._images.values(), *self._inputs.values())
        crowds = (
            *(source.describe_crowd() for source in sources),
            self._joint_states.describe_rivals(),
        )
        return "; ".join(crowd for crowd in crowds if crowd)

    def destroy(self) -> None:
        """Unsubscribe; the object must not be used afterwards."""
        self._joint_states.destroy()
        for source in (*self._images.values(), *self._inputs.values()):
            source.destroy()

    def _take_images(self) -> set[str]:
        """Take what has come and return of which cameras."""
        received = set()
        for name, source in self._images.items():
            for message in source.take_all():
                self.buffer.put_image(name, message, self._clock.now_ns())
                received.add(name)
        return received

    def _is_aligned(self, camera_skew_s: float) -> bool:
        self._take_images()
        return self.buffer.is_aligned(camera_skew_s)

    def _wait_until(
        self, condition: Callable[[], bool], is_over: threading.Event, wait_s: float
    ) -> None:
        deadline_ns = self._clock.now_ns() + round(wait_s * 1e9)
        give_up_s = time.monotonic() + _LONGEST_WAIT_S
        while not condition() and (left_ns := deadline_ns - self._clock.now_ns()) > 0:
            if time.monotonic() > give_up_s or is_over.is_set():
                return
            self._frames.wait(min(_LONGEST_SLEEP_S, left_ns * 1e-9))
