import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from vla_core.sim.arm_model import HOME
from vla_core.sim.env import ACTION_PERIOD_S, TabletopEnv
from vla_core.sim.tasks import TIMESTEP_S


@pytest.fixture(scope="module")
def env():
    environment = TabletopEnv(render_mode="rgb_array")
    yield environment
    environment.close()


@pytest.mark.filterwarnings("ignore:.*symmetric and normalized space.*:UserWarning")
def test_environment_passes_gymnasiums_checker(env):
    check_env(env, skip_render_check=True)


def test_environment_is_registered():
    environment = gym.make("vla_core/Tabletop-v0")
    assert isinstance(environment.unwrapped, TabletopEnv)
    environment.close()


def test_step_takes_one_action_period_of_physics(env):
    env.reset(seed=0)
    before = env.sim.data.time
    env.step(HOME.astype(np.float32))
    assert env.sim.data.time - before == pytest.approx(ACTION_PERIOD_S, abs=TIMESTEP_S / 2)


def test_instruction_names_the_chosen_target(env):
    _, info = env.reset(seed=0, options={"target": "blue"})
    assert info["target"] == "blue"
    assert info["instruction"] == "pick up the blue block"


def test_idle_arm_runs_into_the_time_limit_without_reward(env):
    env.reset(seed=0)
    steps, rewards = 0, 0.0
    terminated = truncated = False
    while not (terminated or truncated):
        _, reward, terminated, truncated, _ = env.step(HOME.astype(np.float32))
        steps, rewards = steps + 1, rewards + reward
    assert (terminated, truncated) == (False, True)
    assert steps == round(env.sim.time_limit_s / ACTION_PERIOD_S)
    assert rewards == 0.0


def test_action_beyond_the_joint_limits_is_clipped(env):
    env.reset(seed=0)
    env.step(np.full(7, 10.0, dtype=np.float32))
    np.testing.assert_array_equal(env.command, env.sim.upper)


def test_start_from_places_the_arm(env):
    env.reset(seed=0)
    positions = HOME + np.array([0.2, 0, 0, 0, 0, 0, 0])
    observation = env.start_from(positions)
    np.testing.assert_allclose(observation["state"], positions, atol=1e-6)
    np.testing.assert_array_equal(env.command, positions)


def test_render_shows_both_cameras_side_by_side(env):
    env.reset(seed=0)
    assert env.render().shape == (192, 384, 3)
