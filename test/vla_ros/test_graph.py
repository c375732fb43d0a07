# SPDX-License-Identifier: MIT
"""Graphs: arguments, what each node is given, and files that exist."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from vla_core.errors import ConfigError, UnknownNameError
from vla_ros.graph import NodeSpec, available_graphs, find_config, get_graph, graph_environment


def nodes_of(graph: str = "groot", **values: str) -> dict[str, NodeSpec]:
    return {node.name: node for node in get_graph(graph).nodes(values)}


def test_groot_starts_simulation_policy_and_command_loop_by_default():
    assert list(nodes_of()) == ["sim_robot_node", "policy_node", "command_node"]


def test_groot_moves_with_no_arguments():
    assert nodes_of()["policy_node"].parameters["instruction"] == "pick up the red block"


def test_a_real_robot_needs_no_simulation():
    assert "sim_robot_node" not in nodes_of(robot_sim="false")


def test_recording_adds_the_recorder_with_the_given_folder():
    assert nodes_of(record="out/bag")["recorder_node"].parameters["path"] == "out/bag"


def test_robot_and_checkpoint_reach_the_nodes():
    nodes = nodes_of(robot="other", checkpoint="out/mine")
    assert {node.parameters["contract"] for node in nodes.values()} == {"other"}
    assert nodes["policy_node"].parameters["checkpoint"] == "out/mine"


def test_namespace_holds_for_every_node():
    assert {node.namespace for node in nodes_of(namespace="left").values()} == {"left"}


def test_only_the_policy_is_started_again():
    respawned = [node.name for node in nodes_of().values() if node.on_exit == "respawn"]
    assert respawned == ["policy_node"]


def test_inference_is_kept_to_one_thread():
    assert nodes_of()["policy_node"].environment["OMP_NUM_THREADS"] == "1"


def test_unknown_argument_names_the_available_ones():
    with pytest.raises(ConfigError, match=r"'chekpoint' is unknown.*available: checkpoint, robot"):
        get_graph("groot").nodes({"chekpoint": "x"})


def test_value_outside_the_choices_is_refused():
    with pytest.raises(ConfigError, match="'robot_sim' must be one of true, false, got 'yes'"):
        get_graph("groot").nodes({"robot_sim": "yes"})


def test_unknown_graph_names_the_available_ones():
    with pytest.raises(UnknownNameError, match="'groott' is unknown; available: 'groot'"):
        get_graph("groott")


@pytest.mark.parametrize("name", available_graphs())
def test_every_argument_is_described(name):
    assert all(argument.description.endswith(".") for argument in get_graph(name).arguments)


@pytest.mark.parametrize("name", available_graphs())
def test_every_parameter_that_a_graph_sets_is_in_the_node_s_file(name):
    for node in get_graph(name).nodes({"record": "bag"}):
        declared = set()
        for path in node.parameter_files:
            declared |= set(yaml.safe_load(Path(path).read_text())["/**"]["ros__parameters"])
        assert set(node.parameters) <= declared


def test_the_image_profile_is_set_and_exists(monkeypatch):
    monkeypatch.delenv("FASTDDS_DEFAULT_PROFILES_FILE", raising=False)
    assert Path(graph_environment()["FASTDDS_DEFAULT_PROFILES_FILE"]).is_file()


def test_what_the_user_exported_wins(monkeypatch):
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_zenoh_cpp")
    assert graph_environment()["RMW_IMPLEMENTATION"] == "rmw_zenoh_cpp"


def test_installed_config_file_wins_over_the_source_tree(tmp_path, monkeypatch):
    folder = tmp_path / "share" / "vla_ros" / "config"
    folder.mkdir(parents=True)
    (folder / "policy_node.param.yaml").write_text("")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    assert find_config("policy_node.param.yaml") == folder / "policy_node.param.yaml"


def test_missing_config_file_says_what_to_do():
    with pytest.raises(ConfigError, match=r"'none\.yaml'.*source install/setup\.bash"):
        find_config("none.yaml")


@pytest.mark.parametrize("value", ["1", "", "pick 'it' up: \"now\"", 3, 0.5, True, ["a", "b"]])
def test_parameters_keep_their_type_on_the_command_line(value):
    arguments = NodeSpec(executable="x", name="n", parameters={"p": value}).ros_arguments()
    text = arguments[arguments.index("-p") + 1].removeprefix("p:=")
    assert yaml.safe_load(text) == json.loads(text) == value


def test_command_line_carries_name_namespace_files_and_remappings():
    node = NodeSpec(
        executable="x",
        name="n",
        namespace="left",
        parameter_files=("a.yaml",),
        remappings=(("joint_states", "/arm/joint_states"),),
        log_level="warn",
    )
    assert node.ros_arguments() == [
        *("--ros-args", "-r", "__node:=n", "-r", "__ns:=/left", "--params-file", "a.yaml"),
        *("-r", "joint_states:=/arm/joint_states", "--log-level", "warn"),
    ]


def test_root_namespace_is_not_set():
    node = NodeSpec(executable="x", name="n", namespace="left")
    assert not [word for word in replace(node, namespace="").ros_arguments() if "__ns" in word]
