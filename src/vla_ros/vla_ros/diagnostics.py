# SPDX-License-Identifier: MIT
"""Tell ``/diagnostics`` how a node is doing, once per second and off its fast paths.

A node adds one report per concern; each is asked in the executor's thread. What a fast loop
measures goes into a `Measurements`, which costs the loop one append.
"""

from __future__ import annotations

import enum
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from vla_ros.conversions import status_qos
from vla_ros.node_clock import steady_clock

TOPIC = "/diagnostics"


class DiagnosticLevel(enum.IntEnum):
    """How bad it is; the numbers are those of ``diagnostic_msgs/DiagnosticStatus``."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


@dataclass(frozen=True, slots=True)
class DiagnosticReport:
    """What is said about one concern.

    Attributes:
        level: How bad it is.
        message: One line for a human.
        values: Details by name; floats are rounded to four digits.
    """

    level: DiagnosticLevel
    message: str
    values: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Summary:
    """What was measured since the last summary; NaN where nothing was.

    Attributes:
        count: Number of values.
        rate_hz: Values per second.
        median: Half of the values are not above it.
        p99: 99 % of the values are not above it.
        maximum: The largest value.
    """

    count: int
    rate_hz: float
    median: float
    p99: float
    maximum: float


class Measurements:
    """Collects numbers in one thread that another one sums up.

    Args:
        capacity: Values that are kept; further ones are only counted.
    """

    def __init__(self, capacity: int = 10_000) -> None:
        self._capacity = capacity
        self._values: list[float] = []
        self._num_dropped = 0
        self._since_ns = time.monotonic_ns()

    def add(self, value: float) -> None:
        """Take one value; ages that are infinite or NaN count but have no percentile."""
        if len(self._values) < self._capacity:
            self._values.append(value)
        else:
            self._num_dropped += 1

    def summarize(self) -> Summary:
        """Return the summary since the last call and begin anew."""
        now_ns = time.monotonic_ns()
        values, self._values = self._values, []
        dropped, self._num_dropped = self._num_dropped, 0
        elapsed_s = (now_ns - self._since_ns) * 1e-9
        self._since_ns = now_ns
        count = len(values) + dropped
        finite = np.asarray(values, dtype=np.float64)
        finite = finite[np.isfinite(finite)]
        rate_hz = count / elapsed_s if elapsed_s > 0.0 else math.nan
        if finite.size == 0:
            return Summary(count, rate_hz, math.nan, math.nan, math.nan)
        median, p99 = np.percentile(finite, (50.0, 99.0))
        return Summary(count, rate_hz, float(median), float(p99), float(finite.max()))


class Diagnostics:
    """Publishes the reports of one node.

    Args:
        node: The node; its executor asks for the reports.
        hardware_id: What the node runs on or for, usually the robot's name.
        period_s: Time between two publications.
    """

    def __init__(self, node: Node, hardware_id: str, period_s: float = 1.0) -> None:
        self._node = node
        self._hardware_id = hardware_id
        self._reports: dict[str, Callable[[], DiagnosticReport]] = {}
        self._publisher = node.create_publisher(DiagnosticArray, TOPIC, status_qos())
        self._timer = node.create_timer(period_s, self.publish, clock=steady_clock())

    def add(self, name: str, report: Callable[[], DiagnosticReport]) -> None:
        """Add a concern, or replace the one of this name.

        Args:
            name: What it is about; the status is named ``<node>: <name>``.
            report: Makes the report; an exception in it is reported as an error.
        """
        self._reports[name] = report

    def publish(self) -> None:
        """Ask for every report and publish them as one message."""
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        node_name = self._node.get_fully_qualified_name().lstrip("/")
        for name, ask in self._reports.items():
            try:
                report = ask()
            except Exception as error:
                # Half a report would hide the others, which may say why.
                report = DiagnosticReport(
                    DiagnosticLevel.ERROR, f"no report: {type(error).__name__}: {error}"
                )
            message.status.append(
                DiagnosticStatus(
                    level=bytes([report.level]),
                    name=f"{node_name}: {name}",
                    message=report.message,
                    hardware_id=self._hardware_id,
                    values=[KeyValue(key=k, value=_text(v)) for k, v in report.values.items()],
                )
            )
        self._publisher.publish(message)

    def destroy(self) -> None:
        """Stop publishing; the object must not be used afterwards."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_publisher(self._publisher)


def worst(*reports: DiagnosticReport) -> DiagnosticReport:
    """Return the report of the highest level, the first of equals."""
    return max(reports, key=lambda report: report.level)


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
