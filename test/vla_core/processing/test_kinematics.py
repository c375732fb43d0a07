# SPDX-License-Identifier: MIT
"""Kinematics against MuJoCo, which reads the same URDF."""

import subprocess
import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import vla_core.sim
from vla_core.errors import ConfigError, ShapeError
from vla_core.processing.kinematics import (
    KinematicChain,
    rotation_from_vector,
    vector_from_rotation,
)
from vla_core.processing.urdf import parse_urdf

PATH = Path(vla_core.sim.__file__).parent / "assets" / "tabletop_arm.urdf"
ARM = KinematicChain(parse_urdf(PATH.read_text()), "base_link", "tool0")
FINGER = KinematicChain(parse_urdf(PATH.read_text()), "base_link", "finger_left")
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def model():
    return mujoco.MjModel.from_xml_path(str(PATH))


def reference(model, chain, positions, body):
    """Return position, rotation and Jacobian [6, J] of a body from MuJoCo."""
    data = mujoco.MjData(model)
    columns = []
    for name, position in zip(chain.joints, positions, strict=True):
        data.qpos[model.joint(name).qposadr[0]] = position
        columns.append(model.joint(name).dofadr[0])
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    jacobian = np.zeros((6, model.nv))
    mujoco.mj_jacBody(model, data, jacobian[:3], jacobian[3:], model.body(body).id)
    found = data.body(body)
    return found.xpos.copy(), found.xmat.reshape(3, 3).copy(), jacobian[:, columns]


def random_positions(chain, seed, share=1.0):
    rng = np.random.default_rng(seed)
    middle, half = 0.5 * (chain.lower + chain.upper), 0.5 * (chain.upper - chain.lower)
    return middle + share * half * rng.uniform(-1.0, 1.0, len(half))


@pytest.mark.parametrize(("chain", "body"), [(ARM, "tool0"), (FINGER, "finger_left")])
@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_pose_and_jacobian_are_those_of_mujoco(model, chain, body, seed):
    positions = random_positions(chain, seed)
    position, rotation, jacobian = reference(model, chain, positions, body)
    found, found_rotation = chain.tool_pose(positions)
    np.testing.assert_allclose(found, position, atol=1e-9)
    np.testing.assert_allclose(found_rotation, rotation, atol=1e-9)
    np.testing.assert_allclose(chain.jacobian(positions), jacobian, atol=1e-9)


@pytest.mark.parametrize("chain", [ARM, FINGER])
def test_many_positions_at_once_are_the_same(chain):
    positions = np.stack([random_positions(chain, seed) for seed in range(8)])
    expected = [chain.tool_pose(row)[0] for row in positions]
    np.testing.assert_allclose(chain.tool_positions(positions), expected, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_a_pose_nearby_is_found(seed):
    rng = np.random.default_rng(seed)
    wanted = random_positions(ARM, seed)
    # A stretched arm may fold to its other side, where a limit can be in the way.
    assume(np.linalg.svd(ARM.jacobian(wanted), compute_uv=False)[-1] > 0.02)
    position, rotation = ARM.tool_pose(wanted)
    start = np.clip(wanted + rng.normal(0.0, 0.05, 6), ARM.lower, ARM.upper)
    solution = ARM.solve(position, rotation, start)
    found, found_rotation = ARM.tool_pose(solution.positions)
    np.testing.assert_allclose(found, position, atol=1e-4)
    np.testing.assert_allclose(found_rotation, rotation, atol=1e-3)
    assert (solution.positions >= ARM.lower).all()
    assert (solution.positions <= ARM.upper).all()


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
@example(seed=3171)  # ends at a limit, a millimetre away
def test_what_is_missing_from_a_pose_nearby_is_said(seed):
    rng = np.random.default_rng(seed)
    wanted = random_positions(ARM, seed)
    position, rotation = ARM.tool_pose(wanted)
    start = np.clip(wanted + rng.normal(0.0, 0.05, 6), ARM.lower, ARM.upper)
    solution = ARM.solve(position, rotation, start)
    missing = np.linalg.norm(position - ARM.tool_pose(solution.positions)[0])
    assert solution.position_error == pytest.approx(missing, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_poses_that_are_searched_at_once_are_found_as_one_by_one(seed):
    rng = np.random.default_rng(seed)
    start = random_positions(ARM, seed)
    wanted = np.clip(start + rng.normal(0.0, 0.05, (5, 6)), ARM.lower, ARM.upper)
    positions, rotations = ARM.tool_pose(wanted)
    together = ARM.solve(positions, rotations, start)
    for row, (position, rotation) in enumerate(zip(positions, rotations, strict=True)):
        alone = ARM.solve(position, rotation, start)
        np.testing.assert_allclose(together.positions[row], alone.positions, atol=1e-2)
        assert together.position_error[row] <= alone.position_error + 1e-4


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, distance_m=st.floats(0.9, 5.0))
def test_what_is_missing_from_a_pose_out_of_reach_is_said(seed, distance_m):
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=3)
    position = distance_m * direction / np.linalg.norm(direction)
    start = random_positions(ARM, seed)
    solution = ARM.solve(position, None, start)
    found = ARM.tool_pose(solution.positions)[0]
    assert np.isfinite(solution.positions).all()
    assert solution.position_error == pytest.approx(np.linalg.norm(position - found), abs=1e-9)
    assert solution.position_error <= np.linalg.norm(position - ARM.tool_pose(start)[0]) + 1e-9
    assert (solution.positions >= ARM.lower).all()
    assert (solution.positions <= ARM.upper).all()


def test_a_singular_start_gives_finite_joints():
    position = ARM.tool_pose(np.zeros(6))[0]
    solution = ARM.solve(position - (0.0, 0.0, 0.05), None, np.zeros(6))
    assert np.isfinite(solution.positions).all()


def test_narrower_limits_hold():
    lower, upper = np.full(6, -0.1), np.full(6, 0.1)
    position, rotation = ARM.tool_pose(np.full(6, 0.5))
    solution = ARM.solve(position, rotation, np.zeros(6), lower=lower, upper=upper)
    assert np.abs(solution.positions).max() <= 0.1
    assert solution.position_error > 0.05


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS, angle=st.one_of(st.floats(0.0, np.pi), st.floats(3.14159, np.pi)))
def test_rotation_vectors_and_matrices_are_inverse(seed, angle):
    axis = np.random.default_rng(seed).normal(size=3)
    vector = angle * axis / np.linalg.norm(axis)
    rotation = rotation_from_vector(vector)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
    back = vector_from_rotation(rotation)
    np.testing.assert_allclose(rotation_from_vector(back), rotation, atol=1e-6)
    assert np.linalg.norm(back) <= np.pi + 1e-9


@pytest.mark.parametrize(
    ("base", "tip", "message"),
    [
        ("world", "tool0", "base_link 'world' is not in the URDF; its links: .*'link_1'"),
        ("base_link", "tool9", "tip_link 'tool9' is not in the URDF"),
        ("link_3", "link_1", "does not hang from base_link 'link_3'"),
        ("link_6", "tool0", "at least one must move; got none"),
        ("link_6", "finger_right", "follow no other.*got 'gripper_mirror_joint'"),
    ],
)
def test_chain_that_cannot_be_is_refused(base, tip, message):
    with pytest.raises(ConfigError, match=message):
        KinematicChain(parse_urdf(PATH.read_text()), base, tip)


def test_positions_of_other_joints_are_refused():
    with pytest.raises(ShapeError, match=r"must be \[\.\.\., 6\].*joint_1.*got \[7\]"):
        ARM.tool_pose(np.zeros(7))
    with pytest.raises(ShapeError, match=r"must be \[N, 6\], got \[6\]"):
        ARM.tool_positions(np.zeros(6))


def test_kinematics_load_neither_torch_nor_mujoco():
    code = (
        "import sys, vla_core.processing.kinematics, vla_core.inference.command_stream;"
        "assert not {'torch', 'mujoco', 'rclpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
