# SPDX-License-Identifier: MIT
"""Keep the tool inside a box: pull targets in, and judge every plan before it is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import ConfigError
from vla_core.processing.contract import JointLimits, WorkspaceContract
from vla_core.processing.kinematics import KinematicChain
from vla_core.processing.value_checks import quoted

# Between two targets inside the box the way is not straight; this much of it is left alone.
_MARGIN_M = 0.003
_TOLERANCE_M = 1e-6
_POSE_JOINTS = 6


def chain_columns(chain: KinematicChain, joints: Sequence[str]) -> NDArray[np.intp]:
    """Return the column of each joint of the chain among the commanded joints, [J].

    Raises:
        ConfigError: A joint of the chain is not commanded.
    """
    missing = [joint for joint in chain.joints if joint not in joints]
    if missing:
        raise ConfigError(
            f"kinematics: {quoted(missing)} moves the tool and is not in action.joints "
            f"({', '.join(joints)})."
        )
    return np.array([list(joints).index(joint) for joint in chain.joints], dtype=np.intp)


class Workspace:
    """The box of a contract.

    Args:
        box: The box.
        chain: Joints that move the tool.
        limits: Limits of the commanded joints, in the order of all arrays.

    Raises:
        ConfigError: A joint of the chain is not commanded.
    """

    def __init__(
        self, box: WorkspaceContract, chain: KinematicChain, limits: Mapping[str, JointLimits]
    ) -> None:
        self._chain = chain
        self._columns = chain_columns(chain, tuple(limits))
        self._joint_lower = np.array([limits[joint].lower for joint in chain.joints])
        self._joint_upper = np.array([limits[joint].upper for joint in chain.joints])
        self._lower, self._upper = np.array(box.lower), np.array(box.upper)
        margin = np.minimum(_MARGIN_M, 0.25 * (self._upper - self._lower))
        self._inner = self._lower + margin, self._upper - margin

    def excess_m(self, plan: NDArray[np.float64], position: NDArray[np.float64]) -> float:
        """Return how far a plan takes the tool out of the box, or further out than it is; m.

        Args:
            plan: Joint positions to come, [N, A].
            position: Joint positions now, [A].

        Returns:
            At most 0 for a plan that may be sent.
        """
        tools = self._chain.tool_positions(np.vstack((position, plan))[:, self._columns])
        outside = np.hstack((self._lower - tools, tools - self._upper))  # [N + 1, 6]
        allowed = np.maximum(outside[0], 0.0) + _TOLERANCE_M
        return float((outside[1:] - allowed).max())

    def pull_in(self, targets: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
        """Move targets whose tool is out of the box to the nearest side, with its orientation.

        Args:
            targets: Joint positions, [K, A].

        Returns:
            The targets, and how far out of the box the farthest was, m.
        """
        tools = self._chain.tool_positions(targets[:, self._columns])
        outside = np.maximum(self._lower - tools, tools - self._upper).max(axis=1)
        cut_m = float(outside.max())
        if cut_m <= _TOLERANCE_M:
            return targets, 0.0
        pulled = targets.copy()
        steps = np.flatnonzero(outside > _TOLERANCE_M)
        joints = targets[np.ix_(steps, self._columns)]
        has_pose = len(self._chain.joints) >= _POSE_JOINTS
        solution = self._chain.solve(
            np.clip(tools[steps], *self._inner),
            self._chain.tool_pose(joints)[1] if has_pose else None,
            joints,
            lower=self._joint_lower,
            upper=self._joint_upper,
        )
        pulled[np.ix_(steps, self._columns)] = solution.positions
        return pulled, cut_m


def find_workspace(
    box: WorkspaceContract | None,
    limits: Mapping[str, JointLimits],
    chain: KinematicChain | None,
) -> Workspace | None:
    """Return what keeps the tool inside a box; None where there is no box, or no tool."""
    return None if box is None or chain is None else Workspace(box, chain, limits)
