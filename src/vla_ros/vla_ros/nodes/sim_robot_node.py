# SPDX-License-Identifier: MIT
"""Publish the simulated robot of a task: joint states and cameras out, commands in.

Physics follows the wall clock in steps of 2 ms; the stamps are the times of the physics. The
controllers that take the commands refuse what the real ones refuse.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, JointState
from vla_msgs.msg import SimStatus
from vla_msgs.srv import ResetEpisode

from vla_core.errors import ConfigError, VLAError
from vla_core.processing.contract import RobotContract, load_contract
from vla_core.sim.tasks import TIMESTEP_S, choose_task
from vla_ros.conversions import (
    camera_info_message,
    image_message,
    joint_state_message,
    sensor_publisher_qos,
    status_qos,
    time_message,
)
from vla_ros.graph import EXIT_CONFIGURATION
from vla_ros.parameters import SimRobotParameters, declare_parameters
from vla_ros.polled_subscription import AbsoluteRate, Periodic
from vla_ros.realtime import raise_priority
from vla_ros.sim_controllers import SimControllers
from vla_ros.stop_signal import StopSignal

_OUTPUTS = ("joint_trajectory", "forward_position")
# Catching up costs a fortieth of the time that was missed.
_MAX_BEHIND_NS = 1_000_000_000


class SimRobotNode(Node):
    """The simulated robot.

    Publishes ``joint_states``, the contract's cameras with ``camera_info`` beside each, and
    ``~/status``. Subscribes to the contract's command topics. Serves ``~/reset``.

    Raises:
        ConfigError: A parameter or the contract does not fit the simulation, or the cameras cannot
            be rendered.
    """

    def __init__(self) -> None:
        super().__init__("sim_robot_node")
        self._timestep_ns = round(TIMESTEP_S * 1e9)
        self.parameters = declare_parameters(self, SimRobotParameters)
        contract = load_contract(self.parameters.contract)
        task = choose_task(self.parameters.task, contract.state.joints)
        kind = task.simulation_class()
        self._render_size = _check_contract(contract, kind.joints, kind.cameras)
        self._sim = kind(self._render_size)
        self._controllers = SimControllers(
            self,
            contract.command,
            kind.joints,
            kind.home,
            distro=self.parameters.controller_distro,
            interpolate_from_desired_state=self.parameters.interpolate_from_desired_state,
        )
        self._create_topics(contract)
        self._seed = self.parameters.seed
        self._episode = 0
        self._joint_states_due = Periodic(1.0 / self.parameters.joint_state_rate_hz)
        self._status_due = Periodic(1.0 / self.parameters.status_rate_hz)
        self._cameras_due = None
        if self.parameters.camera_rate_hz > 0.0:
            for camera in contract.cameras:
                self._sim.render(camera)
            self._cameras_due = Periodic(1.0 / self.parameters.camera_rate_hz)
        self._physics_ns = self.get_clock().now().nanoseconds
        self._reset_episode(self._seed, "")

    def tick(self) -> None:
        """Take the newest trajectory, advance the physics to now, publish what is due."""
        now_ns = self.get_clock().now().nanoseconds
        self._controllers.take(
            now_ns,
            measured_positions=self._sim.joint_positions(),
            measured_velocities=self._sim.joint_velocities(),
        )
        self._advance(now_ns)
        if self._joint_states_due.is_due():
            self._publish_joint_states()
        if self._cameras_due is not None and self._cameras_due.is_due():
            self._publish_images()
        if self._status_due.is_due():
            self._publish_status()

    def _create_topics(self, contract: RobotContract) -> None:
        self._joint_states = self.create_publisher(
            JointState, contract.state.topic, sensor_publisher_qos()
        )
        self._cameras = {}
        for name, camera in contract.cameras.items():
            info_topic = f"{camera.topic.rpartition('/')[0]}/camera_info".lstrip("/")
            self._cameras[name] = (
                self.create_publisher(Image, camera.topic, sensor_publisher_qos()),
                self.create_publisher(CameraInfo, info_topic, sensor_publisher_qos()),
            )
        self._status = self.create_publisher(SimStatus, "~/status", status_qos())
        self.create_service(ResetEpisode, "~/reset", self._on_reset)

    def _advance(self, now_ns: int) -> None:
        behind_ns = now_ns - self._physics_ns
        if not 0 <= behind_ns <= _MAX_BEHIND_NS:
            self.get_logger().warning(
                f"physics is {behind_ns * 1e-9:.3f} s behind the clock and skips that time: the "
                "machine is too slow or its clock was set.",
                throttle_duration_sec=5.0,
            )
            self._physics_ns = now_ns - self._timestep_ns
        while self._physics_ns + self._timestep_ns <= now_ns:
            self._physics_ns += self._timestep_ns
            self._sim.step(self._controllers.sample(self._physics_ns))

    def _publish_joint_states(self) -> None:
        self._joint_states.publish(
            joint_state_message(
                self._sim.joints,
                self._sim.joint_positions(),
                self._sim.joint_velocities(),
                stamp_ns=self._physics_ns,
            )
        )

    def _publish_images(self) -> None:
        for name, (images, infos) in self._cameras.items():
            frame_id = f"{name}_camera_optical_frame"
            image = self._sim.render(name)
            images.publish(image_message(image, stamp_ns=self._physics_ns, frame_id=frame_id))
            infos.publish(
                camera_info_message(
                    width=self._render_size,
                    height=self._render_size,
                    vertical_fov_rad=self._sim.vertical_fov_rad(name),
                    stamp_ns=self._physics_ns,
                    frame_id=frame_id,
                )
            )

    def _publish_status(self) -> None:
        task = self._sim.task_status()
        message = SimStatus(
            episode=self._episode,
            seed=self._seed,
            target=task.target,
            block_names=list(task.lifted_m),
            lifted=list(task.lifted_m.values()),
            success=task.success,
            failed=task.failed,
            elapsed=(self._physics_ns - self._reset_ns) * 1e-9,
            accepted_trajectories=self._controllers.num_accepted,
            rejected_trajectories=self._controllers.num_rejected,
            last_rejection=self._controllers.last_rejection,
        )
        message.header.stamp = time_message(self._physics_ns)
        self._status.publish(message)

    def _on_reset(
        self, request: ResetEpisode.Request, response: ResetEpisode.Response
    ) -> ResetEpisode.Response:
        try:
            response.target = self._reset_episode(request.seed, request.target)
        except ConfigError as error:
            response.success, response.message = False, str(error)
        else:
            response.success = True
            response.instruction = self._sim.wordings(response.target)[0]
            self.get_logger().info(
                f"episode {self._episode}: seed {request.seed}, {response.instruction!r}"
            )
        return response

    def _reset_episode(self, seed: int, target: str) -> str:
        drawn = self._sim.reset(seed, target or None)
        self._controllers.hold(self._sim.home)
        self._seed = seed
        self._episode += 1
        self._reset_ns = self._physics_ns
        return drawn


def _check_contract(contract: RobotContract, joints: Sequence[str], cameras: Sequence[str]) -> int:
    """Return the size of the images, after refusing a contract of another robot."""
    problems = []
    if set(contract.state.joints) != set(joints):
        problems.append(f"state.joints must be {list(joints)}, got {list(contract.state.joints)}")
    unknown = sorted(set(contract.cameras) - set(cameras))
    if unknown:
        problems.append(f"cameras {unknown} do not exist, available: {list(cameras)}")
    command = contract.command
    if command.output not in _OUTPUTS:
        problems.append(
            f"command.output must be one of {', '.join(_OUTPUTS)}, got {command.output}"
        )
    if command.prefixes or (command.topics and command.output != "joint_trajectory"):
        problems.append("command.topics are for joint_trajectory alone, without command.prefixes")
    if set(contract.arm_joints) != set(joints):
        problems.append("every gripper must have output 'joint'")
    sizes = {(camera.width, camera.height) for camera in contract.cameras.values()}
    if len({edge for size in sizes for edge in size}) != 1:
        problems.append(f"cameras must all be square and of one size, got {sorted(sizes)}")
    if problems:
        raise ConfigError(
            f"contract {contract.robot!r} does not fit the simulation: {'; '.join(problems)}."
        )
    return next(iter(sizes))[0]


def main(args: list[str] | None = None) -> int:
    """Run sim_robot_node until SIGINT or SIGTERM."""
    with StopSignal(args) as stop:
        try:
            node = SimRobotNode()
        except VLAError as error:
            get_logger("sim_robot_node").fatal(str(error))
            return EXIT_CONFIGURATION
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        raise_priority(node, node.parameters.realtime_priority)
        services_due = Periodic(0.05)
        rate = AbsoluteRate(1.0 / node.parameters.loop_rate_hz)
        while not stop.is_set:
            node.tick()
            if services_due.is_due():
                executor.spin_once(timeout_sec=0.0)
            rate.sleep()
        executor.shutdown()
        node.destroy_node()
    return 0


if __name__ == "__main__":
    sys.exit(main())
