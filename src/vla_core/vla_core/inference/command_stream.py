# SPDX-License-Identifier: MIT
"""What the arm is told in every tick: follow the chunk, or stop and hold, always within limits.

Here is decided whether to follow or to stop, and what: how the commands then move is `Motion`'s.
What goes wrong costs as little as it can: a chunk that comes late is faded in, one whose successor
is missing is followed ever slower, and only then the arm stops. No ROS and no torch here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import ChunkError, ConfigError, SafetyError
from vla_core.inference.action_chunks import ChunkSampler
from vla_core.inference.coming_targets import ComingTargets
from vla_core.inference.command_history import CommandHistory
from vla_core.inference.command_tick import CommandMode, CommandTick
from vla_core.inference.joint_targets import ActionReader
from vla_core.inference.measured_state import MeasuredState
from vla_core.inference.motion import NO_CUT, Cut, Motion
from vla_core.inference.motor import MotorControl
from vla_core.inference.newest_epoch import NewestEpoch
from vla_core.inference.step_limit import StepLimit
from vla_core.inference.workspace import find_workspace
from vla_core.processing.contract import RobotContract
from vla_core.processing.kinematics import limits_and_chain
from vla_core.types import ActionChunk

__all__ = ["CommandMode", "CommandStream", "CommandTick"]

# A controller may lose a message (its reader is best effort), so a stop is said more than once.
_MIN_STOP_TICKS = 3


class CommandStream:
    """Makes one command per tick from the newest chunk and the newest joint state.

    Args:
        contract: The robot: joints, limits, rate, and how old chunks and joint states may be.
        urdf: Text of the URDF, whose limits count where they are stricter; None reads what the
            contract's kinematics name, if they name something.
        blend_s: Duration of the fade from one chunk to the next.
        blending: How chunks are merged, one of ``action_chunks.BLENDINGS``.
        ensemble_m: Decay of the weights of an ensemble.
        slow_s: Time before the end of a chunk from which on it is followed ever slower, if no
            other has come.
        start_speed: Share of the velocity limits with which a motion approaches its first target.
        num_lookahead: Ticks that are planned along the chunk before the stop, at least 3: of two
            messages one may be lost.
        commit_s, follows_plans: Those of `Motion`.
        max_tracking_error: How far any joint may be from its command before the arm is stopped,
            rad or m; it then holds until a chunk of a newer epoch arrives.
        motor: Helix's motor control, which corrects every target by the newest joint state; None
            for other policies.

    Attributes:
        max_tracking_error: As given; may be changed at any time.
        mode: What the arm was doing in the last tick.
        measured: The newest joint state.

    Raises:
        ConfigError: An argument is out of range, or contract and URDF do not fit each other.
    """

    def __init__(
        self,
        contract: RobotContract,
        *,
        urdf: str | None = None,
        blend_s: float = 0.1,
        blending: str = "blend",
        ensemble_m: float = 0.01,
        slow_s: float = 0.1,
        start_speed: float = 0.5,
        num_lookahead: int = 3,
        commit_s: float = 0.0,
        follows_plans: bool = True,
        max_tracking_error: float = 0.5,
        motor: MotorControl | None = None,
    ) -> None:
        if num_lookahead < 3:
            raise ConfigError(f"num_lookahead must be at least 3, got {num_lookahead}.")
        if not max_tracking_error > 0.0:
            raise ConfigError(f"max_tracking_error must be positive, got {max_tracking_error!r}.")
        if not 0.0 < start_speed <= 1.0:
            raise ConfigError(f"start_speed must be above 0 and at most 1, got {start_speed!r}.")
        self.contract = contract
        self.joints = contract.action.joints
        self.max_tracking_error = max_tracking_error
        self._start_speed = start_speed
        self._is_strict = contract.safety.limit_mode == "strict"
        limits, chain = limits_and_chain(contract, urdf)
        workspace = find_workspace(contract.workspace, limits, chain)
        self._motor = motor
        self._reader = ActionReader(contract, limits, chain, workspace)
        dt_s = contract.command.dt_s
        self._motion = Motion(
            limits, dt_s, workspace, commit_s=commit_s, follows_plans=follows_plans
        )
        # A stop begins after what is committed, so its cause is looked for a little ahead.
        self._period_ns = round(dt_s * 1e9)
        self._outlook_ns = max(0, self._motion.num_committed - 1) * self._period_ns
        self._lead_ns = round(self._motion.lead_s * 1e9)
        self._step_limit = StepLimit(contract)
        self._sampler = ChunkSampler(
            self.joints,
            max_age_s=contract.action.max_age_s,
            blend_s=blend_s,
            blending=blending,
            ensemble_m=ensemble_m,
            slow_s=slow_s,
        )
        self._targets = ComingTargets(
            contract,
            self._sampler,
            motor,
            lead_s=self._motion.lead_s,
            num_ticks=max(1, num_lookahead - self._motion.num_committed),
        )
        self.mode, self._reason = CommandMode.WAITING, ""
        self._epoch = NewestEpoch(contract.action.max_age_s)
        self._refusal = self._blocked_reason = ""
        self._no_chunk_reason = "no action chunk was received yet"
        self._is_new_chunk = self._is_starting = self._is_led = False
        self._tool_cut_m = 0.0
        self._target: NDArray[np.float64] | None = None
        self.measured = MeasuredState(contract.state.max_age_s)
        self._num_stop_ticks = 0
        # Long enough for the command that was in force when the oldest usable state was measured.
        remembered_s = max(contract.state.max_age_s, contract.action.max_age_s)
        self._history = CommandHistory(remembered_s, dt_s)

    def set_blend(self, blend_s: float) -> None:
        """Change the duration of the fade from one chunk to the next; allowed at any time."""
        self._sampler.blend_s = blend_s

    @property
    def has_chunk(self) -> bool:
        """Whether there is a chunk to follow, were nothing in the way."""
        return self._sampler.chunk is not None

    def way_points(self, times_ns: Sequence[int]) -> NDArray[np.float64]:
        """Return where the chunk leads at some times, whatever the limits make of it, [N, A]."""
        return np.array([self._sampler.sample(time_ns)[0] for time_ns in times_ns])

    def put_joint_state(self, positions: NDArray[np.float64], stamp_ns: int) -> None:
        """Take the newest measured positions.

        Args:
            positions: Of the action joints in their order, finite, [A].
            stamp_ns: Time of the measurement.
        """
        self.measured.put(positions, stamp_ns)

    def refuse_joint_state(self, reason: str) -> None:
        """Note that a joint state could not be used; the last good one goes on getting older."""
        self.measured.refuse(reason)

    def put_chunk(self, chunk: ActionChunk, *, sequence: int, epoch: int, now_ns: int) -> None:
        """Take a new chunk; it is followed after what is committed.

        Args:
            chunk: The chunk.
            sequence: Its number.
            epoch: Its epoch, which must not be late, see `NewestEpoch`.
            now_ns: Time of its arrival.

        Raises:
            ChunkError: The chunk must not be executed. The one before stays in force.
        """
        if self._motor is not None:
            self._motor.require_own(chunk)
        if self._epoch.is_late(epoch, now_ns):
            newest = self._epoch.number
            raise ChunkError(f"epoch must be at least {newest}, got a chunk of {epoch}.")
        if epoch != self._epoch.number:
            # Whatever the old instruction wanted must not be faded into the new one.
            self._forget_chunks("no chunk of the newest instruction was received yet")
            self._blocked_reason = ""
        self._epoch.hear(epoch, now_ns)
        self._reader.require_readable(chunk)
        start = self._start_of(chunk, now_ns)
        targets, tool_cut_m, excess = self._reader.joint_targets(chunk, start)
        if excess and self._is_strict:
            self._block(f"a chunk is out of limits: {excess}")
            raise ChunkError(self._blocked_reason)
        self._sampler.add(
            chunk,
            now_ns=now_ns,
            fade_ns=now_ns + self._lead_ns,
            sequence=sequence,
            epoch=epoch,
            start=start,
            targets=targets,
        )
        self._tool_cut_m = tool_cut_m
        self._refusal, self._is_new_chunk = "", True

    def refuse_chunk(self, reason: str) -> None:
        """Note that a chunk was refused; the one before stays in force until it is too old."""
        self._refusal = reason

    def revoke(self, epoch: int, reason: str, *, now_ns: int) -> None:
        """Stop the arm: no chunk of an epoch before this one counts any more.

        Args:
            epoch: The new epoch; a late one is ignored.
            reason: Why, for a human.
            now_ns: Time of its arrival.
        """
        if self._epoch.is_late(epoch, now_ns):
            return
        self._epoch.hear(epoch, now_ns)
        self._blocked_reason = self._refusal = ""
        self._forget_chunks(reason)

    def set_back_clock(self) -> None:
        """Note that the clock was set back: what is stamped by it belongs to a time to come.

        The arm stops, and goes on with the first joint state and chunk after that.
        """
        self._forget_chunks("the clock was set back, and no chunk was received since")
        self.measured.forget("the clock was set back")
        self._epoch.set_back_clock()
        self._history.clear()

    def tick(
        self,
        now_ns: int,
        num_elapsed: int = 1,
        *,
        stop_reason: str = "",
        is_emergency: bool = False,
        hold_reason: str = "",
        leader: NDArray[np.float64] | None = None,
    ) -> CommandTick:
        """Decide what the arm is told now.

        Args:
            now_ns: Time of this tick.
            num_elapsed: Ticks since the last call, more than 1 after the caller was late. After a
                long pause the arm goes on from where it is measured then.
            stop_reason: Why the arm must not move, whatever the policy wants; empty if it may.
                Afterwards only chunks that arrive later are followed.
            is_emergency: Whether that stop begins at once, whatever is committed.
            hold_reason: Why the chunk must not be followed now; empty if it may. It is later.
            leader: Positions of somebody who has priority over the policy, [A]. After the last
                ones the arm stops until a chunk arrives.
        """
        self._advance(now_ns, num_elapsed)
        self._note_leader(leader is not None)
        self._check_tracking()
        if stop_reason:
            self._forget_chunks("waiting for a new chunk after a stop")
        self._target = None
        cut, jump = NO_CUT, 0.0
        fault = stop_reason or self._find_fault(now_ns + self._outlook_ns) or hold_reason
        if not fault:
            jump = self._sampler.switch_jump if self._is_new_chunk else 0.0
            self._is_new_chunk = False
            try:
                cut = self._follow(now_ns, leader)
            except SafetyError as error:
                fault = str(error)
                self._forget_chunks(fault)
            else:
                fault = self._blocked_reason
        if fault:
            cut = self._stop_or_stay(fault, at_once=is_emergency)
        if self._motion.plan is not None and self._motion.position is not None:
            self._history.append(now_ns, self._motion.position)
        return self._report(now_ns, cut, jump)

    def _advance(self, now_ns: int, num_elapsed: int) -> None:
        """Go to where the arm is by now, and into a hold if that is not known any more."""
        if self._motion.plan is None:
            return
        last_ns = now_ns - num_elapsed * self._period_ns
        self._history.extend(last_ns, self._period_ns, self._motion.advance(num_elapsed))
        if self._motion.plan is None:
            self.mode = CommandMode.HOLDING
            self.measured.forget("no joint state came since the ticks have paused", last_ns)

    def _note_leader(self, is_led: bool) -> None:
        """Begin or end to follow somebody who has priority over the policy."""
        if is_led == self._is_led:
            return
        # Either may be far from where the arm is: it goes there as at the start of a motion.
        self._is_led, self._is_starting = is_led, True
        if is_led:
            self._blocked_reason = ""
        else:
            self._forget_chunks("waiting for a new chunk after the priority input")

    def _forget_chunks(self, reason: str) -> None:
        self._sampler.clear()
        self._no_chunk_reason = reason

    def _find_fault(self, now_ns: int) -> str:
        if fault := self.measured.find_fault(now_ns):
            return fault
        if self._blocked_reason or self._is_led:
            return self._blocked_reason
        if self._sampler.chunk is None:
            return self._refusal or self._no_chunk_reason
        if self._sampler.expired(now_ns):
            late = self._sampler.describe_age(now_ns)
            return f"{late}; {self._refusal}" if self._refusal else late
        return ""

    def _check_tracking(self) -> None:
        measured = self.measured.positions
        if self.mode is not CommandMode.EXECUTING or measured is None or self._blocked_reason:
            return
        worst, error = self._history.largest_error(measured, self.measured.stamp_ns)
        if error > self.max_tracking_error:
            self._block(
                f"{self.joints[worst]} is {error:.3f} from its command, at most "
                f"{self.max_tracking_error:g} is allowed"
            )

    def _start_of(self, chunk: ActionChunk, now_ns: int) -> NDArray[np.float64] | None:
        """Return the positions from which a chunk starts; None: those of the chunk before.

        A change is added to what was commanded at the chunk's stamp. Added to what was measured,
        it would take the arm's tracking error for a wish.
        """
        if chunk.kind == "joint_position" and not self._sampler.expired(now_ns):
            return None
        if self.mode in (CommandMode.EXECUTING, CommandMode.STOPPING):
            commanded = self._history.at(chunk.stamp_ns)
            return commanded if commanded is not None else self._motion.position
        if self.measured.positions is None:
            raise ChunkError("no joint state was received yet; a chunk cannot be followed")
        return self.measured.positions

    def _block(self, reason: str) -> None:
        self._blocked_reason = f"{reason}; give a new instruction to go on"

    def _follow(self, now_ns: int, leader: NDArray[np.float64] | None) -> Cut:
        measured = self.measured.positions
        assert measured is not None
        if self.mode not in (CommandMode.EXECUTING, CommandMode.STOPPING):
            self._motion.start(measured)
            self._targets.start(measured)
            self._history.clear()
            self._is_starting = True
        if leader is None:
            targets, velocities = self._targets.of_chunk(measured, now_ns)
        else:
            targets, velocities = self._targets.of_leader(leader)
        self._target = targets[0].copy()
        far = self._step_limit.keep(targets, velocities, measured)
        cut = self._motion.follow(
            targets, velocities, speed=self._start_speed if self._is_starting else 1.0
        )
        self._is_starting = self._is_starting and not cut.is_met
        if self._is_strict and far:
            self._block(f"a target of {', '.join(far)} is too far from where it is")
        if self._is_strict and cut.workspace_m:
            self._block(f"the tool would leave the workspace by {cut.workspace_m:.3f} m")
        self._num_stop_ticks = 0
        self.mode, self._reason = CommandMode.EXECUTING, self._refusal
        return cut.enlarged(far) if far else cut

    def _stop_or_stay(self, fault: str, *, at_once: bool) -> Cut:
        if self.mode is not CommandMode.STOPPING:
            self._reason = fault
        if self.mode not in (CommandMode.EXECUTING, CommandMode.STOPPING):
            return NO_CUT
        if self._motion.is_at_rest and self._num_stop_ticks >= _MIN_STOP_TICKS:
            self.mode = CommandMode.HOLDING
            self._motion.rest()
            return NO_CUT
        self.mode = CommandMode.STOPPING
        self._num_stop_ticks += 1
        return Cut((), (), self._motion.stop(at_once=at_once), False)

    def _report(self, now_ns: int, cut: Cut, jump: float) -> CommandTick:
        motion, is_following = self._motion, self._target is not None
        return CommandTick(
            mode=self.mode,
            reason=self._reason,
            plan=motion.plan,
            position=None if motion.plan is None else motion.position,
            velocity=None if motion.plan is None else motion.velocity,
            target=self._target,
            limited_joints=cut.limited_joints,
            joint_cuts=cut.joint_cuts,
            tool_cut_m=max(cut.workspace_m, self._tool_cut_m if is_following else 0.0),
            pace=self._sampler.pace(now_ns) if is_following else 1.0,
            switch_jump=jump,
            chunk_sequence=self._sampler.sequence(now_ns),
            chunk_age_s=self._sampler.age_s(now_ns) if self._sampler.chunk else math.nan,
            state_age_s=self.measured.age_s(now_ns),
        )
