# SPDX-License-Identifier: MIT
import sys

import pytest

from vla_core.errors import ConfigError
from vla_ros.outputs.base import import_interface

pytestmark = pytest.mark.ros


@pytest.mark.parametrize(
    ("output", "package", "sections"),
    [
        ("follow_joint_trajectory", "control_msgs", {}),
        ("servo_joint_jog", "control_msgs", {}),
    ],
)
def test_a_missing_package_is_named_with_the_output_that_needs_it(
    build, make_contract, monkeypatch, output, package, sections
):
    monkeypatch.setitem(sys.modules, package, None)
    for module in [name for name in sys.modules if name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(ConfigError, match=f"'{output}' needs the ROS package {package}") as caught:
        build(make_contract(output, "arm/target", **sections), waits=False)
    assert "ros-jazzy-control-msgs" in str(caught.value)


@pytest.mark.parametrize("output", ["gripper_command", "parallel_gripper_command"])
def test_a_gripper_output_names_its_missing_package_too(build, make_contract, monkeypatch, output):
    monkeypatch.setitem(sys.modules, "control_msgs", None)
    monkeypatch.delitem(sys.modules, "control_msgs.action", raising=False)
    gripper = {"open": 0.04, "closed": 0.0, "output": output, "topic": "gripper/cmd"}
    contract = make_contract(topic="arm/trajectory", grippers={"gripper_joint": gripper})
    with pytest.raises(ConfigError, match=f"'{output}' needs the ROS package control_msgs"):
        build(contract, waits=False)


def test_a_package_that_is_there_is_returned():
    assert import_interface("std_msgs.msg", "any").Bool().data is False


def test_an_error_inside_of_a_package_is_not_hidden(tmp_path, monkeypatch):
    package = tmp_path / "broken_msgs"
    package.mkdir()
    (package / "__init__.py").write_text("import a_module_that_nobody_has\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="a_module_that_nobody_has"):
        import_interface("broken_msgs", "any")


def test_a_problem_is_told_while_it_is_fresh(build, make_contract, monkeypatch):
    from vla_ros.outputs import base

    output = build(make_contract(topic="arm/joint_trajectory"))
    output.report("it does not listen")
    assert "it does not listen" in output.problems()
    later = base.time.monotonic() + 10.0
    monkeypatch.setattr(base.time, "monotonic", lambda: later)
    assert "it does not listen" not in output.problems()


def test_joints_are_split_to_the_topics_of_their_controllers(
    build, make_contract, node, motion, spin_until
):
    from trajectory_msgs.msg import JointTrajectory

    from vla_ros.conversions import status_qos
    from vla_ros.polled_subscription import PolledSubscription

    joints = list(make_contract(topic="any").action.joints)
    topics = {"left/joint_trajectory": joints[:3], "right/joint_trajectory": joints[3:]}
    received = [PolledSubscription(node, JointTrajectory, t, status_qos()) for t in topics]
    outputs = build(make_contract(topics=topics))
    spin_until(lambda: all(r.num_publishers for r in received), "the publishers")
    command = motion.command()
    for output in outputs:
        output.send(command)
    for subscription, columns in zip(received, (slice(0, 3), slice(3, 7)), strict=True):
        message = spin_until(subscription.take, "a trajectory")
        assert list(message.joint_names) == joints[columns]
        assert list(message.points[1].positions) == command.positions[0, columns].tolist()
