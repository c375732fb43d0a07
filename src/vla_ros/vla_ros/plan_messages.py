# SPDX-License-Identifier: MIT
"""Latent plans as messages, and the policy's subscription to them."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from rclpy.node import Node
from vla_msgs.msg import ActionChunk
from vla_msgs.msg import LatentPlan as LatentPlanMessage

from vla_core.errors import MessageError, PlanError
from vla_core.processing.gaps import Gap, GapCause
from vla_core.processing.messages import stamp_ns as message_stamp_ns
from vla_core.types import LatentPlan, Observation
from vla_ros.conversions import command_qos, time_message
from vla_ros.polled_subscription import PolledSubscription

if TYPE_CHECKING:
    from vla_core.inference.helix_tiers import PlannedPolicy

PLAN_TOPIC = "latent_plan"


def latent_plan_message(
    plan: LatentPlan,
    *,
    sequence: int,
    epoch: int,
    inference_start_ns: int,
    generation_ns: int,
    image_stamps_ns: Mapping[str, int],
) -> LatentPlanMessage:
    """Return a plan as the message that planner_node publishes.

    Args:
        plan: The plan.
        sequence: Its number, from 1.
        epoch: The policy's epoch that it is for.
        inference_start_ns: When the planner began.
        generation_ns: When the plan was complete.
        image_stamps_ns: Stamp of every camera's frame, in the contract's order.
    """
    message = LatentPlanMessage(
        sequence=sequence,
        epoch=epoch,
        checkpoint_id=plan.checkpoint_id,
        instruction=plan.instruction,
        shape=list(plan.values.shape),
        data=array("f", plan.values.tolist()),
        camera_names=list(image_stamps_ns),
        camera_stamps=[time_message(stamp) for stamp in image_stamps_ns.values()],
    )
    message.header.stamp = time_message(plan.stamp_ns)
    message.inference_start_stamp = time_message(inference_start_ns)
    message.generation_stamp = time_message(generation_ns)
    return message


def latent_plan_from_message(message: Any) -> LatentPlan:
    """Return the plan that a message carries.

    Raises:
        MessageError: It is no vector, or a number is not finite.
    """
    values = np.asarray(message.data, dtype=np.float32)
    if list(message.shape) != [values.size] or values.size == 0:
        raise MessageError(
            f"plan must be a vector, got shape {list(message.shape)} and {values.size} values."
        )
    if not np.isfinite(values).all():
        raise MessageError("plan must be finite, got NaN or infinity.")
    return LatentPlan(
        values=values,
        stamp_ns=message_stamp_ns(message),
        checkpoint_id=message.checkpoint_id,
        instruction=message.instruction,
    )


class PlanReceiver:
    """Gives a policy the newest plan for each observation.

    Args:
        node: Node that subscribes.
    """

    def __init__(self, node: Node) -> None:
        self._plans = PolledSubscription(node, LatentPlanMessage, PLAN_TOPIC, command_qos())
        self._newest: LatentPlanMessage | None = None

    def prepare(self, policy: PlannedPolicy, observation: Observation, epoch: int) -> Gap | None:
        """Let a policy follow the newest plan, or return why it must not predict.

        Args:
            policy: The policy.
            observation: What is to be predicted for.
            epoch: The policy's epoch; plans of another one do not count.
        """
        message = self._plans.take()
        if message is not None:
            self._newest = message
        if self._newest is None:
            if self._plans.num_publishers == 0:
                return _gap(GapCause.NO_PUBLISHER, f"{self._plans.topic} has no publisher.")
            return _gap(
                GapCause.NOTHING_RECEIVED, f"nothing was received yet on {self._plans.topic}."
            )
        try:
            plan = latent_plan_from_message(self._newest)
            if self._newest.epoch != epoch and plan.checkpoint_id == policy.checkpoint_id:
                return _gap(GapCause.LATE, "the newest plan is not for the newest instruction.")
            policy.take_plan(plan, observation.stamp_ns)
        except MessageError as error:
            return _gap(GapCause.BROKEN, str(error))
        except PlanError as error:
            is_other = self._newest.checkpoint_id != policy.checkpoint_id
            return _gap(GapCause.BROKEN if is_other else GapCause.LATE, str(error))
        return None

    def annotate(self, message: ActionChunk) -> None:
        """Write into a chunk's message which plan it follows."""
        assert self._newest is not None
        message.plan_sequence = self._newest.sequence
        message.plan_stamp = self._newest.header.stamp

    def destroy(self) -> None:
        """Unsubscribe; the object must not be used afterwards."""
        self._plans.destroy()


def _gap(cause: GapCause, reason: str) -> Gap:
    return Gap("plans", cause, f"plans: {reason}")
