import subprocess
import sys
import xml.etree.ElementTree as ET

import mujoco
import numpy as np
import pytest

from vla_core.errors import ConfigError, ShapeError
from vla_core.processing.contract import load_contract
from vla_core.sim.arm_model import ASSETS, HOME, JOINTS
from vla_core.sim.robot_sim import SUCCESS_HEIGHT_M, SUCCESS_HOLD_S
from vla_core.sim.scene import BLOCK_SIZE_M, CAMERAS, COLOURS, TabletopSim
from vla_core.sim.tasks import TIMESTEP_S


def hold_up(sim, colour, height_m, seconds):
    """Carry a block at a height against gravity, with the arm at home."""
    for _ in range(round(seconds / TIMESTEP_S)):
        position, yaw = sim.block_pose(colour)
        sim.set_block_pose(colour, [position[0], position[1], BLOCK_SIZE_M / 2 + height_m], yaw)
        sim.step(HOME)


def test_same_seed_gives_the_same_scene_and_another_seed_another(sim):
    places = []
    for seed in (5, 5, 6):
        target = sim.reset(seed)
        places.append([target, *(sim.block_pose(colour)[0].tolist() for colour in COLOURS)])
    assert places[0] == places[1]
    assert places[0][1:] != places[2][1:]


def test_target_can_be_named_without_moving_the_blocks(sim):
    sim.reset(5)
    before = [sim.block_pose(colour)[0].tolist() for colour in COLOURS]
    assert sim.reset(5, "blue") == "blue"
    assert sim.task_status().target == "blue"
    assert [sim.block_pose(colour)[0].tolist() for colour in COLOURS] == before


def test_unknown_target_names_the_blocks(sim):
    with pytest.raises(ConfigError, match=r"'pink' is unknown; available: 'red', 'green', 'blue'"):
        sim.reset(0, "pink")


def test_arm_at_rest_holds_its_commanded_position(sim):
    sim.reset(0)
    sim.step(HOME, 500)
    np.testing.assert_allclose(sim.joint_positions(), HOME, atol=2e-3)
    np.testing.assert_allclose(sim.joint_velocities(), 0.0, atol=1e-3)


def test_arm_reaches_a_commanded_position(sim):
    sim.reset(0)
    goal = HOME + np.array([0.3, -0.1, 0.1, 0.0, 0.1, -0.2, -0.02])
    sim.step(goal, 1000)
    np.testing.assert_allclose(sim.joint_positions(), goal, atol=5e-3)


def test_fingers_mirror_each_other(sim):
    sim.reset(0)
    sim.step(np.append(HOME[:-1], 0.015), 500)
    mirror = sim.data.joint("arm/gripper_mirror_joint").qpos[0]
    assert mirror == pytest.approx(sim.joint_positions()[-1], abs=1e-3)


def test_blocks_leave_room_for_the_open_gripper():
    simulation = TabletopSim()
    for seed in range(30):
        simulation.reset(seed)
        centres = [simulation.block_pose(colour)[0][:2] for colour in COLOURS]
        gaps = [np.linalg.norm(a - b) for i, a in enumerate(centres) for b in centres[:i]]
        assert min(gaps) >= 0.1


@pytest.mark.parametrize("command", [np.zeros(6), np.full(7, np.nan)])
def test_bad_command_is_refused(sim, command):
    with pytest.raises(ShapeError, match="command_positions"):
        sim.step(command)


def test_lifting_the_target_long_enough_is_success(sim):
    sim.reset(1, "green")
    hold_up(sim, "green", SUCCESS_HEIGHT_M + 0.01, SUCCESS_HOLD_S - 0.1)
    assert not sim.task_status().success
    hold_up(sim, "green", SUCCESS_HEIGHT_M + 0.01, 0.15)
    assert sim.task_status().success


def test_lifting_the_target_a_little_is_no_success(sim):
    sim.reset(1, "green")
    hold_up(sim, "green", SUCCESS_HEIGHT_M - 0.01, 2 * SUCCESS_HOLD_S)
    assert not sim.task_status().success


def test_dropping_the_target_starts_the_hold_again(sim):
    sim.reset(1, "green")
    for _ in range(2):
        hold_up(sim, "green", SUCCESS_HEIGHT_M + 0.01, 0.6 * SUCCESS_HOLD_S)
        hold_up(sim, "green", 0.0, 0.05)
    assert not sim.task_status().success


def test_lifting_another_block_fails_for_good(sim):
    sim.reset(1, "green")
    hold_up(sim, "red", SUCCESS_HEIGHT_M + 0.01, 0.1)
    hold_up(sim, "red", 0.0, 0.05)
    hold_up(sim, "green", SUCCESS_HEIGHT_M + 0.01, 2 * SUCCESS_HOLD_S)
    status = sim.task_status()
    assert status.failed
    assert not status.success


@pytest.mark.parametrize("camera", CAMERAS)
def test_camera_shows_a_scene_that_changes_with_the_blocks(sim, camera):
    sim.reset(3)
    first = sim.render(camera).copy()
    sim.reset(4)
    second = sim.render(camera)
    assert first.shape == (192, 192, 3)
    assert first.dtype == np.uint8
    assert (first != second).mean() > 0.001


def test_segmentation_finds_each_block_where_its_colour_is(sim):
    sim.reset(3)
    image = sim.render("front").copy()
    blocks = sim.render_segmentation("front")
    for index, channel in enumerate(range(3)):
        pixels = image[blocks == index]
        assert len(pixels) > 50
        assert (pixels.argmax(axis=1) == channel).all()


def test_unknown_camera_names_the_cameras(sim):
    with pytest.raises(ConfigError, match="'side' does not exist; available: front, wrist"):
        sim.render("side")


def test_contract_names_the_joints_of_the_urdf_and_keeps_within_its_limits():
    contract = load_contract("sim")
    urdf = {
        joint.get("name"): joint for joint in ET.parse(ASSETS / "tabletop_arm.urdf").iter("joint")
    }
    assert contract.action.joints == JOINTS
    for name in JOINTS:
        bounds = urdf[name].find("limit").attrib
        limits = contract.limits[name]
        assert limits.lower >= float(bounds["lower"])
        assert limits.upper <= float(bounds["upper"])
        assert limits.velocity <= float(bounds["velocity"])


def test_model_is_the_urdf_attached_to_the_scene(sim):
    arm = mujoco.MjSpec.from_file(str(ASSETS / "tabletop_arm.urdf"))
    for body in arm.bodies:
        if body.name != "world":
            assert sim.model.body(f"arm/{body.name}").id > 0


def test_a_policy_can_be_trained_in_the_process_that_has_rendered():
    # The optimizer imports Triton, which may bring an LLVM beside that of the renderer.
    program = """
import torch
from vla_core.sim.scene import TabletopSim

sim = TabletopSim()
sim.reset(0)
sim.render("front")
layer = torch.nn.Linear(2, 2)
optimizer = torch.optim.AdamW(layer.parameters())
layer(torch.ones(1, 2)).sum().backward()
optimizer.step()
print("trained")
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (0, "trained\n"), result.stderr
