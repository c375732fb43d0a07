# SPDX-License-Identifier: MIT
"""What policy node and command node said while a run was recorded, answer by answer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_core.dataset.recording import Recording
from vla_core.errors import DatasetError
from vla_core.evaluation.replay.causes import Causes
from vla_core.evaluation.replay.limiter import LimiterReport
from vla_core.processing.chunk_messages import action_chunk_from_message
from vla_core.processing.contract import RobotContract
from vla_core.processing.messages import time_ns
from vla_core.types import ActionChunk, Observation

CHUNK = "vla_msgs/msg/ActionChunk"
COMMAND_STATUS = "vla_msgs/msg/CommandStatus"
POLICY_STATUS = "vla_msgs/msg/PolicyStatus"
PLAYED = "played_ns"
"""Note in a recording of answers: first and last time of the recording that was played."""
_REFUSED = " is refused: "
_PLANNER_STATUS = "/planner_node/status"


def find_policy_status(recording: Recording) -> str | None:
    """Return the topic of a recording on which its one policy tells its task; None without one."""
    kinds = recording.message_types
    found = [topic for topic, kind in kinds.items() if kind == POLICY_STATUS]
    # A planner, which does what the policy is asked to do, says how it is in the same way.
    found = [topic for topic in found if not topic.endswith(_PLANNER_STATUS)]
    return found[0] if len(found) == 1 else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RecordedAnswer:
    """One chunk of a running policy node.

    Attributes:
        chunk: The chunk.
        start_ns: When the inference began, on the clock of the stamps.
        latency_s: How long it took.
        image_stamps_ns: Stamp of each camera's frame that the node had.
        state_stamp_ns: Stamp of its state.
        num_committed: Leading steps that were fixed before the inference.
        has_older_plan: Whether it follows a plan of an earlier observation, as in Helix's tiers.
        limits: What the command loop did since the answer before.
    """

    chunk: ActionChunk
    start_ns: int
    latency_s: float
    image_stamps_ns: dict[str, int]
    state_stamp_ns: int
    num_committed: int
    has_older_plan: bool
    limits: LimiterReport

    def is_to(self, observation: Observation) -> bool:
        """Tell whether it answers this observation and nothing else: same frames, same state."""
        return (
            not self.has_older_plan
            and observation.stamp_ns == self.chunk.stamp_ns
            and observation.image_stamps_ns == self.image_stamps_ns
            and observation.state_stamp_ns == self.state_stamp_ns
        )


class RecordedAnswers:
    """The answers of one run; iterate once. Memory does not grow with the run.

    Args:
        recording: An open recording of ``action_chunk`` and, if there, the statuses of policy and
            command node.
        contract: The robot.

    Attributes:
        span_ns: First and last time of the bag that was played, if the recording notes it.
        waits: How often the policy began to wait, by reason, after its first answer.
        last_reason: What the policy node said last about itself.

    Raises:
        DatasetError: Nobody's chunks are recorded, or more than one policy's.
    """

    def __init__(self, recording: Recording, contract: RobotContract) -> None:
        self._recording = recording
        self._contract = contract
        kinds = recording.message_types
        self._topics = {recording.topic_of_type(CHUNK): CHUNK}
        commanding = [topic for topic in kinds if kinds[topic] == COMMAND_STATUS]
        if len(commanding) == 1:
            self._topics[commanding[0]] = COMMAND_STATUS
        if status := find_policy_status(recording):
            self._topics[status] = POLICY_STATUS
        played = recording.notes.get(PLAYED)
        self.span_ns: tuple[int, int] | None = tuple(played) if played else None
        self.waits = Causes()
        self.last_reason = ""

    def __iter__(self) -> Iterator[RecordedAnswer]:
        """Yield the answers in the order in which they were given.

        Raises:
            DatasetError: A chunk is of another robot.
        """
        ticks: list[Any] = []
        has_answered = is_waiting = False
        for topic, message in self._recording.messages(*self._topics):
            kind = self._topics[topic]
            if kind == COMMAND_STATUS:
                ticks.append(message)
            elif kind == POLICY_STATUS:
                self.last_reason = message.reason
                if has_answered and not is_waiting and message.state == message.WAITING:
                    self.waits.add(message.reason)
                is_waiting = message.state == message.WAITING
            elif message.horizon:  # one without steps only revokes those before it
                yield self._answer(message, ticks)
                ticks, has_answered, is_waiting = [], True, False

    def _answer(self, message: Any, ticks: list[Any]) -> RecordedAnswer:
        chunk = action_chunk_from_message(message)
        if chunk.joints != self._contract.action_names:
            raise DatasetError(
                f"answers '{self._recording.path}' move {', '.join(chunk.joints)}, the robot "
                f"'{self._contract.robot}' has {', '.join(self._contract.action_names)}; give "
                "the contract that the run was made with."
            )
        start_ns = time_ns(message.inference_start_stamp)
        stamps = map(time_ns, message.camera_stamps)
        return RecordedAnswer(
            chunk=chunk,
            start_ns=start_ns,
            latency_s=(time_ns(message.generation_stamp) - start_ns) * 1e-9,
            image_stamps_ns=dict(zip(message.camera_names, stamps, strict=True)),
            state_stamp_ns=time_ns(message.joint_state_stamp),
            num_committed=int(message.committed_steps),
            has_older_plan=bool(message.plan_sequence)
            and time_ns(message.plan_stamp) < chunk.stamp_ns,
            limits=self._limits(ticks),
        )

    def _limits(self, ticks: list[Any]) -> LimiterReport:
        joints = self._contract.action.joints
        cuts = np.zeros(len(joints), np.int64)
        summed, largest = np.zeros(len(joints)), np.zeros(len(joints))
        jump, refusal = math.nan, ""
        followed = [tick for tick in ticks if tick.mode == tick.EXECUTING]
        for tick in ticks:
            if _REFUSED in tick.reason:
                refusal = tick.reason.partition(_REFUSED)[2]
        for tick in followed:
            for joint, cut in zip(tick.limited_joints, tick.joint_cuts, strict=True):
                column = joints.index(joint)
                cuts[column] += 1
                summed[column] += cut
                largest[column] = max(largest[column], cut)
            jump = tick.switch_jump or jump
        return LimiterReport(
            num_ticks=len(followed),
            num_cut=sum(bool(tick.limited_joints) for tick in followed),
            joint_cuts=cuts,
            summed_cuts=summed,
            largest_cuts=largest,
            switch_jump=jump,
            refusal=refusal,
        )
