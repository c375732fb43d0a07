# SPDX-License-Identifier: MIT
"""planner_node: plans from live topics for the policy's instruction; named reasons for silence."""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest

from vla_core.inference.helix_tiers import PlannedPolicy, Planner
from vla_core.inference.policy import black_observation
from vla_core.processing.contract import load_contract
from vla_core.sim.arm_model import HOME

pytestmark = pytest.mark.ros

CHECKPOINT = "untrained:helix"
CONTRACT = load_contract("sim_200hz")
TASK = "pick up the red block"


class Robot:
    """Publishes what robot and policy publish, and hears the planner."""

    def __init__(self, node):
        from sensor_msgs.msg import Image, JointState
        from vla_msgs.msg import LatentPlan, PolicyStatus

        from vla_ros.conversions import command_qos, sensor_publisher_qos, status_qos
        from vla_ros.polled_subscription import PolledSubscription

        self._clock = node.get_clock()
        self._cameras = {
            name: node.create_publisher(Image, camera.topic, sensor_publisher_qos())
            for name, camera in CONTRACT.cameras.items()
        }
        self._states = node.create_publisher(
            JointState, CONTRACT.state.topic, sensor_publisher_qos()
        )
        self._tasks = node.create_publisher(PolicyStatus, "policy_node/status", status_qos())
        self._plans = PolledSubscription(node, LatentPlan, "latent_plan", command_qos())
        self._status = PolledSubscription(node, PolicyStatus, "planner_node/status", status_qos())
        self.task = PolicyStatus(instruction=TASK, epoch=3)
        self.last_status = None

    def publish(self):
        from vla_ros.conversions import image_message, joint_state_message

        now_ns = self._clock.now().nanoseconds
        for name, camera in CONTRACT.cameras.items():
            frame = np.zeros((camera.height, camera.width, 3), np.uint8)
            self._cameras[name].publish(image_message(frame, stamp_ns=now_ns))
        self._states.publish(
            joint_state_message(
                CONTRACT.state.joints, np.asarray(HOME), np.zeros(7), stamp_ns=now_ns
            )
        )
        if self.task is not None:
            self._tasks.publish(self.task)

    def plan(self):
        self.publish()
        return self._plans.take()

    def status_with(self, reason):
        self.publish()
        self.last_status = self._status.take() or self.last_status
        return self.last_status is not None and reason in self.last_status.reason


@pytest.fixture
def robot(node):
    return Robot(node)


@pytest.fixture
def planner_node(ros_domain):
    """An active planner_node in this process, driven by a thread."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    from vla_ros.nodes.planner_node import PlannerNode

    parameters = {"checkpoint": CHECKPOINT, "rate_hz": 20.0}
    arguments = [word for k, v in parameters.items() for word in ("-p", f"{k}:={json.dumps(v)}")]
    rclpy.init(args=["--ros-args", *arguments], domain_id=ros_domain)
    node = PlannerNode()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    node.bring_up()
    is_over = threading.Event()

    def work():
        while not is_over.is_set():
            executor.spin_once(timeout_sec=0.01)
            node.tick()

    thread = threading.Thread(target=work)
    thread.start()
    yield node
    is_over.set()
    thread.join()
    executor.shutdown()
    node.tear_down()
    node.destroy_node()
    rclpy.try_shutdown()


def test_plan_is_the_planner_s_for_the_policy_s_instruction_and_epoch(
    robot, planner_node, wait_until
):
    from vla_ros.plan_messages import latent_plan_from_message

    message = wait_until(robot.plan, "a plan")
    planner = Planner.from_checkpoint(CHECKPOINT, CONTRACT)
    black = replace(black_observation(planner.pipeline), instruction=TASK)
    plan = latent_plan_from_message(message)
    np.testing.assert_array_equal(plan.values, planner.plan(black).values)
    assert (message.epoch, message.instruction) == (3, TASK)
    assert message.checkpoint_id == planner.checkpoint_id
    assert list(message.camera_names) == list(CONTRACT.cameras)


def test_diagnostics_tell_rate_and_latency_of_the_plans(robot, planner_node, node, wait_until):
    from diagnostic_msgs.msg import DiagnosticArray

    from vla_ros.conversions import status_qos
    from vla_ros.polled_subscription import PolledSubscription

    arrays = PolledSubscription(node, DiagnosticArray, "/diagnostics", status_qos())

    def inference():
        robot.publish()
        array = arrays.take()
        reports = {report.name: report for report in array.status} if array else {}
        report = reports.get("planner_node: inference")
        values = {value.key: value.value for value in report.values} if report else {}
        return values if values and report.message == "running" else None

    values = wait_until(inference, "a report of plans")
    assert float(values["rate [Hz]"]) > 0.0
    assert float(values["latency, median [s]"]) > 0.0
    assert values["device"] == "cpu"


def test_policy_of_another_checkpoint_gets_no_plans_and_is_named(robot, planner_node, wait_until):
    robot.task.checkpoint_id = "other"
    wait_until(
        lambda: robot.status_with("the policy is of checkpoint 'other', but the planner is of"),
        "the reason",
    )
    assert robot.plan() is None


def test_idle_policy_gets_no_plans(robot, planner_node, wait_until):
    robot.task.instruction = ""
    wait_until(lambda: robot.status_with("no instruction"), "the reason")
    assert robot.plan() is None


def test_silent_policy_is_named(robot, planner_node, wait_until):
    robot.task = None
    wait_until(lambda: robot.status_with("/policy_node/status was not heard yet"), "the reason")


def test_deactivated_planner_is_silent_until_activated_again(robot, planner_node, wait_until):
    wait_until(robot.plan, "a plan")
    planner_node.trigger_deactivate()
    wait_until(lambda: robot.status_with("inactive"), "its status")
    robot.plan()
    assert robot.plan() is None
    planner_node.trigger_activate()
    wait_until(robot.plan, "a plan")


class Plans:
    """A policy's receiver of plans, and who sends them."""

    def __init__(self, node):
        from vla_msgs.msg import LatentPlan

        from vla_ros.conversions import command_qos
        from vla_ros.plan_messages import PlanReceiver

        self.policy = PlannedPolicy.from_checkpoint(CHECKPOINT, contract=CONTRACT)
        self.receiver = PlanReceiver(node)
        self.observation = black_observation(self.policy.pipeline)
        self._sender = (LatentPlan, "latent_plan", command_qos())
        self._node, self._plans = node, None

    def gap(self, **fields):
        """Send a plan and return what the receiver says for epoch 3; '' if it can be followed."""
        from vla_core.types import LatentPlan
        from vla_ros.plan_messages import latent_plan_message

        if self._plans is None:
            self._plans = self._node.create_publisher(*self._sender)
        plan = LatentPlan(
            values=np.zeros(64, np.float32),
            stamp_ns=0,
            checkpoint_id=self.policy.checkpoint_id,
            instruction=TASK,
        )
        message = latent_plan_message(
            plan,
            sequence=1,
            epoch=3,
            inference_start_ns=0,
            generation_ns=0,
            image_stamps_ns={},
        )
        for name, value in fields.items():
            setattr(message, name, value)
        self._plans.publish(message)
        return self.said()

    def said(self):
        gap = self.receiver.prepare(self.policy, self.observation, 3)
        return "" if gap is None else gap.reason


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, ""),
        ({"epoch": 2}, "not for the newest instruction"),
        ({"checkpoint_id": "other"}, "the plan is of checkpoint 'other', but the policy is of"),
        ({"shape": [3]}, "plan must be a vector"),
    ],
)
def test_only_plans_of_the_own_checkpoint_and_epoch_are_followed(node, wait_until, fields, reason):
    plans = Plans(node)
    assert "has no publisher" in plans.said()
    wait_until(lambda: "nothing was received" not in plans.gap(**fields), "the plan")
    said = plans.said()
    assert said == "" if reason == "" else reason in said
