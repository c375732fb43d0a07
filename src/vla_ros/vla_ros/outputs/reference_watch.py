# SPDX-License-Identifier: MIT
"""Notice that a joint_trajectory_controller does not do what it was sent.

The controller rejects a trajectory with a line in its own log and nothing else. What its sender
can see is ``~/controller_state``: a reference that is not where the trajectories led.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node

from vla_core.errors import ConfigError
from vla_core.processing.messages import stamp_ns
from vla_ros.conversions import sensor_subscription_qos
from vla_ros.outputs.base import import_interface
from vla_ros.polled_subscription import PolledSubscription

_WINDOW_NS = 300_000_000  # how late or early a reference may be
_PATIENCE_NS = 500_000_000  # for how long it may be elsewhere
_SILENCE_NS = 1_000_000_000  # after which somebody else may drive the controller
_TOLERANCE = 0.01  # rad or m


class ReferenceWatch:
    """Compares the reference of a controller with the commands of the last moments.

    Args:
        node: Node that subscribes.
        topic: Topic or action of the controller, ``<controller>/<name>``.
        joints: Joints that it is sent.
        period_s: Time between two commands.

    Attributes:
        controller: Name of the controller.
        is_possible: Whether ``control_msgs`` is installed, which the state's message needs.
    """

    def __init__(self, node: Node, topic: str, joints: Sequence[str], period_s: float) -> None:
        self.controller = topic.rpartition("/")[0]
        self._joints = tuple(joints)
        self._sent: deque[tuple[int, NDArray[np.float64]]] = deque(
            maxlen=int(2e-9 * (_WINDOW_NS + _SILENCE_NS) / period_s) + 2
        )
        self._astray_since_ns: int | None = None
        self._states: PolledSubscription[object] | None = None
        try:
            messages = import_interface("control_msgs.msg", "joint_trajectory")
        except ConfigError:
            messages = None
        self.is_possible = messages is not None
        if messages is not None and self.controller:
            self._states = PolledSubscription(
                node,
                messages.JointTrajectoryControllerState,
                f"{self.controller}/controller_state",
                sensor_subscription_qos(),
            )

    def sent(self, now_ns: int, position: NDArray[np.float64]) -> None:
        """Remember where the trajectories have led at a time, [J]."""
        self._sent.append((now_ns, position))

    def find_problem(self) -> str:
        """Return what is wrong with the newest state; empty if nothing is, or there is none."""
        state = self._states.take() if self._states is not None else None
        if state is None:
            return ""
        names = list(getattr(state, "joint_names", ()))
        # Before control_msgs 4.2 the reference was named `desired`.
        reference = getattr(state, "reference", None) or getattr(state, "desired", None)
        positions = list(getattr(reference, "positions", ()))
        if len(positions) != len(names) or not set(self._joints) <= set(names):
            return ""
        now_ns = stamp_ns(state)
        value = np.array([positions[names.index(joint)] for joint in self._joints])
        return self._judge(now_ns, value)

    def _judge(self, now_ns: int, reference: NDArray[np.float64]) -> str:
        recent = list(self._sent)
        if not recent or now_ns - recent[-1][0] > _SILENCE_NS:
            self._astray_since_ns = None
            return ""
        window = [p for t, p in recent if abs(now_ns - t) <= _WINDOW_NS] or [recent[-1][1]]
        lowest, highest = np.min(window, axis=0), np.max(window, axis=0)
        outside = np.maximum(lowest - reference, reference - highest)
        worst = int(outside.argmax())
        if outside[worst] <= _TOLERANCE:
            self._astray_since_ns = None
            return ""
        if self._astray_since_ns is None:
            self._astray_since_ns = now_ns
        if now_ns - self._astray_since_ns < _PATIENCE_NS:
            return ""
        return (
            f"{self.controller} does not follow: its reference of {self._joints[worst]} is "
            f"{outside[worst]:.2f} from what it was sent; it may reject the trajectories, which "
            "only its own log tells"
        )

    def destroy(self) -> None:
        """Unsubscribe."""
        if self._states is not None:
            self._states.destroy()
