# SPDX-License-Identifier: MIT
"""Descriptions of graphs: command lines, files that exist, environments."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from vla_core.errors import ConfigError
from vla_ros.graph import NodeSpec, find_config, graph_environment


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
