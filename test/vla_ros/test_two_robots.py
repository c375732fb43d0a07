# SPDX-License-Identifier: MIT
"""Two robots in one domain, each with policy_node and command_node in a namespace of its own."""

import numpy as np
import pytest
import rclpy

from vla_core.processing.contract import load_contract
from vla_core.sim.arm_model import HOME

pytestmark = [pytest.mark.ros, pytest.mark.slow]

CONTRACT = load_contract("sim")
TASKS = {"left": "pick up the red block", "right": "pick up the blue block"}
# The driver of one robot calls its joint states otherwise.
STATE_TOPICS = {"left": "joint_states", "right": "driver/measured_joints"}


class Robot:
    """Cameras and joint states of a robot at rest, and what its nodes say."""

    def __init__(self, namespace, context):
        from sensor_msgs.msg import Image, JointState
        from trajectory_msgs.msg import JointTrajectory
        from vla_msgs.msg import ActionChunk, CommandStatus

        from vla_ros.conversions import command_qos, sensor_publisher_qos, status_qos
        from vla_ros.polled_subscription import PolledSubscription

        self.node = rclpy.create_node("robot", namespace=namespace, context=context)
        self._cameras = [
            self.node.create_publisher(Image, camera.topic, sensor_publisher_qos())
            for camera in CONTRACT.cameras.values()
        ]
        self._states = self.node.create_publisher(
            JointState, STATE_TOPICS[namespace], sensor_publisher_qos()
        )
        self._sources = {
            name: PolledSubscription(self.node, kind, topic, qos)
            for name, kind, topic, qos in (
                ("chunk", ActionChunk, "action_chunk", command_qos()),
                ("status", CommandStatus, "command_node/status", status_qos()),
                ("trajectory", JointTrajectory, CONTRACT.command.topic, command_qos()),
            )
        }
        self.said = dict.fromkeys(self._sources)

    def live(self):
        """Publish once, and take what was said."""
        from vla_ros.conversions import image_message, joint_state_message

        now_ns = self.node.get_clock().now().nanoseconds
        for camera in self._cameras:
            frame = np.zeros((192, 192, 3), np.uint8)
            camera.publish(image_message(frame, stamp_ns=now_ns))
        self._states.publish(
            joint_state_message(CONTRACT.state.joints, HOME, np.zeros(7), stamp_ns=now_ns)
        )
        self.listen()

    def listen(self):
        for name, source in self._sources.items():
            self.said[name] = source.take() or self.said[name]


@pytest.fixture
def robots(node):
    robots = {name: Robot(name, node.context) for name in TASKS}
    yield robots
    for robot in robots.values():
        robot.node.destroy_node()


def test_each_robot_gets_its_own_commands_and_stops_alone(
    robots, start_node, untrained_checkpoint, wait_until
):
    from vla_msgs.msg import CommandStatus

    for name, task in TASKS.items():
        namespace = ("-r", f"__ns:=/{name}", "-r", f"joint_states:={STATE_TOPICS[name]}")
        start_node("command_node", *namespace)
        start_node(
            "policy_node",
            *namespace,
            *("-p", f"checkpoint:={untrained_checkpoint}", "-p", f"instruction:={task}"),
        )

    def both_move():
        for robot in robots.values():
            robot.live()
        statuses = [robot.said["status"] for robot in robots.values()]
        return all(s is not None and s.mode == CommandStatus.EXECUTING for s in statuses)

    wait_until(both_move, "both arms to move")
    for name, robot in robots.items():
        assert robot.said["chunk"].instruction == TASKS[name]
        assert robot.said["trajectory"].joint_names == list(CONTRACT.action.joints)

    def only_left_moves():
        robots["left"].live()
        robots["right"].listen()
        left, right = (robots[name].said["status"] for name in TASKS)
        resting = (CommandStatus.HOLDING, CommandStatus.STOPPING)
        return left.mode == CommandStatus.EXECUTING and right.mode in resting and right

    right = wait_until(only_left_moves, "the robot without sensors to stop")
    assert "joint state is" in right.reason
