# SPDX-License-Identifier: MIT
"""Joint states of several drivers are merged by joint; two drivers of one joint are noticed."""

import pytest
import rclpy
from sensor_msgs.msg import JointState

from vla_core.processing.contract import StateContract
from vla_ros.conversions import sensor_publisher_qos, sensor_subscription_qos
from vla_ros.joint_rivals import JointRivals
from vla_ros.joint_state_subscriptions import JointStateSubscriptions

pytestmark = pytest.mark.ros

ARM, GRIPPER = ["shoulder", "elbow"], ["finger"]


@pytest.fixture
def subscriptions(node):
    state = StateContract(
        topic="joint_states",
        joints=(*ARM, *GRIPPER),
        max_age_s=0.1,
        extra_topics=("gripper/joint_states",),
    )
    profile = sensor_subscription_qos()
    profile.depth = 100
    subscriptions = JointStateSubscriptions(node, state, profile)
    yield subscriptions
    subscriptions.destroy()


@pytest.fixture
def make_driver(node):
    """Make a node that publishes the joints that it is given."""
    nodes = []

    def make(name, joints, topic="joint_states"):
        nodes.append(rclpy.create_node(name, context=node.context))
        publisher = nodes[-1].create_publisher(JointState, topic, sensor_publisher_qos())
        return lambda: publisher.publish(JointState(name=joints, position=[0.0] * len(joints)))

    yield make
    for made in nodes:
        made.destroy_node()


@pytest.fixture
def run(subscriptions, wait_until):
    """Let drivers publish until each has been heard often enough to be noticed."""

    def publish(*drivers):
        heard = []

        def is_heard():
            for driver in drivers:
                driver()
            heard.extend(tuple(message.name) for message in subscriptions.take_all())
            return len(heard) > 20 * len(drivers)

        wait_until(is_heard, "messages")
        return set(heard)

    return publish


def test_drivers_of_different_joints_are_no_rivals(subscriptions, make_driver, run):
    heard = run(make_driver("arm", ARM), make_driver("gripper", GRIPPER))
    assert heard == {tuple(ARM), tuple(GRIPPER)}
    assert subscriptions.describe_rivals() == ""


def test_drivers_of_the_same_joints_are_named(subscriptions, make_driver, run):
    run(make_driver("arm", ARM), make_driver("simulation", [*GRIPPER, *ARM]))
    assert subscriptions.describe_rivals() == (
        "more than one of these nodes publishes 'shoulder', 'elbow': "
        "/arm, /simulation on /joint_states"
    )


def test_one_joint_on_two_topics_is_named(subscriptions, make_driver, run):
    run(
        make_driver("arm", [*ARM, *GRIPPER]),
        make_driver("gripper", GRIPPER, topic="gripper/joint_states"),
    )
    assert subscriptions.describe_rivals() == (
        "more than one of these nodes publishes 'finger': "
        "/arm on /joint_states; /gripper on /gripper/joint_states"
    )


def test_a_driver_that_is_started_anew_is_no_rival_of_itself():
    rivals = JointRivals(ARM)
    for number in (5000, 5001, 1, 2, 3):
        rivals.hear("joint_states", ARM, {"publication_sequence_number": number})
    assert rivals.find() == ()


def test_joints_that_nobody_asks_for_may_have_several_drivers():
    rivals = JointRivals(ARM)
    for number in (5, 5, 6, 6, 7, 7):
        rivals.hear("joint_states", GRIPPER, {"publication_sequence_number": number})
    assert rivals.find() == ()


@pytest.mark.parametrize("info", [{}, {"publication_sequence_number": None}])
def test_without_numbers_only_two_topics_tell_drivers_apart(info):
    rivals = JointRivals(ARM)
    for _ in range(3):
        rivals.hear("joint_states", ARM, info)
    assert rivals.find() == ()
    for topic in ("a", "b", "a"):
        rivals.hear(topic, ARM[:1], info)
    assert rivals.find() == ("shoulder",)
