# SPDX-License-Identifier: MIT
"""A lifecycle node that works in ticks of its main thread, at a rate, and answers in between."""

from __future__ import annotations

import abc

from rclpy.executors import Executor

from vla_ros.lifecycle_node import ManagedNode, ParametersT
from vla_ros.polled_subscription import AbsoluteRate, Periodic

_ANSWERS_PERIOD_S = 0.05


class TickingNode(ManagedNode[ParametersT]):
    """Base of such nodes: implement ``tick`` and ``tick_rate_hz``."""

    def __init__(self, parameters: type[ParametersT]) -> None:
        super().__init__(parameters)
        self._rate: AbsoluteRate | None = None
        self._answers_due = Periodic(_ANSWERS_PERIOD_S)

    @property
    @abc.abstractmethod
    def tick_rate_hz(self) -> float:
        """Rate of the ticks, which is fixed while the node is configured."""

    @abc.abstractmethod
    def tick(self) -> None:
        """Do one tick's work; called while the node is active."""

    def turn(self, executor: Executor) -> None:
        """Tick, and answer whoever calls now and then; while inactive only answer."""
        if not self.is_active:
            self._rate = None
            super().turn(executor)
            return
        if self._rate is None:
            self._rate = AbsoluteRate(1.0 / self.tick_rate_hz)
        self.tick()
        if self._answers_due.is_due():
            executor.spin_once(timeout_sec=0.0)
        self._rate.sleep()
