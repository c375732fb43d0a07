# SPDX-License-Identifier: MIT
"""Plan for Helix: cameras and instruction in, latent plans out, a few times a second.

The policy has instruction and epoch; this node hears them in the policy's status. Everything runs
in one thread: a service waits for the plan in progress.
"""

from __future__ import annotations

import gc
import math
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import get_logger
from vla_msgs.msg import LatentPlan, PolicyStatus

from vla_core.errors import VLAError
from vla_core.processing.contract import load_contract
from vla_core.processing.gaps import Gap
from vla_core.types import Observation
from vla_ros.conversions import POLICY_STATE_NAMES, command_qos, status_qos, time_message
from vla_ros.graph import EXIT_CONFIGURATION
from vla_ros.lifecycle_node import ManagedNode
from vla_ros.node_clock import NodeClock, steady_clock
from vla_ros.observation_receiver import ObservationReceiver
from vla_ros.parameters import PlannerParameters, declare_parameters
from vla_ros.plan_messages import PLAN_TOPIC, latent_plan_message
from vla_ros.polled_subscription import Periodic, PolledSubscription
from vla_ros.stop_signal import StopSignal

if TYPE_CHECKING:
    from vla_core.inference.helix_tiers import Planner

_STATUS_PERIOD_S = 0.5
_SERVICES_TIMEOUT_S = 0.01
_NUM_WARM_UPS = 2
_NEVER = threading.Event()


@dataclass
class _Report:
    """What ``~/status`` says."""

    state: int = PolicyStatus.UNCONFIGURED
    reason: str = "not configured"
    cause: tuple[object, ...] = ()
    sequence: int = 0
    latency_s: float = math.nan
    camera_ages_s: dict[str, float] = field(default_factory=dict)
    state_age_s: float = math.inf


class PlannerNode(ManagedNode):
    """The planner as a lifecycle node; ``tick`` does its work.

    Publishes ``latent_plan`` and ``~/status``; reads the cameras and ``policy_node/status``.

    Raises:
        ConfigError: A parameter is not valid.
    """

    def __init__(self) -> None:
        super().__init__("planner_node")
        self.parameters = declare_parameters(self, PlannerParameters)
        self._time = NodeClock(self)
        self._planner: Planner | None = None
        self._receiver: ObservationReceiver | None = None
        self._is_active = False
        self._due = Periodic(1.0 / self.parameters.rate_hz)
        self._task: PolicyStatus | None = None
        self._last_stamp_ns = -1
        self._report = _Report()
        self._tasks = PolledSubscription(self, PolicyStatus, "policy_node/status", status_qos())
        self._plans = self.create_publisher(LatentPlan, PLAN_TOPIC, command_qos())
        self._status = self.create_publisher(PolicyStatus, "~/status", status_qos())
        self.create_timer(_STATUS_PERIOD_S, self._publish_status, clock=steady_clock())

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
        for _ in range(_NUM_WARM_UPS):
            start = time.monotonic()
            self._planner.warm_up()
        latency_ms = (time.monotonic() - start) * 1e3
        gc.collect()
        gc.freeze()
        self._receiver = ObservationReceiver(self, contract, self._time)
        self._report = _Report(state=PolicyStatus.IDLE, reason="inactive")
        self.get_logger().info(
            f"planner of checkpoint '{self.parameters.checkpoint}' "
            f"({self._planner.checkpoint_id}) loaded; a plan takes {latency_ms:.0f} ms."
        )

    def activate(self) -> None:
        """Start to plan."""
        self._is_active = True

    def deactivate(self) -> None:
        """Stop planning."""
        self._is_active = False
        if self._planner is not None:
            self._set_report(PolicyStatus.IDLE, "inactive")

    def release(self) -> None:
        """Unsubscribe and drop the planner."""
        if self._receiver is not None:
            self._receiver.destroy()
        self._receiver, self._planner = None, None
        self._report = _Report()

    def tick(self) -> None:
        """Plan, if a plan is due and there is something to plan from."""
        if not self._is_active or not self._due.is_due():
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
        report.latency_s = (end_ns - start_ns) * 1e-9
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
        """Change the state; a change is published and logged once, ages in a reason are none."""
        cause = (state, gap.source, gap.cause) if gap is not None else (state, reason, None)
        before, self._report.state, self._report.reason = self._report.cause, state, reason
        self._report.cause = cause
        if cause != before:
            name = POLICY_STATE_NAMES[state]
            self.get_logger().info(f"{name}: {reason}" if reason else name)
            self._publish_status()

    def _publish_status(self) -> None:
        report, task = self._report, self._task
        status = PolicyStatus(
            state=report.state,
            reason=report.reason,
            instruction=task.instruction if task is not None else "",
            epoch=task.epoch if task is not None else 0,
            checkpoint_id=self._planner.checkpoint_id if self._planner is not None else "",
            sequence=report.sequence,
            inference_latency=report.latency_s,
            camera_names=list(report.camera_ages_s),
            camera_ages=list(report.camera_ages_s.values()),
            joint_state_age=report.state_age_s,
        )
        status.header.stamp = time_message(self._now_ns())
        self._status.publish(status)


def main(args: list[str] | None = None) -> int:
    """Run planner_node until SIGINT or SIGTERM."""
    with StopSignal(args) as stop:
        try:
            node = PlannerNode()
        except VLAError as error:
            get_logger("planner_node").fatal(str(error))
            return EXIT_CONFIGURATION
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        try:
            if node.parameters.autostart:
                node.bring_up()
            while not stop.is_set:
                executor.spin_once(timeout_sec=_SERVICES_TIMEOUT_S)
                node.tick()
        except VLAError:
            return EXIT_CONFIGURATION
        finally:
            node.tear_down()
            executor.shutdown()
            node.destroy_node()
        return 0


if __name__ == "__main__":
    sys.exit(main())
