# SPDX-License-Identifier: MIT
"""The simulated robot of a task: physics on the wall clock, joint states and cameras out."""

from __future__ import annotations

from collections.abc import Sequence

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, JointState
from vla_msgs.msg import SimStatus

from vla_core.errors import ConfigError
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
from vla_ros.parameters import SimRobotParameters
from vla_ros.polled_subscription import Periodic
from vla_ros.sim_controllers import SimControllers

_OUTPUTS = ("joint_trajectory", "forward_position")
# Catching up costs a fortieth of the time that was missed.
_MAX_BEHIND_NS = 1_000_000_000


class SimRobot:
    """Lives from `start` on by calls of `tick`.

    Args:
        node: Node that publishes and subscribes.
        parameters: Those of the node.

    Raises:
        ConfigError: The contract does not fit the simulation, or the cameras cannot be rendered.
    """

    def __init__(self, node: Node, parameters: SimRobotParameters) -> None:
        self._node = node
        self._timestep_ns = round(TIMESTEP_S * 1e9)
        contract = load_contract(parameters.contract)
        task = choose_task(parameters.task, contract.state.joints)
        kind = task.simulation_class()
        self._render_size = _check_contract(contract, kind.joints, kind.cameras)
        self._sim = kind(self._render_size)
        self._camera_topics = {name: camera.topic for name, camera in contract.cameras.items()}
        self.set_rates(parameters)
        self._controllers = SimControllers(
            node,
            contract.command,
            kind.joints,
            kind.home,
            distro=parameters.controller_distro,
            interpolate_from_desired_state=parameters.interpolate_from_desired_state,
        )
        self._joint_states = node.create_publisher(
            JointState, contract.state.topic, sensor_publisher_qos()
        )
        self._cameras = {}
        for name, topic in self._camera_topics.items():
            info_topic = f"{topic.rpartition('/')[0]}/camera_info".lstrip("/")
            self._cameras[name] = (
                node.create_publisher(Image, topic, sensor_publisher_qos()),
                node.create_publisher(CameraInfo, info_topic, sensor_publisher_qos()),
            )
        self._status = node.create_publisher(SimStatus, "~/status", status_qos())
        self.episode = 0
        self._physics_ns = node.get_clock().now().nanoseconds
        self.reset(parameters.seed, "")
        node.get_logger().info(
            f"robot '{contract.robot}' in task '{task.name}', cameras "
            f"{', '.join(self._cameras)} at {parameters.camera_rate_hz:g} Hz."
        )

    def set_rates(self, parameters: SimRobotParameters) -> None:
        """Take the rates of the topics.

        Raises:
            ConfigError: The cameras cannot be rendered.
        """
        rate_hz = parameters.camera_rate_hz
        if rate_hz > 0.0:
            for camera in self._camera_topics:
                self._sim.render(camera)
        self._cameras_due = Periodic(1.0 / rate_hz) if rate_hz > 0.0 else None
        self._joint_states_due = Periodic(1.0 / parameters.joint_state_rate_hz)
        self._status_due = Periodic(1.0 / parameters.status_rate_hz)

    def start(self) -> None:
        """Begin to live now; whatever was commanded before is forgotten."""
        self._controllers.take(
            self._node.get_clock().now().nanoseconds,
            measured_positions=self._sim.joint_positions(),
            measured_velocities=self._sim.joint_velocities(),
        )
        self._controllers.hold(self._sim.joint_positions())
        self._physics_ns = self._node.get_clock().now().nanoseconds

    def tick(self) -> None:
        """Take the newest trajectory, advance the physics to now, publish what is due."""
        now_ns = self._node.get_clock().now().nanoseconds
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

    def reset(self, seed: int, target: str) -> tuple[str, str]:
        """Begin a new episode; return what it is about, and the instruction that asks for it.

        Args:
            seed: Seed of the scene.
            target: What it shall be about; empty: drawn from the seed.

        Raises:
            ConfigError: The target is unknown.
        """
        drawn = self._sim.reset(seed, target or None)
        self._controllers.hold(self._sim.home)
        self._seed = seed
        self.episode += 1
        self._reset_ns = self._physics_ns
        return drawn, self._sim.wordings(drawn)[0]

    def destroy(self) -> None:
        """Give the topics and the renderer back."""
        for publishers in self._cameras.values():
            for publisher in publishers:
                self._node.destroy_publisher(publisher)
        self._node.destroy_publisher(self._joint_states)
        self._node.destroy_publisher(self._status)
        self._controllers.destroy()
        self._sim.close()

    def _advance(self, now_ns: int) -> None:
        behind_ns = now_ns - self._physics_ns
        if not 0 <= behind_ns <= _MAX_BEHIND_NS:
            self._node.get_logger().warning(
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
            episode=self.episode,
            seed=self._seed,
            target=task.target,
            targets=list(self._sim.targets),
            block_names=list(task.lifted_m),
            lifted=list(task.lifted_m.values()),
            success=task.success,
            failure=task.failure,
            elapsed=(self._physics_ns - self._reset_ns) * 1e-9,
            time_limit=self._sim.time_limit_s,
            accepted_trajectories=self._controllers.num_accepted,
            rejected_trajectories=self._controllers.num_rejected,
            last_rejection=self._controllers.last_rejection,
        )
        message.header.stamp = time_message(self._physics_ns)
        self._status.publish(message)


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
