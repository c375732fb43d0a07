# SPDX-License-Identifier: MIT
"""LeRobot's ACT beside ours: the same episodes, images, steps and scenes, each by its own code.

`dataset` copies what a recipe of ours trains on, with the images as its model sees them. LeRobot
trains on the copy in an environment of its own, where `rollout` runs what became of it in our
simulation. docs/frameworks/act.md has all commands.

  python benchmarks/lerobot_act.py dataset config/train/act.yaml out/data/lerobot
  out/lerobot/bin/python benchmarks/lerobot_act.py rollout CHECKPOINT/pretrained_model
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from vla_core.types import ActionChunk, Observation


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    dataset = commands.add_parser("dataset", help="write what LeRobot trains on")
    dataset.add_argument("recipe", help="a recipe of one stage, such as config/train/act.yaml")
    dataset.add_argument("output", type=Path)
    rollout = commands.add_parser("rollout", help="run a policy of LeRobot in our simulation")
    rollout.add_argument("policy", type=Path, help="its folder pretrained_model")
    rollout.add_argument("--episodes", type=int, default=100)
    rollout.add_argument("--first-seed", type=int, default=100_000)
    rollout.add_argument("--target", default="red")
    rollout.add_argument("--actions-per-inference", type=int, default=8)
    args = parser.parse_args()
    if args.command == "dataset":
        write_dataset(args.recipe, args.output)
    else:
        roll_out(args)


def write_dataset(recipe_path: str, output: Path) -> None:
    """Copy the episodes that a recipe trains on, with images of the size that it trains with."""
    from vla_core.dataset import EpisodeDataset, EpisodeWriter
    from vla_core.dataset.conversion import writable_features
    from vla_core.dataset.format import ACTION, STATE, is_camera
    from vla_core.training.progress import ProgressDisplay
    from vla_core.training.recipe import load_recipe
    from vla_core.training.training_data import held_out_episodes

    recipe = load_recipe(recipe_path)
    (stage,) = recipe.curriculum
    dataset = EpisodeDataset(recipe.datasets[0].path)
    held_out = held_out_episodes(dataset.num_episodes, recipe.validation.fraction, recipe.seed)
    places = [
        place
        for place in range(dataset.num_episodes)
        if place not in held_out and (stage.instruction or "") in dataset.tasks[place]
    ]
    shape = (recipe.image_size, recipe.image_size, 3)
    features = {
        key: replace(feature, shape=shape) if is_camera(feature) else feature
        for key, feature in writable_features(dataset, "image").items()
        if is_camera(feature) or key in (STATE, ACTION)
    }
    writer = EpisodeWriter(
        output, fps=dataset.fps, features=features, robot_type=dataset.robot_type
    )
    with writer, ProgressDisplay(Console(), "copying", len(places)) as display:
        for place in places:
            episode = dataset.episode(place)
            writer.add_episode(
                images={name: shrink(f, recipe.image_size) for name, f in episode.images.items()},
                state=episode.state,
                actions=episode.actions,
                task=episode.task,
            )
            display.advance(1)


def roll_out(args: argparse.Namespace) -> None:
    """Print the success in scenes that no training saw, as `vla rollout` counts it."""
    from vla_core.evaluation.console import describe_episode
    from vla_core.evaluation.metrics import SuccessRate
    from vla_core.evaluation.rollout import plan_episodes, run_episode
    from vla_core.evaluation.seeds import held_out_seeds
    from vla_core.sim.env import TabletopEnv

    console = Console(highlight=False)
    policy, env = LeRobotPolicy(args.policy), TabletopEnv()
    plans = plan_episodes(held_out_seeds(args.first_seed, args.episodes), target=args.target)
    results = []
    for plan in plans:
        results.append(
            run_episode(policy, env, plan, actions_per_inference=args.actions_per_inference)
        )
        console.print(describe_episode(results[-1], len(plans)), soft_wrap=True)
    rate = SuccessRate.from_outcomes(result.success for result in results)
    lower, upper = rate.interval
    latency = np.median([result.inference_ms for result in results])
    sys.stdout.write(
        f"{rate.successes} of {rate.trials} ({lower:.0%} to {upper:.0%}), "
        f"{latency:.1f} ms, {policy.num_parameters / 1e6:.1f} M parameters\n"
    )


class LeRobotPolicy:
    """A policy of LeRobot with its own processors, as a rollout takes it.

    Args:
        folder: What `lerobot-train` saved.

    Attributes:
        history_length: LeRobot's ACT sees the present alone.
        num_parameters: Of the whole model.
    """

    history_length = 0

    def __init__(self, folder: Path) -> None:
        import torch
        from lerobot.policies.act.modeling_act import ACTPolicy
        from lerobot.policies.factory import make_pre_post_processors

        torch.set_num_threads(1)
        self._policy = ACTPolicy.from_pretrained(folder).eval()
        (self._image_size,) = {f.shape[-1] for f in self._policy.config.image_features.values()}
        self._before, self._after = make_pre_post_processors(
            self._policy.config,
            pretrained_path=str(folder),
            preprocessor_overrides={"device_processor": {"device": "cpu"}},
        )
        self.num_parameters = sum(weight.numel() for weight in self._policy.parameters())

    def predict_chunk(self, observation: Observation, *, seed: int = 0) -> ActionChunk:
        """Return LeRobot's answer to an observation; it draws nothing, so seeds do not matter."""
        import torch

        batch = {"observation.state": torch.from_numpy(observation.state).float()[None]}
        for name, image in observation.images.items():
            pixels = torch.from_numpy(shrink(image[None], self._image_size))
            batch[f"observation.images.{name}"] = pixels.permute(0, 3, 1, 2) / 255.0
        with torch.inference_mode():
            actions = self._after(self._policy.predict_action_chunk(self._before(batch)))[0]
        values = actions.double().numpy()
        return ActionChunk(
            actions=values,
            policy_actions=values.astype(np.float32),
            joints=tuple(f"joint_{number}" for number in range(values.shape[1])),
            dt_s=0.1,
            stamp_ns=observation.stamp_ns,
            checkpoint_id="lerobot",
            instruction=observation.instruction,
        )


def shrink(frames: np.ndarray, size: int) -> np.ndarray:
    """Resize RGB frames, uint8 [B, H, W, 3], as our pipeline does, to uint8 [B, size, size, 3]."""
    from vla_core.processing.images import frames_to_tensor

    small = frames_to_tensor(frames, size).mul(255.0).round().byte()
    return np.ascontiguousarray(small.permute(0, 2, 3, 1).numpy())


if __name__ == "__main__":
    main()
