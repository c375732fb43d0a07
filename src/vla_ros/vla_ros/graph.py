# SPDX-License-Identifier: MIT
"""What a graph of nodes is: processes, parameters, remappings, environment, arguments.

``vla_ros.graphs`` has the graphs themselves.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vla_core.errors import ConfigError

PACKAGE = "vla_ros"

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""With more threads one busy neighbour stalls every OpenMP barrier of the inference."""

EXIT_CONFIGURATION = 78
"""Exit status of a node that cannot run as it is configured; starting it again is pointless."""

ParameterValue = bool | int | float | str | Sequence[str]
"""What a node parameter may be."""

OnExit = Literal["stop", "respawn", "continue", "finish"]
"""What the graph does when a node ends: stop too, start the node again, or go on without it; with
``finish`` it goes on if the node has done its work, and stops if it failed."""

_SOURCE_TREE_CONFIG = Path(__file__).resolve().parents[1] / "config"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """One process of a graph.

    Attributes:
        executable: Name below ``lib/<package>``, as for ``ros2 run``.
        name: Node name.
        package: Package that installs the executable.
        namespace: Namespace, relative names go into it; '' is the root.
        parameter_files: YAML files, later ones win.
        parameters: Values that win over the files.
        remappings: Pairs of topic or service names, from and to.
        environment: Variables that this process gets beside the inherited ones.
        log_level: Lowest severity that is logged.
        on_exit: What the graph does when the node ends by itself.
        stop_s: How long the node may take to end when it is asked to [s].
    """

    executable: str
    name: str
    package: str = PACKAGE
    namespace: str = ""
    parameter_files: tuple[str, ...] = ()
    parameters: Mapping[str, ParameterValue] = field(default_factory=dict)
    remappings: tuple[tuple[str, str], ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    log_level: str = "info"
    on_exit: OnExit = "stop"
    stop_s: float = 5.0

    def ros_arguments(self) -> list[str]:
        """Return the command line that gives the node its name, parameters and remappings."""
        arguments = ["--ros-args", "-r", f"__node:={self.name}"]
        if self.namespace:
            arguments += ["-r", f"__ns:=/{self.namespace.strip('/')}"]
        for path in self.parameter_files:
            arguments += ["--params-file", path]
        for name, value in self.parameters.items():
            # JSON is the subset of YAML that keeps the type: "1" a string, 1 a number.
            arguments += ["-p", f"{name}:={json.dumps(value)}"]
        for source, target in self.remappings:
            arguments += ["-r", f"{source}:={target}"]
        return [*arguments, "--log-level", self.log_level]


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphArgument:
    """One argument of a graph, given as ``name:=value``; values are text, as in launch files."""

    name: str
    description: str
    default: str
    choices: tuple[str, ...] = ()


DEVICE = GraphArgument(
    name="device",
    description="Where the inference runs; auto: CUDA where there is one.",
    default="cpu",
    choices=("cpu", "cuda", "auto"),
)
LOG_LEVEL = GraphArgument(
    name="log_level",
    description="Lowest severity that the nodes log.",
    default="info",
    choices=("debug", "info", "warn", "error", "fatal"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphSpec:
    """A graph with its arguments.

    Attributes:
        name: Name of the graph, also of its launch file.
        description: What it starts, in one sentence.
        arguments: Its arguments.
        build: Makes the nodes from the values of all arguments.
    """

    name: str
    description: str
    arguments: tuple[GraphArgument, ...]
    build: Callable[[Mapping[str, str]], tuple[NodeSpec, ...]]

    def resolve(self, overrides: Mapping[str, str]) -> dict[str, str]:
        """Return the value of every argument.

        Args:
            overrides: Values that replace defaults, by argument name.

        Raises:
            ConfigError: A name is unknown or a value is not among the choices.
        """
        names = [argument.name for argument in self.arguments]
        for name in overrides:
            if name not in names:
                raise ConfigError(
                    f"argument {name!r} is unknown to graph {self.name!r}; available: "
                    f"{', '.join(names)}."
                )
        values = {}
        for argument in self.arguments:
            value = overrides.get(argument.name, argument.default)
            if argument.choices and value not in argument.choices:
                raise ConfigError(
                    f"argument {argument.name!r} must be one of {', '.join(argument.choices)}, "
                    f"got {value!r}."
                )
            values[argument.name] = value
        return values

    def nodes(self, overrides: Mapping[str, str] | None = None) -> tuple[NodeSpec, ...]:
        """Return the nodes for these argument values.

        Args:
            overrides: Values that replace defaults, by argument name.

        Raises:
            ConfigError: A name is unknown or a value is not among the choices.
        """
        return self.build(self.resolve(overrides or {}))


def find_config(name: str) -> Path:
    """Return an installed file of ``config/``; in a source tree that is not installed, that file.

    Args:
        name: Path relative to the folder, such as ``policy_node.param.yaml``.

    Raises:
        ConfigError: There is no such file.
    """
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    folders = [Path(prefix) / "share" / PACKAGE / "config" for prefix in prefixes if prefix]
    for folder in (*folders, _SOURCE_TREE_CONFIG):
        if (folder / name).is_file():
            return folder / name
    raise ConfigError(
        f"config file {name!r} of package {PACKAGE!r} is not found; "
        "build the workspace and source install/setup.bash."
    )


def graph_environment() -> dict[str, str]:
    """Return what every process of a graph needs; values that the user has exported win.

    Fast DDS as it comes loses most raw images; the profile gives it enough shared memory.
    """
    profile = str(find_config("fastdds_large_images.xml"))
    defaults = {
        "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp",
        "FASTDDS_DEFAULT_PROFILES_FILE": profile,
        "FASTRTPS_DEFAULT_PROFILES_FILE": profile,  # its name in Humble
    }
    return {name: os.environ.get(name, value) for name, value in defaults.items()}


def graph_node(
    name: str,
    values: Mapping[str, str],
    parameters: Mapping[str, ParameterValue],
    *,
    environment: Mapping[str, str] | None = None,
    on_exit: OnExit = "stop",
    stop_s: float = 5.0,
) -> NodeSpec:
    """Return a node of this package, as the arguments that every graph has want it.

    Args:
        name: Executable and name of the node, and of its file in config/.
        values: Arguments of the graph, with ``namespace``, ``log_level`` and ``parameters``.
        parameters: Values that win over the files.
        environment: Variables beside those of every node.
        on_exit: What the graph does when the node ends by itself.
        stop_s: How long it may take to end when it is asked to [s].

    Raises:
        ConfigError: The file that ``parameters`` names is missing.
    """
    shipped, more = str(find_config(f"{name}.param.yaml")), values["parameters"]
    if more and not Path(more).is_file():
        raise ConfigError(f"parameters: {more!r} is not a file; give the path of a YAML file.")
    return NodeSpec(
        executable=name,
        name=name,
        namespace=values["namespace"],
        parameter_files=(shipped, more) if more else (shipped,),
        parameters=parameters,
        environment={**graph_environment(), **(environment or {})},
        log_level=values["log_level"],
        on_exit=on_exit,
        stop_s=stop_s,
    )
