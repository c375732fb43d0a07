# SPDX-License-Identifier: MIT
"""Turn the actions of a chunk, whatever their kind, into joint positions, once per chunk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import ChunkError, ConfigError
from vla_core.inference.workspace import Workspace, chain_columns
from vla_core.processing.contract import JointLimits, RobotContract
from vla_core.processing.contract_outputs import END_EFFECTOR_COMPONENTS
from vla_core.processing.kinematics import KinematicChain, rotation_from_vector
from vla_core.processing.value_checks import quoted
from vla_core.types import ActionChunk

# What no robot means and no arithmetic trips over, in rad or m.
_LARGEST_ACTION = 1e4
# Pose errors below these come from the search, not from the arm.
_REACHED_M = 1e-4
_REACHED_RAD = 1e-3
_NOISE = 1e-6


class JointTargets(NamedTuple):
    """Targets in joint space.

    Attributes:
        positions: Absolute positions of the contract's action joints, rad or m, float64 [K, A].
        tool_cut_m: How far the tool stays from where the chunk wants it, at worst: because of the
            workspace, or of what the arm can reach; m.
        excess: What asked for more than the limits allow, for a human; empty if nothing did.
    """

    positions: NDArray[np.float64]
    tool_cut_m: float
    excess: str


class ActionReader:
    """Reads the kind of actions that a contract has.

    Args:
        contract: The robot.
        limits: Limits of its action joints, in their order.
        chain: Joints that move its tool; only end-effector actions need it.
        workspace: Box into which targets are pulled; None: any.

    Raises:
        ConfigError: The chain is missing, or its joints and the grippers are not exactly the
            action joints.
    """

    def __init__(
        self,
        contract: RobotContract,
        limits: Mapping[str, JointLimits],
        chain: KinematicChain | None = None,
        workspace: Workspace | None = None,
    ) -> None:
        self._action = contract.action
        self._names = contract.action_names
        self._workspace = workspace
        joints = contract.action.joints
        self._is_gripper = np.array([joint in contract.grippers for joint in joints])
        self._lower = np.array([limits[joint].lower for joint in joints])
        self._upper = np.array([limits[joint].upper for joint in joints])
        self._velocity = np.array([limits[joint].velocity for joint in joints])
        self._chain = chain
        if contract.action.kind != "end_effector_delta":
            return
        if chain is None:
            raise ConfigError("kinematics is missing, which end_effector_delta needs.")
        self._columns = chain_columns(chain, joints)
        unmoved = [j for j in joints if j not in chain.joints and j not in contract.grippers]
        if unmoved:
            raise ConfigError(
                f"action.joints has {quoted(unmoved)}, which neither moves the tool nor is among "
                "grippers; an end-effector action says nothing about it."
            )

    def require_readable(self, chunk: ActionChunk) -> None:
        """Refuse a chunk whose actions are not what the contract describes.

        Raises:
            ChunkError: Its kind or columns are others, or a value is not finite or absurd.
        """
        if chunk.kind != self._action.kind:
            raise ChunkError(
                f"kind must be '{self._action.kind}' like the contract's, got '{chunk.kind}'."
            )
        if chunk.joints != self._names:
            raise ChunkError(
                f"chunk must be for joints {', '.join(self._names)} in this order, "
                f"got {', '.join(chunk.joints)}."
            )
        if not np.isfinite(chunk.actions).all():
            step, column = np.argwhere(~np.isfinite(chunk.actions))[0]
            raise ChunkError(
                f"actions must be finite, got {chunk.actions[step, column]} for "
                f"{self._names[column]} in step {step}."
            )
        largest = float(np.abs(chunk.actions).max())
        if largest > _LARGEST_ACTION:
            raise ChunkError(f"actions must be within +-{_LARGEST_ACTION:g}, got {largest:g}.")

    def joint_targets(self, chunk: ActionChunk, start: NDArray[np.float64] | None) -> JointTargets:
        """Return the joint positions that a readable chunk asks for.

        Args:
            chunk: The chunk.
            start: Joint positions at its stamp, to which changes are added, [A]; absolute
                positions need none.
        """
        tool_cut_m, excess = 0.0, ""
        positions = chunk.actions
        if self._action.kind != "joint_position":
            assert start is not None
            if self._action.kind == "joint_delta":
                moved = start + np.cumsum(chunk.actions, axis=0)
                positions = np.where(self._is_gripper, chunk.actions, moved)
            else:
                positions, tool_cut_m, excess = self._tool_targets(chunk.actions, start)
        if self._workspace is not None:
            positions, outside_m = self._workspace.pull_in(positions)
            if outside_m > 0.0:
                tool_cut_m = max(tool_cut_m, outside_m)
                excess = f"the tool would leave the workspace by {outside_m:.3f} m"
        return JointTargets(
            positions, tool_cut_m, excess or self._joint_excess(positions, chunk.dt_s)
        )

    def _joint_excess(self, positions: NDArray[np.float64], dt_s: float) -> str:
        """Say which joint a target or a step between two takes beyond its limits most."""
        beyond = np.maximum(self._lower - positions, positions - self._upper).max(axis=0)
        worst = int(beyond.argmax())
        joint = self._action.joints[worst]
        if beyond[worst] > _NOISE:
            return f"{joint} would leave its range by {beyond[worst]:.3g}"
        # A gripper that opens and closes does it in one step; the limiter spreads that.
        steps = np.abs(np.diff(positions, axis=0)) * ~self._is_gripper
        faster = (steps - self._velocity * dt_s).max(axis=0, initial=0.0)
        worst = int(faster.argmax())
        if faster[worst] > _NOISE:
            joint = self._action.joints[worst]
            return f"{joint} would move {faster[worst]:.3g} too far in a step of {dt_s:g} s"
        return ""

    def _tool_targets(
        self, actions: NDArray[np.float64], start: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], float, str]:
        assert self._chain is not None
        positions = np.tile(start, (len(actions), 1))
        positions[:, self._is_gripper] = actions[:, len(END_EFFECTOR_COMPONENTS) :]
        joints = start[self._columns]
        lower, upper = self._lower[self._columns], self._upper[self._columns]
        tools, rotations = self._tool_poses(actions, *self._chain.tool_pose(joints))
        found = self._chain.solve(tools, rotations, joints, lower=lower, upper=upper)
        misses_m, misses_rad = found.position_error.copy(), found.rotation_error.copy()
        for step in np.flatnonzero((misses_m > _REACHED_M) | (misses_rad > _REACHED_RAD)):
            # Nearer to where the step before ended, so that the arm does not change its posture.
            seed = found.positions[step - 1] if step else joints
            nearer = self._chain.solve(
                tools[step], rotations[step], seed, lower=lower, upper=upper
            )
            found.positions[step] = nearer.positions
            misses_m[step], misses_rad[step] = nearer.position_error, nearer.rotation_error
        positions[:, self._columns] = found.positions
        missed_m, missed_rad = float(misses_m.max()), float(misses_rad.max())
        if missed_m <= _REACHED_M and missed_rad <= _REACHED_RAD:
            return positions, 0.0, ""
        excess = f"the tool stays {missed_m:.3f} m and {missed_rad:.3f} rad away from a pose"
        return positions, missed_m, excess

    def _tool_poses(
        self,
        actions: NDArray[np.float64],
        tool: NDArray[np.float64],
        rotation: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the position [K, 3] and rotation [K, 3, 3] of the tool after each step."""
        tools, rotations = [], []
        for action in actions:
            turn = rotation_from_vector(action[3:6])
            if self._action.delta_frame == "tool":
                tool, rotation = tool + rotation @ action[:3], rotation @ turn
            else:
                tool, rotation = tool + action[:3], turn @ rotation
            tools.append(tool)
            rotations.append(rotation)
        return np.stack(tools), np.stack(rotations)
