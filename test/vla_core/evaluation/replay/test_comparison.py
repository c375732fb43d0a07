# SPDX-License-Identifier: MIT
"""Two policies on the same recordings, and whether chance could make their difference."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_core.errors import ConfigError
from vla_core.evaluation.replay.bag_result import BagResult
from vla_core.evaluation.replay.comparison import compare_policies, format_interval
from vla_core.evaluation.replay.gate import Limit

NUM_TICKS, CHUNK_SIZE = 120, 4


def make_result(scores, bag="one", identity="a"):
    scores = np.asarray(scores, np.float64)
    return BagResult(
        facts={"bag": bag, "checkpoint_id": identity},
        ticks={
            "time_ns": np.arange(len(scores)) * 100_000_000,
            "episode": np.zeros(len(scores), np.int64),
            "score": scores,
            "error": np.stack((scores, scores), axis=1),
        },
        horizon={"count": np.ones((CHUNK_SIZE, 2))},
        probes={},
        frames=(),
    )


def scores(seed, level=1.0):
    return level * np.random.default_rng(seed).uniform(0.5, 1.5, NUM_TICKS)


@settings(max_examples=20)
@given(st.integers(0, 1000), st.floats(1.2, 10.0))
def test_a_policy_with_larger_errors_everywhere_is_worse_and_the_other_better(bags, seed, factor):
    contract = bags.make_contract()
    good, bad = make_result(scores(seed)), make_result(scores(seed) * factor)
    there = compare_policies([good], [bad], contract)["policy"]
    back = compare_policies([bad], [good], contract)["policy"]
    assert (there["verdict"], back["verdict"]) == ("worse", "better")
    assert there["lower"] <= there["difference"] <= there["upper"]
    assert there["difference"] == pytest.approx(-back["difference"])
    assert there["difference"] == pytest.approx((factor - 1.0) * scores(seed).mean())


def test_differences_by_chance_are_undecided(bags):
    contract = bags.make_contract()
    verdicts = [
        compare_policies([make_result(scores(n))], [make_result(scores(n + 100))], contract)[
            "policy"
        ]["verdict"]
        for n in range(20)
    ]
    assert verdicts.count("undecided") >= 15


def test_a_policy_does_not_differ_from_itself(bags, result, policy):
    found = compare_policies([result], [result], policy.contract)
    assert (found["policy"]["difference"], found["policy"]["verdict"]) == (0.0, "undecided")
    assert "m" not in found


def test_recordings_of_less_than_four_chunks_give_no_interval(bags):
    short = [make_result(scores(n)[: 3 * CHUNK_SIZE]) for n in (1, 2)]
    found = compare_policies(short[:1], short[1:], bags.make_contract())["policy"]
    assert (found["blocks"], found["verdict"]) == (3, "undecided")
    assert (found["lower"], found["upper"]) == (None, None)
    assert format_interval(found, 1.0) == "too short: 3 of 4 blocks"
    limit = Limit(path="comparison.policy.upper", maximum=1e9)
    assert "not measured" in limit.find_fault({"comparison": {"policy": found}})


def test_ticks_that_only_one_answered_do_not_count(bags):
    first, second = make_result(scores(1)), make_result(scores(1) * 2.0)
    fewer = dataclasses.replace(
        second, ticks={name: values[10:] for name, values in second.ticks.items()}
    )
    found = compare_policies([first], [fewer], bags.make_contract())["policy"]
    assert found["ticks"] == NUM_TICKS - 10
    assert found["difference"] == pytest.approx(scores(1)[10:].mean())


def test_other_recordings_are_refused(bags):
    with pytest.raises(ConfigError, match="on the same bags"):
        compare_policies(
            [make_result(scores(0))], [make_result(scores(0), bag="two")], bags.make_contract()
        )
