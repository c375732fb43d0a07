import numpy as np
import pytest

from vla_core.errors import UnknownNameError
from vla_core.processing.contract import load_contract
from vla_core.sim.env import ACTION_PERIOD_S, TabletopEnv
from vla_core.sim.tasks import AUTO_TASK, TASKS, choose_task, get_task


@pytest.fixture(scope="module", params=list(TASKS))
def env(request):
    environment = TabletopEnv(request.param)
    yield environment
    environment.close()


def test_contract_of_a_task_describes_its_robot(env):
    contract = load_contract(env.task.contract)
    assert tuple(contract.state_names) == tuple(contract.action_names) == env.sim.joints
    assert tuple(contract.cameras) == env.sim.cameras
    assert contract.action.rate_hz == pytest.approx(1 / ACTION_PERIOD_S)
    observation, _ = env.reset(seed=0)
    for name, camera in contract.cameras.items():
        assert observation[name].shape == (camera.height, camera.width, 3)


def test_every_target_has_instructions_of_its_own(env):
    wordings = [wording for target in env.sim.targets for wording in env.sim.wordings(target)]
    assert len(set(wordings)) == len(wordings)
    assert env.task.example in wordings


def test_target_can_be_asked_for(env):
    for target in env.sim.targets:
        _, info = env.reset(seed=1, options={"target": target})
        assert info["target"] == target
        assert info["instruction"] == env.sim.wordings(target)[0]
        assert not info["success"]
        assert info["failure"] == ""


def test_expert_does_the_task(env):
    _, info = env.reset(seed=3)
    expert = env.task.demonstrator_class()(env.sim)
    is_over = False
    while not is_over:
        _, _, terminated, truncated, info = env.step(expert.act(env.command).astype(np.float32))
        is_over = terminated or truncated
    assert info["success"], info["failure"]
    assert info["elapsed_s"] <= expert.time_limit_s


def test_unknown_task_names_those_that_exist():
    with pytest.raises(UnknownNameError, match="'sweep' is unknown; available: pick, put_in_box"):
        get_task("sweep")


@pytest.mark.parametrize(
    ("contract", "task"), [("sim", "pick"), ("sim_200hz", "pick"), ("sim_bimanual", "hand_over")]
)
def test_the_first_task_of_a_robot_is_chosen_where_none_is_named(contract, task):
    joints = load_contract(contract).state.joints
    assert choose_task(AUTO_TASK, joints).name == task
    assert choose_task("pick", joints).name == "pick"
