# SPDX-License-Identifier: MIT
"""Latent plans as messages: nothing is lost, nothing broken gets through."""

import numpy as np
import pytest

from vla_core.errors import MessageError
from vla_core.processing.messages import time_ns
from vla_core.types import LatentPlan

pytestmark = pytest.mark.ros

PLAN = LatentPlan(
    values=np.array([0.5, -1.25], np.float32),
    stamp_ns=1_500_000_000,
    checkpoint_id="abc",
    instruction="pick up the red block",
)


def message():
    from vla_ros.plan_messages import latent_plan_message

    return latent_plan_message(
        PLAN,
        sequence=3,
        epoch=7,
        inference_start_ns=1_510_000_000,
        generation_ns=1_520_000_000,
        image_stamps_ns={"front": 1_500_000_000, "wrist": 1_490_000_000},
    )


def test_a_plan_comes_back_as_it_was_sent():
    from vla_ros.plan_messages import latent_plan_from_message

    plan = latent_plan_from_message(message())
    np.testing.assert_array_equal(plan.values, PLAN.values)
    assert (plan.stamp_ns, plan.checkpoint_id, plan.instruction) == (
        PLAN.stamp_ns,
        PLAN.checkpoint_id,
        PLAN.instruction,
    )


def test_message_tells_sequence_epoch_and_stamps():
    sent = message()
    assert (sent.sequence, sent.epoch, list(sent.shape)) == (3, 7, [2])
    stamps = (sent.header.stamp, sent.inference_start_stamp, sent.generation_stamp)
    assert [time_ns(stamp) for stamp in stamps] == [1_500_000_000, 1_510_000_000, 1_520_000_000]
    cameras = zip(sent.camera_names, map(time_ns, sent.camera_stamps), strict=True)
    assert dict(cameras) == {"front": 1_500_000_000, "wrist": 1_490_000_000}


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("shape", [3], r"shape \[3\] and 2 values"),
        ("shape", [1, 2], r"shape \[1, 2\] and 2 values"),
        ("data", [], r"shape \[2\] and 0 values"),
        ("data", [1.0, float("nan")], "must be finite"),
    ],
)
def test_broken_plans_are_refused(field, value, reason):
    from vla_ros.plan_messages import latent_plan_from_message

    sent = message()
    setattr(sent, field, value)
    with pytest.raises(MessageError, match=reason):
        latent_plan_from_message(sent)
