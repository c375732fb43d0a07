# SPDX-License-Identifier: MIT
"""Helix's motor control in plain numpy, for the command loop; no torch here.

The network is small, so a tick that computes it needs no torch. The command loop adds what it
returns to the target that is due, which then passes the same limits as any other target.

The correction is bounded. In demonstrations the arm is where the commands took it, so a network
that learns from them may learn to repeat the state; unbounded it would follow the arm wherever it
drifts, and no sequence would bring it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import CheckpointError, ChunkError, ConfigError, ShapeError
from vla_core.inference.checkpoint_files import (
    CONFIG_NAME,
    PROCESSING_NAME,
    WEIGHTS_NAME,
    find_checkpoint,
    read_json,
    require_fitting_contract,
)
from vla_core.models.weight_files import read_arrays, weights_identity
from vla_core.processing.contract import RobotContract
from vla_core.processing.normalization import Normalizer, Statistics
from vla_core.types import ActionChunk

_PREFIX = "motor_control."


class MotorNetwork:
    """`HelixMotorControl` without torch: what the newest state changes about the due action.

    Args:
        weights: Its tensors by name, floating point.
        action_dim: Width of one action, A.
        plan_horizon: Actions of a sequence, K.

    Raises:
        CheckpointError: A tensor is missing.
    """

    def __init__(
        self, weights: Mapping[str, NDArray[Any]], action_dim: int, plan_horizon: int
    ) -> None:
        arrays = {name: np.asarray(array, np.float32) for name, array in weights.items()}
        try:
            self._encoder = _linear_layers(arrays, "state.encoder.layers.")
            self._layers = _linear_layers(arrays, "layers.")
            self._output = arrays["correction.weight"], arrays["correction.bias"]
        except KeyError as error:
            raise CheckpointError(
                f"the motor control lacks tensor {error}; save it again."
            ) from error
        self.state_dim = self._encoder[0][0].shape[1]
        self._shape = (plan_horizon, action_dim)

    def correct(
        self, sequence: NDArray[np.float32], state: NDArray[np.float32], elapsed: float
    ) -> NDArray[np.float32]:
        """Return what is to be added to the action that is due, normalised, [A].

        Args:
            sequence: Normalised actions of the policy, [K, A].
            state: Normalised state of now, [S].
            elapsed: Steps of the sequence since its observation, with fractions, at least 0.

        Raises:
            ShapeError: An array has another shape.
        """
        if sequence.shape != self._shape or state.shape != (self.state_dim,):
            raise ShapeError(
                f"sequence must be {list(self._shape)} and state [{self.state_dim}], "
                f"got {list(sequence.shape)} and {list(state.shape)}."
            )
        upcoming = shift_sequence(sequence, elapsed)
        features = _feed_forward(self._encoder, state, is_last_linear=True)
        hidden = np.concatenate((upcoming.ravel(), features))
        hidden = _feed_forward(self._layers, hidden, is_last_linear=False)
        weight, bias = self._output
        return weight @ hidden + bias


class MotorControl:
    """The motor network of a checkpoint with the scales of its robot.

    Args:
        network: The network.
        checkpoint_id: Identity of the checkpoint.
        state: Normalisation of the state.
        action_scale: Robot units per unit of a normalised action, [A].
        bound: Largest correction, rad or m, [A].
    """

    def __init__(
        self,
        network: MotorNetwork,
        checkpoint_id: str,
        state: Normalizer,
        action_scale: NDArray[np.float64],
        bound: NDArray[np.float64],
    ) -> None:
        self.checkpoint_id = checkpoint_id
        self._network = network
        self._state = state
        self._action_scale = action_scale
        self._bound = bound

    @classmethod
    def from_checkpoint(
        cls,
        path_or_name: str | Path,
        contract: RobotContract,
        *,
        max_correction_s: float,
    ) -> MotorControl:
        """Load the motor control out of a whole checkpoint; the other tiers are not read.

        Args:
            path_or_name: As for ``find_checkpoint``.
            contract: The robot.
            max_correction_s: Largest correction, as the time in which a joint covers it at its
                velocity limit.

        Raises:
            ConfigError: The robot's actions are no joint positions, or its state is more than the
                positions of the action joints.
            CheckpointError: The checkpoint is missing, damaged, or not Helix's.
            ContractError: The robot is not the one that it was trained for.
        """
        _require_positions(contract)
        directory = find_checkpoint(path_or_name, contract)
        config = read_json(directory / CONFIG_NAME)
        if config.get("framework") != "helix":
            raise CheckpointError(
                f"checkpoint '{path_or_name}' is of framework {config.get('framework')!r}; only "
                "'helix' has a motor control."
            )
        processing = read_json(directory / PROCESSING_NAME)
        try:
            trained = RobotContract.from_dict(processing["contract"])
            state, actions = (
                Normalizer(processing["normalization"], Statistics.from_dict(processing[name]))
                for name in ("state_statistics", "action_statistics")
            )
            sizes = int(config["action_dim"]), int(config["plan_horizon"])
        except (KeyError, ConfigError, ShapeError) as error:
            raise CheckpointError(f"checkpoint '{directory}' cannot be used: {error}") from error
        require_fitting_contract(contract, trained)
        weights = directory / WEIGHTS_NAME
        zero = np.zeros(sizes[0])
        limits = contract.action_limits.values()
        return cls(
            MotorNetwork(read_arrays(weights, _PREFIX), *sizes),
            weights_identity(weights),
            state,
            actions.unnormalize(zero + 1.0) - actions.unnormalize(zero),
            max_correction_s * np.array([limit.velocity for limit in limits]),
        )

    def require_own(self, chunk: ActionChunk) -> None:
        """Refuse a chunk of another checkpoint: its sequence would mean nothing here.

        Raises:
            ChunkError: It is of another checkpoint.
        """
        if chunk.checkpoint_id != self.checkpoint_id:
            raise ChunkError(
                f"chunk is of checkpoint '{chunk.checkpoint_id}', but the motor control is of "
                f"'{self.checkpoint_id}'; start all tiers with one checkpoint."
            )

    def correction(
        self, chunk: ActionChunk, state: NDArray[np.float64], now_ns: int
    ) -> NDArray[np.float64]:
        """Return what is to be added to the chunk's target, [A] in robot units.

        Args:
            chunk: The policy's sequence.
            state: Newest measured positions in the order of the contract, [S].
            now_ns: Time now.
        """
        elapsed = max(0.0, (now_ns - chunk.stamp_ns) * 1e-9 / chunk.dt_s)
        normalized = self._state.normalize(state).astype(np.float32)
        correction = self._network.correct(chunk.policy_actions, normalized, elapsed)
        return np.clip(correction * self._action_scale, -self._bound, self._bound)


def _require_positions(contract: RobotContract) -> None:
    if contract.action.kind != "joint_position":
        raise ConfigError(
            f"motor control needs actions of kind 'joint_position'; that of robot "
            f"'{contract.robot}' is {contract.action.kind!r}."
        )
    if contract.state_names != contract.action.joints:
        raise ConfigError(
            f"motor control needs a state of the action joints' positions, "
            f"{', '.join(contract.action.joints)}; that of robot '{contract.robot}' is "
            f"{', '.join(contract.state_names)}."
        )


def shift_sequence(sequence: NDArray[np.float32], elapsed: float) -> NDArray[np.float32]:
    """Return the sequence [K, A] as it goes on after `elapsed` steps.

    Between steps it is interpolated linearly; after the end its last action is held.
    """
    last = len(sequence) - 1
    steps = np.minimum(np.arange(last + 1, dtype=np.float32) + np.float32(elapsed), last)
    before = np.floor(steps).astype(np.int64)
    after = np.minimum(before + 1, last)
    weight = (steps - before).astype(np.float32)[:, None]
    return sequence[before] + weight * (sequence[after] - sequence[before])


def _linear_layers(
    arrays: Mapping[str, NDArray[Any]], prefix: str
) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Return weight and bias of each linear layer of a sequence, in order."""
    names = [name for name in arrays if name.startswith(prefix) and name.endswith(".weight")]
    if not names:
        raise KeyError(f"{prefix}0.weight")
    names.sort(key=lambda name: int(name.removeprefix(prefix).partition(".")[0]))
    return [(arrays[name], arrays[name.removesuffix("weight") + "bias"]) for name in names]


def _feed_forward(
    layers: list[tuple[NDArray[Any], NDArray[Any]]], x: NDArray[Any], *, is_last_linear: bool
) -> NDArray[Any]:
    for index, (weight, bias) in enumerate(layers):
        x = weight @ x + bias
        if not is_last_linear or index + 1 < len(layers):
            x = x * (0.5 + 0.5 * np.tanh(0.5 * x))  # SiLU, without overflow
    return x
