# SPDX-License-Identifier: MIT
"""Gathers what is found at every control tick, in a few hundred bytes a tick."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import ConfigError
from vla_core.evaluation.captions import tile_images
from vla_core.evaluation.replay.action_units import gripper_columns, grippers_open
from vla_core.evaluation.replay.limiter import LimiterReport
from vla_core.processing.contract import RobotContract
from vla_core.processing.normalization import Normalizer
from vla_core.types import ActionChunk, Observation

_LEAST_MOTION = 0.01
"""Motion over the horizon, rad or m, below which its direction means nothing."""
_SUMS = (
    *("count", "absolute", "square", "largest"),
    *("policy_absolute", "policy_square", "policy_largest"),
)
_WORST_DISTANCE_NS = 1_000_000_000
_TILE_PX = 260


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnsweredTick:
    """A control tick with the policy's answer, before the demonstrator's is known.

    Attributes:
        time_ns: The tick.
        episode: Its episode.
        observation: What the policy saw, with small images.
        chunk: What it answered.
        latency_s: How long it took.
        ages_s: Age of every camera's frame and of the state.
        limits: What the command loop made of it.
        recorded: The demonstrator's action on the observation, [A]; None if unknown.
        probes: Answers to the spoilt observation.
    """

    time_ns: int
    episode: int
    observation: Observation
    chunk: ActionChunk
    latency_s: float
    ages_s: Mapping[str, float]
    limits: LimiterReport
    recorded: NDArray[np.float64] | None
    probes: Mapping[str, ActionChunk]


class TickLog:
    """The ticks of one recording.

    Args:
        actions: Maps actions to the policy's space, which makes joints comparable.
        contract: The robot.
        num_worst: Worst moments to keep with their frames.

    Raises:
        ConfigError: There is nothing to draw the worst moments with.
    """

    def __init__(self, actions: Normalizer, contract: RobotContract, num_worst: int) -> None:
        if num_worst and find_spec("matplotlib") is None:
            raise ConfigError(
                "num_worst must be 0 without matplotlib, whose font labels the frames; or run "
                "pip install 'vla_core[report]'."
            )
        self._actions = actions
        self._contract = contract
        self._num_worst = num_worst
        self._is_gripper = gripper_columns(contract)
        self._is_absolute = contract.action.kind == "joint_position"
        names = contract.state_names
        self._columns = [names.index(joint) for joint in contract.action.joints]
        self._rows: dict[str, list[Any]] = {}
        self._probes: dict[str, list[Any]] = {}
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._worst: list[tuple[float, dict[str, Any], Mapping[str, NDArray[np.uint8]]]] = []

    def add(self, tick: AnsweredTick, recorded: NDArray[np.float64]) -> None:
        """Compare an answer with the demonstrator's actions, [K, A], NaN where unknown."""
        predicted = tick.chunk.actions
        errors = predicted - recorded  # [K, A]
        policy_errors = self._policy_errors(tick.chunk, recorded)
        self._add_to_horizon(errors, policy_errors)
        score = _mean(np.abs(policy_errors))
        error = _column_means(np.abs(errors))
        is_open = grippers_open(predicted, self._contract)
        was_open = grippers_open(recorded, self._contract)
        is_known = np.isfinite(recorded[:, self._is_gripper])
        row = {
            "time_ns": tick.time_ns,
            "episode": tick.episode,
            "recorded": np.full(len(error), np.nan) if tick.recorded is None else tick.recorded,
            "predicted": predicted[0],
            "error": error,
            "score": score,
            "cosine": self._cosine(tick.observation, predicted, recorded),
            "gripper_same": _mean((is_open == was_open)[is_known]),
            "gripper_open": _mean(was_open[is_known]),
            "latency_s": tick.latency_s,
            "ages_s": list(tick.ages_s.values()),
            "jerk_predicted": self._jerk(predicted, np.isfinite(recorded)),
            "jerk_recorded": self._jerk(recorded, np.isfinite(recorded)),
            "command_ticks": tick.limits.num_ticks,
            "cut_ticks": tick.limits.num_cut,
            "joint_cuts": tick.limits.joint_cuts,
            "summed_cuts": tick.limits.summed_cuts,
            "largest_cuts": tick.limits.largest_cuts,
            "switch_jump": tick.limits.switch_jump,
        }
        for name, value in row.items():
            self._rows.setdefault(name, []).append(value)
        if tick.probes and np.isfinite(score):
            self._add_probes(tick, recorded, score)
        if np.isfinite(score):
            self._consider(tick, score, error)

    @property
    def num_ticks(self) -> int:
        """Ticks so far."""
        return len(self._rows.get("time_ns", ()))

    def ticks(self) -> dict[str, NDArray[Any]]:
        """Return the arrays over the ticks; empty without one."""
        return {name: np.array(values) for name, values in self._rows.items()}

    def horizon(self) -> dict[str, NDArray[np.float64]]:
        """Return the sums over the horizon."""
        return dict(self._sums)

    def probes(self) -> dict[str, NDArray[Any]]:
        """Return the arrays over the checks of the senses."""
        return {name: np.array(values) for name, values in self._probes.items()}

    def worst(self) -> tuple[list[dict[str, Any]], list[bytes]]:
        """Return the worst moments, worst first, and their frames."""
        found = sorted(self._worst, key=lambda moment: -moment[0])
        return [facts for _, facts, _ in found], [_picture(images) for _, _, images in found]

    def _policy_errors(
        self, chunk: ActionChunk, recorded: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        wanted: NDArray[np.float64] = self._actions.normalize(recorded)
        return chunk.policy_actions.astype(np.float64) - wanted

    def _add_to_horizon(
        self, errors: NDArray[np.float64], policy_errors: NDArray[np.float64]
    ) -> None:
        known = np.isfinite(errors)
        robot, policy = (np.where(known, np.abs(e), 0.0) for e in (errors, policy_errors))
        if not self._sums:
            self._sums = {name: np.zeros(errors.shape) for name in _SUMS}
        sums = self._sums
        sums["count"] += known
        for prefix, values in (("", robot), ("policy_", policy)):
            sums[f"{prefix}absolute"] += values
            sums[f"{prefix}square"] += values**2
            np.maximum(sums[f"{prefix}largest"], values, out=sums[f"{prefix}largest"])

    def _cosine(
        self,
        observation: Observation,
        predicted: NDArray[np.float64],
        recorded: NDArray[np.float64],
    ) -> float:
        """Return the cosine between both motions over the known horizon, grippers left out."""
        known = np.flatnonzero(np.isfinite(recorded).all(axis=1))
        if not known.size:
            return np.nan
        if self._is_absolute:
            start = observation.state[self._columns]
            wanted, done = predicted[known[-1]] - start, recorded[known[-1]] - start
        else:
            wanted, done = predicted[known].sum(axis=0), recorded[known].sum(axis=0)
        wanted, done = wanted[~self._is_gripper], done[~self._is_gripper]
        lengths = np.linalg.norm(wanted), np.linalg.norm(done)
        if min(lengths) < _LEAST_MOTION:
            return np.nan
        return float(wanted @ done / (lengths[0] * lengths[1]))

    def _jerk(self, actions: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the mean square of the jerk over the steps that both have, [A], per s^3."""
        order = 3 if self._is_absolute else 2
        whole = known.all(axis=1)
        until = len(actions) if whole.all() else int(np.argmin(whole))
        if until <= order:
            return np.full(actions.shape[1], np.nan)
        jerks = np.diff(actions[:until], n=order, axis=0) / self._contract.action.dt_s**3
        means: NDArray[np.float64] = (jerks**2).mean(axis=0)
        return means

    def _add_probes(self, tick: AnsweredTick, recorded: NDArray[np.float64], score: float) -> None:
        row: dict[str, float] = {"time_ns": tick.time_ns, "error": score}
        for name, answer in tick.probes.items():
            change = np.abs(answer.policy_actions - tick.chunk.policy_actions)
            row[f"{name}/change"] = float(change.mean())
            row[f"{name}/error"] = _mean(np.abs(self._policy_errors(answer, recorded)))
        for name, value in row.items():
            self._probes.setdefault(name, []).append(value)

    def _consider(self, tick: AnsweredTick, score: float, error: NDArray[np.float64]) -> None:
        """Keep a moment if it is among the worst, and the worst of its second."""
        if not self._num_worst:
            return
        distances_ns = [abs(facts["time_ns"] - tick.time_ns) for _, facts, _ in self._worst]
        moments = list(zip(self._worst, distances_ns, strict=True))
        near = [moment for moment, distance in moments if distance < _WORST_DISTANCE_NS]
        rest = [moment for moment, distance in moments if distance >= _WORST_DISTANCE_NS]
        if any(moment[0] >= score for moment in near):
            return
        if len(rest) >= self._num_worst:
            least = min(rest, key=lambda moment: moment[0])
            if least[0] >= score:
                return
            rest.remove(least)
        facts = {
            "time_ns": tick.time_ns,
            "episode": tick.episode,
            "instruction": tick.observation.instruction,
            "score": score,
            "errors": {
                name: None if np.isnan(value) else float(value)
                for name, value in zip(self._contract.action_names, error, strict=True)
            },
        }
        # A frame may be a view of a chunk of the recording, which is not to be kept.
        images = {name: image.copy() for name, image in tick.observation.images.items()}
        self._worst = [*rest, (score, facts, images)]


def small_images(observation: Observation) -> dict[str, NDArray[np.uint8]]:
    """Return the frames with at most twice the pixels that a report shows, cheaply."""
    found = {}
    for name, image in observation.images.items():
        step = max(1, max(image.shape[:2]) // (2 * _TILE_PX))
        found[name] = image[::step, ::step].copy() if step > 1 else image
    return found


def _picture(images: Mapping[str, NDArray[np.uint8]]) -> bytes:
    buffer = io.BytesIO()
    tile_images(images, _TILE_PX).save(buffer, format="JPEG", quality=82)
    return buffer.getvalue()


def _mean(values: NDArray[Any]) -> float:
    values = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    return float(values.mean()) if values.size else np.nan


def _column_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    counts = np.isfinite(values).sum(axis=0)
    sums = np.nansum(values, axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
