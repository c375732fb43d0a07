# SPDX-License-Identifier: MIT
"""Random runs of the command stream through the model of a controller: what reaches the arm.

One trace is a second or so of an arm that is sent somewhere by chunks which come late, come not at
all or bear the stamps of another clock, over a topic that delays and loses messages, from a loop
that misses ticks. A trajectory begins with the command of the tick whose stamp it has. No ROS is
needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import ChunkError
from vla_core.inference.command_stream import CommandStream, CommandTick
from vla_core.inference.motion import COMMIT_S
from vla_core.processing.contract import RobotContract
from vla_core.sim.trajectory_controller import TrajectoryController, TrajectoryRejectedError
from vla_core.types import ActionChunk

UPDATE_NS = 4_000_000
"""Period of the controller."""
_START_NS = 1_700_000_000_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """How bad a trace is; each is drawn anew, evenly up to these.

    Attributes:
        latency_s: Shortest and longest time from an observation to its chunk.
        chunk_loss: Probability that a chunk never comes.
        clock_error_s: Largest error of the policy's clock.
        controller_clock_error_s: Largest error of the controller's clock.
        message_delay_s: Longest way of a command.
        message_loss: Probability that commands are lost.
        lost_in_a_row: So many of them. The one before a missed tick is not lost: it would be two.
        missed_ticks: Probability that the loop misses one to four ticks.
    """

    latency_s: tuple[float, float] = (0.02, 0.8)
    chunk_loss: float = 0.1
    clock_error_s: float = 0.03
    controller_clock_error_s: float = 0.002
    message_delay_s: float = 0.006
    message_loss: float = 0.05
    lost_in_a_row: int = 1
    missed_ticks: float = 0.02


@dataclass(slots=True, kw_only=True)
class TraceFigures:
    """The worst of one or many traces; shares of a limit are 1 at the limit.

    Attributes:
        num_traces: Traces.
        num_messages: Messages that the controller got.
        rejections: Messages that it refused, by cause.
        range_excess: How far the controller went beyond a position limit, rad or m.
        command_velocity: Of the commands, as a share of the limit.
        command_acceleration: Likewise.
        command_jerk: Likewise, over the joints whose jerk is limited.
        velocity: Of what the controller sends in one update, as a share of the limit.
        acceleration: Likewise, from three updates.
        jerk: Likewise, from what it sends once per tick, over the joints whose jerk is limited.
        seam_jump: Largest distance of two chunks at their switch, rad or m.
    """

    num_traces: int = 0
    num_messages: int = 0
    rejections: dict[str, int] = field(default_factory=dict)
    range_excess: float = -np.inf
    command_velocity: float = 0.0
    command_acceleration: float = 0.0
    command_jerk: float = 0.0
    velocity: float = 0.0
    acceleration: float = 0.0
    jerk: float = 0.0
    seam_jump: float = 0.0

    def add(self, other: TraceFigures) -> None:
        """Take over what is worse in another."""
        self.num_traces += other.num_traces
        self.num_messages += other.num_messages
        for cause, number in other.rejections.items():
            self.rejections[cause] = self.rejections.get(cause, 0) + number
        for name in _WORST:
            setattr(self, name, max(getattr(self, name), getattr(other, name)))


_WORST = (
    "range_excess",
    "command_velocity",
    "command_acceleration",
    "command_jerk",
    "velocity",
    "acceleration",
    "jerk",
    "seam_jump",
)


def run_trace(
    contract: RobotContract,
    distro: str,
    seed: int,
    *,
    disturbance: Disturbance | None = None,
    num_ticks: int = 60,
    commit_s: float = COMMIT_S,
    allow_trajectory_replacement: bool | None = None,
    **settings: Any,
) -> TraceFigures:
    """Run one trace.

    Args:
        contract: The robot, with absolute joint positions as actions.
        distro: Distribution of the controller.
        seed: The same one gives the same trace.
        disturbance: How bad it is.
        num_ticks: Ticks of the command loop.
        commit_s: How much of a plan the next ones keep.
        allow_trajectory_replacement: Parameter of the controller; None: as by default.
        settings: Of `CommandStream`.
    """
    rng = np.random.default_rng(seed)
    limits = contract.action_limits.values()
    start = rng.uniform([limit.lower for limit in limits], [limit.upper for limit in limits])
    controller = TrajectoryController(
        contract.action.joints,
        start,
        distro=distro,
        allow_trajectory_replacement=allow_trajectory_replacement,
    )
    stream = CommandStream(contract, max_tracking_error=100.0, commit_s=commit_s, **settings)
    trace = _Trace(contract, controller, stream, rng, disturbance or Disturbance())
    return trace.run(num_ticks)


class _Trace:
    def __init__(
        self,
        contract: RobotContract,
        controller: TrajectoryController,
        stream: CommandStream,
        rng: np.random.Generator,
        disturbance: Disturbance,
    ) -> None:
        self._rng = rng
        self._bad = disturbance
        self._contract = contract
        limits = list(contract.action_limits.values())
        self._lower = np.array([limit.lower for limit in limits])
        self._upper = np.array([limit.upper for limit in limits])
        self._velocity = np.array([limit.velocity for limit in limits])
        self._acceleration = np.array([limit.acceleration for limit in limits])
        self._jerk = np.array([limit.jerk or np.inf for limit in limits])
        self._stream, self._controller = stream, controller
        self._wanted = controller.sample(_START_NS - UPDATE_NS)[0]
        self._clock_error_ns = self._ns(self._rng.uniform(-1.0, 1.0) * disturbance.clock_error_s)
        self._controller_error_ns = self._ns(
            self._rng.uniform(-1.0, 1.0) * disturbance.controller_clock_error_s
        )
        self._chunks: list[tuple[int, ActionChunk]] = []
        self._messages: list[tuple[int, Any]] = []
        self._sampled: list[NDArray[np.float64]] = []
        self._commands: list[NDArray[np.float64]] = []
        self._figures = TraceFigures(num_traces=1)

    def run(self, num_ticks: int) -> TraceFigures:
        rng, bad = self._rng, self._bad
        tick_ns = self._ns(self._contract.command.dt_s)
        next_observation_ns = update_ns = _START_NS
        num_elapsed, num_to_lose, epoch = 1, 0, 1
        is_missed = rng.random(num_ticks + 1) < bad.missed_ticks * 0.4
        for number in range(num_ticks):
            now_ns = _START_NS + number * tick_ns
            while update_ns <= now_ns:
                self._update(update_ns)
                update_ns += UPDATE_NS
            if now_ns >= next_observation_ns:
                self._observe(now_ns)
                next_observation_ns = now_ns + self._ns(rng.uniform(0.05, 0.4))
            if is_missed[number]:
                num_elapsed += 1
                continue
            if rng.random() < 0.005:
                epoch += 1
                self._stream.revoke(epoch, "new instruction", now_ns=now_ns)
            self._stream.put_joint_state(self._sample(now_ns), now_ns)
            self._deliver_chunks(now_ns, epoch)
            tick = self._stream.tick(now_ns, num_elapsed)
            self._note(tick, num_elapsed)
            num_elapsed = 1
            if tick.plan is None:
                continue
            # One more arrives in between, so that each loss is one of its own.
            if num_to_lose == -1 or is_missed[number + 1]:
                num_to_lose = 0
            elif num_to_lose == 0 and rng.random() < bad.message_loss:
                num_to_lose = bad.lost_in_a_row
            if num_to_lose > 0:
                num_to_lose = num_to_lose - 1 or -1
                continue
            delay_ns = self._ns(rng.uniform(0.0, bad.message_delay_s))
            self._messages.append((now_ns + delay_ns, self._message(tick, now_ns)))
        return self._finish()

    def _observe(self, now_ns: int) -> None:
        rng = self._rng
        num_steps, joints = int(rng.integers(4, 17)), self._contract.action.joints
        pace = rng.choice((0.05, 0.3, 1.5)) * self._velocity * self._contract.action.dt_s
        steps = rng.normal(0.0, 1.0, (num_steps, len(joints))) * pace
        begin = self._wanted if rng.random() < 0.7 else rng.uniform(self._lower, self._upper)
        actions = begin + np.cumsum(steps, axis=0)
        self._wanted = np.clip(actions[len(actions) // 2], self._lower, self._upper)
        if rng.random() < self._bad.chunk_loss:
            return
        chunk = ActionChunk(
            actions=actions,
            policy_actions=actions.astype(np.float32),
            joints=joints,
            dt_s=self._contract.action.dt_s,
            stamp_ns=now_ns + self._clock_error_ns,
            checkpoint_id="trace",
            instruction="",
        )
        self._chunks.append((now_ns + self._ns(rng.uniform(*self._bad.latency_s)), chunk))

    def _deliver_chunks(self, now_ns: int, epoch: int) -> None:
        due = [item for item in self._chunks if item[0] <= now_ns]
        self._chunks = [item for item in self._chunks if item[0] > now_ns]
        for _, chunk in sorted(due, key=lambda item: item[0]):
            try:
                self._stream.put_chunk(chunk, sequence=1, epoch=epoch, now_ns=now_ns)
            except ChunkError as error:
                self._stream.refuse_chunk(str(error))

    def _update(self, now_ns: int) -> None:
        arrived = [item for item in self._messages if item[0] <= now_ns]
        self._messages = [item for item in self._messages if item[0] > now_ns]
        for _, message in sorted(arrived, key=lambda item: item[0]):
            self._figures.num_messages += 1
            try:
                self._controller.replace(message, now_ns + self._controller_error_ns)
            except TrajectoryRejectedError as error:
                counts = self._figures.rejections
                counts[error.cause] = counts.get(error.cause, 0) + 1
        self._sampled.append(self._sample(now_ns))

    def _sample(self, now_ns: int) -> NDArray[np.float64]:
        return self._controller.sample(now_ns + self._controller_error_ns)[0]

    def _message(self, tick: CommandTick, stamp_ns: int) -> Any:
        assert tick.plan is not None
        assert tick.position is not None
        assert tick.velocity is not None
        positions, velocities = tick.plan
        positions = np.vstack((tick.position, positions))
        velocities = np.vstack((tick.velocity, velocities))
        dt_ns = self._ns(self._contract.command.dt_s)
        points = [
            SimpleNamespace(
                positions=position.tolist(),
                velocities=velocity.tolist(),
                accelerations=(),
                effort=(),
                time_from_start=_duration(row * dt_ns),
            )
            for row, (position, velocity) in enumerate(zip(positions, velocities, strict=True))
        ]
        header = SimpleNamespace(stamp=_duration(stamp_ns))
        return SimpleNamespace(
            header=header, joint_names=list(self._contract.action.joints), points=points
        )

    def _note(self, tick: CommandTick, num_elapsed: int) -> None:
        figures = self._figures
        figures.seam_jump = max(figures.seam_jump, tick.switch_jump)
        if tick.velocity is None or num_elapsed > 1:
            self._judge_commands()
        if tick.velocity is not None:
            self._commands.append(tick.velocity)

    def _judge_commands(self) -> None:
        """Judge the commands of ticks without a gap between them."""
        figures, dt_s = self._figures, self._contract.command.dt_s
        velocities = np.array(self._commands).reshape(-1, len(self._velocity))
        self._commands.clear()
        accelerations = np.diff(velocities, axis=0) / dt_s
        jerks = np.diff(accelerations, axis=0) / dt_s
        figures.command_velocity = _worst(figures.command_velocity, velocities, self._velocity)
        figures.command_acceleration = _worst(
            figures.command_acceleration, accelerations, self._acceleration
        )
        figures.command_jerk = _worst(figures.command_jerk, jerks, self._jerk)

    def _finish(self) -> TraceFigures:
        self._judge_commands()
        figures, period_s = self._figures, UPDATE_NS * 1e-9
        positions = np.array(self._sampled)
        figures.range_excess = float(
            np.maximum(self._lower - positions, positions - self._upper).max()
        )
        steps = np.diff(positions, axis=0)
        figures.velocity = _worst(0.0, steps, self._velocity * period_s)
        accelerations = np.diff(steps, axis=0) / period_s**2
        figures.acceleration = _worst(0.0, accelerations, self._acceleration)
        tick_s = self._contract.command.dt_s
        jerks = np.diff(positions[:: round(tick_s / period_s)], n=3, axis=0) / tick_s**3
        figures.jerk = _worst(0.0, jerks, self._jerk)
        return figures

    @staticmethod
    def _ns(seconds: float) -> int:
        return round(float(seconds) * 1e9)


def _worst(before: float, values: NDArray[np.float64], limits: NDArray[np.float64]) -> float:
    return max(before, float((np.abs(values) / limits).max(initial=0.0)))


def _duration(nanoseconds: int) -> SimpleNamespace:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return SimpleNamespace(sec=seconds, nanosec=rest)
