# SPDX-License-Identifier: MIT
"""What the arm is told in every tick: follow the chunk, or stop and hold, always within limits.

Every tick plans a few ticks ahead and ends the plan with a stop, so that an arm that hears nothing
more comes to rest by itself. The next tick starts from what this one has promised for it: the
commands are one continuous curve, whatever happens between two ticks. No ROS and no torch here.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import ChunkError, ConfigError, SafetyError
from vla_core.inference.action_chunks import EXECUTED_KINDS, ChunkSampler
from vla_core.inference.motor import MotorControl
from vla_core.inference.safety import CommandLimiter
from vla_core.processing.contract import RobotContract
from vla_core.types import ActionChunk

# A controller may lose a message (its reader is best effort), so a stop is said more than once.
_MIN_STOP_TICKS = 3


class CommandMode(enum.IntEnum):
    """What the arm is doing; the numbers are those of ``vla_msgs/CommandStatus``."""

    WAITING = 0
    EXECUTING = 1
    STOPPING = 2
    HOLDING = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CommandTick:
    """What one tick decided.

    Attributes:
        mode: What the arm is doing.
        reason: Why, for a human; empty when it executes normally.
        plan: Positions and velocities for 1, 2, ... ticks from now, float64 [M, A] each, at rest
            at the end; None: stay silent.
        position: Command for this instant, [A]; None when nothing is commanded.
        velocity: Its velocity, [A]; None when nothing is commanded.
        limited_joints: Joints that a limit kept from their target.
        switch_jump: Largest distance between the old and the new chunk if this tick is the first
            with a new one, else 0.
        chunk_sequence: Sequence of the chunk that is executed, 0 for none.
        chunk_age_s: Age of the newest chunk's observation, NaN for none.
        state_age_s: Age of the newest joint state, infinite for none.
    """

    mode: CommandMode
    reason: str
    plan: tuple[NDArray[np.float64], NDArray[np.float64]] | None
    position: NDArray[np.float64] | None
    velocity: NDArray[np.float64] | None
    limited_joints: tuple[str, ...]
    switch_jump: float
    chunk_sequence: int
    chunk_age_s: float
    state_age_s: float


class CommandStream:
    """Makes one command per tick from the newest chunk and the newest joint state.

    Args:
        contract: The robot: joints, limits, rate, and how old chunks and joint states may be.
        blend_s: Duration of the fade from one chunk to the next.
        num_lookahead: Ticks that are planned along the chunk before the stop, at least 3: of two
            messages one may be lost.
        max_tracking_error: How far any joint may be from its command before the arm is stopped,
            rad or m; it then holds until a chunk of a newer epoch arrives.
        motor: Helix's motor control, which corrects every target by the newest joint state; None
            for other policies.

    Raises:
        ConfigError: An argument is out of range, or the contract's kind of action is not executed.
    """

    def __init__(
        self,
        contract: RobotContract,
        *,
        blend_s: float = 0.1,
        num_lookahead: int = 3,
        max_tracking_error: float = 0.5,
        motor: MotorControl | None = None,
    ) -> None:
        if contract.action.kind not in EXECUTED_KINDS:
            raise ConfigError(
                f"action kind {contract.action.kind!r} of robot '{contract.robot}' is not "
                f"executed; executed: {', '.join(repr(kind) for kind in EXECUTED_KINDS)}."
            )
        if num_lookahead < 3:
            raise ConfigError(f"num_lookahead must be at least 3, got {num_lookahead}.")
        if not max_tracking_error > 0.0:
            raise ConfigError(f"max_tracking_error must be positive, got {max_tracking_error!r}.")
        self.contract = contract
        self.joints = contract.action.joints
        self._dt_ns = round(contract.command.dt_s * 1e9)
        self._num_lookahead = num_lookahead
        self._max_tracking_error = max_tracking_error
        self._limiter = CommandLimiter(contract.action_limits, contract.command.dt_s)
        self._sampler = ChunkSampler(
            self.joints, max_age_s=contract.action.max_age_s, blend_s=blend_s
        )
        self._motor = motor
        self._mode = CommandMode.WAITING
        self._reason = ""
        self._epoch = -1
        self._epoch_heard_ns = 0
        self._sequence = 0
        self._refusal = ""
        self._no_chunk_reason = "no action chunk was received yet"
        self._is_new_chunk = False
        self._measured: NDArray[np.float64] | None = None
        self._measured_ns = 0
        self._state_fault = ""
        self._blocked_reason = ""
        self._position: NDArray[np.float64] | None = None
        self._velocity = np.zeros(len(self.joints))
        self._plan: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
        self._num_stop_ticks = 0
        # Long enough for the command that was in force when the oldest usable state was measured.
        remembered_s = max(contract.state.max_age_s, contract.action.max_age_s)
        self._history: deque[tuple[int, NDArray[np.float64]]] = deque(
            maxlen=math.ceil(remembered_s / contract.command.dt_s) + 2
        )

    @property
    def mode(self) -> CommandMode:
        """What the arm was doing in the last tick."""
        return self._mode

    def put_joint_state(self, positions: NDArray[np.float64], stamp_ns: int) -> None:
        """Take the newest measured positions.

        Args:
            positions: Of the action joints in their order, finite, [A].
            stamp_ns: Time of the measurement.
        """
        self._measured, self._measured_ns, self._state_fault = positions, stamp_ns, ""

    def refuse_joint_state(self, reason: str) -> None:
        """Note that a joint state could not be used; the last good one goes on getting older."""
        self._state_fault = reason

    def put_chunk(self, chunk: ActionChunk, *, sequence: int, epoch: int, now_ns: int) -> None:
        """Take a new chunk; it is executed from the next tick on.

        Args:
            chunk: The chunk.
            sequence: Its number.
            epoch: Counts instructions and activations of the policy. A lower one than before is
                late, unless nothing was heard of the higher one for as long as a chunk may be
                old: then the policy was restarted and counts anew.
            now_ns: Time of its arrival.

        Raises:
            ChunkError: The chunk must not be executed. The one before stays in force.
        """
        if self._motor is not None:
            self._motor.require_own(chunk)
        if self._is_overtaken(epoch, now_ns):
            raise ChunkError(f"epoch must be at least {self._epoch}, got a chunk of {epoch}.")
        if epoch != self._epoch:
            # Whatever the old instruction wanted must not be faded into the new one.
            self._sampler.clear()
            self._no_chunk_reason = "no chunk of the newest instruction was received yet"
            self._epoch, self._blocked_reason = epoch, ""
        self._epoch_heard_ns = now_ns
        self._sampler.add(
            chunk, now_ns=now_ns, epoch=epoch, start=self._start_of(chunk.stamp_ns, now_ns)
        )
        self._sequence, self._refusal, self._is_new_chunk = sequence, "", True

    def refuse_chunk(self, reason: str) -> None:
        """Note that a chunk was refused; the one before stays in force until it is too old."""
        self._refusal = reason

    def revoke(self, epoch: int, reason: str, *, now_ns: int) -> None:
        """Stop the arm: no chunk of an epoch before this one counts any more.

        Args:
            epoch: The new epoch; one that `put_chunk` would call late is ignored.
            reason: Why, for a human.
            now_ns: Time of its arrival.
        """
        if self._is_overtaken(epoch, now_ns):
            return
        self._epoch, self._blocked_reason, self._no_chunk_reason = epoch, "", reason
        self._epoch_heard_ns = now_ns
        self._refusal = ""
        self._sampler.clear()

    def set_back_clock(self) -> None:
        """Note that the clock was set back: what is stamped by it belongs to a time to come.

        The arm stops, and goes on with the first joint state and chunk after that.
        """
        self._sampler.clear()
        self._no_chunk_reason = "the clock was set back, and no chunk was received since"
        self._measured, self._state_fault = None, "the clock was set back"
        self._epoch_heard_ns = 0
        self._history.clear()

    def tick(self, now_ns: int, num_elapsed: int = 1) -> CommandTick:
        """Decide what the arm is told now.

        Args:
            now_ns: Time of this tick.
            num_elapsed: Ticks since the last call, more than 1 after the caller was late: the arm
                has meanwhile followed the plan.
        """
        self._advance(num_elapsed)
        self._check_tracking()
        limited: tuple[str, ...] = ()
        jump = 0.0
        fault = self._find_fault(now_ns)
        if not fault:
            jump = self._sampler.switch_jump if self._is_new_chunk else 0.0
            self._is_new_chunk = False
            try:
                limited = self._follow_chunk(now_ns)
            except SafetyError as error:
                self._sampler.clear()
                fault = self._no_chunk_reason = str(error)
        if fault:
            self._stop_or_stay(fault)
        if self._plan is not None and self._position is not None:
            self._history.append((now_ns, self._position))
        return self._report(now_ns, limited, jump)

    def _advance(self, num_elapsed: int) -> None:
        """Move to the state that the last plan promised for this instant."""
        if self._plan is not None:
            positions, velocities = self._plan
            index = min(num_elapsed, len(positions)) - 1
            self._position, self._velocity = positions[index], velocities[index]

    def _is_overtaken(self, epoch: int, now_ns: int) -> bool:
        silence_ns = now_ns - self._epoch_heard_ns
        return epoch < self._epoch and silence_ns <= self.contract.action.max_age_s * 1e9

    def _find_fault(self, now_ns: int) -> str:
        state_age_s = self._state_age_s(now_ns)
        limit_s = self.contract.state.max_age_s
        if self._measured is None:
            return self._state_fault or "no joint state was received yet"
        if state_age_s > limit_s:
            late = f"the joint state is {state_age_s:.3f} s old, at most {limit_s:g} s is allowed"
            return f"{late}; {self._state_fault}" if self._state_fault else late
        if state_age_s < -limit_s:
            # It would pass for young long after the robot has fallen silent.
            return (
                f"the joint state is stamped {-state_age_s:.3f} s in the future; synchronise the "
                "clocks of the machines"
            )
        if self._blocked_reason:
            return self._blocked_reason
        if self._sampler.chunk is None:
            return self._refusal or self._no_chunk_reason
        if self._sampler.expired(now_ns):
            late = (
                f"the observation of the newest chunk is {self._sampler.age_s(now_ns):.3f} s old, "
                f"at most {self._sampler.max_age_s:g} s is allowed"
            )
            return f"{late}; {self._refusal}" if self._refusal else late
        return ""

    def _check_tracking(self) -> None:
        if self._mode is not CommandMode.EXECUTING or self._measured is None:
            return
        commanded = self._commanded_at(self._measured_ns)
        if commanded is None or self._blocked_reason:
            return
        errors = np.abs(self._measured - commanded)
        worst = int(errors.argmax())
        if errors[worst] > self._max_tracking_error:
            self._blocked_reason = (
                f"{self.joints[worst]} is {errors[worst]:.3f} from its command, at most "
                f"{self._max_tracking_error:g} is allowed; give a new instruction to go on"
            )

    def _commanded_at(self, stamp_ns: int) -> NDArray[np.float64] | None:
        """Return the command that was in force at a time, None before the first of this motion."""
        for tick_ns, position in reversed(self._history):
            if tick_ns <= stamp_ns:
                return position
        return None

    def _start_of(self, stamp_ns: int, now_ns: int) -> NDArray[np.float64] | None:
        """Return the positions from which a chunk starts; None: those of the chunk before."""
        if not self._sampler.expired(now_ns):
            return None
        if self._mode in (CommandMode.EXECUTING, CommandMode.STOPPING):
            commanded = self._commanded_at(stamp_ns)
            return commanded if commanded is not None else self._position
        if self._measured is None:
            raise ChunkError("no joint state was received yet; a chunk cannot be followed")
        return self._measured

    def _start_from_measured(self) -> None:
        assert self._measured is not None
        self._position, self._velocity = self._measured, np.zeros(len(self.joints))
        self._history.clear()

    def _follow_chunk(self, now_ns: int) -> tuple[str, ...]:
        if self._mode not in (CommandMode.EXECUTING, CommandMode.STOPPING):
            self._start_from_measured()
        assert self._position is not None
        position, velocity = self._position, self._velocity
        positions, velocities = [], []
        limited: tuple[str, ...] = ()
        correction = self._motor_correction(now_ns)
        for step in range(1, self._num_lookahead + 1):
            target, target_velocity = self._sampler.sample(now_ns + step * self._dt_ns)
            target = target + correction
            command = self._limiter.limit(target, position, velocity, target_velocity)
            position, velocity = command.position, command.velocity
            positions.append(position)
            velocities.append(velocity)
            limited = limited if step > 1 else command.limited_joints
        tail = self._limiter.stop_trajectory(position, velocity)
        self._plan = np.vstack((positions, tail[0])), np.vstack((velocities, tail[1]))
        self._num_stop_ticks = 0
        self._mode, self._reason = CommandMode.EXECUTING, self._refusal
        return limited

    def _motor_correction(self, now_ns: int) -> NDArray[np.float64] | float:
        if self._motor is None:
            return 0.0
        assert self._sampler.chunk is not None
        assert self._measured is not None
        return self._motor.correction(self._sampler.chunk, self._measured, now_ns)

    def _stop_or_stay(self, fault: str) -> None:
        if self._mode not in (CommandMode.EXECUTING, CommandMode.STOPPING):
            self._reason = fault
            return
        assert self._position is not None
        if self._mode is CommandMode.EXECUTING:
            self._reason = fault
        is_at_rest = not self._velocity.any()
        if is_at_rest and self._num_stop_ticks >= _MIN_STOP_TICKS:
            self._mode, self._plan = CommandMode.HOLDING, None
            return
        self._mode = CommandMode.STOPPING
        self._num_stop_ticks += 1
        self._plan = self._limiter.stop_trajectory(self._position, self._velocity)

    def _state_age_s(self, now_ns: int) -> float:
        return math.inf if self._measured is None else (now_ns - self._measured_ns) * 1e-9

    def _report(self, now_ns: int, limited: tuple[str, ...], jump: float) -> CommandTick:
        is_moving = self._plan is not None
        has_chunk = self._sampler.chunk is not None
        return CommandTick(
            mode=self._mode,
            reason=self._reason,
            plan=self._plan,
            position=self._position if is_moving else None,
            velocity=self._velocity if is_moving else None,
            limited_joints=limited,
            switch_jump=jump,
            chunk_sequence=self._sequence if has_chunk else 0,
            chunk_age_s=self._sampler.age_s(now_ns) if has_chunk else math.nan,
            state_age_s=self._state_age_s(now_ns),
        )
