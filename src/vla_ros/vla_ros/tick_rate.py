# SPDX-License-Identifier: MIT
"""Pace a control loop on the clock of its node.

On wall time the ticks have absolute deadlines. On /clock they follow simulated time, because that
is the time in which the simulated arm executes what they send: at half speed there are half as
many ticks per second of the wall, at double speed twice as many, and while the simulation stands
still there are none. No tick comes between two messages of /clock, which should therefore have
at least the rate of the loop; periods that a message skips are counted in the next tick.
"""

from __future__ import annotations

import time

from vla_ros.node_clock import NodeClock
from vla_ros.polled_subscription import AbsoluteRate

_LONGEST_WAIT_S = 0.1
_POLLS_PER_PERIOD = 8
_SHORTEST_POLL_S = 0.0005


class TickRate:
    """Waits for the ticks of a loop.

    Args:
        clock: Clock of the node.
        period_s: Time between two ticks, greater than 0.

    Attributes:
        now_ns: When the last tick was due, on the node's clock: the grid of the ticks, not the
            jitter of this one, is the time base of the commands.
        lateness_s: How much later it came.
        num_elapsed: Periods since the tick before, 1 unless the loop or /clock skipped some.
        has_jumped_back: Whether the clock was set back before this tick, as by a simulation that
            was reset, a bag that starts again, or whoever set the machine's time.

    Raises:
        ValueError: The period is not positive.
    """

    def __init__(self, clock: NodeClock, period_s: float) -> None:
        self._clock = clock
        self._wall = AbsoluteRate(period_s)
        self._period_ns = max(1, round(period_s * 1e9))
        self._poll_s = max(_SHORTEST_POLL_S, period_s / _POLLS_PER_PERIOD)
        self.now_ns = 0
        self.lateness_s = 0.0
        self.num_elapsed = 1
        self.has_jumped_back = False

    def wait(self) -> bool:
        """Wait for the next tick.

        Returns:
            True when a tick is due. False, after 0.1 s, when simulated time does not get on: the
            caller must not tick, but can answer services and see whether it shall stop.
        """
        if self._clock.is_simulated:
            return self._wait_for_clock()
        num_missed = self._wall.num_missed
        self._wall.sleep()
        lateness_ns = time.monotonic_ns() - self._wall.deadline_ns
        now_ns = self._clock.now_ns() - lateness_ns
        self.has_jumped_back = now_ns < self.now_ns
        self.now_ns = now_ns
        self.lateness_s = lateness_ns * 1e-9
        self.num_elapsed = 1 + self._wall.num_missed - num_missed
        return True

    def _wait_for_clock(self) -> bool:
        give_up_s = time.monotonic() + _LONGEST_WAIT_S
        while not self._is_due(self._clock.now_ns()):
            if time.monotonic() > give_up_s:
                return False
            time.sleep(self._poll_s)
        return True

    def _is_due(self, now_ns: int) -> bool:
        if now_ns == 0:
            return False
        self.has_jumped_back = now_ns < self.now_ns
        if self.has_jumped_back or self.now_ns == 0:
            self.now_ns, self.lateness_s, self.num_elapsed = now_ns, 0.0, 1
            return True
        self.num_elapsed = (now_ns - self.now_ns) // self._period_ns
        if self.num_elapsed == 0:
            return False
        self.now_ns += self.num_elapsed * self._period_ns
        self.lateness_s = (now_ns - self.now_ns) * 1e-9
        return True
