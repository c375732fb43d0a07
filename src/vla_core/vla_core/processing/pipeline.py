# SPDX-License-Identifier: MIT
"""One object that turns observations into batches and actions back into robot units.

Training, replay and the robot use the same instance of it: it is saved in the checkpoint as
``processing.json``, with the contract and the statistics of the training data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vla_core.errors import CheckpointError, ConfigError, ShapeError
from vla_core.processing.contract import RobotContract
from vla_core.processing.images import frames_to_tensor
from vla_core.processing.normalization import Normalizer, Statistics, Values
from vla_core.processing.value_checks import quoted, require_count, require_keys
from vla_core.types import EarlierStep, Observation

PROCESSING_NAME = "processing.json"

_FORMAT = 1
_KEYS = (
    "format",
    "contract",
    "normalization",
    "image_size",
    "chunk_size",
    "state_statistics",
    "action_statistics",
    "history_length",
    "tasks",
)


class ProcessingPipeline:
    """From observations to a batch, and from normalised actions to robot units.

    Args:
        contract: The robot that the data comes from.
        state_statistics: Statistics of the recorded states, in the order of ``state_names``.
        action_statistics: Statistics of the recorded actions, in the order of ``action_names``.
        image_size: Height and width in pixels of the images that the model takes.
        chunk_size: Number of actions K that the model returns.
        normalization: One of ``vla_core.processing.normalization.NORMALIZATION_MODES``.
        history_length: Number of earlier steps T that the model was trained with.
        tasks: Instructions by their task ids, for a model that has these.

    Raises:
        ConfigError: Statistics are missing or do not fit the contract, or a size is not positive.
    """

    def __init__(
        self,
        contract: RobotContract,
        state_statistics: Statistics,
        action_statistics: Statistics,
        image_size: int = 96,
        chunk_size: int = 16,
        normalization: str = "min_max",
        history_length: int = 0,
        tasks: Sequence[str] = (),
    ) -> None:
        require_count("image_size", image_size)
        require_count("chunk_size", chunk_size)
        if history_length != 0:
            require_count("history_length", history_length)
        self.contract = contract
        self.image_size = image_size
        self.chunk_size = chunk_size
        self.normalization = normalization
        self.history_length = history_length
        self.tasks = tuple(tasks)
        self._task_ids = {task: number for number, task in enumerate(tasks)}
        self._state = Normalizer(normalization, state_statistics)
        self._actions = Normalizer(normalization, action_statistics)
        for name, statistics, values in (
            ("state", state_statistics, contract.state_names),
            ("action", action_statistics, contract.action_names),
        ):
            if statistics.dim != len(values):
                raise ConfigError(
                    f"{name}_statistics must have {len(values)} dimensions, one for each of "
                    f"{', '.join(values)}, got {statistics.dim}."
                )

    @property
    def state_statistics(self) -> Statistics:
        """Statistics of the recorded states."""
        return self._state.statistics

    @property
    def action_statistics(self) -> Statistics:
        """Statistics of the recorded actions."""
        return self._actions.statistics

    def to_batch(self, observations: Sequence[Observation]) -> dict[str, Any]:
        """Build the inputs of a framework.

        Args:
            observations: One per row of the batch.

        Returns:
            ``images`` float32 [B, N, 3, h, w] in [0, 1], ``text`` list of B strings, and
            ``proprioception`` normalised float32 [B, S]. For a model with history also
            ``history_images`` [B, T, N, 3, h, w], ``history_proprioception`` [B, T, S] and
            ``history_pad_mask`` bool [B, T], True where an observation has no such step. For a
            model with task ids also ``task_id`` int64 [B], -1 for an instruction without.

        Raises:
            ShapeError: A camera is missing, a frame or state is not what the contract says, or a
                state is not finite.
        """
        if not observations:
            raise ShapeError("observations must hold at least one observation, got none.")
        instructions = [observation.instruction for observation in observations]
        batch = {
            "images": self._images_of(observations),
            "text": instructions,
            "proprioception": self._proprioception_of(observations),
        }
        if self.tasks:
            batch["task_id"] = self.task_ids(instructions)
        return {**batch, **self._history_of(observations)} if self.history_length else batch

    def task_ids(self, instructions: Sequence[str]) -> torch.Tensor:
        """Return the task ids of instructions, int64 [B], -1 for one without."""
        return torch.tensor([self._task_ids.get(text, -1) for text in instructions])

    def _images_of(self, steps: Sequence[Observation | EarlierStep]) -> torch.Tensor:
        for step in steps:
            self._require_cameras(step.images)
        return self.to_images(
            {name: [step.images[name] for step in steps] for name in self.contract.cameras}
        )

    def _proprioception_of(self, steps: Sequence[Observation | EarlierStep]) -> torch.Tensor:
        states = np.stack([self._checked_state(step.state) for step in steps])
        return torch.from_numpy(self.normalize_state(states).astype(np.float32))

    def _history_of(self, observations: Sequence[Observation]) -> dict[str, torch.Tensor]:
        shape = (len(observations), self.history_length)
        size = (len(self.contract.cameras), 3, self.image_size, self.image_size)
        images = torch.zeros((*shape, *size))
        states = torch.zeros((*shape, len(self.contract.state_names)))
        is_pad = torch.ones(shape, dtype=torch.bool)
        for row, observation in enumerate(observations):
            steps = observation.history[-self.history_length :]
            if steps:
                images[row, -len(steps) :] = self._images_of(steps)
                states[row, -len(steps) :] = self._proprioception_of(steps)
                is_pad[row, -len(steps) :] = False
        return {
            "history_images": images,
            "history_proprioception": states,
            "history_pad_mask": is_pad,
        }

    def to_images(
        self, frames: Mapping[str, NDArray[np.uint8] | Sequence[NDArray[np.uint8]]]
    ) -> torch.Tensor:
        """Resize the frames of all cameras, in the order of the contract.

        Args:
            frames: RGB frames by camera, uint8 [B, H, W, 3] or B times [H, W, 3].

        Returns:
            Images in [0, 1], float32 [B, N, 3, h, w].

        Raises:
            ShapeError: A camera is missing, or a frame has another size than the contract says.
        """
        self._require_cameras(frames)
        images = []
        for name, camera in self.contract.cameras.items():
            for frame in frames[name]:
                if frame.dtype != np.uint8 or frame.shape != (camera.height, camera.width, 3):
                    raise ShapeError(
                        f"image of camera '{name}' must be uint8 [{camera.height}, "
                        f"{camera.width}, 3] by the contract of '{self.contract.robot}', "
                        f"got {frame.dtype} {list(frame.shape)}."
                    )
            images.append(frames_to_tensor(frames[name], self.image_size))
        return torch.stack(images, dim=1)

    def normalize_state(self, state: Values) -> Values:
        """Map measured values in robot units to the policy's space, [..., S]."""
        return self._state.normalize(state)

    def normalize_actions(self, actions: Values) -> Values:
        """Map actions in robot units to the policy's space, [..., A]."""
        return self._actions.normalize(actions)

    def unnormalize_actions(self, actions: Values) -> Values:
        """Map actions of the policy's space to robot units, [..., A]."""
        return self._actions.unnormalize(actions)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values that ``from_dict`` reads back exactly."""
        values = {
            "format": _FORMAT,
            "contract": self.contract.to_dict(),
            "normalization": self.normalization,
            "image_size": self.image_size,
            "chunk_size": self.chunk_size,
            "state_statistics": self.state_statistics.to_dict(),
            "action_statistics": self.action_statistics.to_dict(),
        }
        return {
            **values,
            **({"history_length": self.history_length} if self.history_length else {}),
            **({"tasks": list(self.tasks)} if self.tasks else {}),
        }

    @classmethod
    def from_dict(cls, data: object) -> ProcessingPipeline:
        """Rebuild a pipeline from plain values.

        Raises:
            ConfigError: A key is missing or unknown, or a value is not valid.
            ShapeError: Statistics differ in length or are not finite.
        """
        values = require_keys("processing", data, _KEYS, optional=("history_length", "tasks"))
        if values["format"] != _FORMAT:
            raise ConfigError(
                f"processing format {values['format']!r} is unknown; this version reads {_FORMAT}."
            )
        return cls(
            contract=RobotContract.from_dict(values["contract"]),
            state_statistics=_statistics("state_statistics", values),
            action_statistics=_statistics("action_statistics", values),
            image_size=values["image_size"],
            chunk_size=values["chunk_size"],
            normalization=values["normalization"],
            history_length=values.get("history_length", 0),
            tasks=_tasks(values.get("tasks", [])),
        )

    def save(self, directory: str | Path) -> None:
        """Write ``processing.json`` into a checkpoint directory."""
        path = Path(directory) / PROCESSING_NAME
        path.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: str | Path) -> ProcessingPipeline:
        """Read ``processing.json`` of a checkpoint directory.

        Raises:
            CheckpointError: The file is missing, is no JSON, or does not describe a pipeline.
        """
        path = Path(directory) / PROCESSING_NAME
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{path} is not valid JSON ({error}); save it again.") from error
        try:
            return cls.from_dict(data)
        except (ConfigError, ShapeError) as error:
            raise CheckpointError(f"{path} cannot be used: {error}") from error

    def _require_cameras(self, frames: Mapping[str, Any]) -> None:
        missing = [name for name in self.contract.cameras if name not in frames]
        if missing:
            raise ShapeError(
                f"images lack camera {quoted(missing)}; the contract of "
                f"'{self.contract.robot}' has {quoted(self.contract.cameras)}, "
                f"got {quoted(frames)}."
            )

    def _checked_state(self, state: NDArray[np.float64]) -> NDArray[np.float64]:
        names = self.contract.state_names
        if state.shape != (len(names),):
            raise ShapeError(
                f"state must be [{len(names)}], the values of {', '.join(names)}, "
                f"got {list(state.shape)}."
            )
        if not np.isfinite(state).all():
            wrong = [f"{n} = {v}" for n, v in zip(names, state, strict=True) if not np.isfinite(v)]
            raise ShapeError(f"state must be finite, got {', '.join(wrong)}.")
        return np.asarray(state, dtype=np.float64)


def _tasks(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(task, str) for task in value):
        raise ConfigError(f"tasks must be a list of instructions, got {value!r}.")
    return value


def _statistics(name: str, values: Mapping[str, Any]) -> Statistics:
    try:
        return Statistics.from_dict(values[name])
    except (ConfigError, ShapeError) as error:
        raise type(error)(f"{name}: {error}") from None
