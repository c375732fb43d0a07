# SPDX-License-Identifier: MIT
"""Limits of a robot team's CI on the figures of a replay."""

import pytest

from vla_core.errors import ConfigError
from vla_core.evaluation.replay.gate import find_faults, load_gate

METRICS = {
    "error": {"total": {"rad": {"mae": 0.02}, "m": None}},
    "gripper": None,
    "sensitivity": {"checks": {"state frozen": {"reacts": False}}},
    "robot": {"name": "sim"},
}


def faults(tmp_path, text):
    path = tmp_path / "gate.yaml"
    path.write_text(text, encoding="utf-8")
    return find_faults(load_gate(path), METRICS)


def test_kept_limits_have_no_faults(tmp_path):
    assert faults(tmp_path, "limits: {error.total.rad.mae: {min: 0.02, max: 0.02}}") == []


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ("error.total.rad.mae: {max: 0.01}", "is 0.02, at most 0.01 is allowed"),
        ("error.total.rad.mae: {min: 0.1}", "is 0.02, at least 0.1 is required"),
        ("sensitivity.checks.state frozen.reacts: {min: 1}", "is 0, at least 1 is required"),
        ("gripper.agreement: {min: 0.9}", "was not measured"),
        ("error.total.m.mae: {max: 1}", "was not measured"),
    ],
)
def test_a_broken_limit_says_why(tmp_path, limit, reason):
    (fault,) = faults(tmp_path, f"limits: {{{limit}}}")
    assert reason in fault
    assert fault.startswith(limit.partition(":")[0])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("limits: {error.total.rat.mae: {max: 1}}", r"no 'rat' in 'error.total'.*'rad', 'm'"),
        ("limits: {robot.name: {max: 1}}", "is no number in metrics.json, got str"),
        ("limits: {error.total.rad.mae: {largest: 1}}", r"must be \{min: NUMBER, max: NUMBER\}"),
        ("limits: {error.total.rad.mae: {max: much}}", "must be .*got {'max': 'much'}"),
        ("limits: {}", "must be a mapping 'limits'"),
        ("limit: {a: {max: 1}}", "must be a mapping 'limits'"),
        ("limits: [", "cannot be read"),
    ],
)
def test_a_gate_that_limits_nothing_is_refused(tmp_path, text, reason):
    with pytest.raises(ConfigError, match=reason):
        faults(tmp_path, text)


def test_a_missing_gate_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml' cannot be read"):
        load_gate(tmp_path / "nowhere.yaml")
