# SPDX-License-Identifier: MIT
"""Several datasets, with robots of their own, in one training."""

import csv
import json

import pytest
import torch

from vla_core.dataset import EpisodeDataset, EpisodeWriter
from vla_core.errors import ConfigError, DatasetError
from vla_core.inference.policy import Policy
from vla_core.training.run_folder import describe_datasets


@pytest.fixture
def settings(octo_values, dataset_root, other):
    """Settings of an Octo that is trained on both robots; a CPU repeats a run exactly."""
    datasets = [{"path": str(dataset_root), "weight": 2.0}, other]
    return {"dataset": datasets, "steps": 10, "device": "cpu"}


def losses_of(trainer):
    with trainer.folder.losses.path.open() as file:
        return [row["loss"] for row in csv.DictReader(file)]


def test_robots_of_other_sizes_share_the_transformer_and_have_their_own_heads(
    make_trainer, settings
):
    trainer = make_trainer(**settings)
    model = trainer._learner.model
    widths = {name: space.head.action_dim for name, space in model.spaces.items()}
    assert widths == {"default": 3, "other_arm": 2}
    gradients = []
    for source in trainer._sources:
        model.zero_grad(set_to_none=True)
        batch = source.batch(source.next_frames(0), torch.arange(8), 0)
        assert batch["actions"].abs().max() <= 1.0 + 1e-5  # By statistics of its own.
        model(**batch)["loss"].backward()
        gradients.append({name for name, p in model.named_parameters() if p.grad is not None})
    first, second = gradients
    assert any(name.startswith("spaces.default.") for name in first)
    assert not any(name.startswith("spaces.other_arm.") for name in first)
    assert any(name.startswith("spaces.other_arm.") for name in second)
    assert not any(name.startswith("spaces.default.") for name in second)
    assert {name for name in first & second if name.startswith("blocks.")}


def test_mixed_run_is_resumed_exactly_and_leaves_a_policy_of_the_first_robot(
    make_trainer, settings
):
    whole = make_trainer("whole", **settings)
    whole.run()
    half = make_trainer("half", **settings)
    step = half._train_step

    def train_step(interrupt):
        figures = step(interrupt)
        interrupt.requested = half.step == 6
        return figures

    half._train_step = train_step
    assert not half.run().is_complete
    resumed = make_trainer("half", **settings)
    assert resumed.resume()
    assert resumed.step == 6
    resumed.run()
    assert losses_of(resumed) == losses_of(whole)
    policy = Policy.from_checkpoint(whole.folder.policy_path)
    assert policy.contract.robot == "small"
    policy.warm_up()
    report = json.loads((whole.folder.policy_path / "training.json").read_text())
    assert report["dataset"]["episodes"] == 6


def test_datasets_of_one_robot_have_common_statistics(make_trainer, dataset_root, tmp_path):
    trainer = make_trainer(dataset=[{"path": str(dataset_root)}, {"path": str(dataset_root)}])
    first, second = trainer._sources
    assert first.pipeline is second.pipeline
    assert trainer._provenance()["dataset"]["episodes"] == 12


def test_policy_of_several_tasks_is_for_that_of_the_first_dataset(
    tmp_path, contract, make_episode, dataset_root
):
    with EpisodeWriter.for_contract(tmp_path / "box", contract) as writer:
        writer.add_episode(**make_episode(7), sim_task="put_in_box")
    box, others = (EpisodeDataset(path) for path in (tmp_path / "box", dataset_root))
    facts = describe_datasets([box, others])
    assert (facts["sim_task"], facts["seeds"]) == ("put_in_box", [100, 107])
    assert describe_datasets([others, box])["sim_task"] is None


def test_framework_with_one_space_refuses_a_robot_of_another_size(
    make_trainer, dataset_root, other
):
    with pytest.raises(ConfigError, match=r"'other_arm' has action_dim 2, not 3.*train 'octo'"):
        make_trainer(dataset=[{"path": str(dataset_root)}, other])


def test_framework_with_one_space_refuses_a_robot_that_acts_in_another_way(
    make_trainer, dataset_root, contract, tmp_path
):
    values = json.loads(json.dumps(contract.to_dict()))
    values["robot"] = "delta-arm"
    values["action"]["kind"] = "joint_delta"
    (tmp_path / "delta.yaml").write_text(json.dumps(values))
    path = str(dataset_root)
    delta = {"path": path, "contract": str(tmp_path / "delta.yaml")}
    with pytest.raises(ConfigError, match=r"'delta-arm' are joint_delta at .*train 'octo'"):
        make_trainer(dataset=[{"path": path}, delta])


def test_first_dataset_is_of_the_robot_that_the_policy_is_for(make_trainer, other):
    with pytest.raises(
        ConfigError, match=r"dataset\.0 is of .*name a dataset of that robot first"
    ):
        make_trainer(dataset=[other])


def test_damaged_episodes_are_left_out_by_choice(make_trainer, make_episode, contract, tmp_path):
    root = tmp_path / "videos"
    with EpisodeWriter.for_contract(root, contract, storage="video") as writer:
        for seed in range(4):
            writer.add_episode(**make_episode(seed))
    damaged = next(root.rglob("*front*/**/file-001.mp4"))
    damaged.write_bytes(damaged.read_bytes()[:300])
    with pytest.raises(DatasetError, match=damaged.name):
        make_trainer(dataset=str(root))
    trainer = make_trainer(dataset=str(root), skip_damaged=True)
    (source,) = trainer._sources
    assert source.dataset.episode_numbers == [0, 2, 3]
    assert damaged.name in source.dataset.skipped[1]
    assert "episode 1 of" in trainer._console.file.getvalue()
