# SPDX-License-Identifier: MIT
"""Faults of cameras and joint states: docs/faults.md lists them."""

import re

import numpy as np
import pytest

pytestmark = pytest.mark.ros

OLD_CHUNK = "the observation of the newest chunk is"
OLD_STATE = "the joint state is"
OBSERVATIONS, COMMAND = "policy_node: observations", "command_node: command"


def test_a_camera_stops(arm):
    arm.robot.spoil = lambda source, message: None if source == "wrist" else message
    arm.assert_stops_in_time(OLD_CHUNK)
    arm.assert_diagnosed(OBSERVATIONS, "camera 'wrist' on wrist_camera/image_raw: ")
    arm.assert_goes_on()


def test_a_camera_repeats_its_stamp(arm):
    stamps = []

    def freeze(source, message):
        if source == "front":
            stamps.append(message.header.stamp)
            message.header.stamp = stamps[0]
        return message

    arm.robot.spoil = freeze
    arm.assert_stops_in_time(OLD_CHUNK)
    arm.assert_diagnosed(OBSERVATIONS, "camera 'front' on front_camera/image_raw: messages keep")
    arm.assert_goes_on()


def test_the_joint_states_stop(arm):
    arm.robot.spoil = lambda source, message: None if source == "joints" else message
    arm.assert_stops_in_time(OLD_STATE, age="joint_state_age")
    arm.assert_diagnosed(COMMAND, OLD_STATE)
    arm.assert_diagnosed(OBSERVATIONS, "joint states on joint_states: ")
    arm.assert_goes_on()


def test_the_joints_are_reordered(arm):
    """They are read by name: nothing happens, and the arm is not taken to be elsewhere."""
    order = [3, 1, 6, 0, 2, 5, 4]

    def reorder(source, message):
        if source == "joints":
            message.name = [message.name[index] for index in order]
            message.position = [message.position[index] for index in order]
            message.velocity = [message.velocity[index] for index in order]
        return message

    arm.robot.spoil = reorder
    first = arm.wait_for(lambda: arm.new("chunk"), "a chunk")[-1].sequence
    arm.wait_for(lambda: arm.listener.last("chunk").sequence > first + 3, "further chunks")
    # A busy machine may be late with either, but refuses nothing and finds no joint elsewhere.
    late = rf"(({OLD_CHUNK}|{OLD_STATE}) [\d.]+ s old, at most [\d.]+ s is allowed)?"
    assert all(re.fullmatch(late, tick.reason) for tick in arm.new("command"))
    arm.assert_goes_on()


def test_the_joints_are_not_those_of_the_contract(arm):
    def rename(source, message):
        if source == "joints":
            message.name = [f"other_{name}" for name in message.name]
        return message

    arm.robot.spoil = rename
    arm.assert_stops_in_time(OLD_STATE, age="joint_state_age")
    arm.assert_diagnosed(OBSERVATIONS, "'joint_1'")
    arm.assert_goes_on()


def test_a_camera_sends_what_nobody_can_decode(arm):
    def spoil(source, message):
        if source == "wrist":
            message.encoding = "yuv420"
        return message

    arm.robot.spoil = spoil
    arm.assert_stops_in_time(OLD_CHUNK)
    arm.assert_diagnosed(OBSERVATIONS, "'yuv420'")
    arm.assert_goes_on()


def test_a_camera_sends_too_few_bytes(arm):
    def spoil(source, message):
        if source == "front":
            message.data = message.data[:-1]
        return message

    arm.robot.spoil = spoil
    arm.assert_stops_in_time(OLD_CHUNK)
    arm.assert_diagnosed(OBSERVATIONS, "camera 'front' on front_camera/image_raw: ")
    arm.assert_goes_on()


def test_the_joint_states_are_nan(arm):
    def spoil(source, message):
        if source == "joints":
            message.position[2] = np.nan
        return message

    arm.robot.spoil = spoil
    arm.assert_stops_in_time(OLD_STATE, age="joint_state_age")
    arm.assert_diagnosed(COMMAND, "nan")
    arm.assert_goes_on()


def test_the_joint_states_lack_a_position(arm):
    def spoil(source, message):
        if source == "joints":
            message.position = message.position[:-1]
        return message

    arm.robot.spoil = spoil
    arm.assert_stops_in_time(OLD_STATE, age="joint_state_age")
    arm.assert_diagnosed(COMMAND, "position")
    arm.assert_goes_on()


def test_a_second_node_publishes_a_camera(arm):
    from sensor_msgs.msg import Image

    from vla_ros.conversions import sensor_publisher_qos

    node, topic = arm.listener.node, "wrist_camera/image_raw"
    second = node.create_publisher(Image, topic, sensor_publisher_qos())
    arm.assert_diagnosed(OBSERVATIONS, "2 nodes publish /wrist_camera/image_raw: /")
    node.destroy_publisher(second)
    arm.assert_goes_on()


def test_a_second_node_publishes_the_joints(arm):
    from sensor_msgs.msg import JointState

    from vla_ros.conversions import sensor_publisher_qos

    node = arm.listener.node
    second = node.create_publisher(JointState, "joint_states", sensor_publisher_qos())

    def publish_twice(source, message):
        if source == "joints":
            second.publish(message)
        return message

    arm.robot.spoil = publish_twice
    rivals = "more than one of these nodes publishes 'joint_1', "
    for report in (OBSERVATIONS, "command_node: joint states"):
        arm.assert_diagnosed(report, rivals)
        arm.assert_diagnosed(report, ": /listener, /listener on /joint_states")
    arm.robot.spoil = lambda source, message: message
    node.destroy_publisher(second)
    arm.assert_goes_on()
