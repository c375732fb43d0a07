# SPDX-License-Identifier: MIT
"""Velocities from positions: exact without disturbances, and always within the limits."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vla_core.processing.contract import JointLimits
from vla_ros.outputs import Command
from vla_ros.outputs.velocity_command import VelocityCommand

pytestmark = pytest.mark.ros

DT_S = 0.02
LIMIT = JointLimits(lower=-3.0, upper=3.0, velocity=1.0, acceleration=4.0)
LIMITS = {"a": LIMIT, "b": dataclasses.replace(LIMIT, velocity=0.5)}
VELOCITY = np.array([1.0, 0.5])
ACCELERATIONS = hnp.arrays(np.float64, (40, 2), elements=st.floats(-4.0, 4.0))


def curve(accelerations):
    """Return positions of a curve within the limits that ends at rest, [N, 2]."""
    velocity, position, positions = np.zeros(2), np.zeros(2), [np.zeros(2)]
    for acceleration in [*accelerations, *([np.zeros(2)] * 20)]:
        step = acceleration * DT_S if acceleration.any() else np.clip(-velocity, -0.08, 0.08)
        new = np.clip(velocity + step, -VELOCITY, VELOCITY)
        position = position + 0.5 * (velocity + new) * DT_S
        velocity = new
        positions.append(position)
    return np.array(positions)


def run(positions, disturb=lambda velocity: velocity):
    """Return the velocities that are sent and where they lead."""
    maker, measured = VelocityCommand(LIMITS, DT_S), positions[0]
    sent = []
    for tick in range(len(positions) - 1):
        now_ns = 1_000_000_000 + tick * 20_000_000
        command = Command(
            now_ns=now_ns,
            position=positions[tick],
            velocity=np.zeros(2),
            positions=positions[tick + 1 :],
            velocities=np.zeros_like(positions[tick + 1 :]),
            measured=measured,
            measured_ns=now_ns,
            is_stopping=False,
        )
        sent.append(maker.next(command))
        measured = measured + disturb(sent[-1]) * DT_S
    return np.array(sent), measured


@given(ACCELERATIONS)
def test_undisturbed_velocities_lead_exactly_to_the_end(accelerations):
    positions = curve(accelerations)
    _, reached = run(positions)
    np.testing.assert_allclose(reached, positions[-1], atol=1e-9)


@given(ACCELERATIONS, st.floats(0.0, 2.0))
def test_velocities_never_leave_the_limits(accelerations, gain):
    sent, _ = run(curve(accelerations), disturb=lambda velocity: gain * velocity)
    assert np.all(np.abs(sent) <= VELOCITY + 1e-12)
    steps = np.diff(np.vstack((np.zeros(2), sent)), axis=0)
    assert np.all(np.abs(steps) <= 4.0 * DT_S + 1e-12)


def test_a_robot_that_is_too_slow_is_led_back_to_the_plan():
    ramp = np.minimum(np.arange(200)[:, None] * 0.004, 0.6) * np.ones(2)
    _, uncorrected = 0.0, 0.9 * ramp[-1]
    _, reached = run(ramp, disturb=lambda velocity: 0.9 * velocity)
    assert np.all(np.abs(reached - ramp[-1]) < 0.5 * np.abs(uncorrected - ramp[-1]))


def test_a_stop_takes_every_correction_back():
    maker = VelocityCommand(LIMITS, DT_S)
    position = np.zeros(2)
    command = Command(
        now_ns=10,
        position=position,
        velocity=np.zeros(2),
        positions=np.tile(position, (3, 1)),
        velocities=np.zeros((3, 2)),
        measured=position + 0.1,
        measured_ns=10,
        is_stopping=False,
    )
    assert np.all(maker.next(command) < 0.0)
    stop = dataclasses.replace(command, is_stopping=True)
    assert maker.next(stop).tolist() == [0.0, 0.0]
