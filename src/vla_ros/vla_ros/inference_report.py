# SPDX-License-Identifier: MIT
"""What a node that infers is doing, and the status message that says so."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from rclpy.impl.rcutils_logger import RcutilsLogger
from vla_msgs.msg import PolicyStatus

from vla_core.processing.gaps import Gap
from vla_core.types import Observation
from vla_ros.conversions import time_message

STATE_NAMES: dict[int, str] = {
    PolicyStatus.UNCONFIGURED: "unconfigured",
    PolicyStatus.IDLE: "idle",
    PolicyStatus.WAITING: "waiting",
    PolicyStatus.RUNNING: "running",
    PolicyStatus.ERROR: "error",
}
"""Name of each constant of ``PolicyStatus.state``."""


@dataclass
class InferenceReport:
    """What a policy or a planner is doing.

    Attributes:
        state: A constant of ``vla_msgs/PolicyStatus``.
        reason: Why, for a human.
        cause: What tells two reasons apart: state, and source and cause of a gap or the reason.
        sequence: Number of the last chunk or plan.
        latency_s: Duration of the last inference.
        committed_steps: Steps of the last chunk that were fixed before its inference.
        camera_ages_s: Age of each camera's frame at the start of the last inference.
        state_age_s: Age of the joint state then.
        camera_skew_s: How far apart the frames were that the last inference has answered.
    """

    state: int = PolicyStatus.UNCONFIGURED
    reason: str = "not configured"
    cause: tuple[object, ...] = ()
    sequence: int = 0
    latency_s: float = math.nan
    committed_steps: int = 0
    camera_ages_s: dict[str, float] = field(default_factory=dict)
    state_age_s: float = math.inf
    camera_skew_s: float = math.nan

    def change(
        self, state: int, reason: str, gap: Gap | None = None, *, logger: RcutilsLogger
    ) -> bool:
        """Change the state; log and return whether that is news: other ages in a reason are none.

        Args:
            state: A constant of ``vla_msgs/PolicyStatus``.
            reason: Why.
            gap: What is missing, where that is the reason.
            logger: The node's.
        """
        cause = (state, gap.source, gap.cause) if gap is not None else (state, reason)
        before, self.state, self.reason, self.cause = self.cause, state, reason, cause
        if cause == before:
            return False
        name = STATE_NAMES[state]
        logger.info(f"{name}: {reason}" if reason else name)
        return True

    def note_observation(self, observation: Observation) -> None:
        """Take what the last inference has answered."""
        skews_s = [observation.skews_s[name] for name in observation.images]
        self.camera_skew_s = max(skews_s) - min(skews_s)

    def message(self, stamp_ns: int, checkpoint_id: str) -> PolicyStatus:
        """Return it as a message, without the task.

        Args:
            stamp_ns: Time of the report.
            checkpoint_id: Identity of the model that acts; empty for none.
        """
        status = PolicyStatus(
            state=self.state,
            reason=self.reason,
            checkpoint_id=checkpoint_id,
            sequence=self.sequence,
            inference_latency=self.latency_s,
            committed_steps=self.committed_steps,
            camera_names=list(self.camera_ages_s),
            camera_ages=list(self.camera_ages_s.values()),
            joint_state_age=self.state_age_s,
        )
        status.header.stamp = time_message(stamp_ns)
        return status
