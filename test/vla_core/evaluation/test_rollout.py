# SPDX-License-Identifier: MIT
"""Episodes of a policy in the gymnasium environment."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from vla_core.cli import main
from vla_core.errors import ConfigError
from vla_core.evaluation.episodes import (
    BLACK_IMAGES,
    CONDITIONS,
    NORMAL,
    SWAPPED_INSTRUCTION,
    read_results,
)
from vla_core.evaluation.rollout import (
    plan_episodes,
    run_episode,
    run_rollout,
    trained_target,
    trained_task,
)
from vla_core.evaluation.seeds import HELD_OUT_SEEDS, held_out_seeds
from vla_core.inference.policy import Policy
from vla_core.models.frameworks import GR00TVLA
from vla_core.models.vlm import get_vlm
from vla_core.processing.contract import load_contract
from vla_core.processing.normalization import Statistics
from vla_core.processing.pipeline import ProcessingPipeline
from vla_core.sim.arm_model import HOME
from vla_core.sim.box_scene import BoxSim
from vla_core.sim.env import TabletopEnv
from vla_core.sim.scene import TabletopSim

SEED = 123_456
CHUNK_SIZE = 16


class WatchedPolicy(Policy):
    """A policy that keeps the observations that it answered."""

    def predict_chunk(self, observation, *, seed=0):
        self.observations = [*getattr(self, "observations", []), observation]
        return super().predict_chunk(observation, seed=seed)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """An untrained policy whose actions stay close to home."""
    path = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    model = GR00TVLA(
        vlm=get_vlm("tiny", image_size=32, hidden_size=32, depth=1),
        action_dim=7,
        state_dim=7,
        num_cameras=2,
        chunk_size=CHUNK_SIZE,
        hidden_dim=32,
        sampler="ddim",
        inference_steps=2,
    )
    near_home = HOME + np.random.default_rng(0).uniform(-0.02, 0.02, (50, 7))
    statistics = Statistics.from_array(near_home)
    pipeline = ProcessingPipeline(
        contract=load_contract("sim"),
        state_statistics=statistics,
        action_statistics=statistics,
        image_size=32,
        chunk_size=CHUNK_SIZE,
    )
    model.save_pretrained(path)
    pipeline.save(path)
    return path


@pytest.fixture(scope="module")
def env():
    env = TabletopEnv()
    yield env
    env.close()


@pytest.fixture
def policy(checkpoint):
    return WatchedPolicy.from_checkpoint(checkpoint)


def run_condition(policy, env, condition):
    (plan,) = plan_episodes([SEED], [condition])
    return run_episode(policy, env, plan, actions_per_inference=CHUNK_SIZE)


def test_untrained_policy_runs_into_the_time_limit(policy, env):
    result = run_condition(policy, env, NORMAL)
    assert (result.success, result.outcome) == (False, "time-out")
    assert result.duration_s == pytest.approx(TabletopSim.time_limit_s)


def test_same_seed_gives_the_same_episode(policy, env):
    first = run_condition(policy, env, NORMAL)
    assert run_condition(policy, env, NORMAL) == first


def test_policy_sees_the_scene_at_the_rate_of_its_chunks(policy, env):
    run_condition(policy, env, NORMAL)
    stamps = [observation.stamp_ns for observation in policy.observations]
    assert np.diff(stamps) == pytest.approx(CHUNK_SIZE * 1e8)
    assert all(image.any() for image in policy.observations[0].images.values())


def test_swapped_instruction_changes_the_text_and_the_judge_but_not_the_scene(policy, env):
    plain = run_condition(policy, env, NORMAL)
    scene = policy.observations[0]
    policy.observations = []
    swapped = run_condition(policy, env, SWAPPED_INSTRUCTION)
    assert swapped.target != plain.target
    assert swapped.target in swapped.instruction
    assert policy.observations[0].instruction == swapped.instruction
    assert scene.instruction == plain.instruction
    np.testing.assert_array_equal(policy.observations[0].images["front"], scene.images["front"])


def test_black_images_hide_the_scene_alone(policy, env):
    result = run_condition(policy, env, BLACK_IMAGES)
    assert not any(image.any() for o in policy.observations for image in o.images.values())
    np.testing.assert_allclose(policy.observations[0].state, HOME, atol=0.01)
    assert result.target in policy.observations[0].instruction


def test_more_actions_than_a_chunk_has_are_refused(policy, env):
    (plan,) = plan_episodes([SEED])
    with pytest.raises(ConfigError, match="give at most 16"):
        run_episode(policy, env, plan, actions_per_inference=17)


def test_a_named_target_replaces_the_one_that_the_seed_draws(policy, env):
    for target in env.sim.targets:
        (plan,) = plan_episodes([SEED], target=target)
        result = run_episode(policy, env, plan, actions_per_inference=CHUNK_SIZE)
        assert result.target == target
        assert target in result.instruction


def test_the_time_of_an_inference_is_measured(policy, env, monkeypatch):
    clock = iter(np.arange(1000.0))
    monkeypatch.setattr("vla_core.evaluation.rollout.time.perf_counter", lambda: next(clock))
    assert run_condition(policy, env, NORMAL).inference_ms == 1000.0


@pytest.mark.parametrize(
    ("instructions", "target"), [(["red"], "red"), (["red", "blue"], None), ([], None)]
)
def test_a_policy_trained_on_one_target_is_asked_for_no_other(
    instructions, target, tmp_path, checkpoint
):
    folder = tmp_path / "policy"
    shutil.copytree(checkpoint, folder)
    stages = [{"from_step": 0, "instruction": words} for words in instructions]
    (folder / "training.json").write_text(json.dumps({"recipe": {"curriculum": stages}}))
    assert trained_target(str(folder)) == target


def test_plan_runs_every_scene_under_every_condition():
    plans = plan_episodes([7, 8], list(CONDITIONS))
    assert [plan.number for plan in plans] == [1, 2, 3, 4, 5, 6]
    assert {(plan.seed, plan.condition) for plan in plans} == {
        (seed, condition) for seed in (7, 8) for condition in CONDITIONS
    }


def test_unknown_condition_is_refused_with_those_that_exist():
    with pytest.raises(ConfigError, match="black_images"):
        plan_episodes([1], ["dark"])


@pytest.mark.parametrize(
    ("first", "count"),
    [
        (0, 5),
        (HELD_OUT_SEEDS.start - 1, 2),
        (HELD_OUT_SEEDS.stop - 1, 2),
    ],
)
def test_scenes_that_training_may_have_seen_are_refused(first, count):
    with pytest.raises(ConfigError, match="seen in training"):
        held_out_seeds(first, count)


def test_no_episode_is_refused():
    with pytest.raises(ConfigError, match="at least 1"):
        held_out_seeds(100_000, 0)


def test_command_writes_every_figure_and_resumes(checkpoint, tmp_path, capsys):
    command = ["rollout", "--checkpoint", str(checkpoint), "--actions-per-inference", "16"]
    command += ["--output", str(tmp_path)]
    assert main([*command, "--episodes", "1"]) == 0
    first = read_results(tmp_path / "episodes.jsonl")
    assert main([*command, "--episodes", "2", "--resume"]) == 0
    assert "1 of 2 episodes are done already" in capsys.readouterr().out
    assert read_results(tmp_path / "episodes.jsonl")[0] == first[0]
    figures = json.loads((tmp_path / "rollout.json").read_text())
    assert figures["success"][NORMAL]["trials"] == 2
    assert [episode["seed"] for episode in figures["episodes"]] == [100_000, 100_001]


def test_resuming_with_another_checkpoint_is_refused(checkpoint, tmp_path, capsys):
    command = ["rollout", "--checkpoint", str(checkpoint), "--actions-per-inference", "16"]
    command += ["--episodes", "1", "--output", str(tmp_path)]
    assert main(command) == 0
    figures = json.loads((tmp_path / "rollout.json").read_text())
    figures["checkpoint_id"] = "0123456789ab"
    (tmp_path / "rollout.json").write_text(json.dumps(figures))
    assert main([*command, "--resume"]) == 2
    assert "0123456789ab" in capsys.readouterr().err


def test_all_shipped_policies_are_compared_in_one_table(checkpoint, tmp_path, monkeypatch, capsys):
    shipped = tmp_path / "shipped"
    for name in ("first", "second"):
        shutil.copytree(checkpoint, shipped / name)
        report = {
            "recipe": {"framework": "gr00t"},
            "parameters": 1_200_000,
            "steps": 2_500,
            "seconds": 90.0,
            "dataset": {"instruction_texts": ["wipe the table"]} if name == "second" else {},
        }
        (shipped / name / "training.json").write_text(json.dumps(report))
    monkeypatch.setattr("vla_core.inference.checkpoint_files._SHIPPED", shipped)
    output = tmp_path / "out"
    command = ["rollout", "--all", "--episodes", "1", "--actions-per-inference", "16"]
    assert main([*command, "--output", str(output)]) == 0
    output_of_first, _, output_of_second = capsys.readouterr().out.partition("\nsecond\n")
    assert "no demonstration" not in output_of_first
    assert output_of_second.count("so it may do something else; some of them say: 'wipe the ") == 1
    _, _, *rows = (output / "table.md").read_text().splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[:5] for row in cells] == [
        [name, "gr00t", "pick", "0 of 1", "0% to 79%"] for name in ("first", "second")
    ]
    assert all(row[6:] == ["1.2 M", "2,500", "2"] and float(row[5]) > 0 for row in cells)
    assert read_results(output / "first" / "episodes.jsonl")


@pytest.mark.parametrize(
    ("dataset", "task"), [({"sim_task": "put_in_box"}, "put_in_box"), ({}, "pick")]
)
def test_task_is_the_one_of_the_demonstrations(checkpoint, tmp_path, dataset, task):
    trained = tmp_path / "policy"
    shutil.copytree(checkpoint, trained)
    (trained / "training.json").write_text(json.dumps({"dataset": dataset}))
    assert trained_task(str(trained)) == task
    assert trained_task(str(checkpoint)) == "pick"


def test_task_of_another_robot_is_refused(checkpoint):
    with pytest.raises(ConfigError, match="'hand_over' moves the joints"):
        list(run_rollout(str(checkpoint), plan_episodes([SEED]), task="hand_over"))


def test_resuming_with_another_task_is_refused(checkpoint, tmp_path, capsys):
    command = ["rollout", "--checkpoint", str(checkpoint), "--actions-per-inference", "16"]
    command += ["--episodes", "1", "--output", str(tmp_path)]
    assert main(command) == 0
    assert main([*command, "--task", "put_in_box", "--resume"]) == 2
    assert "'task': 'pick'" in capsys.readouterr().err


def test_two_blocks_named_the_other_way_round_are_a_swapped_instruction(policy, monkeypatch):
    monkeypatch.setattr(BoxSim, "time_limit_s", 3.0)
    env = TabletopEnv("put_in_box")
    plain, swapped = (
        run_condition(policy, env, condition) for condition in (NORMAL, SWAPPED_INSTRUCTION)
    )
    env.close()
    assert plain.duration_s == pytest.approx(3.0)
    assert {plain.target, swapped.target} < set(env.sim.targets)
    assert plain.target != swapped.target


class RememberingPolicy(WatchedPolicy):
    """A policy that is shown three earlier steps."""

    history_length = 3


def test_earlier_steps_are_the_last_ones_before_the_observation(checkpoint, env):
    policy = RememberingPolicy.from_checkpoint(checkpoint)
    for _ in range(2):  # The second episode begins without what the first one saw.
        policy.observations = []
        run_condition(policy, env, NORMAL)
        first, second = policy.observations[:2]
        assert first.history == ()
        stamps = [step.stamp_ns for step in second.history] + [second.stamp_ns]
        assert np.diff(stamps) == pytest.approx([1e8] * 3)
