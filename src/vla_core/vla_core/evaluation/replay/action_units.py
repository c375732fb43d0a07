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
    """Tell which values of an action drive a gripper, [A].

    A contract need not describe a gripper that goes out with the arm's command; it is known by
    its name then.
    """
    return np.array(
        [
            name in contract.grippers or any(word in name for word in _GRIPPER_WORDS)
            for name in contract.action_names
        ],
        dtype=np.bool_,
    )


def action_units(contract: RobotContract) -> tuple[str, ...]:
    """Return the unit of every value of an action, per step where actions are changes, [A].

    A gripper that opens by less than 0.3 is taken for a sliding one, in m.
    """
    units = []
    for name, is_gripper in zip(contract.action_names, gripper_columns(contract), strict=True):
        limits = contract.limits.get(name)
        is_sliding = bool(is_gripper) and limits is not None and limits.upper < 0.3
        units.append(METRE if is_sliding or name in _LINEAR else RADIAN)
    return tuple(units)


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
