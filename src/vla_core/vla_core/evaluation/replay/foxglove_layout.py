# SPDX-License-Identifier: MIT
"""The layout in which Foxglove and Lichtblick show a replay of a robot.

Both read the same JSON: the settings of every panel, and a tree that divides the window in two
again and again. Each has a key of its own for a panel's title.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle
from typing import Any

from vla_core.evaluation.replay.action_units import action_units
from vla_core.evaluation.replay.predictions_bag import (
    CHUNK,
    ERROR,
    INSTRUCTION,
    PREDICTED,
    RECORDED,
    camera_topic,
)
from vla_core.processing.contract import RobotContract

_COLORS = ("#4e98e2", "#f5774d", "#f7df71", "#5cd6a9", "#a395e2", "#e26fae", "#9aa5b1")
_RECORDED_COLOR, _PREDICTED_COLOR, *_ = _COLORS
_MAX_ROWS = 5
# Shares of the window, in per cent.
_LEFT_WIDTH, _INSTRUCTION_HEIGHT = 28.0, 11.0


def replay_layout(contract: RobotContract) -> dict[str, Any]:
    """Return the layout for a robot's predictions and recording.

    On the left is the moment: instruction, frames and the whole chunk; on the right the time: for
    each action the prediction over the recording, and all errors.
    """
    names, units = contract.action_names, action_units(contract)
    unit_list = ", ".join(dict.fromkeys(units))
    instruction = "RawMessages!instruction"
    panels: dict[str, Any] = {instruction: _raw(f"{INSTRUCTION}.data")}
    panels |= {f"Image!{name}": _image(name) for name in contract.cameras}
    steps = {name: f"{CHUNK}.points[:].positions[{i}]" for i, name in enumerate(names)}
    panels["Plot!chunk"] = _plot(
        f"the whole chunk, by step [{unit_list}]", _lines(steps), over="index"
    )
    left = [name for name in panels if name != instruction]
    for i, (name, unit) in enumerate(zip(names, units, strict=True)):
        panels[f"Plot!{name}"] = _plot(
            f"{name} [{unit}]",
            [
                _line("predicted", f"{PREDICTED}.position[{i}]", _PREDICTED_COLOR),
                _line("recorded", f"{RECORDED}.position[{i}]", _RECORDED_COLOR, width=2),
            ],
        )
    errors = {name: f"{ERROR}.position[{i}]" for i, name in enumerate(names)}
    panels["Plot!error"] = _plot(f"predicted - recorded [{unit_list}]", _lines(errors))
    plots = [*(f"Plot!{name}" for name in names), "Plot!error"]
    num_rows = math.ceil(len(plots) / math.ceil(len(plots) / _MAX_ROWS))
    columns = [plots[start : start + num_rows] for start in range(0, len(plots), num_rows)]
    moment = _split("column", instruction, _equal("column", left), _INSTRUCTION_HEIGHT)
    time = _equal("row", [_equal("column", column) for column in columns])
    return {
        "configById": panels,
        "globalVariables": {},
        "userNodes": {},
        "playbackConfig": {"speed": 1},
        "layout": _split("row", moment, time, _LEFT_WIDTH),
    }


def _split(direction: str, first: Any, second: Any, percentage: float) -> dict[str, Any]:
    return {
        "direction": direction,
        "splitPercentage": percentage,
        "first": first,
        "second": second,
    }


def _equal(direction: str, parts: Sequence[Any]) -> Any:
    """Divide equally among panels or parts of the window, of which there is at least one."""
    if len(parts) == 1:
        return parts[0]
    return _split(direction, parts[0], _equal(direction, parts[1:]), 100.0 / len(parts))


def _raw(path: str) -> dict[str, Any]:
    return {
        "topicPath": path,
        "diffEnabled": False,
        "diffMethod": "custom",
        "diffTopicPath": "",
        "showFullMessageForDiff": False,
    }


def _image(camera: str) -> dict[str, Any]:
    return {
        **_titled(camera),
        "cameraState": {},
        "followMode": "follow-pose",
        "scene": {},
        "transforms": {},
        "topics": {},
        "layers": {},
        "imageMode": {"imageTopic": camera_topic(camera)},
    }


def _plot(title: str, lines: Sequence[dict[str, Any]], over: str = "timestamp") -> dict[str, Any]:
    return {
        **_titled(title),
        "paths": list(lines),
        "showXAxisLabels": True,
        "showYAxisLabels": True,
        "showLegend": True,
        "legendDisplay": "left",
        "sidebarDimension": 175,
        "showPlotValuesInLegend": False,
        "isSynced": over == "timestamp",
        "xAxisVal": over,
    }


def _lines(values: dict[str, str]) -> list[dict[str, Any]]:
    pairs = zip(values.items(), cycle(_COLORS), strict=False)
    return [_line(label, value, color) for (label, value), color in pairs]


def _line(label: str, value: str, color: str, width: int = 1) -> dict[str, Any]:
    return {
        "value": value,
        "label": label,
        "color": color,
        "enabled": True,
        "timestampMethod": "receiveTime",
        "lineSize": width,
    }


def _titled(title: str) -> dict[str, str]:
    return {"foxglovePanelTitle": title, "lichtblickPanelTitle": title}
