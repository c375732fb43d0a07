# SPDX-License-Identifier: MIT
"""The thread of policy_node that waits for young frames, infers and publishes action chunks.

Where data lacks it says what lacks and sends nothing: the command node then stops the arm.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from vla_msgs.msg import ActionChunk, CommandStatus, PolicyStatus

from vla_core.errors import VLAError
from vla_core.inference.real_time_chunking import RealTimeChunking
from vla_core.processing.contract import RobotContract
from vla_core.processing.gaps import Gap
from vla_core.processing.messages import stamp_ns
from vla_core.types import Observation
from vla_ros.conversions import (
    action_chunk_message,
    command_qos,
    revocation_message,
)
from vla_ros.diagnostics import Measurements
from vla_ros.inference_report import InferenceReport
from vla_ros.node_clock import NodeClock
from vla_ros.observation_receiver import ObservationReceiver
from vla_ros.parameters import PolicyParameters
from vla_ros.plan_messages import PlanReceiver
from vla_ros.polled_subscription import PolledSubscription

if TYPE_CHECKING:
    from vla_core.inference.policy import Policy

_IDLE_PERIOD_S = 0.02
# Statuses that may come during a long inference; the first one of a chunk must not be lost.
_STATUS_DEPTH = 1000
_STATUS_WAIT_S = 1.0
# In which a new subscription finds those who publish: Fast DDS announces a participant every 3 s,
# and the first announcements may be lost where its predecessor was killed.
_DISCOVERY_S = 4.0


class InferenceLoop:
    """Follows an instruction with a policy, in a thread of its own while it is started.

    A chunk without steps, which revokes those before it, tells the command node that the policy
    is idle.

    Args:
        node: Node that publishes ``action_chunk`` and subscribes.
        parameters: Returns the parameters in force.
        on_change: Called when the report has changed, in either thread.

    Attributes:
        report: What the loop is doing.
        latencies_s: Durations of the inferences, for the diagnostics.
        has_failed: Whether the thread has died of an error; the process should end.
    """

    def __init__(
        self,
        node: Node,
        parameters: Callable[[], PolicyParameters],
        on_change: Callable[[], None],
    ) -> None:
        self._node = node
        self._parameters = parameters
        self._on_change = on_change
        self.report = InferenceReport()
        self.latencies_s = Measurements()
        self.has_failed = False
        self._time = NodeClock(node)
        self._policy: Policy | None = None
        self._receiver: ObservationReceiver | None = None
        self._plans: PlanReceiver | None = None
        # From the start: whether a policy acted before this process is to be known in time.
        self._executions = self._hear_executions()
        self._chunking = RealTimeChunking("off")
        self._thread: threading.Thread | None = None
        self._is_over = threading.Event()
        self._is_reset = threading.Event()
        # Guards instruction, epoch and policy, and that no chunk is published after its
        # revocation.
        self._lock = threading.Lock()
        self._instruction = parameters().instruction.strip()
        # Later than any epoch of an earlier process of this node.
        self._epoch = int(time.time())
        self._chunks = node.create_publisher(ActionChunk, "action_chunk", command_qos())

    @property
    def policy(self) -> Policy | None:
        """The policy that acts; None before `prepare`."""
        return self._policy

    @property
    def receiver(self) -> ObservationReceiver | None:
        """The source of observations; None before `prepare`."""
        return self._receiver

    @property
    def is_running(self) -> bool:
        """Whether the thread is started."""
        return self._thread is not None

    @property
    def effect_delay_s(self) -> float:
        """Time from an observation to the execution of its chunk, as measured; NaN at first."""
        return self._chunking.delay_s

    def task(self) -> tuple[str, int]:
        """Return the instruction and the epoch of the chunks that follow it."""
        with self._lock:
            return self._instruction, self._epoch

    def succeed(self) -> str | None:
        """Come after a policy that died without a word, if one did.

        Whoever commands the arm remembers it.

        Returns:
            What it was following; None if there was none.
        """
        discovery_ends = max(time.monotonic(), self._heard_since + _DISCOVERY_S)
        while True:
            status = self._executions.take()
            if status is not None:
                if status.policy_epoch == 0:
                    return None
                with self._lock:
                    # Its epochs may have outrun the clock that they began with.
                    self._epoch = max(self._epoch, int(status.policy_epoch))
                return str(status.policy_instruction)
            patience_s = _STATUS_WAIT_S if self._executions.num_publishers > 0 else 0.0
            if time.monotonic() >= discovery_ends + patience_s:
                return None
            time.sleep(0.01)

    def _hear_executions(self) -> PolledSubscription[CommandStatus]:
        self._executions_topic = self._parameters().command_status_topic
        self._heard_since = time.monotonic()
        return PolledSubscription(
            self._node,
            CommandStatus,
            self._executions_topic,
            QoSProfile(depth=_STATUS_DEPTH, reliability=ReliabilityPolicy.RELIABLE),
        )

    def prepare(self, policy: Policy) -> None:
        """Take a policy and subscribe to what it observes."""
        self._policy = policy
        self._receiver = ObservationReceiver(
            self._node,
            policy.contract,
            self._time,
            history_length=policy.pipeline.history_length,
        )
        if self._parameters().follows_plans:
            self._plans = PlanReceiver(self._node)
        self._chunking = RealTimeChunking(self._parameters().chunking)
        if self._parameters().command_status_topic != self._executions_topic:
            self._executions.destroy()
            self._executions = self._hear_executions()
        self.report = InferenceReport(state=PolicyStatus.IDLE, reason="inactive")

    def start(self) -> None:
        """Begin a new epoch and infer."""
        self._is_over.clear()
        with self._lock:
            self._epoch += 1
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and have the arm stopped."""
        self._is_over.set()
        if self._thread is None:
            return
        self._thread.join()
        self._thread = None
        with self._lock:
            self._epoch += 1
            self._revoke(is_last=True)
        self._set_report(PolicyStatus.IDLE, "inactive")

    def release(self) -> None:
        """Unsubscribe and drop the policy."""
        for source in (self._receiver, self._plans):
            if source is not None:
                source.destroy()
        self._receiver, self._plans, self._policy = None, None, None
        self.report = InferenceReport()

    def follow(self, instruction: str) -> int:
        """Begin a new epoch with an instruction, empty for none; return the epoch."""
        with self._lock:
            self._instruction = instruction.strip()
            self._epoch += 1
            if not self._instruction:
                self._revoke()
            self._node.get_logger().info(f"instruction: {self._instruction!r}")
            return self._epoch

    def reset(self) -> int:
        """Begin a new epoch that no chunk and no message of the one before enters; return it."""
        with self._lock:
            self._is_reset.set()
            self._epoch += 1
            self._revoke()
            return self._epoch

    def swap(self, policy: Policy) -> None:
        """Let another policy for the same robot answer from the next observation on."""
        with self._lock:
            self._policy = policy

    def _run(self) -> None:
        """Be the inference thread; an error that nobody foresaw ends the process."""
        try:
            self._infer_until_over()
        except Exception as error:
            self._node.get_logger().fatal(f"inference failed:\n{traceback.format_exc()}")
            self._set_report(PolicyStatus.ERROR, f"{type(error).__name__}: {error}")
            self.has_failed = True

    def _infer_until_over(self) -> None:
        assert self._receiver is not None
        last_stamp_ns = last_epoch = -1
        last_policy = self._policy
        next_start = time.monotonic()
        while not self._is_over.wait(max(0.0, next_start - time.monotonic())):
            parameters = self._parameters()
            with self._lock:
                instruction, epoch, policy = self._instruction, self._epoch, self._policy
            if epoch != last_epoch or policy is not last_policy:
                # Another instruction, or another policy's space.
                self._chunking.forget()
                last_stamp_ns, last_epoch, last_policy = -1, epoch, policy
            if self._is_reset.is_set():
                self._is_reset.clear()
                self._receiver.buffer.clear()
            self._chunking.mode = parameters.chunking
            if not instruction:
                self._set_report(PolicyStatus.IDLE, "no instruction")
                next_start = time.monotonic() + _IDLE_PERIOD_S
                continue
            self._receiver.wait_for_frames(
                self._is_over,
                frame_wait_s=parameters.frame_wait_s,
                camera_wait_s=parameters.camera_wait_s,
                camera_skew_s=parameters.camera_skew_s,
            )
            next_start = time.monotonic() + 1.0 / parameters.max_inference_rate_hz
            start_ns = self.now_ns()
            assert policy is not None
            observation = self._receiver.observe(instruction)
            if isinstance(observation, Gap):
                self._set_report(PolicyStatus.WAITING, observation.reason, observation)
            elif (gap := self._lacking_plan(policy, observation, epoch)) is not None:
                self._set_report(PolicyStatus.WAITING, gap.reason, gap)
            elif observation.stamp_ns != last_stamp_ns:
                last_stamp_ns = observation.stamp_ns
                self._infer(policy, observation, epoch, start_ns)

    def _lacking_plan(self, policy: Policy, observation: Observation, epoch: int) -> Gap | None:
        from vla_core.inference.helix_tiers import PlannedPolicy

        if self._plans is None:
            return None
        assert isinstance(policy, PlannedPolicy)
        return self._plans.prepare(policy, observation, epoch)

    def _infer(self, policy: Policy, observation: Observation, epoch: int, start_ns: int) -> None:
        assert self._receiver is not None
        ages = self._receiver.buffer.camera_ages_s(start_ns)
        state_age_s = self._receiver.buffer.state_age_s(start_ns)
        self._take_executions()
        known = self._chunking.known_steps(observation.stamp_ns)
        try:
            chunk = policy.predict_chunk(
                observation,
                seed=self._parameters().seed,
                committed=None if known is None else known.committed,
                overlap=None if known is None else known.overlap,
            )
        except VLAError as error:
            self._set_report(PolicyStatus.ERROR, str(error))
            return
        end_ns = self.now_ns()
        num_committed = 0 if known is None else len(known.committed)
        with self._lock:
            if epoch != self._epoch:
                return
            self.report.sequence += 1
            self._chunking.put_chunk(chunk, self.report.sequence)
            message = action_chunk_message(
                chunk,
                sequence=self.report.sequence,
                epoch=epoch,
                inference_start_ns=start_ns,
                generation_ns=end_ns,
                image_stamps_ns=observation.image_stamps_ns,
                state_stamp_ns=observation.state_stamp_ns,
                committed_steps=num_committed,
                frame_id=_action_frame(policy.contract),
            )
            if self._plans is not None:
                self._plans.annotate(message)
            self._chunks.publish(message)
        self.report.latency_s = (end_ns - start_ns) * 1e-9
        self.latencies_s.add(self.report.latency_s)
        self.report.committed_steps = num_committed
        self.report.camera_ages_s, self.report.state_age_s = ages, state_age_s
        self.report.note_observation(observation)
        self._set_report(PolicyStatus.RUNNING, "")
        self._on_change()

    def _take_executions(self) -> None:
        """Learn from the command node when the last chunks were first followed."""
        while (status := self._executions.take_next()) is not None:
            is_executing = status.mode == CommandStatus.EXECUTING
            sequence = status.chunk_sequence if is_executing else 0
            self._chunking.put_execution(sequence, stamp_ns(status))

    def now_ns(self) -> int:
        """Return the time on the node's clock, that of the stamps."""
        return self._time.now_ns()

    def _set_report(self, state: int, reason: str, gap: Gap | None = None) -> None:
        if self.report.change(state, reason, gap, logger=self._node.get_logger()):
            self._on_change()

    def _revoke(self, *, is_last: bool = False) -> None:
        acting = None if is_last else self._policy
        self._chunks.publish(
            revocation_message(
                epoch=self._epoch,
                checkpoint_id=acting.checkpoint_id if acting is not None else "",
                stamp_ns=self.now_ns(),
                instruction=self._instruction,
            )
        )


def _action_frame(contract: RobotContract) -> str:
    """Return the link in whose axes actions are given; empty for those of joints."""
    if contract.action.kind != "end_effector_delta" or contract.kinematics is None:
        return ""
    is_of_tool = contract.action.delta_frame == "tool"
    return contract.kinematics.tip_link if is_of_tool else contract.kinematics.base_link
