# SPDX-License-Identifier: MIT
"""Command the arm: sample the newest action chunk by time, stream trajectories that end in a stop.

This is the one process that moves the arm. It loads no torch and no images, so that nothing that
happens to the inference can delay a tick; if the inference or this process dies, the tail of the
last trajectory brings the arm to rest.
"""

from __future__ import annotations

import gc
import sys

import numpy as np
from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory
from vla_msgs.msg import ActionChunk, CommandStatus

from vla_core.errors import ChunkError, MessageError, VLAError
from vla_core.inference.command_stream import CommandMode, CommandStream, CommandTick
from vla_core.inference.motor import MotorControl
from vla_core.processing.contract import load_contract
from vla_core.processing.joint_history import JointHistory
from vla_ros.conversions import (
    action_chunk_from_message,
    command_qos,
    joint_trajectory_message,
    sensor_subscription_qos,
    status_qos,
    time_message,
)
from vla_ros.graph import EXIT_CONFIGURATION
from vla_ros.node_clock import NodeClock
from vla_ros.parameters import CommandParameters, declare_parameters
from vla_ros.polled_subscription import Periodic, PolledSubscription
from vla_ros.realtime import raise_priority
from vla_ros.stop_signal import StopSignal
from vla_ros.tick_rate import TickRate

_SERVICES_PERIOD_S = 0.1
# Arm and gripper may share a topic, and none of their messages may push out the others.
_JOINT_STATES_DEPTH = 10


class CommandNode(Node):
    """The command loop.

    Polls ``action_chunk`` and the contract's joint states. Publishes the contract's trajectory
    topic while it executes or stops, and ``~/status`` in every tick.

    Raises:
        ConfigError: A parameter or the contract is not valid, or asks for what is not executed.
    """

    def __init__(self) -> None:
        super().__init__("command_node")
        self.parameters = declare_parameters(self, CommandParameters)
        contract = load_contract(self.parameters.contract)
        self.period_s = contract.command.dt_s
        checkpoint = self.parameters.motor_checkpoint
        self._stream = CommandStream(
            contract,
            motor=MotorControl.from_checkpoint(checkpoint, contract) if checkpoint else None,
            blend_s=self.parameters.blend_s,
            num_lookahead=self.parameters.num_lookahead,
            max_tracking_error=self.parameters.max_tracking_error,
        )
        self._chunks = PolledSubscription(self, ActionChunk, "action_chunk", command_qos())
        states = sensor_subscription_qos()
        states.depth = _JOINT_STATES_DEPTH
        self._joint_states = [
            PolledSubscription(self, JointState, topic, states) for topic in contract.state.topics
        ]
        self._joints = JointHistory(self._stream.joints)
        self._trajectories = self.create_publisher(
            JointTrajectory, contract.command.topic, command_qos()
        )
        self._status = self.create_publisher(CommandStatus, "~/status", status_qos())
        self._logged = (CommandMode.WAITING, "")

    def tick(self, rate: TickRate) -> None:
        """Read what is new, decide, publish.

        Args:
            rate: Says when this tick was due, and how many periods it is after the last one.
        """
        now_ns = rate.now_ns
        if rate.has_jumped_back:
            self._joints.clear()
            self._stream.set_back_clock()
        self._take_joint_states()
        self._take_chunk(now_ns)
        tick = self._stream.tick(now_ns, rate.num_elapsed)
        if tick.plan is not None:
            self._publish_plan(tick)
        self._publish_status(tick, now_ns, rate.lateness_s)
        self._log(tick)

    def _take_joint_states(self) -> None:
        messages = [message for source in self._joint_states for message in source.take_all()]
        if not messages:
            return
        for message in messages:
            self._joints.add(message)
        try:
            joints = self._joints.newest()
        except MessageError as error:
            self._stream.refuse_joint_state(str(error))
        else:
            self._stream.put_joint_state(joints.values, joints.oldest_ns)

    def _take_chunk(self, now_ns: int) -> None:
        message = self._chunks.take()
        if message is None:
            return
        if message.horizon == 0:
            self._stream.revoke(message.epoch, "the policy is idle", now_ns=now_ns)
            return
        try:
            self._stream.put_chunk(
                action_chunk_from_message(message),
                sequence=message.sequence,
                epoch=message.epoch,
                now_ns=now_ns,
            )
        except (MessageError, ChunkError) as error:
            self._stream.refuse_chunk(f"chunk {message.sequence} is refused: {error}")

    def _publish_plan(self, tick: CommandTick) -> None:
        assert tick.plan is not None
        positions, velocities = tick.plan
        times_s = self.period_s * np.arange(1, len(positions) + 1)
        self._trajectories.publish(
            joint_trajectory_message(self._stream.joints, positions, velocities, times_s)
        )

    def _publish_status(self, tick: CommandTick, now_ns: int, lateness_s: float) -> None:
        status = CommandStatus(
            mode=int(tick.mode),
            reason=tick.reason,
            chunk_sequence=tick.chunk_sequence,
            chunk_age=tick.chunk_age_s,
            joint_state_age=tick.state_age_s,
            tick_lateness=lateness_s,
            limited=bool(tick.limited_joints),
            limited_joints=list(tick.limited_joints),
            switch_jump=tick.switch_jump,
            joint_names=list(self._stream.joints),
        )
        status.header.stamp = time_message(now_ns)
        if tick.position is not None and tick.velocity is not None:
            status.command_positions = tick.position.tolist()
            status.command_velocities = tick.velocity.tolist()
        self._status.publish(status)

    def _log(self, tick: CommandTick) -> None:
        """Write one line per change of mode and per new refusal."""
        refusal = tick.reason if tick.mode is CommandMode.EXECUTING else ""
        if (tick.mode, refusal) == self._logged:
            return
        self._logged = (tick.mode, refusal)
        because = f": {tick.reason}" if tick.reason else ""
        self.get_logger().info(f"{tick.mode.name.lower()}{because}")


def main(args: list[str] | None = None) -> int:
    """Run command_node until SIGINT or SIGTERM."""
    with StopSignal(args) as stop:
        try:
            node = CommandNode()
        except VLAError as error:
            get_logger("command_node").fatal(str(error))
            return EXIT_CONFIGURATION
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        # A full collection of all that was imported would take longer than a tick may be late.
        gc.collect()
        gc.freeze()
        raise_priority(node, node.parameters.realtime_priority)
        services_due = Periodic(_SERVICES_PERIOD_S)
        rate = TickRate(NodeClock(node), node.period_s)
        while not stop.is_set:
            if rate.wait():
                node.tick(rate)
            if services_due.is_due():
                executor.spin_once(timeout_sec=0.0)
        executor.shutdown()
        node.destroy_node()
    return 0


if __name__ == "__main__":
    sys.exit(main())
