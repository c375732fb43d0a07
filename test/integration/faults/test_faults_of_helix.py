# SPDX-License-Identifier: MIT
"""Each tier of Helix killed and started again alone: docs/faults.md lists them."""

import signal

import pytest

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def running_helix(run_arm):
    """The whole graph with the simulated robot; the supervisor starts a killed tier again."""
    with run_arm("helix", has_robot=False) as arm:
        yield arm


@pytest.fixture
def helix(running_helix):
    """The arm while it follows its policy."""
    running_helix.wait_for_motion()
    return running_helix


def test_the_planner_is_killed(helix):
    """The policy says that its plan is old, and sends nothing; the arm holds."""
    helix.graph.kill("planner_node", signal.SIGKILL)
    helix.assert_stops_in_time("the observation of the newest chunk is")
    helix.wait_for(helix.is_at_rest, "an arm at rest")
    helix.assert_diagnosed("policy_node: observations", "than the observation, at most 0.4 s")
    helix.assert_goes_on(restarted=("planner_node",))
    assert helix.listener.last("chunk").plan_sequence > 0


def test_the_policy_of_helix_is_killed(helix):
    """It comes back with plans of its new epoch."""
    helix.wait_for(lambda: helix.listener.last("chunk"), "a chunk")
    epoch = helix.listener.last("chunk").epoch
    helix.graph.kill("policy_node", signal.SIGKILL)
    helix.assert_stops_in_time("old, at most 0.6 s is allowed")
    helix.wait_for(helix.is_at_rest, "an arm at rest")
    helix.assert_goes_on(restarted=("policy_node",))
    chunk = helix.listener.last("chunk")
    assert chunk.epoch > epoch
    assert chunk.plan_sequence > 0


def test_the_command_loop_is_killed(helix):
    """The tail of its last plan brings the arm to rest."""
    helix.graph.kill("command_node", signal.SIGKILL)
    helix.wait_for(lambda: not helix.graph.is_alive("command_node"), "its end")
    num_states = len(helix.listener.heard["joints"])
    helix.wait_for(
        lambda: len(helix.listener.heard["joints"]) > num_states and helix.is_at_rest(),
        "an arm at rest",
    )
    helix.assert_goes_on(restarted=("command_node",))


def test_the_command_loop_is_killed_in_an_emergency_stop(helix):
    """It comes back with the stop still in force."""
    from std_srvs.srv import Trigger

    def call(service):
        assert helix.listener.call(Trigger, f"command_node/{service}", Trigger.Request()).success

    call("emergency_stop")
    helix.stop("emergency stop: service")
    pid = helix.graph.pid_of("command_node")
    helix.graph.kill("command_node", signal.SIGKILL)
    helix.wait_for(lambda: helix.graph.pid_of("command_node") != pid, "another process")
    num_before = len(helix.listener.heard["command"])
    helix.wait_for(lambda: len(helix.listener.heard["command"]) > num_before, "its first tick")
    ticks = helix.listener.heard["command"][num_before:]
    assert all(tick.emergency_stop for tick in ticks)
    assert "emergency stop: service ~/emergency_stop, since " in ticks[0].reason
    log = "\n".join(helix.graph.output_of("command_node"))
    assert "call ~/reset_emergency_stop to go on" in log
    call("reset_emergency_stop")
    helix.assert_goes_on(restarted=("command_node",))
