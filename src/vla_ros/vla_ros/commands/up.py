# SPDX-License-Identifier: MIT
"""Start a graph of nodes and run it until Ctrl-C.

Examples:
  vla up groot
  vla up groot instruction:="pick up the blue block" record:=out/bag
  vla up groot --help
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from vla_core.errors import ConfigError
from vla_core.processing.contract import load_contract
from vla_core.sim.tasks import choose_task
from vla_ros.graph import GraphSpec, NodeSpec
from vla_ros.graphs import available_graphs, get_graph
from vla_ros.supervisor import Supervisor

_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    names = [f"  {name:<8} {get_graph(name).description}" for name in available_graphs()]
    parser.epilog = "graphs:\n" + "\n".join(names)
    parser.add_argument("graph", help="which graph; one of those below")
    parser.add_argument(
        "arguments",
        nargs=argparse.REMAINDER,
        metavar="...",
        help="its arguments, as name:=value or --name value; 'vla up GRAPH --help' lists them",
    )


def run(args: argparse.Namespace) -> int:
    """Run the graph until it stops or a signal arrives.

    Args:
        args: What ``add_arguments`` parsed.

    Returns:
        0, 1 after a node failed, 143 after SIGTERM.

    Raises:
        ConfigError: An argument is unknown or out of its choices.
        KeyboardInterrupt: After Ctrl-C, when all nodes have ended.
    """
    graph = get_graph(args.graph)
    nodes = graph.nodes(parse_overrides(graph, args.arguments))
    print(f"Ctrl-C stops everything{suggest_instruction(nodes)}")
    with end_on_signals(), Supervisor(nodes, output=sys.stdout) as supervisor:
        status = supervisor.wait()
    assert status is not None
    return status


def suggest_instruction(nodes: Sequence[NodeSpec]) -> str:
    """Return how to ask the simulated robot for its task; empty where none is simulated."""
    for node in nodes:
        if node.name == "sim_robot_node":
            contract = load_contract(str(node.parameters["contract"]))
            task = choose_task(str(node.parameters["task"]), contract.state.joints)
            namespace = f" --namespace {node.namespace}" if node.namespace else ""
            return f'; in another terminal: vla say "{task.example}"{namespace}'
    return ""


def parse_overrides(graph: GraphSpec, words: Sequence[str]) -> dict[str, str]:
    """Return the argument values on a command line, given as name:=value or --name value.

    Args:
        graph: Graph whose arguments they are.
        words: Command line behind the graph's name.

    Raises:
        ConfigError: A word is neither of the two forms.
    """
    parser = argparse.ArgumentParser(
        prog=f"vla up {graph.name}",
        description=graph.description,
        epilog="Each may also be given as name:=value.",
        argument_default=argparse.SUPPRESS,
    )
    for argument in graph.arguments:
        default = argument.default or "empty"
        dashed, spelled = f"--{argument.name.replace('_', '-')}", f"--{argument.name}"
        parser.add_argument(
            *dict.fromkeys((dashed, spelled)),
            dest=argument.name,
            choices=argument.choices or None,
            metavar=None if argument.choices else "VALUE",
            help=f"{argument.description} Default: {default}.".replace("%", "%%"),
        )
    parser.add_argument("assignments", nargs="*", metavar="name:=value", help=argparse.SUPPRESS)
    values = vars(parser.parse_intermixed_args(list(words)))
    for word in values.pop("assignments", []):
        name, separator, value = word.partition(":=")
        if not separator or not name:
            raise ConfigError(f"argument {word!r} must be name:=value or --name value.")
        values[name] = value
    return values


@contextmanager
def end_on_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit, so that the nodes are stopped in order."""

    def terminate(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    previous = {number: signal.signal(number, terminate) for number in _ENDING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
