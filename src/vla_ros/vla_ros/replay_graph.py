# SPDX-License-Identifier: MIT
"""The graph of a replay over ROS: player, policy, command loop and judge, on simulated time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vla_core.errors import ConfigError
from vla_ros.graph import (
    DEVICE,
    LOG_LEVEL,
    ONE_THREAD,
    GraphArgument,
    GraphSpec,
    NodeSpec,
    OnExit,
    ParameterValue,
    graph_environment,
    graph_node,
)
from vla_ros.node_process import find_executable

_PATIENCE_S = 120.0
"""Time in which what was played until Ctrl-C is judged."""
_CLOCK_RATE_HZ = 200.0
_ROSBAG2 = ("rosbag2_transport", "player")


def replay_graph() -> GraphSpec:
    """Return the graph."""
    return GraphSpec(
        name="replay",
        description="A recording is played, the policy and the command loop answer it on "
        "simulated time, and what they answered is judged as by `vla replay`.",
        arguments=_ARGUMENTS,
        build=_build,
    )


def _build(values: Mapping[str, str]) -> tuple[NodeSpec, ...]:
    if not values["bag"]:
        raise ConfigError("bag is not given; bag:=FOLDER names the recording to play.")
    model: dict[str, ParameterValue] = {
        "checkpoint": values["checkpoint"],
        "device": values["device"],
    }
    judge: dict[str, ParameterValue] = {
        **model,
        "bag": values["bag"],
        "output": values["output"],
        "actions": values["actions"].split(),
        **{name: values[name] for name in ("instruction", "instruction_topic", "episode_topic")},
        "clock": values["clock"],
        "asks_again": values["asks_again"] == "true",
    }
    player = _find_player(values)
    return (
        _rosbag2(values) if player == "rosbag2" else _own_player(values),
        _node("policy_node", values, {**model, "instruction": ""}, on_exit="respawn"),
        # There is no arm but the recorded one.
        _node("command_node", values, {"dry_run": "always", "has_robot": False}),
        _node("replay_node", values, {**judge, "player": player}, stop_s=_PATIENCE_S),
    )


def _node(
    name: str,
    values: Mapping[str, str],
    parameters: Mapping[str, ParameterValue],
    *,
    on_exit: OnExit = "stop",
    stop_s: float = 5.0,
) -> NodeSpec:
    clock = {} if name == "player_node" else {"use_sim_time": True}
    return graph_node(
        name,
        values,
        {"contract": values["robot"], **parameters, **clock},
        environment=ONE_THREAD,
        on_exit=on_exit,
        stop_s=stop_s,
    )


def _own_player(values: Mapping[str, str]) -> NodeSpec:
    parameters: dict[str, ParameterValue] = {
        "bag": values["bag"],
        "clock": values["clock"],
        "clock_rate_hz": _CLOCK_RATE_HZ,
        "start_paused": True,
        **{name: _number(values, name) for name in ("rate", "start_s", "duration_s")},
    }
    return _node("player_node", values, parameters, on_exit="finish")


def _rosbag2(values: Mapping[str, str]) -> NodeSpec:
    from vla_core.processing.contract import load_contract
    from vla_ros.bag_playback import read_observed_topics

    topics = read_observed_topics(Path(values["bag"]), load_contract(values["robot"]))
    return NodeSpec(
        package=_ROSBAG2[0],
        executable=_ROSBAG2[1],
        name="rosbag2_player",
        namespace=values["namespace"],
        parameters={
            "storage.uri": values["bag"],
            "play.topics_to_filter": list(topics),
            "play.rate": _number(values, "rate"),
            "play.clock_publish_frequency": _CLOCK_RATE_HZ,
            "play.start_paused": True,
            "play.disable_keyboard_controls": True,
        },
        remappings=tuple(topics.items()),
        environment=graph_environment(),
        log_level=values["log_level"],
        on_exit="finish",
    )


def _find_player(values: Mapping[str, str]) -> str:
    """Return who plays: rosbag2 where it is installed and can do what is asked."""
    is_plain = (
        values["clock"] == "received"
        and not _number(values, "start_s")
        and not _number(values, "duration_s")
    )
    if values["player"] != "auto":
        if values["player"] == "rosbag2" and not is_plain:
            raise ConfigError(
                "player 'rosbag2' plays all of a recording by its recorder's clock; leave "
                "start_s, duration_s and clock as they are, or use player:=own."
            )
        return values["player"]
    try:
        find_executable(*_ROSBAG2)
    except ConfigError:
        return "own"
    return "rosbag2" if is_plain else "own"


def _number(values: Mapping[str, str], name: str) -> float:
    try:
        return float(values[name])
    except ValueError:
        raise ConfigError(f"{name} must be a number, got {values[name]!r}.") from None


_ARGUMENTS = (
    GraphArgument(
        name="bag",
        description="The recording: folder of a rosbag2 bag, or an .mcap or .db3 file.",
        default="",
    ),
    GraphArgument(
        name="checkpoint",
        description="Checkpoint: a shipped name, or the path of a checkpoint folder.",
        default="groot",
    ),
    GraphArgument(
        name="robot",
        description="Robot contract: a name from config/robots, or the path of a YAML file.",
        default="sim",
    ),
    GraphArgument(
        name="output",
        description="Folder for metrics.json, report.html, the recorded answers and predictions.",
        default="out/replay_online",
    ),
    GraphArgument(
        name="actions",
        description="What the demonstrator did: 'command', 'state', or topics with a space "
        "between, as `vla replay --actions`.",
        default="command",
    ),
    GraphArgument(
        name="instruction",
        description="What the policy is asked to do; empty: what the recording says.",
        default="",
    ),
    GraphArgument(
        name="instruction_topic",
        description="Topic of the recording with the instruction; empty: none.",
        default="",
    ),
    GraphArgument(
        name="episode_topic",
        description="Topic that says when an episode runs; empty: that of a policy's status.",
        default="",
    ),
    GraphArgument(
        name="clock",
        description="Whose time is played: the recorder's, or that of the messages' stamps.",
        default="received",
        choices=("received", "stamp"),
    ),
    GraphArgument(name="rate", description="Speed, 1 as recorded.", default="1.0"),
    GraphArgument(
        name="start_s", description="How much of the beginning is left out [s].", default="0.0"
    ),
    GraphArgument(
        name="duration_s", description="How much is played [s]; 0 for all.", default="0.0"
    ),
    GraphArgument(
        name="player",
        description="Who plays: rosbag2's player, our own player_node, or auto: rosbag2's where "
        "it is installed and clock, start_s and duration_s are not given.",
        default="auto",
        choices=("auto", "rosbag2", "own"),
    ),
    GraphArgument(
        name="asks_again",
        description="Replay without ROS, too, and say how both differ.",
        default="true",
        choices=("true", "false"),
    ),
    DEVICE,
    GraphArgument(
        name="namespace",
        description="Namespace of all nodes and topics.",
        default="",
    ),
    LOG_LEVEL,
    GraphArgument(
        name="parameters",
        description="YAML file with more parameters of any of the nodes; arguments win. Empty: "
        "none.",
        default="",
    ),
)
