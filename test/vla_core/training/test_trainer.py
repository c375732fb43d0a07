# SPDX-License-Identifier: MIT
import csv
import json
import signal
import subprocess
import sys
from functools import partialmethod

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vla_core.dataset import EpisodeDataset
from vla_core.errors import CheckpointError, ConfigError, DatasetError, TrainingError
from vla_core.inference.policy import Policy
from vla_core.training import run_folder
from vla_core.training.training_data import held_out_episodes
from vla_core.types import Observation


def _losses(trainer):
    with trainer.folder.losses.path.open() as file:
        return [(int(row["step"]), row["loss"]) for row in csv.DictReader(file)]


def _saved_steps(trainer):
    return sorted(int(p.name[-8:]) for p in trainer.folder.checkpoints.root.glob("step-*"))


def _policy_step(trainer):
    return json.loads((trainer.folder.policy_path / "training.json").read_text())["steps"]


def _interrupt_after(trainer, step):
    """Let Ctrl-C arrive when the given step is logged."""
    append_row = trainer.folder.losses.append

    def append(number, figures):
        append_row(number, figures)
        if number == step:
            signal.raise_signal(signal.SIGINT)

    trainer.folder.losses.append = append


def test_run_leaves_recipe_losses_plot_checkpoint_and_policy(make_trainer):
    trainer = make_trainer()
    result = trainer.run()
    assert result.is_complete
    assert np.isfinite(result.loss)
    assert [step for step, _ in _losses(trainer)] == list(range(1, 13))
    names = {path.name for path in trainer.folder.root.iterdir()}
    assert {"recipe.yaml", "loss.csv", "validation.csv", "loss.png", "policy"} <= names
    assert trainer.folder.read_recipe() == trainer.recipe
    assert trainer.folder.checkpoints.latest().name == "step-00000012"


def test_policy_acts_on_an_observation(make_trainer, make_episode):
    trainer = make_trainer()
    trainer.run()
    policy = Policy.from_checkpoint(trainer.folder.policy_path)
    episode = make_episode(0)
    observation = Observation(
        images={name: frames[0] for name, frames in episode["images"].items()},
        state=episode["state"][0],
        instruction=episode["task"],
        stamp_ns=0,
        image_stamps_ns={"front": 0, "wrist": 0},
        state_stamp_ns=0,
    )
    chunk = policy.predict_chunk(observation)
    assert chunk.actions.shape == (4, 3)
    assert np.isfinite(chunk.actions).all()


def test_policy_says_where_it_comes_from(make_trainer):
    trainer = make_trainer()
    trainer.run()
    provenance = json.loads((trainer.folder.policy_path / "training.json").read_text())
    assert provenance["recipe"]["framework"] == "gr00t"
    assert provenance["dataset"]["episodes"] == 6
    assert provenance["dataset"]["seeds"] == [100, 105]
    colours = ("red", "green", "blue")
    assert provenance["dataset"]["instructions"] == 3
    assert provenance["dataset"]["instruction_texts"] == [
        f"pick up the {colour} block" for colour in colours
    ]
    assert (provenance["steps"], provenance["validation"]["step"]) == (12, 12)
    assert provenance["validation"]["joints"].keys() == {"joint_1", "joint_2", "gripper_joint"}


def test_of_very_many_instructions_a_policy_keeps_the_number(dataset_root, monkeypatch):
    monkeypatch.setattr(run_folder, "_MAX_TEXTS", 2)
    facts = run_folder.describe_datasets([EpisodeDataset(dataset_root)])
    assert (facts["instructions"], facts["instruction_texts"]) == (3, None)


def test_policy_has_the_averaged_weights(make_trainer):
    trainer = make_trainer()
    trainer.run()
    state = trainer.folder.checkpoints.load(trainer.folder.checkpoints.latest())
    saved = dict(Policy.from_checkpoint(trainer.folder.policy_path).model.named_parameters())
    averaged = {name: value for name, value in state.average.items() if name in saved}
    for name, value in averaged.items():
        torch.testing.assert_close(saved[name].detach(), value)
    assert any(not torch.equal(state.model[name], value) for name, value in averaged.items())


@pytest.mark.parametrize("cache_features", [True, False])
def test_resumed_run_has_exactly_the_losses_of_an_uninterrupted_one(make_trainer, cache_features):
    model = {"dropout": 0.1}
    whole = make_trainer("whole", cache_features=cache_features, model=model)
    whole.run()
    first = make_trainer("parts", cache_features=cache_features, model=model)
    _interrupt_after(first, step=7)
    assert not first.run().is_complete
    second = make_trainer("parts", cache_features=cache_features, model=model)
    assert second.resume()
    assert second.step == 7
    second.run()
    assert _losses(second) == _losses(whole)
    weights = [
        trainer.folder.checkpoints.load(trainer.folder.checkpoints.latest())
        for trainer in (whole, second)
    ]
    for name, value in weights[0].average.items():
        assert torch.equal(weights[1].average[name], value), name


def test_best_checkpoint_and_policy_are_of_the_step_that_was_validated(make_trainer):
    settings = {
        "validation": {"every_steps": 3},
        "checkpoint": {"every_steps": 4, "policy": "best"},
    }
    whole = make_trainer("whole", **settings)
    whole.run()
    first = make_trainer("parts", **settings)
    _interrupt_after(first, step=4)
    first.run()
    checkpoints = first.folder.checkpoints
    assert _saved_steps(first) == [3, 4]
    assert checkpoints.load(checkpoints.latest()).progress["best_step"] == 3
    assert _policy_step(first) == 3
    second = make_trainer("parts", **settings)
    assert second.resume()
    second.run()
    steps, errors = second.folder.validations.column("error")
    best = steps[int(np.argmin(errors))]
    assert list(steps) == [3, 6, 9, 12]
    for trainer in (whole, second):
        assert _saved_steps(trainer) == sorted({best, 12})
        assert _policy_step(trainer) == best


def test_policy_of_half_the_size_acts_and_the_run_keeps_exact_weights(make_trainer):
    trainer = make_trainer(checkpoint={"dtype": "fp16"}, steps=2)
    trainer.run()
    stored = load_file(trainer.folder.policy_path / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float16}
    Policy.from_checkpoint(trainer.folder.policy_path).warm_up()
    state = trainer.folder.checkpoints.load(trainer.folder.checkpoints.latest())
    assert {value.dtype for value in state.model.values()} == {torch.float32}


def test_other_recipe_is_not_resumed(make_trainer):
    make_trainer().run()
    with pytest.raises(ConfigError, match="batch_size is given as 4, stored as 8"):
        make_trainer(batch_size=4).resume()


def test_run_of_another_number_of_processes_is_not_resumed(make_trainer):
    trainer = make_trainer()
    trainer.run()
    path = trainer.folder.checkpoints.latest() / "state.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"random": content["random"] * 2}))
    with pytest.raises(ConfigError, match=r"made by 2 processes, but there are 1"):
        make_trainer().resume()


def test_folder_without_checkpoint_starts_at_the_beginning(make_trainer):
    trainer = make_trainer()
    assert not trainer.resume()
    assert trainer.step == 0


def test_loss_that_is_not_finite_stops_with_cause_and_remedy(make_trainer):
    trainer = make_trainer(optimizer={"learning_rate": 1e30, "warmup_steps": 0})
    with pytest.raises(TrainingError, match=r"at step \d+.*Lower optimizer\.learning_rate"):
        trainer.run()


def test_training_lowers_the_loss(make_trainer):
    trainer = make_trainer(
        steps=150, optimizer={"learning_rate": 5e-3}, checkpoint={"every_steps": 200}
    )
    trainer.run()
    losses = np.array([float(loss) for _, loss in _losses(trainer)])
    assert losses[-30:].mean() < 0.6 * losses[:20].mean()


def test_frozen_backbone_stays_as_it_was(make_trainer):
    trainer = make_trainer()
    trainer.run()
    state = trainer.folder.checkpoints.load(trainer.folder.checkpoints.latest())
    fresh = make_trainer("fresh")
    fresh.run()
    saved = Policy.from_checkpoint(fresh.folder.policy_path).model.vlm.state_dict()
    for name, value in saved.items():
        assert torch.equal(state.model[f"vlm.{name}"], value), name


CACHED = {
    "pi0": {"chunk_size": 4, "state_mode": "continuous", "fine_tune_vlm": False},
    "helix": {"depth": 1, "plan_horizon": 4, "plan_dim": 16, "plan_max_age": 2},
}


@pytest.mark.parametrize("framework", sorted(CACHED))
def test_what_is_cached_gives_the_losses_that_the_images_give(
    framework, make_trainer, recipe_values
):
    recipe_values["model"] = {"hidden_dim": 16, **CACHED[framework]}
    losses = []
    for cached in (True, False):
        trainer = make_trainer(str(cached), framework=framework, cache_features=cached, steps=3)
        trainer.run()
        losses.append([float(loss) for _, loss in _losses(trainer)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=2e-2)  # features are kept as float16


def test_caching_needs_a_frozen_backbone(make_trainer):
    with pytest.raises(ConfigError, match=r"needs a frozen VLM.*cache_features=false"):
        make_trainer(model={"freeze_vlm": False})


def test_dataset_of_another_robot_is_refused(make_trainer):
    with pytest.raises(DatasetError, match=r"'sim': .*'action' has shape \[3\], expected \[7\]"):
        make_trainer(contract="sim")


def test_camera_count_must_be_that_of_the_contract(make_trainer):
    with pytest.raises(ConfigError, match=r"num_cameras is 1.*'front', 'wrist'"):
        make_trainer(model={"num_cameras": 1})


def test_dimensions_of_the_contract_cannot_be_given(make_trainer):
    with pytest.raises(ConfigError, match="'state_dim', which follow from the contract"):
        make_trainer(model={"state_dim": 9})


def test_unknown_model_keyword_is_refused_with_the_valid_ones(make_trainer):
    with pytest.raises(ConfigError, match=r"hiden_dim.*valid: .*hidden_dim"):
        make_trainer(model={"hiden_dim": 9})


def test_cached_features_are_those_of_the_images(make_trainer, dataset_root):
    trainer = make_trainer()
    episode = trainer._first.dataset.episode(1)
    cached = trainer._first.inputs.inputs(torch.arange(12, 24))["vlm_features"]
    model = trainer._learner.model
    images = trainer._pipeline.to_images(episode.images).to(next(model.parameters()).device)
    fresh = model.encode_vlm(images, episode.task)
    torch.testing.assert_close(cached.features, fresh.features.cpu(), atol=5e-3, rtol=1e-3)
    assert torch.equal(cached.mask, fresh.mask.cpu())


def test_bfloat16_steps_come_close_to_the_full_precision_ones(make_trainer):
    losses = []
    for precision in ("fp32", "bf16"):
        # Building a trainer seeds the noise of its losses, so it is run before the next is built.
        trainer = make_trainer(precision, steps=6, precision=precision)
        trainer.run()
        losses.append([float(loss) for _, loss in _losses(trainer)])
    # The first loss is that of an output layer of zeros, in any precision.
    assert losses[1][1:] != losses[0][1:]
    assert losses[1] == pytest.approx(losses[0], rel=0.01)


def test_accumulated_gradient_is_that_of_the_whole_batch(recipe_values, make_trainer):
    # The loss of this framework draws no noise.
    recipe_values |= {"framework": "openvla", "cache_features": False, "steps": 4}
    recipe_values["model"] = {"hidden_dim": 16, "chunk_size": 4, "action_token_pattern": "oft"}
    recipe_values["vlm"]["num_action_tokens"] = 16
    losses = []
    for name, parts in (("a", 1), ("b", 4)):
        trainer = make_trainer(name, gradient_accumulation=parts)
        trainer.run()
        losses.append([float(loss) for _, loss in _losses(trainer)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_backbone_is_trained_from_the_step_that_unfreezes_it_and_after_a_resumption(make_trainer):
    settings = {"cache_features": False, "unfreeze_step": 5, "checkpoint": {"every_steps": 5}}
    whole = make_trainer("whole", **settings)
    frozen = {k: v.clone() for k, v in whole._learner.model.vlm.state_dict().items()}
    weights = {}
    save = whole.folder.checkpoints.save

    def remember(step, state, **keywords):
        weights[step] = {k.removeprefix("vlm."): v.clone() for k, v in state.model.items()}
        return save(step, state, **keywords)

    whole.folder.checkpoints.save = remember
    whole.run()
    assert all(torch.equal(weights[5][name], value) for name, value in frozen.items())
    assert not all(torch.equal(weights[10][name], value) for name, value in frozen.items())
    parts = make_trainer("parts", **settings)
    _interrupt_after(parts, step=7)
    parts.run()
    resumed = make_trainer("parts", **settings)
    resumed.resume()
    resumed.run()
    assert _losses(resumed) == _losses(whole)


def test_held_out_episodes_of_which_none_counts_are_refused(make_trainer, dataset_root):
    tasks = EpisodeDataset(dataset_root).tasks
    (held_out,) = held_out_episodes(len(tasks), 0.2, seed=0)
    other = next(task for task in tasks if task != tasks[held_out])
    with pytest.raises(ConfigError, match=r"fraction is 0\.2, but no episode .*; hold out more"):
        make_trainer(batch_size=4, curriculum=[{"from_step": 0, "instruction": other}])


def test_horizon_of_a_stage_leaves_out_the_later_actions(make_trainer):
    trainer = make_trainer(curriculum=[{"from_step": 0, "horizon": 1}, {"from_step": 2}])
    frames = torch.tensor([0, 11])
    first, second = (trainer._first.batch(frames, torch.arange(2), step) for step in (0, 2))
    assert first["action_is_pad"].tolist() == [[False, True, True, True]] * 2
    assert second["action_is_pad"].sum(dim=1).tolist() == [0, 3]


def test_fp16_step_comes_close_to_the_full_precision_one(make_trainer):
    losses = []
    for precision in ("fp32", "fp16"):
        trainer = make_trainer(precision, steps=3, precision=precision)
        trainer.run()
        losses.append([float(loss) for _, loss in _losses(trainer)])
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_recomputed_activations_give_the_same_losses(make_trainer):
    settings = {"cache_features": False, "steps": 3, "model": {"freeze_vlm": False}}
    losses = []
    for recompute in (False, True):
        trainer = make_trainer(str(recompute), **settings, gradient_checkpointing=recompute)
        trainer.run()
        losses.append([float(loss) for _, loss in _losses(trainer)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_batch_that_the_parts_cannot_divide_is_refused(make_trainer):
    with pytest.raises(ConfigError, match=r"gradient_accumulation 3 cannot.*set batch_size=6"):
        make_trainer(gradient_accumulation=3)


def test_value_that_no_model_can_be_built_from_is_named(make_trainer):
    with pytest.raises(ConfigError, match=r"hidden_dim of GR00TVLA must be int, got 'wide'"):
        make_trainer(model={"hidden_dim": "wide"})
    with pytest.raises(
        ConfigError, match=r"'gr00t' cannot be built .*'dropout': 2.*: dropout prob"
    ):
        make_trainer(model={"dropout": 2})


def test_checkpoint_of_another_framework_is_not_started_from(make_trainer):
    with pytest.raises(ConfigError, match=r"'octo' is a checkpoint of framework 'octo', but .*t'"):
        make_trainer(start_from="octo")


def test_run_starts_from_the_weights_of_a_checkpoint(make_trainer):
    first = make_trainer("first")
    first.run()
    second = make_trainer("second", start_from=str(first.folder.policy_path), seed=1)
    saved = Policy.from_checkpoint(first.folder.policy_path).model.state_dict()
    for name, value in second._learner.model.state_dict().items():
        assert torch.equal(saved[name], value.cpu()), name


def test_weights_of_another_shape_are_not_started_from(make_trainer):
    first = make_trainer("first", steps=1)
    first.run()
    with pytest.raises(CheckpointError, match="wrong shape"):
        make_trainer(start_from=str(first.folder.policy_path), model={"hidden_dim": 32})


def test_part_that_the_model_does_not_have_cannot_start_anew(make_trainer):
    first = make_trainer("first", steps=1)
    first.run()
    with pytest.raises(
        ConfigError, match=r"start_anew names 'heads', but no weight.*'fusion', 'action_head'"
    ):
        make_trainer(start_from=str(first.folder.policy_path), start_anew=["heads"])
    with pytest.raises(ConfigError, match="all parts start anew"):
        make_trainer(start_anew=["action_head"])


def test_robot_that_is_not_simulated_has_no_rollouts(make_trainer):
    with pytest.raises(ConfigError, match=r"robot 'small' is not that of the simulated task"):
        make_trainer(rollout={"every_steps": 5})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # The compiler's own, about itself.
def test_compiled_blocks_give_the_same_losses(make_trainer, monkeypatch):
    # Traced and differentiated, but not turned into C++, which is slow and needs a compiler.
    traced = partialmethod(torch.nn.Module.compile, backend="aot_eager")
    monkeypatch.setattr(torch.nn.Module, "compile", traced)
    losses = []
    for compiled in (False, True):
        trainer = make_trainer(str(compiled), steps=2, compile=compiled)
        trainer.run()
        losses.append([float(loss) for _, loss in _losses(trainer)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_run_without_validation_completes(make_trainer):
    trainer = make_trainer(validation={"fraction": 0.0})
    assert trainer.run().validation is None


def test_training_needs_no_simulation():
    code = (
        "import sys, vla_core.training.trainer; "
        "print([m for m in ('gymnasium', 'mujoco', 'mink') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
