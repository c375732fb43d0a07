# SPDX-License-Identifier: MIT
"""Where commands go: one class per kind of controller, chosen by the contract."""

from __future__ import annotations

from collections.abc import Mapping

from rclpy.node import Node

from vla_core.processing.contract import JointLimits, RobotContract
from vla_core.processing.kinematics import KinematicChain
from vla_ros.outputs.base import Command, CommandOutput
from vla_ros.outputs.forward_position import ForwardPositionOutput
from vla_ros.outputs.forward_velocity import ForwardVelocityOutput
from vla_ros.outputs.gripper_float64 import GripperFloat64Output
from vla_ros.outputs.joint_trajectory import JointTrajectoryOutput

__all__ = ["Command", "CommandOutput", "build_outputs"]

_DEFAULT_FRAME = "base_link"


def build_outputs(
    node: Node,
    contract: RobotContract,
    limits: Mapping[str, JointLimits],
    chain: KinematicChain | None = None,
) -> list[CommandOutput]:
    """Return the outputs that a contract asks for: those of the arms, then those of grippers.

    Args:
        node: Node that owns their publishers and clients.
        contract: The robot.
        limits: Limits of all action joints, in their order.
        chain: From the base to the tool; outputs in tool space need it.

    Raises:
        ConfigError: An interface package that an output needs is not installed, or the output does
            not fit the kinematics.
    """
    command = contract.command
    split = command.topics or ({command.topic: contract.arm_joints} if contract.arm_joints else {})
    outputs: list[CommandOutput] = []
    try:
        for target, joints in split.items():
            outputs.append(_arm_output(node, contract, limits, chain, target, joints))
        for joint, gripper in contract.grippers.items():
            every_joint = contract.action.joints
            if gripper.output == "float64":
                outputs.append(GripperFloat64Output(node, joint, gripper, every_joint))
            elif gripper.output != "joint":
                from vla_ros.outputs.gripper_action import GripperActionOutput

                outputs.append(GripperActionOutput(node, joint, gripper, every_joint))
    except Exception:
        for output in outputs:
            output.destroy()
        raise
    return outputs


def _arm_output(
    node: Node,
    contract: RobotContract,
    limits: Mapping[str, JointLimits],
    chain: KinematicChain | None,
    target: str,
    joints: tuple[str, ...],
) -> CommandOutput:
    kind, every_joint = contract.command.output, contract.action.joints
    period_s = contract.command.dt_s
    if prefix := contract.command.prefixes.get(target, ""):
        # Joints of other topics may have the names that these have in their messages.
        names = {joint: f"elsewhere/{joint}" for joint in every_joint}
        names.update({joint: joint.removeprefix(prefix) for joint in joints})
        joints, every_joint = tuple(names[joint] for joint in joints), tuple(names.values())
        limits = {names[joint]: limit for joint, limit in limits.items()}
    if kind == "joint_trajectory":
        return JointTrajectoryOutput(node, target, joints, every_joint, period_s=period_s)
    if kind == "forward_position":
        return ForwardPositionOutput(node, target, joints, every_joint)
    if kind == "forward_velocity":
        return ForwardVelocityOutput(node, target, joints, limits, period_s=period_s)
    if kind == "follow_joint_trajectory":
        from vla_ros.outputs.follow_joint_trajectory import FollowJointTrajectoryOutput

        return FollowJointTrajectoryOutput(node, target, joints, every_joint, period_s=period_s)
    frame_id = contract.kinematics.base_link if contract.kinematics else _DEFAULT_FRAME
    if kind == "servo_joint_jog":
        from vla_ros.outputs.servo_joint_jog import ServoJointJogOutput

        return ServoJointJogOutput(
            node, target, joints, limits, period_s=period_s, frame_id=frame_id
        )
    assert chain is not None, f"the contract's check lets no {kind} pass without kinematics"
    if kind == "servo_twist":
        from vla_ros.outputs.servo_twist import ServoTwistOutput

        return ServoTwistOutput(
            node,
            target,
            joints,
            limits,
            period_s=period_s,
            chain=chain,
            base_link=frame_id,
        )
    from vla_ros.outputs.servo_pose import ServoPoseOutput

    return ServoPoseOutput(node, target, joints, every_joint, chain=chain, base_link=frame_id)
