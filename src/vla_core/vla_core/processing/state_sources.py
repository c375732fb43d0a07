# SPDX-License-Identifier: MIT
"""The measured state at a time: joints of all publishers, then the further inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import MessageError
from vla_core.processing.contract import RobotContract
from vla_core.processing.gaps import GapCause
from vla_core.processing.input_history import InputHistory
from vla_core.processing.joint_history import JointHistory
from vla_core.processing.messages import stamp_ns
from vla_core.processing.source_watch import SourceWatch
from vla_core.processing.value_checks import quoted


class StateSources:
    """Keeps joint states and inputs of the last while.

    Args:
        contract: The robot.
        watch: Makes the watch of a source from its name, topics and largest age.
        span_s: How long messages are kept.
    """

    def __init__(
        self,
        contract: RobotContract,
        watch: Callable[[str, tuple[str, ...], float], SourceWatch],
        span_s: float,
    ) -> None:
        state = contract.state
        self._max_skew_s = contract.alignment.max_skew_s or math.inf
        self._joints = JointHistory(state.joints, state.fields, span_s)
        self._joints_watch = watch("joint states", state.topics, state.max_age_s)
        self._inputs = {
            name: (
                InputHistory(part.type, span_s),
                watch(f"input '{name}'", (part.topic,), part.max_age_s),
            )
            for name, part in contract.inputs.items()
        }

    def put_joint_state(self, message: Any, received_ns: int) -> None:
        """Keep a sensor_msgs/JointState."""
        self._joints_watch.note(stamp_ns(message), received_ns)
        self._joints.add(message)

    def put_input(self, name: str, message: Any, received_ns: int) -> None:
        """Keep a message of a further input."""
        history, watch = self._inputs[name]
        history.add(message, received_ns)
        watch.note(history.newest_ns or 0, received_ns)

    def clear(self) -> None:
        """Forget all messages."""
        self._joints.clear()
        self._joints_watch.clear()
        for history, watch in self._inputs.values():
            history.clear()
            watch.clear()

    def joint_ages_s(self, now_ns: int) -> dict[str, float]:
        """Return the age of every joint's newest measurement, infinite before the first."""
        stamps = self._joints.newest_stamps_ns()
        return {
            joint: (now_ns - stamps[joint]) * 1e-9 if joint in stamps else math.inf
            for joint in self._joints.joints
        }

    def input_ages_s(self, now_ns: int) -> dict[str, float]:
        """Return the age of every input's newest message, infinite before the first."""
        return {name: watch.age_s(now_ns) for name, (_, watch) in self._inputs.items()}

    def require_fresh(self, now_ns: int) -> None:
        """Check every joint and every input.

        Raises:
            GapError: One is missing, or must not be used.
        """
        watch = self._joints_watch
        watch.require_fresh(now_ns)
        ages = self.joint_ages_s(now_ns)
        missing = [joint for joint, age in ages.items() if age == math.inf]
        if missing:
            absent = watch.silent_topics()
            cause = GapCause.NO_PUBLISHER if absent else GapCause.NOTHING_RECEIVED
            publisher = f"; {', '.join(absent)} has no publisher" if absent else ""
            raise watch.gap(cause, f"no message has {quoted(missing)}{publisher}")
        old = {joint: age for joint, age in ages.items() if age > watch.max_age_s}
        if old:
            absent = watch.silent_topics()
            publisher = f"; {', '.join(absent)} has no publisher any more" if absent else ""
            raise watch.gap(
                GapCause.NO_PUBLISHER if absent else GapCause.SILENT,
                f"{quoted(old)} is {max(old.values()):.3f} s old, at most {watch.max_age_s:g} s "
                f"is allowed{publisher}",
            )
        for _, part in self._inputs.values():
            part.require_fresh(now_ns)

    def at(self, time_ns: int) -> tuple[NDArray[np.float64], int]:
        """Return the state at a time, and the time for which its most outdated value holds.

        Values are interpolated to the time; where nothing was measured after it, or before, the
        nearest measurement counts.

        Returns:
            Values in the order of ``RobotContract.state_names``, float64 [S], and their stamp.

        Raises:
            GapError: A message cannot be used, or is too far from the time.
        """
        watch = self._joints_watch
        try:
            joints = self._joints.at(time_ns, watch.max_age_s)
        except MessageError as error:
            raise watch.gap(GapCause.BROKEN, str(error).rstrip(".")) from error
        for joint, stamp in zip(self._joints.joints, joints.stamps_ns.tolist(), strict=True):
            self._require_near(watch, f"'{joint}'", stamp, time_ns)
        values, stamps = [joints.values], [joints.oldest_ns]
        for history, part in self._inputs.values():
            try:
                read, stamp = history.at(time_ns, part.max_age_s)
            except MessageError as error:
                raise part.gap(GapCause.BROKEN, str(error).rstrip(".")) from error
            self._require_near(part, "its value", stamp, time_ns)
            values.append(read)
            stamps.append(stamp)
        return np.concatenate(values), min(stamps)

    def _require_near(self, watch: SourceWatch, what: str, stamp: int, time_ns: int) -> None:
        skew_s = (stamp - time_ns) * 1e-9
        limit_s = min(self._max_skew_s, watch.max_age_s)
        if abs(stamp - time_ns) > limit_s * 1e9:
            raise watch.gap(
                GapCause.SKEWED,
                f"{what} was measured {skew_s:+.3f} s from the frame of the reference camera, at "
                f"most {limit_s:g} s is allowed",
            )
