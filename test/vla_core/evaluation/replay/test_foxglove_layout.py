# SPDX-License-Identifier: MIT
"""The layout of a replay shows what its file holds, for any robot."""

import json

import pytest

from vla_core.evaluation.replay.foxglove_layout import replay_layout
from vla_core.evaluation.replay.predictions_bag import (
    CHUNK,
    ERROR,
    INSTRUCTION,
    PREDICTED,
    RECORDED,
    camera_topic,
)
from vla_core.processing.contract import available_contracts, load_contract

CONTRACTS = sorted(available_contracts())


@pytest.fixture(params=CONTRACTS)
def contract(request):
    return load_contract(request.param)


@pytest.fixture
def layout(contract):
    return json.loads(json.dumps(replay_layout(contract)))


def placed(node):
    """Return the panels of a part of the layout's tree."""
    if isinstance(node, str):
        return [node]
    assert 0.0 < node["splitPercentage"] < 100.0
    return placed(node["first"]) + placed(node["second"])


def test_there_are_robots_of_many_kinds():
    assert {"sim", "sim_bimanual", "ur5e"} < {*CONTRACTS}


def test_every_panel_is_placed_once(layout):
    assert sorted(placed(layout["layout"])) == sorted(layout["configById"])


def test_every_panel_has_a_title_of_its_own_in_foxglove_and_in_lichtblick(layout):
    # Raw messages are under the name of their topic, with or without a title.
    panels = [p for key, p in layout["configById"].items() if not key.startswith("RawMessages!")]
    titles = [panel["foxglovePanelTitle"] for panel in panels]
    assert titles == [panel["lichtblickPanelTitle"] for panel in panels]
    assert len(set(titles)) == len(titles)


def test_cameras_instruction_and_every_action_are_shown(contract, layout):
    panels = layout["configById"]
    images = [p["imageMode"]["imageTopic"] for n, p in panels.items() if n.startswith("Image!")]
    assert images == [camera_topic(name) for name in contract.cameras]
    numbers = range(len(contract.action_names))
    for number, name in zip(numbers, contract.action_names, strict=True):
        paths = [path["value"] for path in panels[f"Plot!{name}"]["paths"]]
        assert paths == [f"{topic}.position[{number}]" for topic in (PREDICTED, RECORDED)]
    chunk = [path["value"] for path in panels["Plot!chunk"]["paths"]]
    assert chunk == [f"{CHUNK}.points[:].positions[{number}]" for number in numbers]
    errors = [path["value"] for path in panels["Plot!error"]["paths"]]
    assert errors == [f"{ERROR}.position[{number}]" for number in numbers]
    assert panels["RawMessages!instruction"]["topicPath"] == f"{INSTRUCTION}.data"
