# SPDX-License-Identifier: MIT
"""What travels between the stages: an observation goes in, an action chunk comes out.

Letters of the shapes in this package: B batch, N cameras, T history, K chunk, A action, S state,
L tokens, D hidden, C channels, H height, W width. Units are SI, angles are radians, stamps are
nanoseconds since the epoch of the robot's clock.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import ShapeError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EarlierStep:
    """What the robot saw and measured a whole number of action steps before an observation.

    Attributes:
        images: RGB frame of every camera in the order of the contract, uint8 [H, W, 3].
        state: Measured values in the order of ``RobotContract.state_names``, float64 [S].
        stamp_ns: Stamp of the first camera of the contract.
    """

    images: dict[str, NDArray[np.uint8]]
    state: NDArray[np.float64]
    stamp_ns: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observation:
    """What the robot saw and measured at one instant.

    Attributes:
        images: RGB frame of every camera in the order of the contract, uint8 [H, W, 3].
        state: Measured values in the order of ``RobotContract.state_names``, float64 [S].
        instruction: What the robot is asked to do.
        stamp_ns: Time of the observation: the stamp of the first camera of the contract.
        image_stamps_ns: Stamp of every frame.
        state_stamp_ns: Time for which the state holds; of its most outdated value.
        history: The steps before this one, oldest first and one action step apart, for policies
            that take them; fewer than those after a start or a gap.
    """

    images: dict[str, NDArray[np.uint8]]
    state: NDArray[np.float64]
    instruction: str
    stamp_ns: int
    image_stamps_ns: dict[str, int]
    state_stamp_ns: int
    history: tuple[EarlierStep, ...] = ()

    @property
    def skews_s(self) -> dict[str, float]:
        """How much later than the observation's stamp each camera and ``state`` are, in s."""
        stamps = {**self.image_stamps_ns, "state": self.state_stamp_ns}
        return {name: (stamp - self.stamp_ns) * 1e-9 for name, stamp in stamps.items()}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ActionChunk:
    """A sequence of targets in robot units, placed in time by the observation it answers.

    ``actions[k]`` is the target to be reached at ``stamp_ns + (k + 1) * dt_s``.

    Attributes:
        actions: Targets in robot units, float64 [K, A].
        policy_actions: The same chunk in the normalised space of the policy, float32 [K, A].
        joints: Names of the columns, the contract's ``action_names``: joints, or the components of
            the tool's pose and the grippers.
        dt_s: Time between two targets.
        stamp_ns: Stamp of the observation that the chunk answers.
        checkpoint_id: Short hash of the weights that made it.
        instruction: The instruction that it follows.
        kind: What a target is, one of ``vla_core.processing.contract.ACTION_KINDS``.

    Raises:
        ShapeError: The arrays, the joints and ``dt_s`` do not fit each other.
    """

    actions: NDArray[np.float64]
    policy_actions: NDArray[np.float32]
    joints: tuple[str, ...]
    dt_s: float
    stamp_ns: int
    checkpoint_id: str
    instruction: str
    kind: str = "joint_position"

    def __post_init__(self) -> None:
        """Refuse a chunk whose parts do not fit each other."""
        if self.actions.ndim != 2 or self.actions.shape[1] != len(self.joints):
            raise ShapeError(
                f"actions must be [K, {len(self.joints)}] for joints {list(self.joints)}, "
                f"got {list(self.actions.shape)}."
            )
        if len(self.actions) == 0:
            raise ShapeError("actions must hold at least one step, got none.")
        if self.policy_actions.shape != self.actions.shape:
            raise ShapeError(
                f"policy_actions must have the shape of actions {list(self.actions.shape)}, "
                f"got {list(self.policy_actions.shape)}."
            )
        if not self.dt_s > 0.0:
            raise ShapeError(f"dt_s must be positive, got {self.dt_s!r}.")

    @property
    def end_ns(self) -> int:
        """Time at which the last target is to be reached."""
        return self.stamp_ns + round(len(self.actions) * self.dt_s * 1e9)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LatentPlan:
    """What a slow planner tells a fast policy, in the latent space that they were trained with.

    Attributes:
        values: The plan, float32 [plan_dim].
        stamp_ns: Stamp of the observation that it was made from.
        checkpoint_id: Short hash of the weights that made it.
        instruction: The instruction that it follows.

    Raises:
        ShapeError: The values are no vector.
    """

    values: NDArray[np.float32]
    stamp_ns: int
    checkpoint_id: str
    instruction: str

    def __post_init__(self) -> None:
        """Refuse values that are no vector."""
        if self.values.ndim != 1 or self.values.size == 0:
            raise ShapeError(f"plan must be [plan_dim], got {list(self.values.shape)}.")
