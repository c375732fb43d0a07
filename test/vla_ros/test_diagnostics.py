# SPDX-License-Identifier: MIT
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.diagnostics import (
    DiagnosticLevel,
    DiagnosticReport,
    Diagnostics,
    Measurements,
    worst,
)

pytestmark = pytest.mark.ros


@pytest.fixture
def published(node, wait_until):
    """Publish reports and return the statuses that arrive over DDS, by name."""
    from diagnostic_msgs.msg import DiagnosticArray

    from vla_ros.conversions import status_qos
    from vla_ros.polled_subscription import PolledSubscription

    def publish(**reports):
        received = PolledSubscription(node, DiagnosticArray, "/diagnostics", status_qos())
        diagnostics = Diagnostics(node, "a robot", period_s=1e6)
        for name, report in reports.items():
            diagnostics.add(name, report)

        def arrived():
            diagnostics.publish()
            return received.take()

        return {status.name: status for status in wait_until(arrived, "diagnostics").status}

    return publish


def test_a_report_arrives_with_its_level_and_values(published):
    statuses = published(
        loop=lambda: DiagnosticReport(DiagnosticLevel.WARN, "late", {"p99": 0.012345, "n": 3})
    )
    status = statuses["test_node: loop"]
    assert status.level == b"\x01"
    assert (status.message, status.hardware_id) == ("late", "a robot")
    assert {value.key: value.value for value in status.values} == {"p99": "0.01235", "n": "3"}


def test_a_report_that_fails_is_an_error_and_the_others_arrive(published):
    def broken():
        raise ValueError("no such joint")

    statuses = published(broken=broken, fine=lambda: DiagnosticReport(DiagnosticLevel.OK, "ok"))
    assert statuses["test_node: broken"].level == b"\x02"
    assert "ValueError: no such joint" in statuses["test_node: broken"].message
    assert statuses["test_node: fine"].level == b"\x00"


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_a_summary_agrees_with_the_values(values):
    measurements = Measurements()
    for value in values:
        measurements.add(value)
    summary = measurements.summarize()
    assert summary.count == len(values)
    assert summary.maximum == max(values)
    assert summary.median == pytest.approx(np.median(values))
    assert summary.median <= summary.p99 <= summary.maximum


def test_a_summary_begins_anew():
    measurements = Measurements()
    measurements.add(1.0)
    measurements.summarize()
    summary = measurements.summarize()
    assert summary.count == 0
    assert math.isnan(summary.maximum)


def test_values_above_the_capacity_still_count():
    measurements = Measurements(capacity=2)
    for value in (1.0, 2.0, 3.0):
        measurements.add(value)
    summary = measurements.summarize()
    assert (summary.count, summary.maximum) == (3, 2.0)


def test_an_infinite_age_has_no_percentile():
    measurements = Measurements()
    measurements.add(math.inf)
    measurements.add(0.5)
    summary = measurements.summarize()
    assert (summary.count, summary.maximum) == (2, 0.5)


def test_the_worst_report_is_the_one_of_the_highest_level():
    fine = DiagnosticReport(DiagnosticLevel.OK, "fine")
    bad = DiagnosticReport(DiagnosticLevel.ERROR, "bad")
    assert worst(fine, bad, fine) is bad
