# SPDX-License-Identifier: MIT
"""Every kind of action becomes joint positions."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vla_core.sim
from vla_core.errors import ChunkError, ConfigError
from vla_core.inference.joint_targets import ActionReader
from vla_core.inference.workspace import Workspace
from vla_core.processing.contract import RobotContract, WorkspaceContract, load_contract
from vla_core.processing.kinematics import limits_and_chain, rotation_from_vector
from vla_core.types import ActionChunk

URDF = Path(vla_core.sim.__file__).parent / "assets" / "tabletop_arm.urdf"
HOME = np.array([0.0, 0.11231, 1.56362, 0.0, 1.46566, 0.0, 0.04])


def make_contract(kind, **parts) -> RobotContract:
    data = load_contract("sim").to_dict()
    data["action"] |= {"kind": kind, **parts.pop("action", {})}
    data["grippers"] = {"gripper_joint": {"open": 0.045, "closed": 0.0}}
    data["kinematics"] = {"urdf": str(URDF), "base_link": "base_link", "tip_link": "tool0"}
    return RobotContract.from_dict({**data, **parts})


def make_reader(kind, box=None, **parts):
    contract = make_contract(kind, **parts)
    limits, chain = limits_and_chain(contract)
    workspace = None if box is None else Workspace(box, chain, limits)
    return ActionReader(contract, limits, chain, workspace), chain


def make_chunk(actions, kind, /, **changes) -> ActionChunk:
    actions = np.asarray(actions, dtype=np.float64)
    contract = make_contract(kind)
    values = {
        "actions": actions,
        "policy_actions": actions.astype(np.float32),
        "joints": contract.action_names,
        "dt_s": 0.1,
        "stamp_ns": 0,
        "checkpoint_id": "test",
        "instruction": "move",
        "kind": kind,
    }
    return ActionChunk(**{**values, **changes})


def read(kind, actions, **settings):
    reader, chain = make_reader(kind, **settings)
    return reader.joint_targets(make_chunk(actions, kind), HOME), chain


def test_absolute_positions_are_taken_as_they_are():
    actions = np.tile(HOME, (3, 1)) - 0.01
    targets, _ = read("joint_position", actions)
    np.testing.assert_array_equal(targets.positions, actions)
    assert (targets.tool_cut_m, targets.excess) == (0.0, "")


def test_changes_add_up_from_the_start_and_the_gripper_stays_absolute():
    actions = np.tile([0.01, 0.0, 0.0, 0.0, 0.0, -0.02, 0.03], (3, 1))
    targets, _ = read("joint_delta", actions)
    np.testing.assert_allclose(targets.positions[:, 0], [0.01, 0.02, 0.03])
    np.testing.assert_allclose(targets.positions[:, 5], [-0.02, -0.04, -0.06])
    np.testing.assert_allclose(targets.positions[:, 6], 0.03)


@pytest.mark.parametrize("frame", ["base", "tool"])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_tool_changes_add_up_in_the_axes_of_their_frame(frame, seed):
    rng = np.random.default_rng(seed)
    changes = np.hstack((rng.normal(0, 0.005, (6, 3)), rng.normal(0, 0.03, (6, 3))))
    actions = np.hstack((changes, np.full((6, 1), 0.02)))
    targets, chain = read("end_effector_delta", actions, action={"delta_frame": frame})
    tool, rotation = chain.tool_pose(HOME[:6])
    for change, joints in zip(changes, targets.positions, strict=True):
        turn = rotation_from_vector(change[3:])
        if frame == "base":
            tool, rotation = tool + change[:3], turn @ rotation
        else:
            tool, rotation = tool + rotation @ change[:3], rotation @ turn
        found, found_rotation = chain.tool_pose(joints[:6])
        np.testing.assert_allclose(found, tool, atol=2e-4)
        np.testing.assert_allclose(found_rotation, rotation, atol=2e-3)
        assert joints[6] == 0.02
    assert targets.tool_cut_m == 0.0
    assert "pose" not in targets.excess


def test_pose_out_of_reach_is_approached_and_reported():
    actions = np.zeros((20, 7))
    actions[:, 0] = 0.05
    targets, chain = read("end_effector_delta", actions)
    assert targets.tool_cut_m > 0.3
    assert targets.excess.startswith("the tool stays")
    limits = make_contract("end_effector_delta").limits
    for column, name in enumerate(chain.joints):
        assert targets.positions[:, column].min() >= limits[name].lower
        assert targets.positions[:, column].max() <= limits[name].upper
    reached = chain.tool_positions(targets.positions[:, :6])[:, 0]
    assert reached.max() > chain.tool_pose(HOME[:6])[0][0] + 0.1


@pytest.mark.parametrize("kind", ["joint_position", "end_effector_delta"])
def test_targets_outside_the_workspace_are_pulled_to_its_side(kind):
    box = WorkspaceContract(lower=(0.1, -0.1, 0.0), upper=(0.6, 0.1, 0.6))
    if kind == "joint_position":
        actions = np.tile(HOME, (8, 1))
        actions[:, 0] = np.linspace(0.0, 0.8, 8)
    else:
        actions = np.zeros((8, 7))
        actions[:, 1] = 0.03
    reader, chain = make_reader(kind, box)
    targets = reader.joint_targets(make_chunk(actions, kind), HOME)
    tools = chain.tool_positions(targets.positions[:, :6])
    assert (tools[:, 1] <= 0.1).all()
    assert tools[-1, 1] > 0.09
    assert targets.tool_cut_m > 0.1
    assert targets.excess.startswith("the tool would leave the workspace by 0.")


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        (2, [2.9, 2.9], "joint_3 would leave its range by 0.2"),
        (5, [0.0, 0.5], "joint_6 would move 0.3 too far in a step of 0.1 s"),
    ],
)
def test_what_exceeds_the_limits_of_the_joints_is_said(column, values, message):
    actions = np.tile(HOME, (2, 1))
    actions[:, column] = values
    targets, _ = read("joint_position", actions)
    assert targets.excess.startswith(message)
    np.testing.assert_array_equal(targets.positions, actions)


def test_gripper_may_open_in_one_step():
    actions = np.tile(HOME, (2, 1))
    actions[:, 6] = [0.0, 0.045]
    assert read("joint_position", actions)[0].excess == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "joint_position"}, "kind must be 'joint_delta' like the contract's"),
        ({"joints": tuple("abcdefg")}, "chunk must be for joints joint_1, .* got a, b"),
        ({"actions": np.full((2, 7), np.nan)}, r"finite, got nan for joint_1 in step 0"),
        ({"actions": np.full((2, 7), 1e5)}, r"within \+-10000, got 100000"),
    ],
)
def test_chunk_that_is_not_what_the_contract_says_is_refused(changes, message):
    reader, _ = make_reader("joint_delta")
    with pytest.raises(ChunkError, match=message):
        reader.require_readable(make_chunk(np.zeros((2, 7)), "joint_delta", **changes))


def test_joint_that_no_end_effector_action_moves_is_refused():
    contract = make_contract("end_effector_delta", grippers={})
    limits, chain = limits_and_chain(contract)
    with pytest.raises(ConfigError, match="'gripper_joint', which neither moves the tool"):
        ActionReader(contract, limits, chain)


def test_joint_of_the_chain_that_is_not_commanded_is_refused():
    joints = ["joint_1", "joint_2", "gripper_joint"]
    contract = make_contract("end_effector_delta", action={"joints": joints})
    limits, chain = limits_and_chain(contract)
    with pytest.raises(ConfigError, match=r"'joint_3', 'joint_4'.* is not in action\.joints"):
        ActionReader(contract, limits, chain)
