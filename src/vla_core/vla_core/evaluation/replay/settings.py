# SPDX-License-Identifier: MIT
"""What a replay does with a recording; two replays are comparable if these are equal."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vla_core.dataset.bag_sources import COMMAND_ACTIONS
from vla_core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySettings:
    """How recordings are read and what is asked of the policy.

    Attributes:
        contract: Robot contract, name or path; None: the one that the policy was trained on.
        actions: Where the demonstrator's targets are; see ``bag_sources.find_sources``.
        instruction: What the policy is asked to do; None: what the recording says.
        instruction_topic: Topic with the instruction.
        episode_topic: Topic that marks episodes; None: that of vla_msgs/PolicyStatus, if the
            recording has one and nothing else names the instruction.
        clock: ``received`` or ``stamp``; see ``BagObservations``.
        is_strict: Whether a message that cannot be used is an error and not a gap.
        seed: Seed of the policy's sampler.
        probe_every: Control ticks between two checks of the policy's senses; 0: none.
        other_instruction: What the swapped instruction is; None: another one of the recording.
        num_worst: Worst moments to keep with their frames.
        max_ticks: Control ticks with a prediction after which the replay of a bag ends; 0: all.
    """

    contract: str | None = None
    actions: tuple[str, ...] = COMMAND_ACTIONS
    instruction: str | None = None
    instruction_topic: str | None = None
    episode_topic: str | None = None
    clock: str = "received"
    is_strict: bool = True
    seed: int = 0
    probe_every: int = 10
    other_instruction: str | None = None
    num_worst: int = 6
    max_ticks: int = 0

    def __post_init__(self) -> None:
        """Refuse counts below 0."""
        for name in ("probe_every", "num_worst", "max_ticks"):
            value = getattr(self, name)
            if value < 0:
                raise ConfigError(f"{name} must be at least 0, got {value}.")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return {**asdict(self), "actions": list(self.actions)}
