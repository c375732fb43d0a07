# SPDX-License-Identifier: MIT
import numpy as np
import pytest
import torch

from vla_core.dataset import EpisodeWriter
from vla_core.inference.policy import Policy
from vla_core.processing.contract import load_contract
from vla_core.training.recipe_sections import RolloutRecipe
from vla_core.training.rollouts import success_rate


def test_trained_policy_succeeds_and_everything_is_left_as_it_was():
    policy = Policy.from_checkpoint("groot")
    policy.model.train()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    rate = success_rate(policy.model, policy.pipeline, RolloutRecipe(episodes=1), "pick")
    assert rate == 1.0
    assert policy.model.training
    assert torch.equal(torch.rand(2), expected)


@pytest.fixture
def sim_dataset(tmp_path):
    """Two short episodes of the simulated robot, at rest."""
    contract = load_contract("sim")
    joints = np.zeros((8, len(contract.action_names)))
    joints[:, 1] = np.linspace(0.0, 0.1, len(joints))
    images = {
        name: np.zeros((len(joints), camera.height, camera.width, 3), np.uint8)
        for name, camera in contract.cameras.items()
    }
    with EpisodeWriter.for_contract(tmp_path / "sim", contract) as writer:
        for seed in range(2):
            writer.add_episode(
                images=images,
                state=joints,
                actions=joints,
                task="pick up the red block",
                seed=seed,
            )
    return tmp_path / "sim"


@pytest.mark.slow
def test_run_rolls_out_every_so_many_steps(make_trainer, sim_dataset):
    trainer = make_trainer(
        contract="sim",
        dataset=str(sim_dataset),
        model={"chunk_size": 8},
        batch_size=4,
        steps=2,
        rollout={"every_steps": 2, "episodes": 1},
    )
    trainer.run()
    steps, rates = trainer.folder.rollouts.column("success")
    assert steps == [2]
    assert rates in ([0.0], [1.0])
