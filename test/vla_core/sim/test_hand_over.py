import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from vla_core.errors import ConfigError
from vla_core.sim.env import TabletopEnv
from vla_core.sim.hand_over import (
    BAR_WIDTH_M,
    HandOverSim,
)
from vla_core.sim.hand_over_expert import HandOverExpert
from vla_core.sim.robot_sim import SUCCESS_HEIGHT_M, SUCCESS_HOLD_S
from vla_core.sim.tasks import TIMESTEP_S

LEFT, RIGHT = 0, 1


@pytest.fixture(scope="module")
def env():
    environment = TabletopEnv("hand_over")
    yield environment
    environment.close()


@pytest.fixture(scope="module")
def moments(env):
    """What touches the bar, its height and place, and the success, after each action."""
    expert = HandOverExpert(env.sim)
    env.reset(seed=0)
    seen = []
    for _ in range(round(HandOverExpert.time_limit_s / 0.1)):
        _, _, terminated, _, info = env.step(expert.act(env.command).astype(np.float32))
        touches, position = env.sim.bar_touches(), env.sim.bar_pose()[0]
        seen.append((touches, info["lifted_m"]["bar"], position[1], info["success"]))
        if terminated:
            break
    return seen


@pytest.fixture
def sim():
    simulation = HandOverSim()
    yield simulation
    simulation.close()


def hold_up(sim, y, height_m, seconds):
    """Keep the bar at a height with nothing that touches it."""
    for _ in range(round(seconds / TIMESTEP_S)):
        sim.set_bar_pose(np.array([0.28, y, BAR_WIDTH_M / 2 + height_m]), 0.0)
        sim.step(sim.home)


@pytest.mark.filterwarnings("ignore:.*symmetric and normalized space.*:UserWarning")
def test_environment_passes_gymnasiums_checker(env):
    check_env(env, skip_render_check=True)


def test_left_arm_lifts_the_bar_alone(moments):
    assert {LEFT} in [touches for touches, lifted, _, _ in moments if lifted > SUCCESS_HEIGHT_M]


def test_both_arms_hold_the_bar_in_the_air_before_the_right_one_has_it(moments):
    holders = [touches for touches, lifted, _, _ in moments if lifted > SUCCESS_HEIGHT_M]
    assert {LEFT, RIGHT} in holders
    assert holders.index({LEFT, RIGHT}) < holders.index({RIGHT})


def test_success_comes_with_the_bar_held_by_the_right_arm_alone_in_its_half(moments):
    touches, lifted, y, success = moments[-1]
    assert success
    assert (touches, lifted > SUCCESS_HEIGHT_M, y < 0.0) == ({RIGHT}, True, True)
    assert not any(success for touches, *_, success in moments if touches != {RIGHT})


@pytest.mark.parametrize("seed", range(3))
def test_expert_finds_back_from_where_the_arms_have_drifted(env, seed):
    env.reset(seed=seed)
    expert = HandOverExpert(env.sim)
    rng = np.random.default_rng(seed)
    positions = None
    while positions is None:
        start, positions = expert.choose_start(rng)
    assert start == "adrift"
    env.start_from(positions)
    is_over = False
    while not is_over:
        action = expert.act(env.command).astype(np.float32)
        _, _, terminated, truncated, info = env.step(action)
        is_over = terminated or truncated
    assert info["success"]


def test_same_seed_gives_the_same_bar_and_another_seed_another(sim):
    places = []
    for seed in (5, 5, 6):
        sim.reset(seed)
        places.append(sim.bar_pose()[0].tolist())
    assert places[0] == places[1] != places[2]


def test_unknown_target_names_the_bar(sim):
    with pytest.raises(ConfigError, match="'red' does not exist; available: bar"):
        sim.reset(0, "red")


def test_arms_at_rest_do_not_touch_the_bar(sim):
    for seed in range(20):
        sim.reset(seed)
        sim.step(sim.home, 50)
        assert sim.bar_touches() == {-1}


def test_bar_that_no_arm_holds_is_no_success(sim):
    hold_up(sim, -0.1, SUCCESS_HEIGHT_M + 0.2, 1.5 * SUCCESS_HOLD_S)
    assert not sim.task_status().success


def test_bar_that_falls_from_the_table_fails_for_good(sim):
    sim.set_bar_pose(np.array([0.6, 0.0, 0.05]), 0.0)
    sim.step(sim.home, 250)
    status = sim.task_status()
    assert status.failure == "dropped the bar from the table"
    assert status.failed


def test_arms_are_numbered_as_their_joints(sim):
    goal = sim.home.copy()
    goal[0] += 0.3
    sim.step(goal, 500)
    assert sim.tool_pose(LEFT)[0][1] > 0.0 > sim.tool_pose(RIGHT)[0][1]
    np.testing.assert_allclose(sim.joint_positions(), goal, atol=5e-3)
    left, right = sim.tool_pose(LEFT)[0], sim.tool_pose(RIGHT)[0]
    assert left[0] > 0.05  # seen from the left base, positive turns go towards +x
    assert right[0] == pytest.approx(0.0, abs=1e-3)
