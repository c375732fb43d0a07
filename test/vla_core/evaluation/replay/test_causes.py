# SPDX-License-Identifier: MIT
"""Causes that texts with figures tell of."""

from hypothesis import given
from hypothesis import strategies as st

from vla_core.evaluation.replay.causes import Causes

figures = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))


@given(found=st.lists(st.tuples(figures, st.sampled_from(["joint_1", "joint_2"])), min_size=1))
def test_texts_are_counted_by_cause_whatever_their_figures(found):
    causes = Causes()
    texts = [f"{joint} is {figure} from its command" for figure, joint in found]
    for text in texts:
        causes.add(text)
    counts = causes.counts()
    assert sum(counts.values()) == len(texts)
    assert len(counts) == len({joint for _, joint in found})
    # Each is named by the first text of its kind.
    for joint in {joint for _, joint in found}:
        assert next(text for text in texts if text.startswith(joint)) in counts


def test_what_two_have_counted_adds_up():
    causes = Causes()
    causes.update({"0.3 s too late": 2, "not finite": 1})
    causes.update({"0.4 s too late": 3})
    assert causes.counts(most=1) == {"0.3 s too late": 5}
