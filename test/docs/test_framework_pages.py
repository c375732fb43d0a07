# SPDX-License-Identifier: MIT
"""The page of each framework says what its code does."""

import inspect
import re
from pathlib import Path

import pytest
import torch

from vla_core.models.frameworks import available_frameworks, framework_class, registry

FOLDER = Path(__file__).resolve().parents[2] / "docs/frameworks"
NAMES = available_frameworks()
each_framework = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(autouse=True)
def nothing_is_left_registered(monkeypatch):
    monkeypatch.setattr(registry, "_FRAMEWORKS", dict(registry._FRAMEWORKS))


def read_page(name):
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


@each_framework
def test_every_framework_has_a_page_with_a_figure(name):
    page = read_page(name)
    assert framework_class(name).__name__ in page
    assert len(blocks(page, "mermaid")) == 1
    assert "flowchart" in blocks(page, "mermaid")[0]


@each_framework
def test_the_code_on_the_page_runs_and_names_its_losses(name):
    torch.manual_seed(0)
    page = read_page(name)
    namespace = {}
    exec("\n".join(blocks(page, "python")), namespace)
    losses = [key for key in namespace["outputs"] if key.endswith("_loss")]
    assert losses
    assert [loss for loss in losses if f"`{loss}`" not in page] == []


@each_framework
def test_every_preset_is_on_the_page(name):
    page = read_page(name)
    assert [preset for preset in framework_class(name).presets if f"`{preset}`" not in page] == []


@each_framework
def test_every_keyword_that_the_page_sets_exists(name):
    framework = framework_class(name)
    callables = (framework, framework.forward, framework.predict_action)
    known = {key for function in callables for key in inspect.signature(function).parameters}
    set_in_text = re.findall(r"`(\w+)=", read_page(name))
    assert [key for key in set_in_text if key not in known] == []


@each_framework
def test_the_list_of_frameworks_links_to_the_page(name):
    assert f"({name}.md)" in (FOLDER / "README.md").read_text(encoding="utf-8")
