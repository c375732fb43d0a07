# SPDX-License-Identifier: MIT
"""command_node as a managed node: transitions, parameters at run time, the end of a motion."""

import numpy as np
import pytest

pytestmark = pytest.mark.ros


@pytest.fixture
def change_state(call_service):
    """Ask command_node for a transition and return whether it succeeded."""
    from lifecycle_msgs.srv import ChangeState

    def change(transition):
        request = ChangeState.Request()
        request.transition.id = transition
        return call_service(ChangeState, "command_node/change_state", request).success

    return change


@pytest.fixture
def set_parameter(call_service):
    """Set a parameter of command_node and return the result."""
    from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
    from rcl_interfaces.srv import SetParameters

    def change(name, value):
        typed = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value)
        request = SetParameters.Request(parameters=[Parameter(name=name, value=typed)])
        return call_service(SetParameters, "command_node/set_parameters", request).results[0]

    return change


@pytest.fixture
def moving(robot, start_node, wait_until):
    """An arm that follows a chunk, and the process that commands it."""
    process = start_node("command_node")
    wait_until(
        lambda: robot.step() or (robot.status and np.isfinite(robot.status.joint_state_age)),
        "command_node",
    )
    robot.send_chunk(actions=np.tile(robot.goal, (16, 1)))
    wait_until(
        lambda: robot.step() or np.abs(robot.position - robot.start).max() > 0.01, "a motion"
    )
    return process


def test_a_configuration_that_fails_says_why_and_leaves_the_process_answering(
    start_node, change_state, call_service
):
    from lifecycle_msgs.msg import Transition
    from std_srvs.srv import SetBool

    process = start_node("command_node", "-p", "autostart:=false", "-p", "contract:=nobody")
    assert not change_state(Transition.TRANSITION_CONFIGURE)
    response = call_service(SetBool, "command_node/arm", SetBool.Request(data=True))
    assert not response.success
    assert "contract 'nobody' is not shipped" in response.message
    assert "contract 'nobody' is not shipped" in process.output()
    assert process.process.poll() is None


def test_a_manager_brings_the_node_up_and_down_again(start_node, change_state, robot, wait_until):
    from lifecycle_msgs.msg import Transition

    start_node("command_node", "-p", "autostart:=false")
    for _ in range(2):
        robot.statuses.clear()
        assert change_state(Transition.TRANSITION_CONFIGURE)
        assert change_state(Transition.TRANSITION_ACTIVATE)
        wait_until(lambda: robot.step() or robot.status, "ticks")
        assert change_state(Transition.TRANSITION_DEACTIVATE)
        assert change_state(Transition.TRANSITION_CLEANUP)


def test_an_emergency_stop_outlasts_a_new_configuration(
    start_node, change_state, call_service, robot, wait_until
):
    from lifecycle_msgs.msg import Transition
    from std_srvs.srv import Trigger
    from vla_msgs.msg import CommandStatus

    start_node("command_node", "-p", "autostart:=false")
    assert call_service(Trigger, "command_node/emergency_stop", Trigger.Request()).success
    assert change_state(Transition.TRANSITION_CONFIGURE)
    assert change_state(Transition.TRANSITION_ACTIVATE)
    wait_until(lambda: robot.is_in(CommandStatus.WAITING, "emergency stop"), "the reason")


def test_an_emergency_stop_is_kept_for_a_restart_until_an_orderly_end(
    start_node, call_service, tmp_path, monkeypatch, wait_until
):
    from std_srvs.srv import Trigger

    def kept():
        return list(tmp_path.glob("vla_ros_emergency_stop_*"))

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process = start_node("command_node")
    assert call_service(Trigger, "command_node/emergency_stop", Trigger.Request()).success
    wait_until(kept, "the file that keeps it")
    assert call_service(Trigger, "command_node/reset_emergency_stop", Trigger.Request()).success
    assert not kept()
    assert call_service(Trigger, "command_node/emergency_stop", Trigger.Request()).success
    wait_until(kept, "the file that keeps it")
    assert process.stop() == 0
    assert not kept()


def test_deactivation_in_motion_brings_the_arm_to_rest_first(
    moving, robot, change_state, wait_until
):
    from lifecycle_msgs.msg import Transition
    from vla_msgs.msg import CommandStatus

    assert change_state(Transition.TRANSITION_DEACTIVATE)
    wait_until(lambda: robot.is_in(CommandStatus.HOLDING, "deactivated"), "the hold")
    last = robot.trajectories[-1].points[-1]
    assert list(last.velocities) == [0.0] * 7
    wait_until(lambda: robot.step() or np.allclose(robot.position, last.positions), "the arm")
    assert change_state(Transition.TRANSITION_ACTIVATE)
    robot.send_chunk(epoch=2)
    wait_until(
        lambda: robot.send_chunk(epoch=2) or robot.is_in(CommandStatus.EXECUTING), "motion again"
    )


def test_ctrl_c_in_motion_brings_the_arm_to_rest_first(moving, robot, wait_until):
    from vla_msgs.msg import CommandStatus

    modes = []
    moving.send(2)
    wait_until(
        lambda: (
            robot.step() or modes.append(robot.status.mode) or moving.process.poll() is not None
        ),
        "the end",
    )
    assert moving.process.poll() == 0
    assert CommandStatus.STOPPING in modes
    assert modes[-1] in (CommandStatus.HOLDING, CommandStatus.STOPPING)
    assert "Traceback" not in moving.output()


def test_parameters_that_are_safe_to_change_take_effect_at_once(
    moving, robot, set_parameter, wait_until
):
    from vla_msgs.msg import CommandStatus

    assert set_parameter("blend_s", 0.05).successful
    assert set_parameter("max_tracking_error", 0.001).successful
    robot.controller.hold(robot.start)
    wait_until(lambda: robot.is_in(CommandStatus.HOLDING, "at most 0.001 is allowed"), "the stop")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("blend_s", 7.0, "range"),
        ("marker_rate_hz", 2.0, "is fixed to 5.0 while the node is configured"),
    ],
)
def test_parameters_out_of_range_or_fixed_are_refused(moving, set_parameter, name, value, reason):
    result = set_parameter(name, value)
    assert not result.successful
    assert reason in result.reason
