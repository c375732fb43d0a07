# SPDX-License-Identifier: MIT
"""Markers of command_node over real DDS: the path of the tool, and where chunks disagree."""

import numpy as np
import pytest
import yaml

from vla_core.processing.contract import RobotContract, load_contract
from vla_core.processing.kinematics import limits_and_chain

pytestmark = pytest.mark.ros

KINEMATICS = {
    "urdf": "package://vla_core/sim/assets/tabletop_arm.urdf",
    "base_link": "base_link",
    "tip_link": "tool0",
}


@pytest.fixture
def contract(tmp_path):
    data = {**load_contract("sim").to_dict(), "kinematics": KINEMATICS}
    (tmp_path / "robot.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    return RobotContract.from_dict(data)


@pytest.fixture
def show(start_node, contract, tmp_path, node, robot, wait_until):
    """Send chunks with these goals in turn; return the markers when a condition holds."""
    from visualization_msgs.msg import MarkerArray

    from vla_ros.conversions import status_qos
    from vla_ros.polled_subscription import PolledSubscription

    start_node("command_node", "-p", f"contract:={tmp_path / 'robot.yaml'}")
    received = PolledSubscription(node, MarkerArray, "command_node/markers", status_qos())

    def run(*goals, condition=lambda markers: True):
        def shown():
            for goal in goals:
                robot.send_chunk(actions=np.tile(goal, (16, 1)))
                robot.step()
            message = received.take()
            return message and condition(message.markers) and message.markers

        return wait_until(shown, "markers")

    return run


def test_the_line_is_the_path_of_the_tool(show, contract, robot):
    _, chain = limits_and_chain(contract)
    line = show(robot.goal)[0]
    expected, _ = chain.tool_pose(robot.goal[:6])
    points = np.array([[p.x, p.y, p.z] for p in line.points])
    np.testing.assert_allclose(points, np.tile(expected, (16, 1)), atol=1e-9)
    assert line.header.frame_id == "base_link"


def test_chunks_that_agree_have_no_spread(show, robot):
    markers = show(robot.goal)
    assert [marker.ns for marker in markers] == ["path"]


def test_chunks_that_disagree_are_shown_with_their_distance(show, contract, robot):
    _, chain = limits_and_chain(contract)
    goals = robot.goal, robot.start
    positions = [chain.tool_pose(goal[:6])[0] for goal in goals]
    distance = float(np.linalg.norm(positions[1] - positions[0]))
    markers = show(*goals, condition=lambda markers: len(markers) > 1)
    assert {marker.ns for marker in markers} == {"path", "spread"}
    assert max(marker.scale.x for marker in markers[1:]) == pytest.approx(2.0 * distance)
