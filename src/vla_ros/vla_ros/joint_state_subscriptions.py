# SPDX-License-Identifier: MIT
"""All joint states of a robot: one subscription per topic, joints named as in the contract."""

from __future__ import annotations

from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState

from vla_core.processing.contract import StateContract
from vla_core.processing.messages import prefix_joints
from vla_core.processing.value_checks import quoted
from vla_ros.joint_rivals import JointRivals
from vla_ros.polled_subscription import PolledSubscription


class JointStateSubscriptions:
    """Reads every topic of joint states when its owner asks.

    Args:
        node: Node that subscribes.
        state: Names topics and prefixes.
        qos_profile: Profile; its depth bounds how many messages of a topic wait.
    """

    def __init__(self, node: Node, state: StateContract, qos_profile: QoSProfile) -> None:
        self._subscriptions = {
            topic: PolledSubscription(node, JointState, topic, qos_profile)
            for topic in state.topics
        }
        self._prefixes = {topic: state.prefixes.get(topic, "") for topic in state.topics}
        self._rivals = JointRivals(state.joints)

    def take_all(self) -> list[JointState]:
        """Return all waiting messages, topic after topic, each from the oldest to the newest."""
        messages = []
        for topic, subscription in self._subscriptions.items():
            while (taken := subscription.take_next_with_info()) is not None:
                message = prefix_joints(taken[0], self._prefixes[topic])
                self._rivals.hear(topic, message.name, taken[1])
                messages.append(message)
        return messages

    def describe_rivals(self) -> str:
        """Return which joints several nodes publish, and who may; '' if none; asks the graph."""
        joints = self._rivals.find()
        if not joints:
            return ""
        nodes = "; ".join(
            f"{', '.join(names)} on {subscription.topic}"
            for subscription in self._subscriptions.values()
            if (names := subscription.publisher_names())
        )
        return f"more than one of these nodes publishes {quoted(joints)}: {nodes}"

    def num_publishers(self, topic: str) -> int:
        """Return how many publishers one of the contract's topics has now."""
        return self._subscriptions[topic].num_publishers

    def destroy(self) -> None:
        """Unsubscribe; the object must not be used afterwards."""
        for subscription in self._subscriptions.values():
            subscription.destroy()
