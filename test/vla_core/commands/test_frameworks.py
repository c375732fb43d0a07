# SPDX-License-Identifier: MIT
import argparse
import json

import pytest
import torch

from vla_core.commands import frameworks
from vla_core.errors import ConfigError, UnknownNameError
from vla_core.models.frameworks import available_frameworks, framework_class


def run(*arguments):
    parser = argparse.ArgumentParser()
    frameworks.add_arguments(parser)
    return frameworks.run(parser.parse_args([str(argument) for argument in arguments]))


def test_json_has_every_framework_with_its_figures(capsys):
    assert run("--json", "--runs", 1, "--threads", 1) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in report["frameworks"]] == list(available_frameworks())
    assert report["machine"]["threads"] == 1
    for row in report["frameworks"]:
        assert row["parameters"] >= row["trainable_parameters"] > 0, row["name"]
        assert row["latency_ms"]["p95"] >= row["latency_ms"]["median"] > 0.0, row["name"]
        assert row["presets"] == list(framework_class(row["name"]).presets)
        assert row["action_shape"][-1] == 7


def test_table_names_frameworks_presets_and_units(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert run("helix", "custom", "--runs", 1) == 0
    shown = capsys.readouterr().out
    for part in ("helix", "custom", "seed, reference", "parameters", " M ", " ms"):
        assert part in shown
    assert "gr00t" not in shown


def test_nothing_is_cut_off_on_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert run("openvla", "--runs", 1) == 0
    shown = capsys.readouterr().out
    assert "\u2026" not in shown
    for part in ("framework", "parameters", "trainable", "presets", "actions", "latency", "p95"):
        assert part in shown.splitlines()[0]


def test_reported_parameters_are_those_of_the_model():
    model = frameworks.build(framework_class("custom"), "seed")
    row = frameworks.describe(framework_class("custom"), "seed", runs=1)
    assert row["parameters"] == sum(p.numel() for p in model.parameters())


def test_a_preset_keeps_its_own_settings(capsys):
    run("act", "octo", "--preset", "reference", "--runs", 1, "--json")
    rows = json.loads(capsys.readouterr().out)["frameworks"]
    assert [row["action_shape"] for row in rows] == [[100, 14], [4, 7]]


def test_number_of_threads_is_restored():
    before = torch.get_num_threads()
    run("custom", "--runs", 1, "--threads", before + 1, "--json")
    assert torch.get_num_threads() == before


def test_an_unknown_framework_is_refused_with_the_available_ones():
    with pytest.raises(UnknownNameError, match=r"'groot' is not registered.*'gr00t'"):
        run("groot")


def test_a_preset_that_no_framework_has_is_refused():
    with pytest.raises(ConfigError, match="--preset 'huge' is of none"):
        run("custom", "--preset", "huge")


def test_no_run_is_no_measurement():
    with pytest.raises(ConfigError, match="--runs must be at least 1, got 0"):
        run("--runs", 0)
