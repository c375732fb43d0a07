import numpy as np
import pytest

from vla_core.sim.arm_kinematics import ArmKinematics
from vla_core.sim.arm_model import HOME
from vla_core.sim.box_scene import AWAY_HEIGHT_M, BOX_CENTRE_M, BOX_INNER_HALF_M, PLACES_M, BoxSim
from vla_core.sim.scene import COLOURS
from vla_core.sim.tasks import TIMESTEP_S

TARGET = "red, then blue"


@pytest.fixture(scope="module")
def box():
    simulation = BoxSim(render_size=96)
    yield simulation
    simulation.close()


def let_rest(sim, seconds):
    for _ in range(round(seconds / (10 * TIMESTEP_S))):
        sim.step(HOME, 10)


def put(sim, colour, place):
    sim.put_inside(np.random.default_rng(place), colour, place)
    let_rest(sim, 0.4)


def test_both_blocks_in_their_order_are_success(box):
    box.reset(0, TARGET)
    put(box, "red", 0)
    assert not box.task_status().success
    put(box, "blue", 1)
    let_rest(box, 0.5)
    assert box.task_status().success
    assert not box.task_status().failed


@pytest.mark.parametrize(
    ("order", "failure"),
    [
        (("blue",), "put the blue block in the box first"),
        (("green",), "put the green block in the box"),
        (("red", "green"), "put the green block in the box"),
    ],
)
def test_wrong_block_fails_for_good(box, order, failure):
    box.reset(0, TARGET)
    for place, colour in enumerate(order):
        put(box, colour, place)
    assert box.task_status().failure == failure
    for place, colour in enumerate(("red", "blue")):
        put(box, colour, place)
    let_rest(box, 0.5)
    assert not box.task_status().success


def test_block_that_leaves_the_box_again_is_not_in_it(box):
    box.reset(0, TARGET)
    before = box.block_pose("red")[0]
    put(box, "red", 0)
    box.set_block_pose("red", before, 0.0)
    put(box, "blue", 1)
    let_rest(box, 0.5)
    assert not box.task_status().success


def test_arm_must_be_away(box):
    box.reset(0, TARGET)
    for place, colour in enumerate(("red", "blue")):
        box.put_inside(np.random.default_rng(0), colour, place)
    above = np.array([*BOX_CENTRE_M, AWAY_HEIGHT_M - 0.015])
    low = np.append(ArmKinematics().solve(box.home[:-1], above, 0.0), box.home[-1])
    box.set_joint_positions(low)
    for _ in range(60):
        box.step(low, 10)
    assert not box.task_status().success
    let_rest(box, 1.5)
    assert box.task_status().success


def test_second_block_is_next_once_the_first_is_in_the_box(box):
    box.reset(0, TARGET)
    assert box.next_colour(TARGET) == "red"
    box.put_inside(np.random.default_rng(0), "blue", 1)
    assert box.next_colour(TARGET) == "red"
    box.put_inside(np.random.default_rng(0), "red", 0)
    assert box.next_colour(TARGET) == "blue"


def test_blocks_leave_room_for_the_gripper_beside_the_box(box):
    for seed in range(30):
        box.reset(seed)
        for colour in COLOURS:
            gap = np.abs(box.block_pose(colour)[0][:2] - BOX_CENTRE_M) - BOX_INNER_HALF_M
            assert gap.max() > 0.06
            assert not box.is_inside(colour)


def test_front_camera_sees_the_blocks_in_the_box(box):
    box.reset(0, TARGET)
    for place, colour in enumerate(("red", "blue")):
        box.put_inside(np.random.default_rng(0), colour, place)
    seen = box.render_segmentation("front")
    for index, colour in enumerate(COLOURS):
        if colour in ("red", "blue"):
            assert (seen == index).sum() > 20


def test_places_in_the_box_are_apart():
    assert np.linalg.norm(PLACES_M[0] - PLACES_M[1]) > 0.06
