# SPDX-License-Identifier: MIT
"""Plans as goals of a real action server: few of them, replaced in time, results in words."""

import numpy as np
import pytest

from vla_core.processing.messages import time_ns

pytestmark = pytest.mark.ros

actions = pytest.importorskip("control_msgs.action")


class Server:
    """A FollowJointTrajectory server that ends each goal as it is told, or when replaced."""

    def __init__(self, node):
        from rclpy.action import ActionServer, CancelResponse, GoalResponse

        self.goals = []
        self.error_code = None
        self.accepts = True
        self._handles = []
        self._server = ActionServer(
            node,
            actions.FollowJointTrajectory,
            "arm/follow_joint_trajectory",
            execute_callback=self._execute,
            goal_callback=lambda goal: (
                GoalResponse.ACCEPT if self.accepts else GoalResponse.REJECT
            ),
            cancel_callback=lambda handle: CancelResponse.ACCEPT,
            handle_accepted_callback=self._accept,
        )

    def _accept(self, handle):
        self.goals.append(handle.request.trajectory)
        self._handles.append(handle)
        # As the controller does: a new goal aborts the one before.
        while len(self._handles) > 1:
            self._handles.pop(0).execute()

    def _execute(self, handle):
        handle.abort() if self.error_code is None or self.error_code else handle.succeed()
        code = -1 if self.error_code is None else self.error_code
        return actions.FollowJointTrajectory.Result(error_code=code, error_string="by the test")

    def end(self, error_code):
        self.error_code = error_code
        self._handles.pop(0).execute()

    def destroy(self):
        self._server.destroy()


@pytest.fixture
def server(make_node, spin):
    server = Server(make_node("arm"))
    yield server
    spin(20)  # a result that was never awaited would be a warning
    server.destroy()


@pytest.fixture
def output(build, make_contract, server):
    return build(make_contract("follow_joint_trajectory", "arm/follow_joint_trajectory"))


def test_without_a_server_nothing_may_be_sent(build, make_contract):
    contract = make_contract("follow_joint_trajectory", "nowhere/follow_joint_trajectory")
    output = build(contract, waits=False)
    output.poll()
    assert "no server of nowhere/follow_joint_trajectory" in output.blocker()


def test_a_plan_arrives_as_a_goal_that_begins_with_the_command_of_its_tick(
    output, server, motion, spin_until
):
    command = motion.command()
    output.send(command)
    (goal,) = spin_until(lambda: server.goals, "a goal")
    assert tuple(goal.joint_names) == output.joints
    assert time_ns(goal.header.stamp) == command.now_ns
    sent = np.array([point.positions for point in goal.points])
    np.testing.assert_array_equal(sent[0], command.position)
    np.testing.assert_array_equal(sent[1:-1], command.positions)
    np.testing.assert_array_equal(sent[-1], command.positions[-1])


def test_plans_that_go_where_the_last_goal_leads_need_no_new_goal(
    output, server, motion, spin, spin_until
):
    for tick in range(50):
        output.send(motion.command(num_ticks=30 if tick < 20 else 60))
        spin()
    spin_until(lambda: len(server.goals) >= 2, "the goal that follows the end of the first")
    assert len(server.goals) <= 4


@pytest.mark.parametrize("num_ticks_before", [0, 3])
def test_a_stop_is_sent_at_once(output, server, motion, spin_until, num_ticks_before):
    output.send(motion.command(num_ticks=60))
    spin_until(lambda: len(server.goals) == 1, "the first goal")
    for _ in range(num_ticks_before):
        output.send(motion.command(num_ticks=60))
    assert len(server.goals) == 1
    stop = motion.command(is_stopping=True)
    output.send(stop)
    spin_until(lambda: len(server.goals) == 2, "the stop")
    assert list(server.goals[1].points[-1].positions) == stop.positions[-1].tolist()


def test_a_change_of_the_way_waits_for_the_spacing_of_goals(
    output, server, motion, spin, spin_until
):
    output.send(motion.command(num_ticks=60))
    spin_until(lambda: len(server.goals) == 1, "the first goal")
    motion.velocity = -motion.velocity
    output.send(motion.command(num_ticks=60))
    spin(20)
    assert len(server.goals) == 1
    changed = motion.command(num_ticks=60)
    output.send(changed)
    spin_until(lambda: len(server.goals) == 2, "the goal along the new way")
    assert time_ns(server.goals[1].header.stamp) == changed.now_ns


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-1, "the goal is invalid"),
        (-2, "its joints are not those of the controller"),
        (-3, "its stamp is in the past"),
        (-4, "the arm has left the tolerance of its path"),
        (-5, "the arm has not reached the end within its tolerance"),
    ],
)
def test_a_result_is_reported_in_words(output, server, motion, spin_until, code, words):
    output.send(motion.command())
    spin_until(lambda: server.goals, "a goal")
    server.end(code)
    (problem,) = spin_until(output.problems, "the problem")
    assert words in problem
    assert "by the test" in problem


def test_success_and_being_replaced_are_no_problems(output, server, motion, spin, spin_until):
    for _ in range(4):
        output.send(motion.command(num_ticks=2))
        motion.velocity = -motion.velocity
        for _ in range(2):
            motion.command()
        before = len(server.goals)
        spin_until(lambda before=before: len(server.goals) > before, "the goal")
    server.end(0)
    spin(20)
    assert output.problems() == ()


def test_a_rejected_goal_is_reported(output, server, motion, spin_until):
    server.accepts = False
    output.send(motion.command())
    (problem,) = spin_until(output.problems, "the problem")
    assert "arm/follow_joint_trajectory has rejected a goal" in problem


def test_the_next_motion_begins_with_a_goal(output, server, motion, spin_until):
    output.send(motion.command())
    spin_until(lambda: len(server.goals) == 1, "the first goal")
    output.stop()
    command = motion.command()
    output.send(command)
    spin_until(lambda: len(server.goals) == 2, "the second goal")
    np.testing.assert_array_equal(server.goals[1].points[0].positions, command.position)


def test_the_output_asks_for_plans_that_outlast_a_replacement(output):
    assert output.lookahead_s >= 0.2
