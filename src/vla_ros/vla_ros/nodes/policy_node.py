# SPDX-License-Identifier: MIT
"""Run a policy: cameras and joint states in, action chunks out.

The node answers services in its main thread; a thread of its own waits for a young frame, builds
an observation, infers and publishes the chunk. Where data lacks it says what lacks and sends
nothing: the command node then stops the arm.
"""

from __future__ import annotations

import gc
import math
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import get_logger
from vla_msgs.msg import ActionChunk, PolicyStatus
from vla_msgs.srv import SetInstruction

from vla_core.errors import VLAError
from vla_core.processing.contract import load_contract
from vla_core.types import Observation
from vla_ros.conversions import (
    POLICY_STATE_NAMES,
    action_chunk_message,
    command_qos,
    revocation_message,
    status_qos,
    time_message,
)
from vla_ros.gaps import Gap
from vla_ros.graph import EXIT_CONFIGURATION
from vla_ros.lifecycle_node import ManagedNode
from vla_ros.node_clock import NodeClock
from vla_ros.observation_receiver import ObservationReceiver
from vla_ros.parameters import PolicyParameters, declare_parameters
from vla_ros.plan_messages import PlanReceiver
from vla_ros.stop_signal import StopSignal

if TYPE_CHECKING:
    from vla_core.inference.policy import Policy

_STATUS_PERIOD_S = 0.5
_IDLE_PERIOD_S = 0.02
_NUM_WARM_UPS = 2


@dataclass
class _Report:
    """What ``~/status`` says beside instruction and epoch."""

    state: int = PolicyStatus.UNCONFIGURED
    reason: str = "not configured"
    cause: tuple[object, ...] = ()
    sequence: int = 0
    latency_s: float = math.nan
    camera_ages_s: dict[str, float] = field(default_factory=dict)
    state_age_s: float = math.inf


class PolicyNode(ManagedNode):
    """The policy as a lifecycle node.

    ``configure`` loads checkpoint and contract and warms up, ``activate`` starts the inference.
    Publishes ``action_chunk`` and ``~/status``; serves ``~/set_instruction``. A chunk without
    steps tells the command node that the policy is idle.

    Attributes:
        has_failed: Whether the inference has died of an error; the process should end.

    Raises:
        ConfigError: A parameter is not valid.
    """

    def __init__(self) -> None:
        super().__init__("policy_node")
        self.parameters = declare_parameters(self, PolicyParameters)
        self._time = NodeClock(self)
        self._policy: Policy | None = None
        self._receiver: ObservationReceiver | None = None
        self._plans: PlanReceiver | None = None
        self._thread: threading.Thread | None = None
        self._is_over = threading.Event()
        # Guards instruction and epoch, and that no chunk is published after its revocation.
        self._lock = threading.Lock()
        self._instruction = self.parameters.instruction.strip()
        # Later than any epoch of an earlier process of this node.
        self._epoch = int(time.time())
        self._report = _Report()
        self.has_failed = False
        self._chunks = self.create_publisher(ActionChunk, "action_chunk", command_qos())
        self._status = self.create_publisher(PolicyStatus, "~/status", status_qos())
        self.create_service(SetInstruction, "~/set_instruction", self._on_set_instruction)
        self.create_timer(_STATUS_PERIOD_S, self._publish_status)

    def configure(self) -> None:
        """Load the contract and the checkpoint, infer once without consequences, subscribe.

        Raises:
            VLAError: The contract or the checkpoint is not valid, or they do not fit each other.
        """
        # Loading torch takes seconds; whoever only asks for the node's parameters needs none.
        from vla_core.inference.helix_tiers import PlannedPolicy
        from vla_core.inference.policy import Policy

        contract = load_contract(self.parameters.contract)
        start = time.monotonic()
        kind = PlannedPolicy if self.parameters.follows_plans else Policy
        self._policy = kind.from_checkpoint(
            self.parameters.checkpoint,
            contract=contract,
            num_threads=self.parameters.num_threads,
            device=self.parameters.device,
        )
        for _ in range(_NUM_WARM_UPS):
            warm_up_start = time.monotonic()
            self._policy.warm_up()
        latency_ms = (time.monotonic() - warm_up_start) * 1e3
        # Collecting again and again what is there to stay would interrupt the inference.
        gc.collect()
        gc.freeze()
        self._receiver = ObservationReceiver(
            self,
            contract,
            self._time,
            history_length=self._policy.pipeline.history_length,
        )
        if self.parameters.follows_plans:
            self._plans = PlanReceiver(self)
        self._report = _Report(state=PolicyStatus.IDLE, reason="inactive")
        self.get_logger().info(
            f"checkpoint '{self.parameters.checkpoint}' ({self._policy.checkpoint_id}) for robot "
            f"'{contract.robot}' loaded in {time.monotonic() - start:.1f} s; an inference takes "
            f"{latency_ms:.0f} ms."
        )

    def activate(self) -> None:
        """Begin a new epoch and start the inference."""
        self._is_over.clear()
        with self._lock:
            self._epoch += 1
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    def deactivate(self) -> None:
        """Stop the inference and have the arm stopped."""
        self._is_over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            with self._lock:
                self._epoch += 1
                self._revoke()
            self._set_report(PolicyStatus.IDLE, "inactive")

    def release(self) -> None:
        """Unsubscribe and drop the policy."""
        for source in (self._receiver, self._plans):
            if source is not None:
                source.destroy()
        self._receiver, self._plans, self._policy = None, None, None
        self._report = _Report()

    def _run(self) -> None:
        """Be the inference thread; an error that nobody foresaw ends the process."""
        try:
            self._infer_until_over()
        except Exception as error:
            self.get_logger().fatal(f"inference failed:\n{traceback.format_exc()}")
            self._set_report(PolicyStatus.ERROR, f"{type(error).__name__}: {error}")
            self.has_failed = True

    def _infer_until_over(self) -> None:
        assert self._receiver is not None
        period_s = 1.0 / self.parameters.max_inference_rate_hz
        last_stamp_ns = -1
        next_start = time.monotonic()
        while not self._is_over.wait(max(0.0, next_start - time.monotonic())):
            with self._lock:
                instruction, epoch = self._instruction, self._epoch
            if not instruction:
                self._set_report(PolicyStatus.IDLE, "no instruction")
                next_start = time.monotonic() + _IDLE_PERIOD_S
                continue
            self._receiver.wait_for_frames(
                self._is_over,
                frame_wait_s=self.parameters.frame_wait_s,
                camera_wait_s=self.parameters.camera_wait_s,
                camera_skew_s=self.parameters.camera_skew_s,
            )
            next_start = time.monotonic() + period_s
            start_ns = self._now_ns()
            observation = self._receiver.observe(instruction)
            if isinstance(observation, Gap):
                self._set_report(PolicyStatus.WAITING, observation.reason, observation)
            elif (gap := self._lacking_plan(observation, epoch)) is not None:
                self._set_report(PolicyStatus.WAITING, gap.reason, gap)
            elif observation.stamp_ns != last_stamp_ns:
                last_stamp_ns = observation.stamp_ns
                self._infer(observation, epoch, start_ns)

    def _lacking_plan(self, observation: Observation, epoch: int) -> Gap | None:
        from vla_core.inference.helix_tiers import PlannedPolicy

        if self._plans is None:
            return None
        assert isinstance(self._policy, PlannedPolicy)
        return self._plans.prepare(self._policy, observation, epoch)

    def _infer(self, observation: Observation, epoch: int, start_ns: int) -> None:
        assert self._policy is not None
        assert self._receiver is not None
        ages = self._receiver.buffer.camera_ages_s(start_ns)
        state_age_s = self._receiver.buffer.state_age_s(start_ns)
        try:
            chunk = self._policy.predict_chunk(observation, seed=self.parameters.seed)
        except VLAError as error:
            self._set_report(PolicyStatus.ERROR, str(error))
            return
        end_ns = self._now_ns()
        with self._lock:
            if epoch != self._epoch:
                return
            self._report.sequence += 1
            message = action_chunk_message(
                chunk,
                sequence=self._report.sequence,
                epoch=epoch,
                inference_start_ns=start_ns,
                generation_ns=end_ns,
                image_stamps_ns=observation.image_stamps_ns,
                state_stamp_ns=observation.state_stamp_ns,
            )
            if self._plans is not None:
                self._plans.annotate(message)
            self._chunks.publish(message)
        self._report.latency_s = (end_ns - start_ns) * 1e-9
        self._report.camera_ages_s, self._report.state_age_s = ages, state_age_s
        self._set_report(PolicyStatus.RUNNING, "")
        self._publish_status()

    def _now_ns(self) -> int:
        return self._time.now_ns()

    def _set_report(self, state: int, reason: str, gap: Gap | None = None) -> None:
        """Change the state; a change is published and logged once, ages in a reason are none."""
        cause = (state, gap.source, gap.cause) if gap is not None else (state, "", None)
        before, self._report.state, self._report.reason = self._report.cause, state, reason
        self._report.cause = cause
        if cause == before:
            return
        name = POLICY_STATE_NAMES[state]
        self.get_logger().info(f"{name}: {reason}" if reason else name)
        self._publish_status()

    def _publish_status(self) -> None:
        report, policy, receiver = self._report, self._policy, self._receiver
        with self._lock:
            instruction, epoch = self._instruction, self._epoch
        status = PolicyStatus(
            state=report.state,
            reason=report.reason,
            instruction=instruction,
            epoch=epoch,
            checkpoint_id=policy.checkpoint_id if policy is not None else "",
            sequence=report.sequence,
            inference_latency=report.latency_s,
        )
        now_ns = self._now_ns()
        ages, state_age_s = report.camera_ages_s, report.state_age_s
        if receiver is not None and report.state != PolicyStatus.RUNNING:
            ages = receiver.buffer.camera_ages_s(now_ns)
            state_age_s = receiver.buffer.state_age_s(now_ns)
        status.camera_names, status.camera_ages = list(ages), list(ages.values())
        status.joint_state_age = state_age_s
        status.header.stamp = time_message(now_ns)
        self._status.publish(status)

    def _revoke(self) -> None:
        checkpoint_id = self._policy.checkpoint_id if self._policy is not None else ""
        self._chunks.publish(
            revocation_message(
                epoch=self._epoch, checkpoint_id=checkpoint_id, stamp_ns=self._now_ns()
            )
        )

    def _on_set_instruction(
        self, request: SetInstruction.Request, response: SetInstruction.Response
    ) -> SetInstruction.Response:
        with self._lock:
            self._instruction = request.instruction.strip()
            self._epoch += 1
            response.epoch = self._epoch
            if not self._instruction:
                self._revoke()
        response.success = True
        if not self._instruction:
            response.message = "idle: the arm stops and holds"
        elif self._thread is None:
            response.message = "taken; it is followed once the node is active"
        else:
            response.message = "taken"
        self.get_logger().info(f"instruction: {self._instruction!r}")
        return response


def main(args: list[str] | None = None) -> int:
    """Run policy_node until SIGINT or SIGTERM."""
    with StopSignal(args) as stop:
        try:
            node = PolicyNode()
        except VLAError as error:
            get_logger("policy_node").fatal(str(error))
            return EXIT_CONFIGURATION
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        try:
            if node.parameters.autostart:
                node.bring_up()
            while not stop.is_set and not node.has_failed:
                executor.spin_once(timeout_sec=0.1)
        except VLAError:
            return EXIT_CONFIGURATION
        finally:
            node.tear_down()
            executor.shutdown()
            node.destroy_node()
        return 1 if node.has_failed else 0


if __name__ == "__main__":
    sys.exit(main())
