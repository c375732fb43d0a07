# SPDX-License-Identifier: MIT
"""The graphs: arguments, what each node is given, and files that exist."""

import os
import re
from pathlib import Path

import pytest
import yaml

from vla_core.errors import ConfigError, ContractError, UnknownNameError
from vla_core.inference.checkpoint_files import find_checkpoint
from vla_core.processing.contract import load_contract
from vla_ros.graph import NodeSpec
from vla_ros.graphs import available_graphs, get_graph
from vla_ros.recording import Recording

FRAMEWORKS = [name for name in available_graphs() if name != "replay"]
REPLAY = {"bag": "out/bag", "player": "own"}
HELIX_TIERS = ["planner_node", "policy_node", "command_node"]


def nodes_of(graph: str = "groot", **values: str) -> dict[str, NodeSpec]:
    return {node.name: node for node in get_graph(graph).nodes(values)}


def test_groot_starts_simulation_policy_and_command_loop_by_default():
    assert list(nodes_of()) == ["sim_robot_node", "policy_node", "command_node"]


def test_groot_moves_with_no_arguments():
    assert nodes_of()["policy_node"].parameters["instruction"] == "pick up the red block"


def test_a_robot_that_is_not_simulated_starts_no_simulation():
    assert list(nodes_of(robot="ur5e")) == ["policy_node", "command_node"]


def test_the_simulation_can_be_left_out_or_insisted_on():
    assert "sim_robot_node" not in nodes_of(robot_sim="false")
    assert "sim_robot_node" in nodes_of(robot="ur5e", robot_sim="true")


def test_a_robot_that_does_not_exist_is_refused_before_anything_starts():
    with pytest.raises(ContractError, match="'ur55' is not shipped; available: 'aloha'"):
        nodes_of(robot="ur55")


def test_recording_adds_the_recorder_with_the_given_folder():
    assert nodes_of(record="out/bag")["recorder_node"].parameters["path"] == "out/bag"


def test_robot_and_checkpoint_reach_the_nodes():
    nodes = nodes_of(robot="sim_bimanual", checkpoint="out/mine")
    assert {node.parameters["contract"] for node in nodes.values()} == {"sim_bimanual"}
    assert nodes["policy_node"].parameters["checkpoint"] == "out/mine"


def test_task_reaches_the_simulated_robot():
    assert nodes_of(task="put_in_box")["sim_robot_node"].parameters["task"] == "put_in_box"


def test_namespace_holds_for_every_node():
    assert {node.namespace for node in nodes_of(namespace="left").values()} == {"left"}


def test_only_the_inference_is_started_again():
    respawned = [node.name for node in nodes_of().values() if node.on_exit == "respawn"]
    assert respawned == ["policy_node"]


def test_inference_is_kept_to_one_thread():
    assert nodes_of()["policy_node"].environment["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize(
    ("value", "parameter"), [("contract", "contract"), ("true", "always"), ("false", "never")]
)
def test_a_dry_run_can_be_asked_for_or_left_to_the_contract(value, parameter):
    assert nodes_of(dry_run=value)["command_node"].parameters["dry_run"] == parameter


def test_a_file_of_parameters_reaches_every_node_after_the_shipped_one(tmp_path):
    path = tmp_path / "more.yaml"
    path.touch()
    nodes = nodes_of(parameters=str(path), record="bag")
    assert {node.parameter_files[1] for node in nodes.values()} == {str(path)}
    assert {len(node.parameter_files) for node in nodes_of().values()} == {1}


def test_a_file_of_parameters_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match=r"'more\.yaml' is not a file"):
        nodes_of(parameters="more.yaml")


def test_unknown_argument_names_the_available_ones():
    with pytest.raises(ConfigError, match=r"'chekpoint' is unknown.*available: checkpoint, robot"):
        get_graph("groot").nodes({"chekpoint": "x"})


def test_value_outside_the_choices_is_refused():
    with pytest.raises(ConfigError, match="must be one of auto, true, false, got 'yes'"):
        get_graph("groot").nodes({"robot_sim": "yes"})


def test_unknown_graph_is_told_what_is_near_and_available():
    with pytest.raises(UnknownNameError, match="'gr00t' is unknown; did you mean 'groot'"):
        get_graph("gr00t")
    with pytest.raises(UnknownNameError, match="'else' is unknown; available: 'groot'"):
        get_graph("else")


@pytest.mark.parametrize("name", available_graphs())
def test_every_argument_is_described(name):
    assert all(argument.description.endswith(".") for argument in get_graph(name).arguments)


@pytest.mark.parametrize(
    ("name", "values"),
    [*((name, {"record": "bag"}) for name in FRAMEWORKS), ("replay", REPLAY)],
)
def test_every_parameter_that_a_graph_sets_is_in_the_node_s_file(name, values):
    for node in get_graph(name).nodes(values):
        declared = {"use_sim_time"}
        for path in node.parameter_files:
            declared |= set(yaml.safe_load(Path(path).read_text())["/**"]["ros__parameters"])
        assert set(node.parameters) <= declared


def test_there_is_a_graph_for_each_framework():
    assert set(FRAMEWORKS) == {
        *("groot", "pi0", "octo", "openvla", "rt2", "act", "helix", "custom")
    }


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_default_checkpoint_and_robot_exist_and_fit(name):
    values = get_graph(name).resolve({})
    assert find_checkpoint(values["checkpoint"], load_contract(values["robot"])).is_dir()


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_untrained_checkpoint_that_a_graph_proposes_exists(name):
    (described,) = (a.description for a in get_graph(name).arguments if a.name == "checkpoint")
    untrained = re.search(r"untrained:\w+", described)[0]
    assert find_checkpoint(untrained, load_contract("sim")).is_dir()


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_device_reaches_every_node_that_infers(name):
    nodes = nodes_of(name, device="auto")
    inferring = {"policy_node", "planner_node"} & set(nodes)
    assert {nodes[node].parameters["device"] for node in inferring} == {"auto"}


def test_helix_is_three_processes_of_one_checkpoint():
    nodes = nodes_of("helix", checkpoint="out/mine")
    assert list(nodes) == ["sim_robot_node", *HELIX_TIERS]
    assert nodes["planner_node"].parameters["checkpoint"] == "out/mine"
    assert nodes["policy_node"].parameters["checkpoint"] == "out/mine"
    assert nodes["policy_node"].parameters["follows_plans"] is True
    assert nodes["command_node"].parameters["motor_checkpoint"] == "out/mine"
    assert {nodes[name].on_exit for name in HELIX_TIERS} == {"respawn"}


def test_of_helix_s_frequent_chunks_every_step_counts():
    nodes = nodes_of("helix")
    assert nodes["command_node"].parameters["blending"] == "ensemble"
    assert nodes["policy_node"].parameters["chunking"] == "off"


def test_helix_moves_a_robot_that_takes_200_commands_per_second():
    nodes = nodes_of("helix")
    assert load_contract(nodes["command_node"].parameters["contract"]).command.rate_hz == 200.0
    assert nodes["sim_robot_node"].parameters["loop_rate_hz"] == 200.0


def test_other_frameworks_have_neither_planner_nor_motor_control():
    nodes = nodes_of("act")
    assert "planner_node" not in nodes
    assert "follows_plans" not in nodes["policy_node"].parameters
    assert "motor_checkpoint" not in nodes["command_node"].parameters


def test_replay_plays_a_recording_to_policy_and_command_loop_on_simulated_time():
    nodes = nodes_of("replay", **REPLAY, checkpoint="out/mine")
    assert list(nodes) == ["player_node", "policy_node", "command_node", "replay_node"]
    timed = [name for name, node in nodes.items() if node.parameters.get("use_sim_time")]
    assert timed == ["policy_node", "command_node", "replay_node"]
    assert nodes["player_node"].parameters["bag"] == "out/bag"
    assert nodes["replay_node"].parameters["checkpoint"] == "out/mine"
    assert nodes["policy_node"].parameters["checkpoint"] == "out/mine"


def test_replay_commands_no_arm():
    parameters = nodes_of("replay", **REPLAY)["command_node"].parameters
    assert parameters["dry_run"] == "always"
    assert parameters["has_robot"] is False


def test_replay_needs_a_recording():
    with pytest.raises(ConfigError, match="bag is not given"):
        nodes_of("replay")


def test_replay_goes_on_when_all_is_played_and_leaves_time_to_judge_it():
    nodes = nodes_of("replay", **REPLAY)
    assert nodes["player_node"].on_exit == "finish"
    assert nodes["replay_node"].stop_s > 60.0


@pytest.fixture
def installed_rosbag2(monkeypatch, tmp_path):
    """An executable where rosbag2's player would be."""
    path = tmp_path / "prefix/lib/rosbag2_transport/player"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "")
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{tmp_path / 'prefix'}{os.pathsep}{prefixes}")


@pytest.fixture
def namespaced_bag(tmp_path):
    """A recording of the robot's topics in the namespace /lab, and of others."""
    recording = Recording(tmp_path / "bag", compress=False, notes={})
    for topic in ("front_camera/image_raw", "wrist_camera/image_raw"):
        recording.add_topic(f"/lab/{topic}", "sensor_msgs/msg/Image", [])
    recording.add_topic("/lab/joint_states", "sensor_msgs/msg/JointState", [])
    recording.add_topic("/lab/action_chunk", "vla_msgs/msg/ActionChunk", [])
    recording.close()
    return str(tmp_path / "bag")


@pytest.mark.usefixtures("installed_rosbag2")
def test_replay_leaves_playing_to_rosbag2_where_it_is_installed(namespaced_bag):
    nodes = nodes_of("replay", bag=namespaced_bag, rate="0.5")
    player = nodes["rosbag2_player"]
    assert "player_node" not in nodes
    assert nodes["replay_node"].parameters["player"] == "rosbag2"
    assert player.parameters["play.start_paused"] is True
    assert player.parameters["play.rate"] == 0.5
    played = {
        "/lab/front_camera/image_raw": "front_camera/image_raw",
        "/lab/wrist_camera/image_raw": "wrist_camera/image_raw",
        "/lab/joint_states": "joint_states",
    }
    assert sorted(player.parameters["play.topics_to_filter"]) == sorted(played)
    assert dict(player.remappings) == played


@pytest.mark.usefixtures("installed_rosbag2")
@pytest.mark.parametrize("values", [{"clock": "stamp"}, {"start_s": "2"}, {"duration_s": "5"}])
def test_replay_plays_itself_what_rosbag2_cannot(namespaced_bag, values):
    assert "player_node" in nodes_of("replay", bag=namespaced_bag, **values)
    with pytest.raises(ConfigError, match="use player:=own"):
        nodes_of("replay", bag=namespaced_bag, player="rosbag2", **values)
