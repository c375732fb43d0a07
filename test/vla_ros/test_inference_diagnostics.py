# SPDX-License-Identifier: MIT
"""What the diagnostics tell of the observations that a node answers."""

import math

import numpy as np
import pytest

from vla_core.processing.contract import load_contract
from vla_core.sim.arm_model import HOME

pytestmark = pytest.mark.ros

CONTRACT = load_contract("sim")
MS = 1_000_000
BEGIN_NS = 1_000_000_000_000


@pytest.fixture
def receiver(node):
    from vla_ros.node_clock import NodeClock
    from vla_ros.observation_receiver import ObservationReceiver

    receiver = ObservationReceiver(node, CONTRACT, NodeClock(node))
    yield receiver
    receiver.destroy()


def put_frame(receiver, camera, at_ms):
    from vla_ros.conversions import image_message

    stamp_ns = BEGIN_NS + at_ms * MS
    frame = np.full((192, 192, 3), at_ms, dtype=np.uint8)
    receiver.buffer.put_image(camera, image_message(frame, stamp_ns=stamp_ns), stamp_ns)


def test_the_skew_is_that_of_the_frames_that_were_answered(receiver):
    from vla_ros.conversions import joint_state_message
    from vla_ros.inference_diagnostics import report_observations
    from vla_ros.inference_report import InferenceReport

    report = InferenceReport()

    def skew_s():
        values = report_observations(report, receiver, BEGIN_NS + 150 * MS).values
        return values["camera skew [s]"]

    assert math.isnan(skew_s())
    put_frame(receiver, "wrist", 90)
    put_frame(receiver, "front", 100)
    # A younger frame that the observation at 100 ms has no use for.
    put_frame(receiver, "wrist", 140)
    state = joint_state_message(
        CONTRACT.state.joints, HOME, np.zeros(7), stamp_ns=BEGIN_NS + 60 * MS
    )
    receiver.buffer.put_joint_state(state, BEGIN_NS + 140 * MS)
    observation = receiver.buffer.observe("move", BEGIN_NS + 150 * MS)
    report.note_observation(observation)
    assert skew_s() == pytest.approx(0.01)
