# SPDX-License-Identifier: MIT
"""MoveIt Servo of Humble and of Jazzy, as nodes with the services and rules of the real ones."""

import numpy as np
import pytest

from vla_core.processing.kinematics import limits_and_chain

pytestmark = pytest.mark.ros

KINEMATICS = {
    "urdf": "package://vla_core/sim/assets/tabletop_arm.urdf",
    "base_link": "base_link",
    "tip_link": "tool0",
}
GRIPPER = {"gripper_joint": {"open": 0.04, "closed": 0.0, "output": "float64", "topic": "grip"}}
TOPICS = {
    "servo_joint_jog": "delta_joint_cmds",
    "servo_twist": "delta_twist_cmds",
    "servo_pose": "pose_target_cmds",
}


class Servo:
    """What both kinds of servo nodes have: an input, parameters, a record of what was called."""

    def __init__(self, node, output, units="speed_units"):
        from geometry_msgs.msg import PoseStamped, TwistStamped

        from vla_ros.conversions import status_qos
        from vla_ros.polled_subscription import PolledSubscription

        types = {"servo_twist": TwistStamped, "servo_pose": PoseStamped}
        if output not in types:
            types[output] = pytest.importorskip("control_msgs.msg").JointJog
        self.node = node
        self.calls = []
        self.commands = PolledSubscription(
            node, types[output], f"servo_node/{TOPICS[output]}", status_qos()
        )
        for name, value in (
            ("command_in_type", units),
            ("scale.linear", 0.4),
            ("scale.rotational", 0.8),
            ("scale.joint", 0.5),
        ):
            node.declare_parameter(f"moveit_servo.{name}", value)

    def serve(self, kind, name):
        def answer(request, response):
            self.calls.append(
                (name, getattr(request, "command_type", getattr(request, "data", None)))
            )
            response.success = True
            return response

        self.node.create_service(kind, f"servo_node/{name}", answer)


class HumbleServo(Servo):
    """Started, paused and unpaused by Trigger; its status is a number."""

    def __init__(self, node, output, **settings):
        from std_msgs.msg import Int8
        from std_srvs.srv import Trigger

        super().__init__(node, output, **settings)
        for name in ("start_servo", "stop_servo", "pause_servo", "unpause_servo"):
            self.serve(Trigger, name)
        self._message = Int8
        self.status = node.create_publisher(Int8, "servo_node/status", 10)

    def tell(self, code):
        self.status.publish(self._message(data=code))


class JazzyServo(Servo):
    """Wants its command type switched; its status has a code."""

    def __init__(self, node, output, **settings):
        services = pytest.importorskip("moveit_msgs.srv")
        from moveit_msgs.msg import ServoStatus
        from std_srvs.srv import SetBool

        super().__init__(node, output, **settings)
        self.serve(services.ServoCommandType, "switch_command_type")
        self.serve(SetBool, "pause_servo")
        self._message = ServoStatus
        self.status = node.create_publisher(ServoStatus, "servo_node/status", 10)

    def tell(self, code):
        self.status.publish(self._message(code=code))


@pytest.fixture
def connect(make_node, build, make_contract, spin_until):
    """Start a servo node and the output that drives it, ready for commands."""

    def make(servo_type, output, **settings):
        servo = servo_type(make_node("servo_node"), output, **settings)
        contract = make_contract(output, "servo_node", kinematics=KINEMATICS, grippers=GRIPPER)
        arm, _ = build(contract, waits=False)
        arm.wake()

        def is_ready():
            arm.poll()
            return not arm.blocker()

        spin_until(is_ready, "the servo node")
        spin_until(lambda: servo.commands.num_publishers, "the publisher")
        return servo, arm

    return make


@pytest.fixture
def chain(make_contract):
    return limits_and_chain(make_contract("servo_twist", "servo", kinematics=KINEMATICS))[1]


KINDS = [
    (HumbleServo, "servo_twist"),
    (HumbleServo, "servo_joint_jog"),
    (JazzyServo, "servo_twist"),
    (JazzyServo, "servo_joint_jog"),
    (JazzyServo, "servo_pose"),
]


@pytest.mark.parametrize(("servo_type", "output"), KINDS)
def test_every_command_is_stamped_now_and_has_a_frame(
    connect, motion, node, spin_until, servo_type, output
):
    servo, arm = connect(servo_type, output)
    before_ns = node.get_clock().now().nanoseconds
    arm.send(motion.command())
    header = spin_until(servo.commands.take, "a command").header
    stamp_ns = header.stamp.sec * 10**9 + header.stamp.nanosec
    assert before_ns <= stamp_ns <= node.get_clock().now().nanoseconds
    assert header.frame_id == "base_link"


def test_humble_is_started_and_unpaused_before_the_first_command(connect):
    servo, _ = connect(HumbleServo, "servo_twist")
    assert [name for name, _ in servo.calls] == ["start_servo", "unpause_servo"]


@pytest.mark.parametrize(
    ("output", "number"), [("servo_joint_jog", 0), ("servo_twist", 1), ("servo_pose", 2)]
)
def test_jazzy_is_switched_to_the_kind_of_command_and_unpaused(connect, output, number):
    servo, _ = connect(JazzyServo, output)
    assert servo.calls == [("switch_command_type", number), ("pause_servo", False)]


@pytest.mark.parametrize("servo_type", [HumbleServo, JazzyServo])
def test_servo_is_paused_when_nothing_is_driven_and_woken_again(
    connect, motion, spin_until, servo_type
):
    servo, arm = connect(servo_type, "servo_twist")
    arm.send(motion.command())
    arm.stop()
    spin_until(lambda: "is paused" in arm.blocker(), "the pause")
    assert servo.calls[-1] == ("pause_servo", None if servo_type is HumbleServo else True)
    arm.wake()
    spin_until(lambda: not arm.blocker(), "the waking")


@pytest.mark.parametrize(
    ("servo_type", "code", "words"),
    [
        (HumbleServo, 4, "it halts before a collision"),
        (JazzyServo, 5, "it halts before a collision"),
        (JazzyServo, 2, "it halts near a singularity"),
        (JazzyServo, -1, "it finds the commands invalid"),
    ],
)
def test_a_halt_is_reported_in_words(connect, spin_until, servo_type, code, words):
    servo, arm = connect(servo_type, "servo_twist")

    def problems():
        servo.tell(code)
        arm.poll()
        return arm.problems()

    (problem,) = spin_until(problems, "the problem")
    assert words in problem
    assert "servo_node" in problem


def test_humble_takes_no_poses_and_the_error_says_what_else(
    make_node, build, make_contract, spin_until
):
    HumbleServo(make_node("servo_node"), "servo_pose")
    contract = make_contract("servo_pose", "servo_node", kinematics=KINEMATICS, grippers=GRIPPER)
    arm, _ = build(contract, waits=False)

    def refused():
        arm.poll()
        return "takes no poses; choose command.output servo_twist" in arm.blocker()

    spin_until(refused, "the refusal")


def test_without_servo_nothing_may_be_sent(build, make_contract):
    contract = make_contract("servo_twist", "nowhere", kinematics=KINEMATICS, grippers=GRIPPER)
    arm, _ = build(contract, waits=False)
    arm.poll()
    assert "MoveIt Servo nowhere is not there" in arm.blocker()


@pytest.mark.parametrize(("units", "scale"), [("speed_units", 1.0), ("unitless", 0.5)])
def test_joint_jog_carries_joint_velocities_in_the_units_of_servo(
    connect, motion, spin_until, units, scale
):
    servo, arm = connect(HumbleServo, "servo_joint_jog", units=units)
    arm.send(motion.command())
    message = spin_until(servo.commands.take, "a command")
    assert tuple(message.joint_names) == arm.joints
    np.testing.assert_allclose(message.velocities, motion.velocity[:6] / scale, atol=1e-9)
    assert list(message.displacements) == []


@pytest.mark.parametrize(
    ("units", "scales"), [("speed_units", (1.0, 1.0)), ("unitless", (0.4, 0.8))]
)
def test_twist_is_the_velocity_of_the_tool(connect, chain, motion, spin_until, units, scales):
    servo, arm = connect(HumbleServo, "servo_twist", units=units)
    command = motion.command()
    arm.send(command)
    twist = spin_until(servo.commands.take, "a command").twist
    # The tool really moves so: the difference of two poses, half a millisecond apart.
    half = 0.5e-3 * motion.velocity[:6]
    before, after = (chain.tool_pose(command.position[:6] + step) for step in (-half, half))
    linear = (after[0] - before[0]) / 1e-3
    turned = after[1] @ before[1].T
    skew = 0.5 * (turned - turned.T) / 1e-3
    found = [twist.linear.x, twist.linear.y, twist.linear.z]
    np.testing.assert_allclose(found, linear / scales[0], atol=1e-5)
    found = [twist.angular.x, twist.angular.y, twist.angular.z]
    expected = np.array([skew[2, 1], skew[0, 2], skew[1, 0]]) / scales[1]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_pose_is_that_of_the_next_tick(connect, chain, motion, spin_until):
    servo, arm = connect(JazzyServo, "servo_pose")
    command = motion.command()
    arm.send(command)
    pose = spin_until(servo.commands.take, "a command").pose
    position, rotation = chain.tool_pose(command.positions[0, :6])
    found = [pose.position.x, pose.position.y, pose.position.z]
    np.testing.assert_allclose(found, position, atol=1e-9)
    q = pose.orientation
    x, y, z, w = q.x, q.y, q.z, q.w
    matrix = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    np.testing.assert_allclose(matrix, rotation, atol=1e-9)


def test_a_joint_that_does_not_move_the_tool_is_refused(build, make_contract):
    contract = make_contract("servo_twist", "servo_node", kinematics=KINEMATICS)
    with pytest.raises(ValueError, match=r"is sent .*gripper_joint; give every other joint"):
        build(contract, waits=False)
