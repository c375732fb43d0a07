# SPDX-License-Identifier: MIT
"""Grippers as real action servers: one goal per change, results watched."""

import numpy as np
import pytest

pytestmark = pytest.mark.ros

actions = pytest.importorskip("control_msgs.action")

KINDS = {
    "gripper_command": actions.GripperCommand,
    "parallel_gripper_command": actions.ParallelGripperCommand,
}


class Gripper:
    """An action server that ends each goal at once, as it is told."""

    def __init__(self, node, kind):
        from rclpy.action import ActionServer

        self.goals = []
        self.stalls = False
        self.reaches = True
        self._kind = kind
        self._server = ActionServer(node, kind, "gripper/cmd", self._execute)

    def _execute(self, handle):
        self.goals.append(handle.request.command)
        handle.succeed() if self.reaches else handle.abort()
        return self._kind.Result(reached_goal=self.reaches, stalled=self.stalls)

    def destroy(self):
        self._server.destroy()


@pytest.fixture
def start(make_node, spin):
    """Start the action server of a kind of output."""
    started = []

    def make(output):
        started.append(Gripper(make_node("gripper"), KINDS[output]))
        return started[-1]

    yield make
    spin(20)
    for gripper in started:
        gripper.destroy()


@pytest.fixture
def drive(build, make_contract, motion, spin):
    """Build the output of a kind and return a function that commands positions, tick by tick."""

    def make(output, waits=True, **settings):
        gripper = {"open": 0.04, "closed": 0.0, "output": output, "topic": "gripper/cmd"}
        contract = make_contract(
            topic="arm/trajectory", grippers={"gripper_joint": {**gripper, **settings}}
        )
        built = build(contract, waits=waits)[1]

        def command(*positions):
            for position in positions:
                message = motion.command()
                message.positions[0, 6] = position
                built.send(message)
                spin()

        return built, command

    return make


@pytest.mark.parametrize("output", list(KINDS))
def test_a_change_is_one_goal(start, drive, spin_until, output):
    gripper = start(output)
    _, command = drive(output, mode="binary", max_effort=20.0)
    command(*([0.04] * 20), *np.linspace(0.04, 0.0, 10), *([0.0] * 30))
    spin_until(lambda: len(gripper.goals) == 2, "both goals")
    if output == "gripper_command":
        assert [goal.position for goal in gripper.goals] == [0.04, 0.0]
        assert gripper.goals[0].max_effort == 20.0
    else:
        assert [list(goal.position) for goal in gripper.goals] == [[0.04], [0.0]]
        assert list(gripper.goals[0].name) == ["gripper_joint"]
        assert list(gripper.goals[0].effort) == [20.0]


def test_without_effort_the_driver_chooses(start, drive, spin_until):
    gripper = start("parallel_gripper_command")
    _, command = drive("parallel_gripper_command")
    command(*([0.02] * 20))
    (goal,) = spin_until(lambda: gripper.goals, "a goal")
    assert list(goal.effort) == []


def test_a_goal_that_is_not_reached_is_reported(start, drive, spin_until):
    gripper = start("gripper_command")
    gripper.reaches = False
    output, command = drive("gripper_command")
    command(*([0.02] * 20))
    (problem,) = spin_until(output.problems, "the problem")
    assert "gripper/cmd: the gripper's goal was aborted" in problem


def test_fingers_that_stall_on_an_object_are_no_problem(start, drive, spin, spin_until):
    gripper = start("gripper_command")
    gripper.reaches, gripper.stalls = False, True
    output, command = drive("gripper_command")
    command(*([0.02] * 20))
    spin_until(lambda: gripper.goals, "a goal")
    spin(20)
    assert output.problems() == ()


@pytest.fixture
def other_process(ros_domain):
    """A node with a participant of its own: one participant has one type per topic."""
    import rclpy

    context = rclpy.Context()
    rclpy.init(args=[], context=context, domain_id=ros_domain)
    node = rclpy.create_node("gripper", context=context)
    yield node
    node.destroy_node()
    context.try_shutdown()


def test_a_server_of_the_other_kind_is_named(other_process, drive, spin_until):
    gripper = Gripper(other_process, actions.ParallelGripperCommand)
    output, _ = drive("gripper_command", waits=False)

    def blocked():
        output.poll()
        return "what is there takes control_msgs/action/ParallelGripperCommand" in output.blocker()

    spin_until(blocked, "the other kind")
    gripper.destroy()


def test_a_goal_that_nobody_answers_is_reported(other_process, drive, spin_until, monkeypatch):
    from vla_ros.outputs import action_goals

    monkeypatch.setattr(action_goals, "_ANSWER_S", 0.1)
    # Nobody spins its node.
    gripper = Gripper(other_process, actions.GripperCommand)
    output, command = drive("gripper_command")
    command(*([0.02] * 20))

    def find_problems():
        output.poll()
        return output.problems()

    assert spin_until(find_problems, "the problem") == (
        "gripper/cmd has not answered a goal for 0.1 s",
    )
    gripper.destroy()


def test_the_successor_of_a_server_that_was_killed_gets_the_goal(
    other_process, start, drive, spin, spin_until
):
    """For a while the killed one seems to be there, as this one, whose node nobody spins."""
    killed = Gripper(other_process, actions.GripperCommand)
    output, command = drive("gripper_command")
    command(*([0.02] * 20))
    successor = start("gripper_command")

    def has_goal():
        output.poll()
        command(0.02)
        return successor.goals

    (goal,) = spin_until(has_goal, "the goal again")
    assert goal.position == 0.02
    spin(20)
    killed.destroy()
