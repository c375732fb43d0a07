# SPDX-License-Identifier: MIT
"""Helix in processes of its own: the planner, and the policy that follows plans from elsewhere.

Each loads only its tier's weights out of a whole checkpoint; the third, motor control, is in
``vla_core.inference.motor``. The age of a plan is told to the policy in the steps of its training
and bounded as there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vla_core.errors import CheckpointError, PlanError, SafetyError
from vla_core.inference.checkpoint_files import (
    WEIGHTS_NAME,
    find_checkpoint,
    require_fitting_contract,
)
from vla_core.inference.policy import Policy, black_observation, find_device
from vla_core.inference.trained_instructions import read_trained_instructions
from vla_core.models.frameworks import HelixVLA
from vla_core.models.frameworks.helix_tiers import HelixPlanner, HelixPolicy
from vla_core.models.weight_files import weights_identity
from vla_core.processing.contract import RobotContract
from vla_core.processing.pipeline import ProcessingPipeline
from vla_core.types import LatentPlan, Observation


class Planner:
    """The slow tier, ready to plan.

    Args:
        tier: The planner.
        pipeline: Processing that it was trained with.
        checkpoint_id: Identity of the whole checkpoint.
        num_threads: Threads of torch in this process.
        device: Where it runs.

    Raises:
        ConfigError: The device is unknown or not there.
    """

    def __init__(
        self,
        tier: HelixPlanner,
        pipeline: ProcessingPipeline,
        checkpoint_id: str,
        *,
        num_threads: int = 1,
        device: str = "cpu",
    ) -> None:
        torch.set_num_threads(num_threads)
        self.device = find_device(device)
        self.tier = tier.eval().to(self.device)
        self.pipeline = pipeline
        self.checkpoint_id = checkpoint_id

    @classmethod
    def from_checkpoint(
        cls,
        path_or_name: str | Path,
        contract: RobotContract,
        *,
        num_threads: int = 1,
        device: str = "cpu",
    ) -> Planner:
        """Load the planner out of a whole checkpoint; the other tiers are not read.

        Args:
            path_or_name: As for ``find_checkpoint``.
            contract: The robot to act on.
            num_threads: Threads of torch in this process.
            device: Where it runs.

        Raises:
            CheckpointError: A file is missing, damaged, or not Helix's.
            ContractError: The robot is not one that the checkpoint was trained for.
            ConfigError: The device is unknown or not there.
        """
        directory, pipeline, identity = _open(path_or_name, contract)
        tier = HelixVLA.load_tier(directory, "planner")
        assert isinstance(tier, HelixPlanner)
        return cls(tier, pipeline, identity, num_threads=num_threads, device=device)

    @torch.inference_mode()
    def plan(self, observation: Observation) -> LatentPlan:
        """Plan from what the cameras see and what the robot is asked to do.

        Raises:
            ShapeError: The observation is not what the contract describes.
            SafetyError: The planner returned a value that is not finite.
        """
        batch = self.pipeline.to_batch([observation])
        images = batch["images"].to(self.device)
        values = self.tier(images, batch["text"])[0].float().cpu().numpy()
        if not np.isfinite(values).all():
            raise SafetyError(
                f"checkpoint {self.checkpoint_id} planned a value that is not finite for the "
                f"observation at {observation.stamp_ns} ns."
            )
        return LatentPlan(
            values=values,
            stamp_ns=observation.stamp_ns,
            checkpoint_id=self.checkpoint_id,
            instruction=observation.instruction,
        )

    def warm_up(self) -> None:
        """Plan once on a black observation, so that the first real one takes no longer."""
        self.plan(black_observation(self.pipeline))


class PlannedPolicy(Policy):
    """The middle tier as a policy: ``take_plan`` gives it the plan that ``predict_chunk`` follows.

    Args:
        tier: The policy's tier.
        pipeline: Processing that it was trained with.
        checkpoint_id: Identity of the whole checkpoint.
        **keywords: As for ``Policy``.

    Raises:
        CheckpointError: It was trained with plans of the very same frame only.
    """

    model: _PolicyTier  # type: ignore[assignment]

    def __init__(
        self, tier: HelixPolicy, pipeline: ProcessingPipeline, checkpoint_id: str, **keywords: Any
    ) -> None:
        if tier.plan_max_age == 0:
            raise CheckpointError(
                f"checkpoint {checkpoint_id} was trained with plan_max_age 0, so its policy knows "
                "no plan that is older than its images, as those of another process are; train "
                "it with plan_max_age, or run it in one process."
            )
        super().__init__(_PolicyTier(tier), pipeline, checkpoint_id, **keywords)  # type: ignore[arg-type]

    @classmethod
    def from_checkpoint(  # type: ignore[override]
        cls, path_or_name: str | Path, *, contract: RobotContract, **keywords: Any
    ) -> PlannedPolicy:
        """Load the policy's tier out of a whole checkpoint; the other tiers are not read.

        Args:
            path_or_name: As for ``find_checkpoint``.
            contract: The robot to act on.
            **keywords: ``num_threads`` and ``device``, as for ``Policy``.

        Raises:
            CheckpointError: A file is missing, damaged, or not Helix's.
            ContractError: The robot is not one that the checkpoint was trained for.
        """
        directory, pipeline, identity = _open(path_or_name, contract)
        tier = HelixVLA.load_tier(directory, "policy")
        assert isinstance(tier, HelixPolicy)
        keywords["instructions"] = read_trained_instructions(directory)
        return cls(tier, pipeline, identity, contract=contract, **keywords)

    def take_plan(self, plan: LatentPlan, stamp_ns: int) -> None:
        """Follow a plan in the next predictions.

        Args:
            plan: The plan.
            stamp_ns: Stamp of the observation that is predicted for.

        Raises:
            PlanError: The plan is of another checkpoint, has another width, or is older than the
                policy's training had it.
        """
        if plan.checkpoint_id != self.checkpoint_id:
            raise PlanError(
                f"the plan is of checkpoint '{plan.checkpoint_id}', but the policy is of "
                f"'{self.checkpoint_id}'; start all tiers with one checkpoint."
            )
        tier, dt_s = self.model.tier, self.contract.action.dt_s
        if plan.values.shape != (tier.plan_dim,):
            raise PlanError(f"plan must be [{tier.plan_dim}], got {list(plan.values.shape)}.")
        age_s = (stamp_ns - plan.stamp_ns) * 1e-9
        steps = round(age_s / dt_s)
        if steps > tier.plan_max_age:
            raise PlanError(
                f"the plan is {age_s:.3f} s older than the observation, at most "
                f"{tier.plan_max_age * dt_s:g} s is known from training."
            )
        if steps < -1:
            raise PlanError(
                f"the plan is stamped {-age_s:.3f} s after the observation; synchronise the "
                "clocks of the machines."
            )
        self.model.plan = torch.from_numpy(plan.values.copy()).unsqueeze(0).to(self.device)
        self.model.plan_age = max(0, steps)


class _PolicyTier(nn.Module):
    """What ``Policy`` needs of a model, around the tier and the plan that it follows."""

    def __init__(self, tier: HelixPolicy) -> None:
        super().__init__()
        self.tier = tier
        # What the warm-up follows.
        self.plan = torch.zeros(1, tier.plan_dim, device=tier.queries.device)
        self.plan_age = 0

    @property
    def chunk_length(self) -> int:
        return self.tier.plan_horizon

    def get_config(self) -> dict[str, Any]:
        return self.tier.get_config()

    def predict_chunk(
        self,
        images: Tensor | None,
        text: object = None,
        proprioception: Tensor | None = None,
        *,
        committed: Tensor | None = None,
        overlap: object = None,
        generator: object = None,
    ) -> Tensor:
        """Return the sequence, whose first steps are the committed ones, [B, c, A].

        The instruction is in the plan, and nothing is drawn or guided.
        """
        plan = self.plan.to(self.tier.queries.device)
        sequence = self.tier(plan, images, proprioception, self.plan_age)
        if committed is None:
            return sequence
        return torch.cat([committed, sequence[:, committed.shape[1] :]], dim=1)


def _open(
    path_or_name: str | Path, contract: RobotContract
) -> tuple[Path, ProcessingPipeline, str]:
    directory = find_checkpoint(path_or_name, contract)
    pipeline = ProcessingPipeline.load(directory)
    require_fitting_contract(contract, pipeline.contract)
    return directory, pipeline, weights_identity(directory / WEIGHTS_NAME)
