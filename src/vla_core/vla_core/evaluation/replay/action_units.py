# SPDX-License-Identifier: MIT
"""Units of an action's values, and which of them are grippers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_core.processing.contract import RobotContract
from vla_core.processing.contract_outputs import END_EFFECTOR_COMPONENTS

RADIAN, METRE = "rad", "m"
SMALL_UNITS = {RADIAN: (1e3, "mrad"), METRE: (1e3, "mm")}
"""Factor and name of the units in which errors are shown."""
_LINEAR = END_EFFECTOR_COMPONENTS[:3]
_GRIPPER_WORDS = ("gripper", "finger")


def gripper_columns(contract: RobotContract) -> NDArray[np.bool_]:
    """Tell which values of an action drive a gripper, [A]."""
    return np.array([_is_gripper(name, contract) for name in contract.action_names], np.bool_)


def action_units(contract: RobotContract) -> tuple[str, ...]:
    """Return the unit of every value of an action, per step where actions are changes, [A]."""
    return tuple(
        METRE if name in _LINEAR else _joint_unit(name, contract) for name in contract.action_names
    )


def joint_units(contract: RobotContract) -> tuple[str, ...]:
    """Return the unit of every commanded joint, [J]."""
    return tuple(_joint_unit(name, contract) for name in contract.action.joints)


def _is_gripper(name: str, contract: RobotContract) -> bool:
    # A contract need not describe a gripper that goes out with the arm's command.
    return name in contract.grippers or any(word in name for word in _GRIPPER_WORDS)


def _joint_unit(name: str, contract: RobotContract) -> str:
    """Return the unit of a joint; a gripper that opens by less than 0.3 slides, in m."""
    limits = contract.limits.get(name)
    is_sliding = _is_gripper(name, contract) and limits is not None and limits.upper < 0.3
    return METRE if is_sliding else RADIAN


def grippers_open(actions: NDArray[np.float64], contract: RobotContract) -> NDArray[np.bool_]:
    """Tell which gripper targets are above the middle of the gripper's limits, [..., G].

    Args:
        actions: Actions in robot units, [..., A].
        contract: The robot.
    """
    columns = np.flatnonzero(gripper_columns(contract))
    limits = [contract.limits[contract.action_names[column]] for column in columns]
    middles = np.array([(limit.lower + limit.upper) / 2 for limit in limits])
    is_open: NDArray[np.bool_] = actions[..., columns] > middles
    return is_open
