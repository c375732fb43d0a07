# SPDX-License-Identifier: MIT
"""What the command loop hears: joint states, chunks, a leader arm, emergency stop, deadman.

Everything is polled at the start of a tick. Ages of what is no measurement count from its arrival,
on the monotonic clock.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from vla_msgs.msg import ActionChunk

from vla_core.errors import ChunkError, MessageError
from vla_core.inference.command_stream import CommandStream
from vla_core.processing.chunk_messages import action_chunk_from_message
from vla_core.processing.contract import RobotContract
from vla_core.processing.joint_history import JointHistory
from vla_core.processing.messages import joint_positions_from_message
from vla_ros.conversions import (
    best_effort_status_qos,
    command_qos,
    sensor_subscription_qos,
    status_qos,
)
from vla_ros.interlocks import Interlocks, RivalCheck
from vla_ros.joint_state_subscriptions import JointStateSubscriptions
from vla_ros.polled_subscription import PolledSubscription

# Arm and gripper may share a topic, and none of their messages may push out the others.
_JOINT_STATES_DEPTH = 10


class CommandInputs:
    """The subscriptions of the command loop.

    Args:
        node: Node that subscribes.
        contract: The robot.
        interlocks: Hears of emergency stop and deadman.

    Attributes:
        policy_epoch: Newest epoch of the policy that was heard; 0 for none, or once it has said
            that it ends.
        policy_instruction: What it was asked to do; empty when it was idle.
        teleop_problem: Why the newest message of the leader arm was refused; empty if it was not.
    """

    def __init__(self, node: Node, contract: RobotContract, interlocks: Interlocks) -> None:
        self._node = node
        self._joints = contract.action.joints
        self._interlocks = interlocks
        self._max_age_ns = round(contract.action.max_age_s * 1e9)
        self._measured = JointHistory(self._joints)
        states = sensor_subscription_qos()
        states.depth = _JOINT_STATES_DEPTH
        self._states = JointStateSubscriptions(node, contract.state, states)
        self._chunks = PolledSubscription(node, ActionChunk, "action_chunk", command_qos())
        self._leader = PolledSubscription(
            node, JointState, "teleop_joint_states", sensor_subscription_qos()
        )
        # Every word counts: a stop must not be overwritten by what follows it. A reliable
        # subscription hears no best-effort publisher, and only a reliable one loses nothing.
        self._emergency = [
            PolledSubscription(node, Bool, "estop", profile)
            for profile in (status_qos(), best_effort_status_qos())
        ]
        topic = contract.safety.deadman_topic
        self._deadman = (
            PolledSubscription(node, Bool, topic, sensor_subscription_qos()) if topic else None
        )
        self._rivals = RivalCheck(memory_s=2.0 * contract.action.max_age_s)
        self._leader_positions: NDArray[np.float64] | None = None
        self._leader_ns = 0
        self._chunk_ns: int | None = None
        self.policy_epoch = 0
        self.policy_instruction = ""
        self.teleop_problem = ""

    @property
    def num_chunk_publishers(self) -> int:
        """How many nodes publish chunks now."""
        return self._chunks.num_publishers

    def describe_rivals(self) -> str:
        """Return which joints several nodes publish, and who may; '' if none; asks the graph."""
        return self._states.describe_rivals()

    def poll(self, stream: CommandStream, now_ns: int, monotonic_ns: int) -> None:
        """Take what has arrived.

        Args:
            stream: Gets joint states and chunks.
            now_ns: Time of the tick.
            monotonic_ns: The same on the monotonic clock.
        """
        for emergency in self._emergency:
            if any(word.data for word in emergency.take_all()):
                self._interlocks.stop(f"topic {emergency.topic}")
        if self._deadman is not None and (word := self._deadman.take()) is not None:
            self._interlocks.hear_deadman(bool(word.data), monotonic_ns)
        self._take_joint_states(stream)
        self._take_leader(monotonic_ns)
        message = self._chunks.take()
        if message is not None:
            self._take_chunk(stream, message, now_ns, monotonic_ns)

    def forget_stamps(self) -> None:
        """Forget what is stamped: the clock was set back."""
        self._measured.clear()

    def leader(self, monotonic_ns: int, timeout_s: float) -> NDArray[np.float64] | None:
        """Return the leader arm's positions while it speaks, [A], else None.

        Args:
            monotonic_ns: Time on the monotonic clock.
            timeout_s: Silence after which it has let go.
        """
        if self._leader_positions is None:
            return None
        if monotonic_ns - self._leader_ns > timeout_s * 1e9:
            self._leader_positions = None
        return self._leader_positions

    def wants_motion(self, monotonic_ns: int) -> bool:
        """Return whether somebody wants the arm to move: a chunk came lately, or a leader."""
        if self._leader_positions is not None:
            return True
        return self._chunk_ns is not None and monotonic_ns - self._chunk_ns <= self._max_age_ns

    def find_reason(self, monotonic_ns: int) -> str:
        """Return why what is heard must not be followed; empty if it may."""
        if not self._rivals.has_rivals(monotonic_ns):
            return ""
        return (
            f"chunks of more than one policy arrive on {self._chunks.topic}; end all policies but "
            "one"
        )

    def _take_joint_states(self, stream: CommandStream) -> None:
        messages = self._states.take_all()
        if not messages:
            return
        for message in messages:
            self._measured.add(message)
        try:
            joints = self._measured.newest()
        except MessageError as error:
            stream.refuse_joint_state(str(error))
        else:
            stream.put_joint_state(joints.values, joints.oldest_ns)

    def _take_leader(self, monotonic_ns: int) -> None:
        message = self._leader.take()
        if message is None:
            return
        try:
            self._leader_positions = joint_positions_from_message(message, self._joints)
        except MessageError as error:
            self.teleop_problem = f"{self._leader.topic} is refused: {error}"
        else:
            self._leader_ns, self.teleop_problem = monotonic_ns, ""

    def _take_chunk(
        self, stream: CommandStream, message: ActionChunk, now_ns: int, monotonic_ns: int
    ) -> None:
        self.policy_epoch = message.epoch if message.checkpoint_id else 0
        self.policy_instruction = message.instruction
        if message.horizon == 0:
            stream.revoke(message.epoch, "the policy is idle", now_ns=now_ns)
            return
        self._rivals.hear(message.sequence, monotonic_ns)
        self._chunk_ns = monotonic_ns
        try:
            stream.put_chunk(
                action_chunk_from_message(message),
                sequence=message.sequence,
                epoch=message.epoch,
                now_ns=now_ns,
            )
        except (MessageError, ChunkError) as error:
            stream.refuse_chunk(f"chunk {message.sequence} is refused: {error}")

    def destroy(self) -> None:
        """Unsubscribe from everything."""
        for subscription in (self._states, self._chunks, self._leader):
            subscription.destroy()
        for emergency in self._emergency:
            emergency.destroy()
        if self._deadman is not None:
            self._deadman.destroy()
