# SPDX-License-Identifier: MIT
"""The simulated robot's controllers: what its contract's commands go to.

Trajectories go to a model of joint_trajectory_controller for each topic of the contract; with a
contract for it, one forward controller takes positions instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from trajectory_msgs.msg import JointTrajectory

from vla_core.errors import MessageError
from vla_core.processing.contract_outputs import CommandContract
from vla_core.sim.trajectory_controller import TrajectoryController, TrajectoryRejectedError
from vla_ros.conversions import sensor_subscription_qos
from vla_ros.polled_subscription import PolledSubscription
from vla_ros.sim_forward_controller import SimForwardController


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A controller of some joints.

    Attributes:
        columns: Their columns among all joints.
        controller: What follows the trajectories.
        trajectories: Where they come from; None beside a forward controller.
    """

    columns: NDArray[np.intp]
    controller: TrajectoryController
    trajectories: PolledSubscription[JointTrajectory] | None


class SimControllers:
    """Takes the commands of a contract and says where the joints should be.

    Args:
        node: Node that subscribes and logs.
        command: Output and topics of the contract.
        joints: Joints of the simulation.
        positions: Where to hold them at first, rad or m, [A].
        distro: ROS distribution whose defaults apply.
        interpolate_from_desired_state: See `TrajectoryController`.
    """

    def __init__(
        self,
        node: Node,
        command: CommandContract,
        joints: tuple[str, ...],
        positions: NDArray[np.float64],
        *,
        distro: str,
        interpolate_from_desired_state: bool,
    ) -> None:
        self.num_accepted = 0
        self.num_rejected = 0
        self.last_rejection = ""
        self._logger = node.get_logger()
        self._logged_causes: set[str] = set()
        self._num_joints = len(joints)
        self._forward: SimForwardController | None = None
        if command.output == "forward_position":
            # Another order than the policy's, as with real controllers: it has to be asked for.
            self._forward = SimForwardController(node, command.topic, joints[::-1])
        self._parts = []
        for topic, names in (command.topics or {command.topic: joints}).items():
            columns = np.array([joints.index(name) for name in names])
            self._parts.append(
                _Part(
                    columns=columns,
                    controller=TrajectoryController(
                        names,
                        positions[columns],
                        distro=distro,
                        interpolate_from_desired_state=interpolate_from_desired_state,
                    ),
                    # The real reader has the system default, which is best effort, depth 1.
                    trajectories=None
                    if self._forward
                    else PolledSubscription(
                        node, JointTrajectory, topic, sensor_subscription_qos()
                    ),
                )
            )

    def take(
        self,
        now_ns: int,
        *,
        measured_positions: NDArray[np.float64],
        measured_velocities: NDArray[np.float64],
    ) -> None:
        """Take what has come since the last call.

        Args:
            now_ns: Time of arrival.
            measured_positions: Measured state, rad or m, [A].
            measured_velocities: Its velocities, [A].
        """
        if self._forward is not None:
            self._take_positions(self._forward)
        for part in self._parts:
            trajectory = part.trajectories.take() if part.trajectories is not None else None
            if trajectory is None:
                continue
            try:
                part.controller.replace(
                    trajectory,
                    now_ns,
                    measured_positions=measured_positions[part.columns],
                    measured_velocities=measured_velocities[part.columns],
                )
            except TrajectoryRejectedError as error:
                self._count_rejection(error)
            else:
                self.num_accepted += 1

    def sample(self, now_ns: int) -> NDArray[np.float64]:
        """Return where the joints should be at a time, rad or m, [A]."""
        positions = np.empty(self._num_joints)
        for part in self._parts:
            positions[part.columns], _ = part.controller.sample(now_ns)
        return positions

    def hold(self, positions: NDArray[np.float64]) -> None:
        """Drop what was commanded and rest at positions, rad or m, [A]."""
        for part in self._parts:
            part.controller.hold(positions[part.columns])

    def destroy(self) -> None:
        """Unsubscribe."""
        for part in self._parts:
            if part.trajectories is not None:
                part.trajectories.destroy()
        if self._forward is not None:
            self._forward.destroy()

    def _take_positions(self, forward: SimForwardController) -> None:
        try:
            positions = forward.take()
        except MessageError as error:
            self._logger.error(str(error), throttle_duration_sec=5.0)
        else:
            if positions is not None:
                self.hold(positions[::-1])

    def _count_rejection(self, error: TrajectoryRejectedError) -> None:
        self.num_rejected += 1
        self.last_rejection = str(error)
        if error.cause not in self._logged_causes:
            self._logged_causes.add(error.cause)
            self._logger.error(
                f"trajectory rejected: {error} Further ones for the same cause ({error.cause}) "
                "are only counted in ~/status."
            )
