# SPDX-License-Identifier: MIT
"""A checkpoint that is ready to act: observation in, action chunk in robot units out.

The gymnasium loop, replay and the robot's node use this class, so that the same observation gives
the identical chunk everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vla_core.errors import CheckpointError, ConfigError, SafetyError, ShapeError
from vla_core.inference.checkpoint_files import (
    WEIGHTS_NAME,
    find_checkpoint,
    require_fitting_contract,
)
from vla_core.inference.trained_instructions import read_trained_instructions
from vla_core.models.frameworks import AbstractVLA
from vla_core.models.keywords import check_choice
from vla_core.models.weight_files import weights_identity
from vla_core.processing.contract import RobotContract, load_contract
from vla_core.processing.pipeline import ProcessingPipeline
from vla_core.types import ActionChunk, Observation

DEVICES = ("cpu", "cuda", "auto")
_MASK_64 = (1 << 64) - 1


class Policy:
    """A model with the processing that it was trained with.

    Args:
        model: Model; it is put into eval mode.
        pipeline: Processing that the model was trained with.
        checkpoint_id: Short hash of the weights.
        contract: The robot that the policy acts on; None for the one that it was trained on.
        num_threads: Threads of torch in this process. More than one makes the time of an
            inference depend on the busiest core.
        device: Where to infer, ``'cpu'``, ``'cuda'``, or ``'auto'`` for CUDA where there is one.
        instructions: Those that the model was trained with; none if that is not known.

    Attributes:
        device: The device that was chosen.

    Raises:
        ConfigError: The device is unknown or not there, or there is no thread.
        CheckpointError: The model and the processing do not fit each other.
        ContractError: The contract does not fit the one that the model was trained on.
    """

    def __init__(
        self,
        model: AbstractVLA,
        pipeline: ProcessingPipeline,
        checkpoint_id: str,
        *,
        contract: RobotContract | None = None,
        num_threads: int = 1,
        device: str = "cpu",
        instructions: Sequence[str] = (),
    ) -> None:
        if num_threads < 1:
            raise ConfigError(f"threads of torch must be at least 1, got {num_threads}.")
        _require_fitting_model(model, pipeline)
        if contract is not None:
            require_fitting_contract(contract, pipeline.contract)
        self.device = find_device(device)
        torch.set_num_threads(num_threads)
        self.model = model.eval().to(self.device)
        self.pipeline = pipeline
        self.checkpoint_id = checkpoint_id
        self.contract = contract or pipeline.contract
        self.instructions = tuple(instructions)
        self._generator = torch.Generator()

    @property
    def history_length(self) -> int:
        """Earlier steps that an observation shall have."""
        return self.pipeline.history_length

    @classmethod
    def from_checkpoint(
        cls,
        path_or_name: str | Path,
        *,
        contract: RobotContract | str | Path | None = None,
        num_threads: int = 1,
        device: str = "cpu",
    ) -> Policy:
        """Open a checkpoint directory with config.json, model.safetensors and processing.json.

        Args:
            path_or_name: Directory, the name of a shipped checkpoint such as ``'groot'``, or
                ``'untrained:<framework>'``, which needs a contract.
            contract: The robot to act on, as an object, name or path; None for the robot that
                the policy was trained on.
            num_threads: Threads of torch in this process.
            device: Where to infer, as in the constructor.

        Raises:
            ConfigError: The device is unknown or not there.
            CheckpointError: A file is missing, damaged, or does not fit the others.
            ContractError: The robot is not one that the policy was trained for; the message says
                what differs.
        """
        if isinstance(contract, (str, Path)):
            contract = load_contract(contract)
        directory = find_checkpoint(path_or_name, contract)
        pipeline = ProcessingPipeline.load(directory)
        if contract is not None:
            require_fitting_contract(contract, pipeline.contract)
        return cls(
            AbstractVLA.from_pretrained(directory),
            pipeline,
            weights_identity(directory / WEIGHTS_NAME),
            contract=contract,
            num_threads=num_threads,
            device=device,
            instructions=read_trained_instructions(directory),
        )

    @torch.no_grad()
    def predict_chunk(
        self,
        observation: Observation,
        *,
        seed: int = 0,
        committed: NDArray[np.float32] | None = None,
        overlap: NDArray[np.float32] | None = None,
    ) -> ActionChunk:
        """Answer an observation with a chunk of actions.

        The noise of the sampler comes from the seed and the stamp of the observation alone: the
        same pair gives the same chunk, in any process and in any order of calls.

        Args:
            observation: What the robot sees and measures.
            seed: Selects one of the chunks that the policy may answer with.
            committed: Steps of the chunk before, in the policy's space, that the arm will have
                executed when this chunk takes effect: its first c steps are these, [c, A].
            overlap: What the chunk before says about the steps after them, [o, A]: a policy that
                samples is guided by it, the others do not read it.

        Raises:
            ShapeError: The observation is not what the contract describes, or the committed steps
                do not fit the chunk.
            SafetyError: The model returned a value that is not finite.
        """
        batch = self.pipeline.to_batch([observation])
        batch = {name: self._on_device(value) for name, value in batch.items()}
        for name, steps in (("committed", committed), ("overlap", overlap)):
            if steps is not None:
                batch[name] = self._on_device(torch.from_numpy(steps).unsqueeze(0))
        self._generator.manual_seed(mix_seed(seed, observation.stamp_ns))
        predicted = self.model.predict_chunk(**batch, generator=self._generator)
        expected = (1, self.pipeline.chunk_size, len(self.contract.action_names))
        if predicted.shape != expected:
            raise ShapeError(f"model must return {list(expected)}, got {list(predicted.shape)}.")
        policy_actions = predicted[0].float().cpu().numpy()  # [K, A]
        if not np.isfinite(policy_actions).all():
            raise SafetyError(
                f"checkpoint {self.checkpoint_id} predicted a value that is not finite for the "
                f"observation at {observation.stamp_ns} ns; stop the arm."
            )
        return ActionChunk(
            actions=self.pipeline.unnormalize_actions(policy_actions.astype(np.float64)),
            policy_actions=policy_actions,
            joints=self.contract.action_names,
            dt_s=self.contract.action.dt_s,
            stamp_ns=observation.stamp_ns,
            checkpoint_id=self.checkpoint_id,
            instruction=observation.instruction,
            kind=self.contract.action.kind,
        )

    def _on_device(self, value: Any) -> Any:
        return value.to(self.device) if isinstance(value, torch.Tensor) else value

    def warm_up(self) -> None:
        """Predict once on a black observation, so that the first real one takes no longer."""
        self.predict_chunk(black_observation(self.pipeline))


def black_observation(pipeline: ProcessingPipeline) -> Observation:
    """Return an observation of a mean state with black images and no instruction."""
    cameras = pipeline.contract.cameras
    return Observation(
        images={n: np.zeros((c.height, c.width, 3), np.uint8) for n, c in cameras.items()},
        state=pipeline.state_statistics.mean,
        instruction="",
        stamp_ns=0,
        image_stamps_ns=dict.fromkeys(cameras, 0),
        state_stamp_ns=0,
    )


def find_device(name: str) -> torch.device:
    """Return the device of this name, with ``'auto'`` CUDA where there is one.

    Raises:
        ConfigError: The name is unknown, or CUDA is asked for and not there.
    """
    check_choice("device", name, DEVICES)
    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        build = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "has no CUDA"
        raise ConfigError(
            f"device 'cuda' is not there: torch {torch.__version__} {build} and sees no GPU; "
            "use 'cpu' or 'auto', or install a CUDA build of PyTorch and the driver."
        )
    return torch.device("cuda" if name != "cpu" and has_cuda else "cpu")


def mix_seed(seed: int, stamp_ns: int) -> int:
    """Return one well-spread 64-bit seed for a pair, the same in every process.

    Source: the finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
    """
    mixed = _finalize(_finalize(seed & _MASK_64) + stamp_ns & _MASK_64)
    return mixed & (_MASK_64 >> 1)


def _finalize(value: int) -> int:
    value = value + 0x9E3779B97F4A7C15 & _MASK_64
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _MASK_64
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _MASK_64
    return value ^ value >> 31


def _require_fitting_model(model: AbstractVLA, pipeline: ProcessingPipeline) -> None:
    config = {**model.get_config(), "chunk_size": model.chunk_length}
    expected = {
        "action_dim": len(pipeline.contract.action_names),
        "state_dim": len(pipeline.contract.state_names),
        "num_cameras": len(pipeline.contract.cameras),
        "chunk_size": pipeline.chunk_size,
    }
    wrong = [
        f"{name} is {config[name]} in the model, {value} in the processing"
        for name, value in expected.items()
        if config.get(name, value) not in (value, None)
    ]
    history_length = config.get("history_length", 0)
    if pipeline.history_length > history_length:
        wrong.append(
            f"history_length is {history_length} in the model, at most, and "
            f"{pipeline.history_length} in the processing"
        )
    if len(pipeline.tasks) > config.get("num_tasks", 0):
        wrong.append(
            f"num_tasks is {config.get('num_tasks', 0)} in the model, and the processing has "
            f"{len(pipeline.tasks)} tasks"
        )
    if wrong:
        raise CheckpointError(
            f"model and processing do not fit each other: {'; '.join(wrong)}; "
            "a checkpoint's config.json and processing.json come from one training."
        )
