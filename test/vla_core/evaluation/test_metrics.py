# SPDX-License-Identifier: MIT
"""Success rates and distributions."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_core.errors import ConfigError
from vla_core.evaluation.metrics import (
    Distribution,
    SuccessRate,
    intervals_overlap,
    wilson_interval,
)

counts = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@pytest.mark.parametrize(
    ("successes", "trials", "expected"),
    [
        # Newcombe, "Two-sided confidence intervals for the single proportion", table I, method 3.
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_interval_agrees_with_the_published_table(successes, trials, expected):
    assert wilson_interval(successes, trials) == pytest.approx(expected, abs=5e-5)


@given(counts)
def test_interval_contains_the_rate_and_stays_a_probability(count):
    successes, trials = count
    lower, upper = wilson_interval(successes, trials)
    assert 0.0 <= lower <= successes / trials <= upper <= 1.0
    assert lower < upper


@given(counts)
def test_failures_mirror_successes(count):
    successes, trials = count
    lower, upper = wilson_interval(successes, trials)
    mirrored = wilson_interval(trials - successes, trials)
    assert mirrored == pytest.approx((1 - upper, 1 - lower), abs=1e-12)


@given(counts)
def test_more_confidence_and_fewer_trials_widen_the_interval(count):
    successes, trials = count
    width = np.subtract(*reversed(wilson_interval(successes, trials)))
    assert np.subtract(*reversed(wilson_interval(successes, trials, 0.99))) > width
    assert np.subtract(*reversed(wilson_interval(2 * successes, 2 * trials))) < width


def test_no_trial_says_nothing_about_the_rate():
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert SuccessRate(successes=0, trials=0).to_dict()["rate"] is None


@pytest.mark.parametrize(("successes", "trials"), [(-1, 3), (4, 3), (0, -1)])
def test_impossible_counts_are_refused_with_their_values(successes, trials):
    with pytest.raises(ConfigError, match=f"{successes} of {trials}"):
        SuccessRate(successes=successes, trials=trials)


def test_impossible_confidence_is_refused():
    with pytest.raises(ConfigError, match="95"):
        wilson_interval(1, 2, confidence=95)


def test_success_rate_counts_outcomes_and_states_its_interval():
    rate = SuccessRate.from_outcomes([True] * 45 + [False] * 5)
    assert (rate.successes, rate.trials, rate.rate) == (45, 50, 0.9)
    assert str(rate) == "45 of 50 (90%, 95% interval 79% to 96%)"
    assert json.loads(json.dumps(rate.to_dict()))["lower"] == pytest.approx(0.786, abs=1e-3)


@pytest.mark.parametrize(
    ("first", "second", "overlap"),
    [
        ((0.1, 0.3), (0.2, 0.4), True),
        ((0.1, 0.3), (0.3, 0.4), True),
        ((0.0, 1.0), (0.4, 0.5), True),
        ((0.1, 0.2), (0.3, 0.4), False),
    ],
)
def test_overlap_is_symmetric(first, second, overlap):
    assert intervals_overlap(first, second) is overlap
    assert intervals_overlap(second, first) is overlap


@given(st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_percentiles_are_ordered_between_the_extremes(samples):
    figures = Distribution.from_samples(samples)
    assert figures.count == len(samples)
    ordered = [figures.minimum, figures.p50, figures.p95, figures.p99, figures.maximum]
    assert ordered == sorted(ordered)


def test_distribution_ignores_missing_samples_and_survives_json():
    figures = Distribution.from_samples([1.0, np.nan, 3.0])
    assert (figures.count, figures.mean) == (2, 2.0)
    assert Distribution.from_dict(json.loads(json.dumps(figures.to_dict()))) == figures


def test_no_sample_has_no_distribution():
    assert Distribution.from_samples([np.nan]) is None
