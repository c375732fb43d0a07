# SPDX-License-Identifier: MIT
"""Launch files start exactly the nodes that the graph description names."""

import importlib.util
from pathlib import Path

import pytest

from vla_ros.graphs import available_graphs, get_graph

LAUNCH_FILES = Path(__file__).resolve().parents[2] / "launch"

needs_launch = pytest.mark.skipif(
    importlib.util.find_spec("launch_ros") is None, reason="launch_ros is not installed"
)


def load(name):
    from launch import LaunchContext
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    source = PythonLaunchDescriptionSource(str(LAUNCH_FILES / f"{name}.launch.py"))
    return source.get_launch_description(LaunchContext())


def started_nodes(name, **values):
    """Run the launch file's function and return the node actions that it would start."""
    from launch import LaunchContext
    from launch.actions import OpaqueFunction
    from launch_ros.actions import Node

    context = LaunchContext()
    context.launch_configurations.update(get_graph(name).resolve(values))
    (function,) = [e for e in load(name).entities if isinstance(e, OpaqueFunction)]
    return [action for action in function.execute(context) if isinstance(action, Node)]


@pytest.mark.parametrize("name", available_graphs())
def test_every_graph_has_a_launch_file_that_names_it(name):
    assert f'build_launch_description("{name}")' in (LAUNCH_FILES / f"{name}.launch.py").read_text(
        encoding="utf-8"
    )


@needs_launch
@pytest.mark.parametrize("name", available_graphs())
def test_launch_arguments_are_those_of_the_graph(name):
    declared = {argument.name: argument for argument in load(name).get_launch_arguments()}
    assert list(declared) == [argument.name for argument in get_graph(name).arguments]
    for argument in get_graph(name).arguments:
        assert declared[argument.name].description.startswith(argument.description)


@needs_launch
@pytest.mark.parametrize("name", available_graphs())
@pytest.mark.parametrize("values", [{}, {"robot_sim": "false", "record": "bag"}])
def test_launch_starts_the_nodes_of_the_graph(name, values):
    nodes = started_nodes(name, **values)
    expected = get_graph(name).nodes(values)
    assert [node.node_executable for node in nodes] == [spec.executable for spec in expected]
