# SPDX-License-Identifier: MIT
"""Plan for Helix: cameras and instruction in, latent plans out, a few times a second.

The policy has instruction and epoch; this node hears them in the policy's status. Everything runs
in one thread: a service waits for the plan in progress.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from rclpy.executors import Executor
from vla_msgs.msg import LatentPlan, PolicyStatus

from vla_core.errors import VLAError
from vla_core.processing.contract import load_contract
from vla_core.processing.gaps import Gap
from vla_core.types import Observation
from vla_ros.conversions import command_qos, status_qos
from vla_ros.diagnostics import Diagnostics, Measurements
from vla_ros.inference_diagnostics import report_inference, report_observations
from vla_ros.inference_report import InferenceReport
from vla_ros.lifecycle_node import ManagedNode
from vla_ros.node_clock import NodeClock, steady_clock
from vla_ros.node_main import run_node
from vla_ros.observation_receiver import ObservationReceiver
from vla_ros.parameters import PlannerParameters
from vla_ros.plan_messages import PLAN_TOPIC, latent_plan_message
from vla_ros.polled_subscription import Periodic, PolledSubscription
from vla_ros.warm_up import warm_up

if TYPE_CHECKING:
    from vla_core.inference.helix_tiers import Planner

_STATUS_PERIOD_S = 0.5
_SERVICES_TIMEOUT_S = 0.01
_NEVER = threading.Event()


class PlannerNode(ManagedNode[PlannerParameters]):
    """The planner as a lifecycle node; ``tick`` does its work.

    Publishes ``latent_plan``, ``~/status`` and diagnostics; reads the cameras and
    ``policy_node/status``.

    Raises:
        ConfigError: A parameter is not valid.
    """

    def __init__(self) -> None:
        super().__init__(PlannerParameters)
        self._time = NodeClock(self)
        self._planner: Planner | None = None
        self._receiver: ObservationReceiver | None = None
        self._due = Periodic(1.0 / self.parameters.rate_hz)
        self._task: PolicyStatus | None = None
        self._last_stamp_ns = -1
        self._report = InferenceReport()
        self._tasks = PolledSubscription(self, PolicyStatus, "policy_node/status", status_qos())
        self._plans = self.create_publisher(LatentPlan, PLAN_TOPIC, command_qos())
        self._status = self.create_publisher(PolicyStatus, "~/status", status_qos())
        self._latencies_s = Measurements()
        self.create_timer(_STATUS_PERIOD_S, self._publish_status, clock=steady_clock())
        diagnostics = Diagnostics(self, self.parameters.contract)
        diagnostics.add(
            "inference",
            lambda: report_inference(self._report, self._latencies_s, self._planner),
        )
        diagnostics.add(
            "observations",
            lambda: report_observations(self._report, self._receiver, self._now_ns()),
        )

    def configure(self) -> None:
        """Load the contract and the planner, plan without consequences, subscribe.

        Raises:
            VLAError: The contract or the checkpoint is not valid, or they do not fit each other.
        """
        # Loading torch takes seconds; whoever only asks for the node's parameters needs none.
        from vla_core.inference.helix_tiers import Planner

        contract = load_contract(self.parameters.contract)
        self._planner = Planner.from_checkpoint(
            self.parameters.checkpoint,
            contract,
            num_threads=self.parameters.num_threads,
            device=self.parameters.device,
        )
        latency_ms = warm_up(self._planner)
        self._receiver = ObservationReceiver(self, contract, self._time)
        self._report = InferenceReport(state=PolicyStatus.IDLE, reason="inactive")
        self.get_logger().info(
            f"planner of checkpoint '{self.parameters.checkpoint}' "
            f"({self._planner.checkpoint_id}) loaded; a plan takes {latency_ms:.0f} ms."
        )

    def activate(self) -> None:
        """Start to plan."""

    def deactivate(self) -> None:
        """Stop planning."""
        if self._planner is not None:
            self._set_report(PolicyStatus.IDLE, "inactive")

    def release(self) -> None:
        """Unsubscribe and drop the planner."""
        if self._receiver is not None:
            self._receiver.destroy()
        self._receiver, self._planner = None, None
        self._report = InferenceReport()

    def apply(self, parameters: PlannerParameters) -> None:
        """Take parameters that were set."""
        super().apply(parameters)
        self._due = Periodic(1.0 / parameters.rate_hz)

    def turn(self, executor: Executor) -> None:
        """Answer whoever calls, and plan when it is time."""
        executor.spin_once(timeout_sec=_SERVICES_TIMEOUT_S)
        self.tick()

    def tick(self) -> None:
        """Plan, if a plan is due and there is something to plan from."""
        if not self.is_active or not self._due.is_due():
            return
        task = self._tasks.take()
        if task is not None:
            self._task = task
        if (obstacle := self._find_obstacle()) is not None:
            self._set_report(*obstacle)
            return
        assert self._task is not None
        assert self._receiver is not None
        self._receiver.wait_for_frames(
            _NEVER,
            frame_wait_s=0.0,
            camera_wait_s=self.parameters.camera_wait_s,
            camera_skew_s=self.parameters.camera_skew_s,
        )
        start_ns = self._now_ns()
        observation = self._receiver.observe(self._task.instruction)
        if isinstance(observation, Gap):
            self._set_report(PolicyStatus.WAITING, observation.reason, observation)
        elif observation.stamp_ns != self._last_stamp_ns:
            self._last_stamp_ns = observation.stamp_ns
            self._plan(observation, start_ns)

    def _find_obstacle(self) -> tuple[int, str] | None:
        """Return the state and reason in which nothing is planned, or None."""
        assert self._planner is not None
        task, own = self._task, self._planner.checkpoint_id
        if task is None:
            return PolicyStatus.WAITING, f"{self._tasks.topic} was not heard yet"
        if task.checkpoint_id not in ("", own):
            return PolicyStatus.WAITING, (
                f"the policy is of checkpoint '{task.checkpoint_id}', but the planner is of "
                f"'{own}'; start all tiers with one checkpoint"
            )
        if not task.instruction:
            return PolicyStatus.IDLE, "no instruction"
        return None

    def _plan(self, observation: Observation, start_ns: int) -> None:
        assert self._planner is not None
        assert self._receiver is not None
        assert self._task is not None
        report = self._report
        report.camera_ages_s = self._receiver.buffer.camera_ages_s(start_ns)
        report.state_age_s = self._receiver.buffer.state_age_s(start_ns)
        try:
            plan = self._planner.plan(observation)
        except VLAError as error:
            self._set_report(PolicyStatus.ERROR, str(error))
            return
        end_ns = self._now_ns()
        report.sequence += 1
        report.note_observation(observation)
        report.latency_s = (end_ns - start_ns) * 1e-9
        self._latencies_s.add(report.latency_s)
        self._plans.publish(
            latent_plan_message(
                plan,
                sequence=report.sequence,
                epoch=self._task.epoch,
                inference_start_ns=start_ns,
                generation_ns=end_ns,
                image_stamps_ns=observation.image_stamps_ns,
            )
        )
        self._set_report(PolicyStatus.RUNNING, "")

    def _now_ns(self) -> int:
        return self._time.now_ns()

    def _set_report(self, state: int, reason: str, gap: Gap | None = None) -> None:
        if self._report.change(state, reason, gap, logger=self.get_logger()):
            self._publish_status()

    def _publish_status(self) -> None:
        own = self._planner.checkpoint_id if self._planner is not None else ""
        status = self._report.message(self._now_ns(), own)
        if self._task is not None:
            status.instruction, status.epoch = self._task.instruction, self._task.epoch
        self._status.publish(status)


def main(args: list[str] | None = None) -> int:
    """Run planner_node until SIGINT or SIGTERM."""
    return run_node("planner_node", PlannerNode, args)


if __name__ == "__main__":
    sys.exit(main())
