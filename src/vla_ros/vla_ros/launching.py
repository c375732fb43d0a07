# SPDX-License-Identifier: MIT
"""Turn a graph description into a launch description; the only module that knows launch_ros."""

from __future__ import annotations

from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
)
from launch.event_handlers import OnProcessExit, OnProcessStart
from launch.events.process import ProcessExited, ProcessStarted
from launch.launch_context import LaunchContext
from launch.launch_description import LaunchDescription
from launch_ros.actions import Node

from vla_ros.graph import EXIT_CONFIGURATION, NodeSpec
from vla_ros.graphs import get_graph
from vla_ros.restarts import Restarts

_RESPAWN_DELAY_S = 1.0


def build_launch_description(graph_name: str) -> LaunchDescription:
    """Return the launch description of a graph, with every argument declared and described.

    Args:
        graph_name: One of ``vla_ros.graphs.available_graphs()``.

    Raises:
        UnknownNameError: There is no such graph.
    """
    graph = get_graph(graph_name)

    def start_nodes(context: LaunchContext) -> list[Action]:
        values = {
            argument.name: context.launch_configurations[argument.name]
            for argument in graph.arguments
        }
        return [action for spec in graph.nodes(values) for action in _node_actions(spec)]

    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(
                    argument.name,
                    default_value=argument.default,
                    description=argument.description,
                    choices=list(argument.choices) or None,
                )
                for argument in graph.arguments
            ),
            OpaqueFunction(function=start_nodes),
        ]
    )


def _node_actions(spec: NodeSpec) -> list[Action]:
    node = Node(
        package=spec.package,
        executable=spec.executable,
        name=spec.name,
        namespace=spec.namespace or None,
        parameters=[*spec.parameter_files, *([dict(spec.parameters)] if spec.parameters else [])],
        remappings=list(spec.remappings),
        additional_env=dict(spec.environment),
        ros_arguments=["--log-level", spec.log_level],
        output="screen",
        emulate_tty=True,
        respawn=spec.on_exit == "respawn",
        respawn_delay=_RESPAWN_DELAY_S,
        sigterm_timeout=str(spec.stop_s),
    )

    restarts = Restarts()

    def note_start(event: ProcessStarted, context: LaunchContext) -> None:
        restarts.note_start()

    def stop_if_final(event: ProcessExited, context: LaunchContext) -> list[Action]:
        has_finished = spec.on_exit == "finish" and event.returncode == 0
        if context.is_shutdown or has_finished:
            return []
        reason = f"{spec.name} ended with status {event.returncode}"
        if spec.on_exit == "respawn" and event.returncode != EXIT_CONFIGURATION:
            if restarts.find_delay_s() is not None:
                return []
            reason = f"{spec.name} keeps ending"
        return [Shutdown(reason=reason)]

    if spec.on_exit == "continue":
        return [node]
    return [
        node,
        RegisterEventHandler(OnProcessStart(target_action=node, on_start=note_start)),
        RegisterEventHandler(OnProcessExit(target_action=node, on_exit=stop_if_final)),
    ]
