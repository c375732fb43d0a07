# SPDX-License-Identifier: MIT
"""Compare a robot contract with the URDF of the robot: what contradicts it, who is stricter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from vla_core.errors import ConfigError
from vla_core.processing.contract import RobotContract
from vla_core.processing.contract_safety import JointLimits
from vla_core.processing.kinematics import KinematicChain
from vla_core.processing.urdf import MOVING_TYPES, UrdfJoint
from vla_core.processing.value_checks import quoted

_ROUNDING = 1e-3  # rad or m; figures of contracts are rounded


class ContractCheck(NamedTuple):
    """What a comparison found.

    Attributes:
        joints: Joints of the contract with those of the URDF, None for one that it lacks.
        contradictions: What cannot work.
        notes: What works and is worth knowing.
    """

    joints: Mapping[str, UrdfJoint | None]
    contradictions: tuple[str, ...]
    notes: tuple[str, ...]


def check_contract(contract: RobotContract, urdf: Mapping[str, UrdfJoint]) -> ContractCheck:
    """Compare a contract with a URDF.

    Args:
        contract: The contract. A joint with a prefix is looked up without it too.
        urdf: Joints of the URDF by name, as of ``parse_urdf``.
    """
    prefixes = {*contract.state.prefixes.values(), *contract.command.prefixes.values()}
    found = {name: _find(name, urdf, prefixes) for name in contract.state.joints}
    contradictions: list[str] = []
    notes: list[str] = []
    for name, joint in found.items():
        if joint is None:
            _judge_missing(contract, name, urdf, contradictions, notes)
            continue
        if joint.type not in MOVING_TYPES:
            contradictions.append(f"{name} is {joint.type} in the URDF and cannot move.")
            continue
        if joint.is_mimic and name in contract.action.joints:
            contradictions.append(f"{name} follows another joint in the URDF; command that one.")
        if name in contract.limits:
            _judge_limits(name, contract.limits[name], joint, contradictions, notes)
    contradictions += _judge_grippers(contract, found)
    _judge_kinematics(contract, urdf, contradictions, notes)
    return ContractCheck(found, tuple(contradictions), tuple(notes))


def stricter(limit: JointLimits, joint: UrdfJoint) -> str:
    """Say whose limits of position and velocity bind: contract, URDF, both, or equal."""
    by_urdf = _tighter_in_urdf(limit, joint)
    by_contract = (
        limit.lower > joint.lower + _ROUNDING
        or limit.upper < joint.upper - _ROUNDING
        or limit.velocity < joint.velocity - _ROUNDING
    )
    if by_urdf:
        return "both" if by_contract else "URDF"
    return "contract" if by_contract else "equal"


def _find(name: str, urdf: Mapping[str, UrdfJoint], prefixes: set[str]) -> UrdfJoint | None:
    names = [name, *(name[len(prefix) :] for prefix in prefixes if name.startswith(prefix))]
    return next((urdf[known] for known in names if known in urdf), None)


def _judge_missing(
    contract: RobotContract,
    name: str,
    urdf: Mapping[str, UrdfJoint],
    contradictions: list[str],
    notes: list[str],
) -> None:
    gripper = contract.grippers.get(name)
    if gripper is not None and gripper.output != "joint":
        notes.append(
            f"{name} is not in the URDF; it has a driver of its own ({gripper.topic}), so its "
            "limits are not checked."
        )
        return
    moving = [known for known, joint in urdf.items() if joint.type in MOVING_TYPES]
    contradictions.append(f"{name} is not in the URDF; its moving joints: {quoted(moving)}.")


def _tighter_in_urdf(limit: JointLimits, joint: UrdfJoint) -> list[str]:
    tighter = []
    if joint.lower > limit.lower + _ROUNDING:
        tighter.append(f"lower {joint.lower:g} not {limit.lower:g}")
    if joint.upper < limit.upper - _ROUNDING:
        tighter.append(f"upper {joint.upper:g} not {limit.upper:g}")
    if joint.velocity < limit.velocity - _ROUNDING:
        tighter.append(f"velocity {joint.velocity:g} not {limit.velocity:g}")
    return tighter


def _judge_limits(
    name: str,
    limit: JointLimits,
    joint: UrdfJoint,
    contradictions: list[str],
    notes: list[str],
) -> None:
    if limit.lower >= joint.upper or limit.upper <= joint.lower:
        contradictions.append(
            f"limits.{name} is {limit.lower:g} to {limit.upper:g}, but the URDF allows "
            f"{joint.lower:g} to {joint.upper:g}: nothing is left."
        )
    elif tighter := _tighter_in_urdf(limit, joint):
        notes.append(f"limits.{name}: the URDF is stricter: {', '.join(tighter)}.")


def _judge_grippers(contract: RobotContract, found: Mapping[str, UrdfJoint | None]) -> list[str]:
    """Return the grippers whose ends they cannot reach."""
    contradictions = []
    for name, gripper in contract.grippers.items():
        limit, joint = contract.limits[name], found[name]
        lower = max(limit.lower, joint.lower) if joint is not None else limit.lower
        upper = min(limit.upper, joint.upper) if joint is not None else limit.upper
        for end, position in (("open", gripper.open), ("closed", gripper.closed)):
            if not lower - _ROUNDING <= position <= upper + _ROUNDING:
                contradictions.append(
                    f"grippers.{name}.{end} is {position:g}, outside of its limits "
                    f"{lower:g} to {upper:g}."
                )
    return contradictions


def _judge_kinematics(
    contract: RobotContract,
    urdf: Mapping[str, UrdfJoint],
    contradictions: list[str],
    notes: list[str],
) -> None:
    kinematics = contract.kinematics
    if kinematics is None:
        return
    try:
        chain = KinematicChain(urdf, kinematics.base_link, kinematics.tip_link)
    except ConfigError as error:
        contradictions.append(f"kinematics: {error}")
        return
    unmeasured = [joint for joint in chain.joints if joint not in contract.state.joints]
    if unmeasured:
        contradictions.append(
            f"kinematics: the tool hangs on {quoted(unmeasured)}, which state.joints lacks."
        )
    mine = [joint for joint in contract.action.joints if joint in chain.joints]
    theirs = [joint for joint in chain.joints if joint in mine]
    if mine != theirs:
        notes.append(
            f"action.joints has the arm as {', '.join(mine)}; from base to tool it is "
            f"{', '.join(theirs)}. Messages are matched by name; a policy is trained in one order."
        )
