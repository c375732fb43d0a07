# SPDX-License-Identifier: MIT
"""Tell apart what may be wrong with the arrivals of one source."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from vla_core.processing.gaps import Gap, GapCause, GapError

# One late or repeated message may be a hiccup of the network; more are how the source is.
_NUM_IN_A_ROW = 2


class SourceWatch:
    """Notes stamp and arrival of every message of a source, and judges them.

    Args:
        name: What the source is called in a gap.
        topics: Its topics.
        max_age_s: Age after which a message must not be used.
        count_publishers: Says how many publishers a topic has now.
        future_tolerance_s: How far ahead of the clock a stamp may be.
        max_frozen_s: How long messages may come with the same stamp; infinite: until that stamp
            is too old.
    """

    def __init__(
        self,
        name: str,
        topics: Sequence[str],
        max_age_s: float,
        count_publishers: Callable[[str], int],
        *,
        future_tolerance_s: float,
        max_frozen_s: float = math.inf,
    ) -> None:
        self.name = name
        self.max_age_s = max_age_s
        self.max_frozen_s = max_frozen_s
        self._topics = tuple(topics)
        self._count_publishers = count_publishers
        self._future_tolerance_s = future_tolerance_s
        self.clear()

    def clear(self) -> None:
        """Forget all arrivals."""
        self._stamp_ns: int | None = None
        self._received_ns = 0
        self._same_since_ns = 0
        self._num_same = 0
        self._num_late = 0

    def note(self, stamp_ns: int, received_ns: int) -> None:
        """Note an arrival."""
        if stamp_ns == self._stamp_ns:
            self._num_same += 1
        else:
            self._num_same, self._same_since_ns = 1, received_ns
        is_late = received_ns - stamp_ns > self.max_age_s * 1e9
        self._num_late = self._num_late + 1 if is_late else 0
        self._stamp_ns, self._received_ns = stamp_ns, received_ns

    def age_s(self, now_ns: int) -> float:
        """Return the age of the newest message, infinite before the first."""
        return math.inf if self._stamp_ns is None else (now_ns - self._stamp_ns) * 1e-9

    def silent_topics(self) -> list[str]:
        """Return the topics that have no publisher."""
        return [topic for topic in self._topics if self._count_publishers(topic) == 0]

    def require_fresh(self, now_ns: int) -> None:
        """Check the newest message.

        Raises:
            GapError: There is none, or its stamp says that it must not be used.
        """
        age_s = self.age_s(now_ns)
        if self._stamp_ns is None:
            if len(self.silent_topics()) == len(self._topics):
                raise self.gap(GapCause.NO_PUBLISHER, "the topic has no publisher")
            raise self.gap(GapCause.NOTHING_RECEIVED, "nothing was received yet")
        if self._stamp_ns == 0:
            raise self.gap(GapCause.BROKEN, "the stamp is zero; stamp the messages")
        if age_s < -self._future_tolerance_s:
            raise self.gap(
                GapCause.FUTURE,
                f"the stamp is {-age_s:.3f} s in the future; synchronise the clocks",
            )
        repeats = self._num_same > _NUM_IN_A_ROW
        same_s = (self._received_ns - self._same_since_ns) * 1e-9
        if repeats and same_s > self.max_frozen_s:
            raise self.gap(
                GapCause.FROZEN,
                f"the stamp has been the same for {same_s:.3f} s, at most "
                f"{self.max_frozen_s:g} s is allowed",
            )
        if age_s > self.max_age_s:
            raise self._old(age_s, now_ns, repeats)

    def _old(self, age_s: float, now_ns: int, repeats: bool) -> GapError:
        limit = f"at most {self.max_age_s:g} s is allowed"
        if self.silent_topics():
            return self.gap(
                GapCause.NO_PUBLISHER,
                f"{age_s:.3f} s old, {limit}; the topic has no publisher any more",
            )
        is_arriving = (now_ns - self._received_ns) * 1e-9 <= self.max_age_s
        if is_arriving and repeats:
            return self.gap(
                GapCause.FROZEN, f"messages keep coming with a stamp {age_s:.3f} s old, {limit}"
            )
        if is_arriving and self._num_late >= _NUM_IN_A_ROW:
            return self.gap(
                GapCause.LATE,
                f"messages are {age_s:.3f} s old when they arrive, {limit}; synchronise the "
                "clocks, or lighten the transport",
            )
        return self.gap(GapCause.SILENT, f"{age_s:.3f} s old, {limit}; nothing newer came")

    def gap(self, cause: GapCause, what: str) -> GapError:
        """Return a gap of this source to raise."""
        topics = ", ".join(self._topics)
        return GapError(Gap(self.name, cause, f"{self.name} on {topics}: {what}."))
