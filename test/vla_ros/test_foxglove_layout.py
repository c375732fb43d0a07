# SPDX-License-Identifier: MIT
"""The Foxglove layout shows topics, fields and joints that are there, under a title."""

import json
import re
from pathlib import Path

import pytest
from sensor_msgs.msg import JointState
from vla_msgs.msg import CommandStatus, PolicyStatus

from vla_core.processing.contract import load_contract

CONTRACT = load_contract("sim")
PATH = Path(__file__).resolve().parents[2] / "config/foxglove/sim.json"
LAYOUT = json.loads(PATH.read_text(encoding="utf-8"))
PANELS = LAYOUT["configById"]
STATE = f"/{CONTRACT.state.topic}"
CAMERAS = [f"/{camera.topic}" for camera in CONTRACT.cameras.values()]
TYPES = {
    STATE: JointState,
    "/command_node/status": CommandStatus,
    "/policy_node/status": PolicyStatus,
}
OTHERS = ("/command_node/markers", "/diagnostics")


def placed(node):
    """Return the panels of a part of the layout's tree."""
    if isinstance(node, str):
        return [node]
    return placed(node["first"]) + placed(node["second"])


def message_paths():
    """Return every message path of a panel that follows values, and every topic shown as it is."""
    for name, panel in PANELS.items():
        for path in panel.get("paths", ()):
            yield name, path["value"]
        if "topicPath" in panel:
            yield name, panel["topicPath"]


def test_every_panel_is_placed_once():
    assert sorted(placed(LAYOUT["layout"])) == sorted(PANELS)


def test_every_panel_has_a_title_in_foxglove_and_in_lichtblick():
    # Raw messages are under the name of their topic, with or without a title.
    titled = {key: panel for key, panel in PANELS.items() if not key.startswith("RawMessages!")}
    titles = [panel["foxglovePanelTitle"] for panel in titled.values()]
    assert titles == [panel["lichtblickPanelTitle"] for panel in titled.values()]
    assert len(set(titles)) == len(titles)


def test_no_legend_covers_what_is_plotted():
    plots = [panel for key, panel in PANELS.items() if key.startswith("Plot!")]
    assert {plot["legendDisplay"] for plot in plots} == {"left"}


def test_the_cameras_of_the_contract_are_shown():
    modes = [panel["imageMode"] for name, panel in PANELS.items() if name.startswith("Image!")]
    assert [mode["imageTopic"] for mode in modes] == CAMERAS
    for mode in modes:
        folder = mode["imageTopic"].rpartition("/")[0]
        assert mode["calibrationTopic"] == f"{folder}/camera_info"


@pytest.mark.parametrize(("panel", "value"), list(message_paths()))
def test_a_followed_value_is_a_field_of_its_topic(panel, value):
    topic, field, _, index = re.fullmatch(r"(/[\w/]+)(?:\.(\w+)(\[(\d+)\])?)?", value).groups()
    if field is None:
        assert topic in TYPES
        return
    assert field in TYPES[topic].get_fields_and_field_types()
    if index is not None:
        assert int(index) < len(CONTRACT.state.joints)


@pytest.mark.parametrize("panel", ["Plot!measured", "Plot!commanded"])
def test_a_plot_has_the_joints_in_the_order_of_the_contract(panel):
    paths = PANELS[panel]["paths"]
    assert [path["label"] for path in paths] == list(CONTRACT.state.joints)
    assert [int(path["value"].rpartition("[")[2][:-1]) for path in paths] == list(
        range(len(paths))
    )


def test_markers_and_diagnostics_are_shown():
    shown = [topic for panel in PANELS.values() for topic in panel.get("topics", ())]
    shown += [panel["topicToRender"] for panel in PANELS.values() if "topicToRender" in panel]
    assert sorted(shown) == sorted(OTHERS)
