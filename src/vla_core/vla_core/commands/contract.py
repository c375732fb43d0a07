# SPDX-License-Identifier: MIT
"""Show a robot contract, or check it against the robot's URDF.

`check` prints what the contract and the URDF say about each joint and which of them is stricter,
and ends with status 1 if they contradict each other: a joint that does not exist, a range in which
nothing is left, a tool that no joint moves. The URDF comes from a running robot, as below, or from
the maker's description package: xacro ur.urdf.xacro ur_type:=ur5e name:=ur > ur5e.urdf.

  ros2 param get --hide-type /robot_state_publisher robot_description > ur5e.urdf
  vla contract show ur5e
  vla contract check ur5e --urdf ur5e.urdf
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from vla_core.errors import ConfigError
from vla_core.processing.contract import RobotContract, load_contract
from vla_core.processing.contract_check import check_contract, stricter
from vla_core.processing.contract_safety import JointLimits
from vla_core.processing.urdf import load_urdf, parse_urdf

_WIDTH = 99


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    tasks = parser.add_subparsers(dest="task", metavar="TASK", required=True)
    show = tasks.add_parser("show", help="print what a contract says")
    check = tasks.add_parser("check", help="compare a contract with a URDF")
    for task in (show, check):
        task.add_argument("contract", help="name of a shipped contract, or path of a YAML file")
    check.add_argument(
        "--urdf", metavar="FILE", type=Path, help="URDF file (default: the contract's own)"
    )


def run(args: argparse.Namespace) -> int:
    """Print the contract; return 0, or 1 if `check` found a contradiction.

    Raises:
        ConfigError: The contract or the URDF cannot be read, or there is no URDF.
    """
    contract = load_contract(args.contract)
    if args.task == "check":
        return _check(contract, _read_urdf(contract, args.urdf))
    for line in describe(contract):
        print(line)
    return 0


def describe(contract: RobotContract) -> Iterator[str]:
    """Yield what a contract says, line by line."""
    safety, state, action, command = (
        contract.safety,
        contract.state,
        contract.action,
        contract.command,
    )
    step = "any" if safety.max_step is None else f"{safety.max_step:g} rad or m"
    start = "previews until it is armed" if safety.dry_run else "drives the robot from the start"
    yield f"{contract.robot}: {start}; limits: {safety.limit_mode}; largest step: {step}"
    for name, camera in contract.cameras.items():
        kind = "colour" if camera.depth_range_m is None else "depth"
        yield (
            f"camera   {name}: {camera.topic}, {camera.width} x {camera.height} {kind}, "
            f"{camera.transport}, at most {camera.max_age_s:g} s old"
        )
    yield f"state    {', '.join(state.topics)}, at most {state.max_age_s:g} s old"
    yield from _names(contract.state_names)
    yield f"action   {action.kind} at {action.rate_hz:g} Hz, at most {action.max_age_s:g} s old"
    yield from _names(contract.action_names)
    for topic, joints in (command.topics or {command.topic: contract.arm_joints}).items():
        yield f"command  {command.output} {topic} at {command.rate_hz:g} Hz"
        yield from _names(joints)
    for joint, gripper in contract.grippers.items():
        ends = f"open {gripper.open:g}, closed {gripper.closed:g}"
        yield f"gripper  {joint}: {gripper.mode}, {ends}"
        yield from _names([f"{gripper.output} {gripper.topic}".rstrip()])
    if contract.kinematics is not None:
        chain = contract.kinematics
        yield f"tool     {chain.tip_link} from {chain.base_link}; {chain.urdf}"
    rows = [["joint", "range", "velocity", "acceleration", "jerk"]]
    for joint, limit in contract.limits.items():
        jerk = "any" if limit.jerk is None else f"{limit.jerk:g}"
        rows.append([joint, *_range_and_velocity(limit), f"{limit.acceleration:g}", jerk])
    yield ""
    yield from _table(rows)


def _check(contract: RobotContract, urdf: str) -> int:
    result = check_contract(contract, parse_urdf(urdf))
    rows = [["joint", "range", "velocity", "URDF range", "URDF velocity", "stricter"]]
    for name, limit in contract.limits.items():
        joint = result.joints[name]
        theirs = ["not there", "", ""]
        if joint is not None:
            bounds = f"{joint.lower:g} to {joint.upper:g}"
            theirs = [bounds, f"{joint.velocity:g}", stricter(limit, joint)]
        rows.append([name, *_range_and_velocity(limit), *theirs])
    for line in _table(rows):
        print(line)
    print()
    for note in result.notes:
        print(f"note: {note}")
    for contradiction in result.contradictions:
        print(f"contradiction: {contradiction}")
    if result.contradictions:
        return 1
    print(f"{contract.robot} fits the URDF; the stricter limit of each joint is in force.")
    return 0


def _read_urdf(contract: RobotContract, path: Path | None) -> str:
    if path is not None:
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--urdf '{path}' cannot be read: {error}.") from error
    if contract.kinematics is None or contract.kinematics.urdf.startswith("topic://"):
        raise ConfigError(
            f"contract '{contract.robot}' names no URDF file; give one: --urdf FILE. "
            "'vla contract --help' says where it comes from."
        )
    return load_urdf(contract.kinematics)


def _range_and_velocity(limit: JointLimits) -> tuple[str, str]:
    return f"{limit.lower:g} to {limit.upper:g}", f"{limit.velocity:g}"


def _names(names: Sequence[str]) -> list[str]:
    indent = " " * len("command  ")
    return textwrap.wrap(", ".join(names), _WIDTH, initial_indent=indent, subsequent_indent=indent)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines whose columns stand below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
