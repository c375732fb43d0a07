# SPDX-License-Identifier: MIT
"""Measure what a robot's topics deliver and say what to change.

Start the robot or `vla up` first, then, in another terminal:
  vla doctor
  vla doctor --robot config/robots/my_robot.yaml --seconds 20
  vla doctor --json

The exit status is 1 when something is wrong.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vla_core.processing.contract import RobotContract
    from vla_ros.doctor import Finding
    from vla_ros.stream_measurement import StreamMeasurement

EXIT_WRONG = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--robot", default="sim", help="contract: name or path (default sim)")
    parser.add_argument("--namespace", default="", help="namespace of the robot's topics")
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="how long to measure (default 5)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead")


def run(args: argparse.Namespace) -> int:
    """Measure, print, and return 1 if something is wrong.

    Raises:
        ContractError: The contract is missing or invalid.
    """
    import rclpy
    from rclpy.context import Context
    from rclpy.utilities import get_rmw_implementation_identifier

    from vla_core.processing.contract import load_contract
    from vla_ros import doctor
    from vla_ros.stream_measurement import measure_streams

    contract = load_contract(args.robot)
    context = Context()
    rclpy.init(args=[], context=context)
    try:
        node = rclpy.create_node("vla_doctor", namespace=args.namespace, context=context)
        robot = measure_streams(node, contract, args.seconds)
        topics = [node.resolve_topic_name(topic) for topic in _command_topics(contract)]
        ends = {
            topic: (node.count_publishers(topic), node.count_subscribers(topic))
            for topic in topics
        }
        node.destroy_node()
    finally:
        context.try_shutdown()
    transport = doctor.Transport.of_process(get_rmw_implementation_identifier())
    findings = [*doctor.examine_process(), *doctor.examine_transport(transport)]
    for measurement in robot.cameras:
        camera = contract.cameras[measurement.name]
        findings += doctor.examine_camera(measurement, camera, transport)
    findings += doctor.examine_joint_states(robot.joint_states, contract.state)
    for measurement in robot.inputs:
        findings += doctor.examine_input(measurement, contract.inputs[measurement.name])
    for topic, counts in ends.items():
        findings += doctor.examine_command_topic(contract, topic, *counts)
    process = {**doctor.describe_process(), "rmw": transport.rmw}
    show = _print_json if args.json else _print_table
    show(process, robot.streams, findings)
    return EXIT_WRONG if findings else 0


def _command_topics(contract: RobotContract) -> tuple[str, ...]:
    """Return the topics of the arm's commands; none if they go to an action or to MoveIt Servo."""
    command = contract.command
    if command.output not in ("joint_trajectory", "forward_position", "forward_velocity"):
        return ()
    return tuple(command.topics) or (command.topic,)


def _summary(measurement: StreamMeasurement) -> dict[str, Any]:
    ages = sorted(measurement.ages_s)
    return {
        "name": measurement.name,
        "topic": measurement.topic,
        "publishers": measurement.num_publishers,
        "received": len(measurement.arrivals),
        "lost": measurement.num_lost,
        "rate_hz": measurement.rate_hz,
        "longest_gap_s": measurement.longest_gap_s,
        "age_median_s": ages[len(ages) // 2] if ages else None,
        "age_max_s": ages[-1] if ages else None,
        "contents": measurement.contents,
        "bytes": measurement.num_bytes,
    }


def _print_json(
    process: dict[str, str], measurements: list[StreamMeasurement], findings: list[Finding]
) -> None:
    document = {
        "process": process,
        "streams": [_summary(measurement) for measurement in measurements],
        "findings": [dataclasses.asdict(finding) for finding in findings],
    }
    print(json.dumps(document, indent=2))


def _print_table(
    process: dict[str, str], measurements: list[StreamMeasurement], findings: list[Finding]
) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    table = Table()
    table.add_column("", no_wrap=True)
    for heading in ("rate", "lost", "longest gap", "median age", "oldest"):
        table.add_column(heading, justify="right")
    table.add_column("contents", no_wrap=True)
    for summary in map(_summary, measurements):
        ages = (
            "-" if age is None else f"{age * 1e3:.1f} ms"
            for age in (summary["age_median_s"], summary["age_max_s"])
        )
        table.add_row(
            summary["name"],
            f"{summary['rate_hz']:.1f} Hz",
            str(summary["lost"]),
            f"{summary['longest_gap_s'] * 1e3:.0f} ms",
            *ages,
            summary["contents"] or "-",
        )
    console.print(table)
    for name, value in process.items():
        console.print(f"{name}: {value}", style="dim", soft_wrap=True)
    for finding in findings:
        problem = finding.problem.rstrip(".")
        console.print(f"[red]{finding.subject}[/red]: {escape(problem)}.", soft_wrap=True)
        console.print(f"  -> {escape(finding.remedy)}", soft_wrap=True)
    if not findings:
        console.print("[green]Nothing is wrong.[/green]")
