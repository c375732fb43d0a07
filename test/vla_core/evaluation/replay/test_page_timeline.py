# SPDX-License-Identifier: MIT
"""Parts of a recording on the page of its replay."""

from dataclasses import replace

import numpy as np
import pytest

from vla_core.evaluation.replay.metrics import compute_metrics
from vla_core.evaluation.replay.page_timeline import Timeline, _windows


@pytest.fixture
def answered_at(result):
    """Return the function that makes a result whose policy answered at some times, in s."""

    def make(times_s):
        times_ns = result.facts["start_ns"] + np.round(np.array(times_s) * 1e9).astype(np.int64)
        return replace(result, ticks={**result.ticks, "time_ns": times_ns})

    return make


@pytest.mark.parametrize("length_s", [0.0, 4.0, 14.0, 16.0, 61.0])
def test_parts_are_of_like_length_and_hold_every_answer(answered_at, length_s):
    times_s = 7.0 + np.arange(0.0, length_s + 0.05, 0.1)
    windows = _windows(0, answered_at(times_s))
    lengths_s = [window.stop_s - window.start_s for window in windows]
    assert max(lengths_s) - min(lengths_s) < 0.3
    assert max(lengths_s) < 15.0
    for time_s in times_s:
        assert any(w.start_s - 1e-6 <= time_s <= w.stop_s + 1e-6 for w in windows)


def test_a_pause_is_left_out(answered_at):
    windows = _windows(0, answered_at([0.0, 5.0, 60.0, 65.0]))
    spans = [span for w in windows for span in (w.start_s, w.stop_s)]
    assert spans == pytest.approx([0.0, 5.0, 60.0, 65.0])


def test_a_caption_of_a_worst_moment_leads_to_its_part(result, policy):
    metrics = compute_metrics([result], policy.contract)
    timeline = Timeline(metrics, [result], policy.contract)
    anchor = _windows(0, result)[0].anchor
    assert timeline.worst().count(f'href="#{anchor}"') == len(metrics["worst"]) == 2
    assert f'id="{anchor}"' in timeline.windows()
