# SPDX-License-Identifier: MIT
"""Where the tool is, how it moves with the joints, and which joints bring it somewhere.

Poses are those of the tip link in axes of the base link, m and rad (REP-103).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import ConfigError, ShapeError
from vla_core.processing.contract import RobotContract
from vla_core.processing.contract_safety import JointLimits
from vla_core.processing.urdf import (
    MOVING_TYPES,
    UrdfJoint,
    load_urdf,
    parse_urdf,
    stricter_limits,
)
from vla_core.processing.value_checks import quoted

_TOLERANCE = 1e-5  # m and rad
_MAX_ITERATIONS = 30
# Keeps a step finite in a singularity; the error of the pose is added to it (Sugihara, 2011).
_LEAST_DAMPING = 1e-6


class InverseSolution(NamedTuple):
    """Joints that bring the tool as close to each pose as was found.

    Attributes:
        positions: Joint positions, float64 [..., J].
        position_error: Distance from the wanted position, m, [...].
        rotation_error: Angle from the wanted orientation, rad, [...]; 0 if none was wanted.
    """

    positions: NDArray[np.float64]
    position_error: NDArray[np.float64]
    rotation_error: NDArray[np.float64]


class KinematicChain:
    """The moving joints between two links of a URDF, J of them.

    Args:
        joints: Joints of the URDF, of `parse_urdf`.
        base_link: Link in whose axes poses are given.
        tip_link: Link of the tool.

    Raises:
        ConfigError: No way leads from the tip to the base, none of its joints moves, or one of
            them is floating, planar or follows another joint.
    """

    def __init__(self, joints: Mapping[str, UrdfJoint], base_link: str, tip_link: str) -> None:
        way = _way(joints, base_link, tip_link)
        moving = [joint for joint in way if joint.type != "fixed"]
        wrong = [j.name for j in moving if j.type not in MOVING_TYPES or j.is_mimic]
        if wrong or not moving:
            raise ConfigError(
                f"every joint from '{base_link}' to '{tip_link}' must be fixed, revolute, "
                "continuous or prismatic and follow no other, at least one must move; got "
                f"{quoted(wrong)}."
            )
        self.joints = tuple(joint.name for joint in moving)
        self.lower = np.array([joint.lower for joint in moving])
        self.upper = np.array([joint.upper for joint in moving])
        self._is_prismatic = np.array([joint.type == "prismatic" for joint in moving])
        self._join(way)

    def _join(self, way: list[UrdfJoint]) -> None:
        """Merge the fixed joints, and write each moving one as F + sin(q) S + cos(q) C + q L."""
        before, axes = [], []
        frame = np.eye(4)
        for joint in way:
            frame = frame @ _frame(joint.rotation, joint.translation)
            if joint.type != "fixed":
                before.append(frame)
                axes.append(joint.axis)
                frame = np.eye(4)
        self._tool = frame
        self._axes = np.stack(axes)[:, :, None]  # [J, 3, 1]
        turns = ~self._is_prismatic[:, None, None]
        cross = np.zeros((len(axes), 4, 4))
        cross[:, :3, :3] = [_cross_matrix(axis) for axis in axes]
        slide = np.zeros((len(axes), 4, 4))
        slide[:, :3, 3] = axes
        base = np.stack(before)
        squared = cross @ cross
        self._fixed = base @ (np.eye(4) + np.where(turns, squared, 0.0))
        self._sine = base @ np.where(turns, cross, 0.0)
        self._cosine = base @ np.where(turns, -squared, 0.0)
        self._slide = base @ np.where(turns, 0.0, slide)

    def tool_pose(
        self, positions: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return where the tool is.

        Args:
            positions: Joint positions, float64 [..., J].

        Returns:
            Position in m, [..., 3], and rotation matrix, [..., 3, 3].

        Raises:
            ShapeError: There is not one value per joint.
        """
        position, rotation, _, _ = self._forward(positions)
        return position, rotation

    def tool_positions(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return where the tool is for many joint positions [N, J], in m, [N, 3].

        Raises:
            ShapeError: The array is not [N, J].
        """
        if positions.ndim != 2 or positions.shape[1] != len(self.joints):
            raise ShapeError(
                f"positions must be [N, {len(self.joints)}], got {list(positions.shape)}."
            )
        frames = self._links(positions)  # [N, J, 4, 4]
        points = np.broadcast_to(self._tool[:, 3:], (len(positions), 4, 1))
        for joint in range(len(self.joints) - 1, -1, -1):
            points = np.matmul(frames[:, joint], points)
        return points[:, :3, 0]

    def jacobian(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the geometric Jacobian: velocity of the tool, then its turning, per joint.

        Args:
            positions: Joint positions, float64 [..., J].

        Returns:
            float64 [..., 6, J], in axes of the base link.

        Raises:
            ShapeError: There is not one value per joint.
        """
        tool, _, origins, axes = self._forward(positions)
        return self._jacobian(tool, origins, axes)

    def solve(
        self,
        position: NDArray[np.float64],
        rotation: NDArray[np.float64] | None,
        seed: NDArray[np.float64],
        *,
        lower: NDArray[np.float64] | None = None,
        upper: NDArray[np.float64] | None = None,
    ) -> InverseSolution:
        """Search the joint positions of poses by damped least squares, all at once.

        Args:
            position: Wanted positions of the tool, m, [..., 3].
            rotation: Wanted rotation matrices, [..., 3, 3]; None leaves the orientation free.
            seed: Joint positions where each search begins, [J] or [..., J]; it stays near.
            lower: Lowest joint positions, [J]; None for those of the URDF.
            upper: Highest joint positions, [J].

        Returns:
            The best that was found within the range, with what is missing.

        Raises:
            ShapeError: The seed has not one value per joint.
        """
        lower = self.lower if lower is None else lower
        upper = self.upper if upper is None else upper
        num_rows = 3 if rotation is None else 6
        batch = position.shape[:-1]
        joints = np.clip(np.broadcast_to(seed, (*batch, seed.shape[-1])), lower, upper)
        best, best_error = joints, np.full((*batch, num_rows), np.inf)
        best_squared, stalled = np.full(batch, np.inf), np.zeros(batch, dtype=np.int64)
        for _ in range(_MAX_ITERATIONS):
            tool, tool_rotation, origins, axes = self._forward(joints)
            error = np.empty((*batch, num_rows))
            error[..., :3] = position - tool
            if rotation is not None:
                error[..., 3:] = vector_from_rotation(rotation @ tool_rotation.swapaxes(-1, -2))
            squared = np.square(error).sum(axis=-1)
            stalled = np.where(squared < 0.99 * best_squared, 0, stalled + 1)
            is_better = (squared < best_squared)[..., None]
            best = np.where(is_better, joints, best)
            best_error = np.where(is_better, error, best_error)
            best_squared = np.minimum(squared, best_squared)
            if ((np.abs(best_error).max(axis=-1) <= _TOLERANCE) | (stalled > 3)).all():
                break
            jacobian = self._jacobian(tool, origins, axes)[..., :num_rows, :]
            transposed = jacobian.swapaxes(-1, -2)
            normal = transposed @ jacobian
            damping = 0.5 * squared + _LEAST_DAMPING
            normal += damping[..., None, None] * np.eye(normal.shape[-1])
            step = np.linalg.solve(normal, transposed @ error[..., None])[..., 0]
            joints = np.clip(joints + step, lower, upper)
        return InverseSolution(
            best,
            np.linalg.norm(best_error[..., :3], axis=-1),
            np.linalg.norm(best_error[..., 3:], axis=-1),
        )

    def _links(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the frame of each joint in that of the one before, [..., J, 4, 4]."""
        angles = positions[..., None, None]
        frames = self._fixed + np.sin(angles) * self._sine + np.cos(angles) * self._cosine
        return frames + angles * self._slide if self._is_prismatic.any() else frames

    def _forward(self, positions: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        """Return tool position and rotation, and origin and axis of each joint, [..., J, 3]."""
        if positions.shape[-1:] != (len(self.joints),):
            raise ShapeError(
                f"positions must be [..., {len(self.joints)}], one per joint of "
                f"{', '.join(self.joints)}, got {list(positions.shape)}."
            )
        frames = self._links(positions)  # [..., J, 4, 4]
        for joint in range(1, len(self.joints)):
            frames[..., joint, :, :] = frames[..., joint - 1, :, :] @ frames[..., joint, :, :]
        tool = frames[..., -1, :, :] @ self._tool
        axes = np.matmul(frames[..., :3, :3], self._axes)[..., 0]
        return tool[..., :3, 3], tool[..., :3, :3], frames[..., :3, 3], axes

    def _jacobian(
        self,
        tool: NDArray[np.float64],
        origins: NDArray[np.float64],
        axes: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        jacobian = np.empty((*tool.shape[:-1], 6, len(self.joints)))
        arms = tool[..., None, :] - origins
        # Written out: np.cross takes ten times as long for a handful of vectors.
        jacobian[..., 0, :] = axes[..., 1] * arms[..., 2] - axes[..., 2] * arms[..., 1]
        jacobian[..., 1, :] = axes[..., 2] * arms[..., 0] - axes[..., 0] * arms[..., 2]
        jacobian[..., 2, :] = axes[..., 0] * arms[..., 1] - axes[..., 1] * arms[..., 0]
        jacobian[..., 3:, :] = axes.swapaxes(-1, -2)
        if self._is_prismatic.any():
            slides = axes[..., self._is_prismatic, :].swapaxes(-1, -2)
            jacobian[..., :3, self._is_prismatic] = slides
            jacobian[..., 3:, self._is_prismatic] = 0.0
        return jacobian


def limits_and_chain(
    contract: RobotContract, urdf: str | None = None
) -> tuple[dict[str, JointLimits], KinematicChain | None]:
    """Return what a contract and its URDF say about the action joints and the tool.

    Args:
        contract: The robot.
        urdf: Text of the URDF; None reads the one that the contract's kinematics name.

    Returns:
        The stricter limits of every action joint, and the joints that move the tool; the
        contract's own limits and None if it has no kinematics.

    Raises:
        ConfigError: The URDF cannot be read, or does not fit the contract.
    """
    if contract.kinematics is None:
        return contract.action_limits, None
    joints = parse_urdf(load_urdf(contract.kinematics) if urdf is None else urdf)
    chain = KinematicChain(joints, contract.kinematics.base_link, contract.kinematics.tip_link)
    return stricter_limits(contract.action_limits, joints), chain


def rotation_from_vector(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the matrix [3, 3] of a rotation vector, rad, [3]."""
    angle = float(np.linalg.norm(vector))
    cross = _cross_matrix(vector)
    if angle < 1e-8:
        return np.eye(3) + cross + 0.5 * cross @ cross
    sine, versine = np.sin(angle) / angle, (1.0 - np.cos(angle)) / angle**2
    return np.eye(3) + sine * cross + versine * cross @ cross


def vector_from_rotation(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rotation vectors [..., 3] of matrices, rad; their length is at most pi."""
    skew = 0.5 * np.stack(
        (
            rotation[..., 2, 1] - rotation[..., 1, 2],
            rotation[..., 0, 2] - rotation[..., 2, 0],
            rotation[..., 1, 0] - rotation[..., 0, 1],
        ),
        axis=-1,
    )
    sine = np.sqrt(np.square(skew).sum(axis=-1))
    cosine = 0.5 * (rotation.trace(axis1=-2, axis2=-1) - 1.0)
    is_turn = sine > 1e-6
    scale = np.where(is_turn, np.arctan2(sine, cosine) / np.where(is_turn, sine, 1.0), 1.0)
    vector: NDArray[np.float64] = skew * scale[..., None]
    for index in map(tuple, np.argwhere(~is_turn & (cosine <= 0.0))):
        vector[index] = _half_turn(rotation[index], skew[index])
    return vector


def _half_turn(rotation: NDArray[np.float64], skew: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the vector of half a turn, or nearly; the matrix is symmetric but for its noise."""
    # What is antisymmetric vanishes, and the rest is the axis squared.
    sine, cosine = float(np.sqrt(skew @ skew)), 0.5 * (float(np.trace(rotation)) - 1.0)
    columns = 0.5 * (rotation + rotation.T) - cosine * np.eye(3)
    axis = columns[:, int(np.argmax(np.diag(columns)))]
    axis = axis / np.linalg.norm(axis)
    angle = np.arctan2(sine, cosine)
    return angle * (axis if skew @ axis >= 0.0 else -axis)


def _frame(rotation: NDArray[np.float64], translation: NDArray[np.float64]) -> NDArray[np.float64]:
    frame = np.eye(4)
    frame[:3, :3], frame[:3, 3] = rotation, translation
    return frame


def _cross_matrix(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y, z = vector
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def _way(joints: Mapping[str, UrdfJoint], base_link: str, tip_link: str) -> list[UrdfJoint]:
    """Return the joints from the base to the tip."""
    by_child = {joint.child: joint for joint in joints.values()}
    links = dict.fromkeys(link for j in joints.values() for link in (j.parent, j.child))
    for name, link in (("base_link", base_link), ("tip_link", tip_link)):
        if link not in links:
            raise ConfigError(f"{name} '{link}' is not in the URDF; its links: {quoted(links)}.")
    way: list[UrdfJoint] = []
    link = tip_link
    while link != base_link:
        joint = by_child.get(link)
        if joint is None or len(way) > len(joints):
            raise ConfigError(
                f"tip_link '{tip_link}' does not hang from base_link '{base_link}': the way up "
                f"ends at '{link}'."
            )
        way.append(joint)
        link = joint.parent
    return way[::-1]
