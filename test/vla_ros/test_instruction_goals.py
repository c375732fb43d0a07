# SPDX-License-Identifier: MIT
"""ExecuteInstruction on policy_node: how a goal begins, goes on and ends."""

import math
import threading

import pytest

pytestmark = pytest.mark.ros

TASK = "pick up the blue block"


class GoalClient:
    """An action client that is spun by a thread; feedback gathers in a list."""

    def __init__(self, domain):
        import rclpy
        from rclpy.action import ActionClient
        from rclpy.executors import SingleThreadedExecutor
        from vla_msgs.action import ExecuteInstruction

        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context, domain_id=domain)
        self._node = rclpy.create_node("goal_client", context=self._context)
        self._kind = ExecuteInstruction
        self._client = ActionClient(
            self._node, ExecuteInstruction, "policy_node/execute_instruction"
        )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin)
        self._thread.start()
        self.feedback = []

    def send(self, instruction=TASK, timeout=0.0):
        """Send a goal and return the handle of what became of it."""
        assert self._client.wait_for_server(60.0)
        goal = self._kind.Goal(instruction=instruction, timeout=timeout)
        return self._wait(
            self._client.send_goal_async(
                goal, feedback_callback=lambda message: self.feedback.append(message.feedback)
            )
        )

    def result(self, handle):
        """Wait for the end of a goal and return its status and result."""
        response = self._wait(handle.get_result_async())
        return response.status, response.result

    def cancel(self, handle):
        self._wait(handle.cancel_goal_async())

    @staticmethod
    def _wait(future):
        is_done = threading.Event()
        future.add_done_callback(lambda _: is_done.set())
        assert is_done.wait(60.0), "the policy did not answer"
        return future.result()

    def close(self):
        self._executor.shutdown()
        self._thread.join()
        self._client.destroy()
        self._node.destroy_node()
        self._context.try_shutdown()


@pytest.fixture
def goals(ros_domain):
    client = GoalClient(ros_domain)
    yield client
    client.close()


@pytest.fixture
def policy(start_policy):
    return start_policy(instruction="")


def revocation(observed_robot):
    message = observed_robot.chunk()
    return message if message and message.horizon == 0 else None


def test_goal_is_followed_until_the_detector_says_that_it_is_done(
    policy, goals, observed_robot, node, wait_until
):
    from action_msgs.msg import GoalStatus
    from std_msgs.msg import Bool
    from vla_msgs.action import ExecuteInstruction

    success = node.create_publisher(Bool, "task_success", 1)
    wait_until(success.get_subscription_count, "the policy")
    handle = goals.send()
    assert handle.accepted
    assert wait_until(observed_robot.chunk, "a chunk").instruction == TASK
    success.publish(Bool(data=False))
    wait_until(lambda: observed_robot.chunk() and len(goals.feedback) > 1, "feedback")
    assert handle.status == GoalStatus.STATUS_EXECUTING
    success.publish(Bool(data=True))
    status, result = goals.result(handle)
    assert (status, result.outcome) == (
        GoalStatus.STATUS_SUCCEEDED,
        ExecuteInstruction.Result.SUCCEEDED,
    )
    assert result.success
    assert result.elapsed > 0.0
    wait_until(lambda: revocation(observed_robot) or policy.loop.task()[0] == "", "the arm's stop")


def test_feedback_tells_latency_ages_and_the_progress_that_a_detector_knows(
    policy, goals, observed_robot, node, wait_until
):
    from std_msgs.msg import Float32
    from vla_msgs.msg import PolicyStatus

    progress = node.create_publisher(Float32, "task_progress", 1)
    wait_until(progress.get_subscription_count, "the policy")
    goals.send()

    def running_feedback():
        observed_robot.publish()
        return goals.feedback and goals.feedback[-1].state == PolicyStatus.RUNNING

    wait_until(running_feedback, "feedback of a running policy")
    feedback = goals.feedback[-1]
    assert math.isnan(feedback.progress)
    assert feedback.sequence > 0
    assert feedback.inference_latency > 0.0
    assert list(feedback.camera_names) == ["front", "wrist"]
    assert all(age >= 0.0 for age in feedback.camera_ages)
    assert feedback.joint_state_age >= 0.0
    progress.publish(Float32(data=0.5))
    wait_until(lambda: goals.feedback[-1].progress == 0.5, "the progress")
    assert goals.feedback[-1].elapsed > feedback.elapsed


def test_goal_without_success_ends_at_its_timeout_and_the_arm_stops(policy, goals):
    from action_msgs.msg import GoalStatus
    from vla_msgs.action import ExecuteInstruction

    status, result = goals.result(goals.send(timeout=0.3))
    assert status == GoalStatus.STATUS_ABORTED
    assert result.outcome == ExecuteInstruction.Result.TIMED_OUT
    assert result.message == "not done within 0.3 s"
    assert not result.success
    assert policy.loop.task()[0] == ""


def test_cancelled_goal_ends_and_the_arm_stops(policy, goals):
    from action_msgs.msg import GoalStatus
    from vla_msgs.action import ExecuteInstruction

    handle = goals.send()
    goals.cancel(handle)
    status, result = goals.result(handle)
    assert status == GoalStatus.STATUS_CANCELED
    assert result.outcome == ExecuteInstruction.Result.CANCELLED
    assert policy.loop.task()[0] == ""


def test_newer_goal_takes_over(policy, goals):
    from vla_msgs.action import ExecuteInstruction

    first = goals.send()
    second = goals.send("pick up the green block", timeout=0.5)
    _, result = goals.result(first)
    assert result.outcome == ExecuteInstruction.Result.PREEMPTED
    assert result.message == "preempted by a newer goal"
    assert policy.loop.task()[0] == "pick up the green block"
    _, result = goals.result(second)
    assert result.outcome == ExecuteInstruction.Result.TIMED_OUT


def test_instruction_from_elsewhere_takes_over_and_goes_on(policy, goals, call_service):
    from vla_msgs.action import ExecuteInstruction
    from vla_msgs.srv import SetInstruction

    handle = goals.send()
    request = SetInstruction.Request(instruction="pick up the red block")
    assert call_service(SetInstruction, "policy_node/set_instruction", request).success
    _, result = goals.result(handle)
    assert result.outcome == ExecuteInstruction.Result.PREEMPTED
    assert policy.loop.task()[0] == "pick up the red block"


def test_deactivated_policy_fails_its_goal(policy, goals, wait_until):
    from vla_msgs.action import ExecuteInstruction

    handle = goals.send()
    wait_until(lambda: goals.feedback, "the goal's begin")
    policy.trigger_deactivate()
    _, result = goals.result(handle)
    assert result.outcome == ExecuteInstruction.Result.FAILED
    assert result.message == "the node was deactivated"
    assert policy.loop.task()[0] == ""


@pytest.mark.parametrize(
    "goal",
    [{"instruction": " "}, {"timeout": -1.0}, {"timeout": math.nan}],
)
def test_goal_that_means_nothing_is_refused(policy, goals, goal):
    assert not goals.send(**goal).accepted
    assert policy.loop.task()[0] == ""


def test_inactive_policy_accepts_no_goal(start_policy, goals):
    start_policy(is_active=False, autostart=False)
    assert not goals.send().accepted
