# SPDX-License-Identifier: MIT
"""A model with task ids gets those of the dataset, in training and on the robot."""

import numpy as np
import pytest
import torch

from vla_core.errors import CheckpointError, ConfigError
from vla_core.inference.policy import Policy, black_observation


@pytest.fixture
def make(make_trainer, octo_values):
    """Return a function that makes a trainer of a model without history."""
    octo_values["model"]["history_length"] = 0
    return make_trainer


def batch_of(trainer, frames, step=0):
    frames = torch.as_tensor(frames)
    return trainer._first.batch(frames, torch.arange(len(frames)), step)


def test_frames_have_the_task_index_of_the_dataset_and_a_tenth_has_words_alone(make):
    trainer = make(batch_size=48, model={"num_tasks": 3})
    source = trainer._first
    stored = torch.from_numpy(source.dataset.column("task_index"))
    assert source.pipeline.tasks == tuple(source.dataset.instructions)
    frames = torch.arange(48)
    ids = torch.stack([batch_of(trainer, frames, step)["task_id"] for step in range(40)])
    is_known = ids >= 0
    assert torch.equal(ids[is_known], stored[frames].expand(40, -1)[is_known])
    assert 0.07 < 1.0 - is_known.double().mean() < 0.13
    assert torch.equal(batch_of(trainer, frames, 7)["task_id"], ids[7])


def test_policy_knows_the_ids_and_takes_other_words_without(make):
    trainer = make(steps=2, model={"num_tasks": 3})
    trainer.run()
    pipeline = Policy.from_checkpoint(trainer.folder.policy_path).pipeline
    seen = black_observation(pipeline)
    assert pipeline.to_batch([seen])["task_id"].tolist() == [-1]
    assert pipeline.task_ids(pipeline.tasks).tolist() == [0, 1, 2]
    policy = Policy.from_checkpoint(trainer.folder.policy_path)
    assert np.isfinite(policy.predict_chunk(seen).actions).all()


def test_model_with_one_id_is_told_by_words(make):
    trainer = make(model={"num_tasks": 1})
    assert "task_id" not in batch_of(trainer, [0, 1])
    assert trainer._first.pipeline.tasks == ()


def test_more_instructions_than_ids_are_refused(make):
    with pytest.raises(ConfigError, match=r"num_tasks is 2, but .* 3 instructions; .*num_tasks=3"):
        make(model={"num_tasks": 2})


def test_other_tasks_start_anew_from_the_weights_of_a_policy(make):
    first = make("first", steps=1, model={"num_tasks": 1})
    first.run()
    source = str(first.folder.policy_path)
    with pytest.raises(
        CheckpointError, match=r"(?s)task_embedding.weight: \[2, .*start anew, such as start_anew="
    ):
        make("second", model={"num_tasks": 3}, start_from=source)
    model = {"num_tasks": 3}
    second = make("second", model=model, start_from=source, start_anew=["task_embedding"])
    saved = Policy.from_checkpoint(source).model.state_dict()
    own = second._learner.model.state_dict()
    assert len(own.pop("task_embedding.weight")) == 4  # One of them is for no task.
    for name, value in own.items():
        assert torch.equal(saved[name], value.cpu()), name
