# SPDX-License-Identifier: MIT
"""The launch files start what `vla up` starts: the same nodes, and each is given the same.

The launch system really starts the processes here; they are programs that only wait.
"""

import gc
import importlib.util
import itertools
import os
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from vla_ros.graph import EXIT_CONFIGURATION, GraphSpec, NodeSpec
from vla_ros.graphs import available_graphs, get_graph

LAUNCH_FILES = Path(__file__).resolve().parents[2] / "launch"
WAITER = "exec sleep 60"

needs_launch = pytest.mark.skipif(
    importlib.util.find_spec("launch_ros") is None, reason="launch_ros is not installed"
)


def load(name):
    from launch import LaunchContext
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    source = PythonLaunchDescriptionSource(str(LAUNCH_FILES / f"{name}.launch.py"))
    return source.get_launch_description(LaunchContext())


@dataclass
class Given:
    """What a process is given, whether on its command line or in a file made for it."""

    executable: str
    remappings: list
    parameter_files: list
    parameters: dict
    log_level: str

    @classmethod
    def read(cls, executable, arguments):
        given = cls(executable, [], [], {}, "")
        for word, value in itertools.pairwise(arguments):
            if word == "-r":
                given.remappings.append(value)
            elif word == "--log-level":
                given.log_level = value
            elif word == "-p":
                name, _, text = value.partition(":=")
                given.parameters[name] = yaml.safe_load(text)
            elif word == "--params-file" and Path(value).name.startswith("launch_params_"):
                # ROS reads past the tags that launch_ros writes before lists.
                (node,) = yaml.load(Path(value).read_text(), yaml.FullLoader).values()
                for name, parameter in node["ros__parameters"].items():
                    is_list = isinstance(parameter, tuple)
                    given.parameters[name] = list(parameter) if is_list else parameter
            elif word == "--params-file":
                assert not given.parameters, "a file after the parameters would win over them"
                given.parameter_files.append(value)
        return given


@pytest.fixture
def launched(tmp_path, monkeypatch):
    """`launched(description, programs)` runs it with a shell program in place of each node.

    It returns the starts and the ends of the processes, when `is_over(starts, ends)` says so or
    the launch system has stopped by itself.
    """

    def launch(description, programs, is_over):
        from launch import LaunchDescription, LaunchService
        from launch.actions import RegisterEventHandler, Shutdown
        from launch.event_handlers import OnProcessExit, OnProcessStart

        prefix = tmp_path / "prefix"
        marker = prefix / "share" / "ament_index" / "resource_index" / "packages" / "vla_ros"
        marker.parent.mkdir(parents=True)
        marker.touch()
        folder = prefix / "lib" / "vla_ros"
        folder.mkdir(parents=True)
        for name, program in programs.items():
            (folder / name).write_text(f"#!/bin/sh\n{program}\n")
            (folder / name).chmod(0o755)
        monkeypatch.setenv("AMENT_PREFIX_PATH", str(prefix), prepend=os.pathsep)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        starts, ends = [], []

        def note(event, context, events):
            if not context.is_shutdown:
                events.append(event)
            return [Shutdown()] if is_over(starts, ends) else None

        handlers = [
            OnProcessStart(on_start=lambda event, context: note(event, context, starts)),
            OnProcessExit(on_exit=lambda event, context: note(event, context, ends)),
        ]
        service = LaunchService()
        service.include_launch_description(
            LaunchDescription([*map(RegisterEventHandler, handlers), *description])
        )
        with warnings.catch_warnings():
            # The launch system leaves the pipes of a restarted process open.
            warnings.simplefilter("ignore", ResourceWarning)
            assert service.run() == 0
            del service, handlers
            gc.collect()
        return starts, ends

    return launch


@pytest.fixture
def started(launched):
    """`started(name, values)` returns how the launch file of a graph starts each process."""

    def start(name, values):
        from launch.actions import IncludeLaunchDescription
        from launch.launch_description_sources import PythonLaunchDescriptionSource

        source = PythonLaunchDescriptionSource(str(LAUNCH_FILES / f"{name}.launch.py"))
        programs = {spec.executable: WAITER for spec in get_graph(name).nodes(values)}
        starts, ends = launched(
            [IncludeLaunchDescription(source, launch_arguments=values.items())],
            programs,
            lambda starts, ends: len(starts) == len(programs) or ends,
        )
        assert not ends
        return starts

    return start


@pytest.fixture
def graph_of(monkeypatch):
    """`graph_of(spec, ...)` describes the launch of some nodes as if they were a graph."""

    def describe(*specs):
        from vla_ros.launching import build_launch_description

        graph = GraphSpec(name="made", description="", arguments=(), build=lambda _: specs)
        monkeypatch.setattr("vla_ros.launching.get_graph", {"made": graph}.get)
        return build_launch_description("made").entities

    return describe


def assert_same(start, spec):
    """A process of the launch system is given what the supervisor gives it."""
    executable, *arguments = start.cmd
    given = Given.read(Path(executable).name, arguments)
    expected = Given.read(spec.executable, spec.ros_arguments())
    assert given == expected
    changed = {name: value for name, value in start.env.items() if os.environ.get(name) != value}
    assert changed == {
        name: value for name, value in spec.environment.items() if os.environ.get(name) != value
    }


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


@pytest.mark.parametrize("name", available_graphs())
def test_show_args_tells_every_argument_its_default_and_its_choices(name, capsys):
    api = pytest.importorskip("ros2launch.api", reason="could not import 'launch'")
    api.print_arguments_of_launch_file(launch_file_path=str(LAUNCH_FILES / f"{name}.launch.py"))
    shown = capsys.readouterr().out
    for argument in get_graph(name).arguments:
        rest = shown.partition(f"'{argument.name}':\n")[2]
        text = rest.partition("\n\n")[0]
        assert text.strip().startswith(argument.description)
        assert f"(default: '{argument.default}')" in text
        assert all(f"'{choice}'" in text for choice in argument.choices)


@needs_launch
@pytest.mark.parametrize("name", available_graphs())
def test_each_node_of_a_launch_file_is_given_what_vla_up_gives_it(name, started):
    values = {"bag": "out/bag", "player": "own"} if name == "replay" else {}
    specs = get_graph(name).nodes(values)
    for start, spec in zip(started(name, values), specs, strict=True):
        assert_same(start, spec)


@needs_launch
@pytest.mark.parametrize("name", ["groot", "helix"])
def test_arguments_reach_the_nodes_alike(name, started, tmp_path):
    more = tmp_path / "more.yaml"
    more.write_text("/**: {ros__parameters: {seed: 3}}")
    values = {
        **{"robot": "ur5e", "checkpoint": "/path/to/policy", "device": "auto", "dry_run": "true"},
        **{"instruction": 'say "now": 1', "namespace": "left/arm", "log_level": "warn"},
        **{"parameters": str(more), "record": "out/bag", "task": "put_in_box"},
    }
    specs = get_graph(name).nodes(values)
    for start, spec in zip(started(name, values), specs, strict=True):
        assert_same(start, spec)


@needs_launch
def test_whatever_a_node_can_be_given_is_given_alike(launched, graph_of, tmp_path):
    files = (tmp_path / "first.yaml", tmp_path / "second.yaml")
    for path in files:
        path.write_text("/**: {ros__parameters: {rate: 1.0}}")
    spec = NodeSpec(
        executable="node",
        name="renamed",
        namespace="arm",
        parameter_files=tuple(map(str, files)),
        parameters={"a": True, "b": 1, "c": 1.0, "d": "1", "e": "", "f": ["x", "y: z"]},
        remappings=(("in", "other/in"), ("/out", "out")),
        environment={"COLOUR": "red", "EMPTY": ""},
        log_level="error",
    )
    starts, _ = launched(graph_of(spec), {"node": WAITER}, lambda starts, ends: starts)
    assert_same(starts[0], spec)


@needs_launch
@pytest.mark.parametrize(
    ("on_exit", "status", "num_starts"),
    [
        ("stop", 0, 1),
        ("stop", 1, 1),
        ("finish", 1, 1),
        ("respawn", 1, 4),
        ("respawn", EXIT_CONFIGURATION, 1),
    ],
)
def test_a_node_that_ends_at_once_is_started_as_often_as_by_vla_up(
    launched, graph_of, monkeypatch, on_exit, status, num_starts
):
    monkeypatch.setattr("vla_ros.restarts._DELAYS_S", (0.01, 0.01, 0.01))
    monkeypatch.setattr("vla_ros.launching._RESPAWN_DELAY_S", 0.01)
    spec = NodeSpec(executable="node", name="node", on_exit=on_exit)
    other = NodeSpec(executable="other", name="other")
    programs = {"node": f"exit {status}", "other": WAITER}
    starts, ends = launched(graph_of(other, spec), programs, lambda starts, ends: False)
    assert [Path(start.cmd[0]).name for start in starts].count("node") == num_starts
    assert {end.returncode for end in ends} == {status}


@needs_launch
@pytest.mark.parametrize(("on_exit", "status"), [("continue", 1), ("finish", 0)])
def test_a_graph_goes_on_without_a_node_that_may_end(launched, graph_of, on_exit, status):
    guest = NodeSpec(executable="guest", name="guest", on_exit=on_exit)
    host = NodeSpec(executable="host", name="host")
    programs = {"guest": f"exit {status}", "host": "sleep 1; exit 3"}
    _, ends = launched(graph_of(guest, host), programs, lambda starts, ends: False)
    assert [end.returncode for end in ends] == [status, 3]
