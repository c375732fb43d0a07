# SPDX-License-Identifier: MIT
"""Build outgoing ROS messages, stamps and QoS profiles.

Incoming messages are read in ``vla_core.processing.messages``, for robots and bags alike.
Sequences are handed over as ``array.array``: every distribution takes those without converting
element by element.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence

import numpy as np
from builtin_interfaces.msg import Duration, Time
from numpy.typing import ArrayLike, NDArray
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint
from vla_msgs.msg import ActionChunk

from vla_core import types
from vla_core.errors import MessageError, ShapeError

NANOSECONDS_PER_SECOND = 1_000_000_000

ACTION_KINDS: dict[str, int] = {
    "joint_position": ActionChunk.JOINT_POSITION,
    "joint_delta": ActionChunk.JOINT_DELTA,
    "end_effector_delta": ActionChunk.END_EFFECTOR_DELTA,
}
"""Constant of ``ActionChunk.kind`` for each action kind of a robot contract."""

_IMAGE_CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}


def _keep_last(
    depth: int,
    reliability: ReliabilityPolicy,
    durability: DurabilityPolicy = DurabilityPolicy.VOLATILE,
) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=reliability,
        durability=durability,
    )


def sensor_subscription_qos() -> QoSProfile:
    """Return the profile that receives a camera or joint states.

    Best effort matches every publisher, reliable or not, and never waits for a lost frame; depth 1
    keeps the newest. Images above the shared-memory segment of Fast DDS need the profile
    ``config/fastdds_large_images.xml`` or most of them are lost.
    """
    return _keep_last(1, ReliabilityPolicy.BEST_EFFORT)


def sensor_publisher_qos() -> QoSProfile:
    """Return the profile that publishes a camera or joint states: reliable suits all readers.

    A reliable reader, such as a recorder, gets a lost message again while it is among the last 5.
    """
    return _keep_last(5, ReliabilityPolicy.RELIABLE)


def command_qos() -> QoSProfile:
    """Return the profile of commands and action chunks: reliable, only the newest counts."""
    return _keep_last(1, ReliabilityPolicy.RELIABLE)


def status_qos() -> QoSProfile:
    """Return the profile of status reports: reliable, a short history for late readers."""
    return _keep_last(10, ReliabilityPolicy.RELIABLE)


def best_effort_status_qos() -> QoSProfile:
    """Return the profile that receives reports from every publisher, reliable or not."""
    return _keep_last(10, ReliabilityPolicy.BEST_EFFORT)


def latched_qos() -> QoSProfile:
    """Return the profile of facts that late joiners must get too: reliable, transient local."""
    return _keep_last(1, ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL)


def time_message(stamp_ns: int) -> Time:
    """Return nanoseconds since the epoch as a message.

    Raises:
        MessageError: The stamp is negative, which ROS time cannot carry.
    """
    if stamp_ns < 0:
        raise MessageError(f"stamp_ns must not be negative, got {stamp_ns}.")
    seconds, nanoseconds = divmod(int(stamp_ns), NANOSECONDS_PER_SECOND)
    return Time(sec=seconds, nanosec=nanoseconds)


def duration_message(duration_s: float) -> Duration:
    """Return seconds as a message, rounded to nanoseconds.

    Raises:
        MessageError: The duration is NaN or infinite.
    """
    if not math.isfinite(duration_s):
        raise MessageError(f"duration_s must be finite, got {duration_s!r}.")
    seconds, nanoseconds = divmod(
        round(duration_s * NANOSECONDS_PER_SECOND), NANOSECONDS_PER_SECOND
    )
    return Duration(sec=seconds, nanosec=nanoseconds)


def _doubles(values: ArrayLike) -> array[float]:
    result = array("d")
    result.frombytes(np.ascontiguousarray(values, dtype=np.float64).tobytes())
    return result


def _floats(values: ArrayLike) -> array[float]:
    result = array("f")
    result.frombytes(np.ascontiguousarray(values, dtype=np.float32).tobytes())
    return result


def joint_state_message(
    joints: Sequence[str],
    positions: ArrayLike,
    velocities: ArrayLike,
    *,
    stamp_ns: int,
) -> JointState:
    """Return a joint state.

    Args:
        joints: Joint names.
        positions: Measured positions, rad or m, [S].
        velocities: Measured velocities, rad/s or m/s, [S].
        stamp_ns: Time of the measurement.
    """
    message = JointState(name=list(joints))
    message.header.stamp = time_message(stamp_ns)
    message.position = _doubles(positions)
    message.velocity = _doubles(velocities)
    return message


def image_message(
    image: NDArray[np.uint8], *, stamp_ns: int, frame_id: str = "", encoding: str = "rgb8"
) -> Image:
    """Return an image of 8-bit channels.

    Args:
        image: Pixels, uint8 [H, W, C], or [H, W] for ``mono8``.
        stamp_ns: Time at which the image was taken.
        frame_id: Optical frame of the camera.
        encoding: ``rgb8``, ``bgr8``, ``rgba8``, ``bgra8`` or ``mono8``.

    Raises:
        MessageError: The encoding is not supported.
        ShapeError: The pixels are not uint8 of the encoding's number of channels.
    """
    if encoding not in _IMAGE_CHANNELS:
        raise MessageError(
            f"encoding {encoding!r} is not supported; available: {sorted(_IMAGE_CHANNELS)}."
        )
    channels = _IMAGE_CHANNELS[encoding]
    found = image.shape[2] if image.ndim == 3 else 1
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or found != channels:
        raise ShapeError(
            f"image must be uint8 [H, W, {channels}] for encoding {encoding!r}, "
            f"got {image.dtype} {list(image.shape)}."
        )
    message = Image(encoding=encoding, is_bigendian=0)
    message.header.stamp = time_message(stamp_ns)
    message.header.frame_id = frame_id
    message.height, message.width = int(image.shape[0]), int(image.shape[1])
    message.step = message.width * channels
    data = array("B")
    data.frombytes(np.ascontiguousarray(image).tobytes())
    message.data = data
    return message


def camera_info_message(
    *, width: int, height: int, vertical_fov_rad: float, stamp_ns: int, frame_id: str = ""
) -> CameraInfo:
    """Return the calibration of an ideal pinhole camera with square pixels.

    Args:
        width: Image width in pixels.
        height: Image height in pixels.
        vertical_fov_rad: Full vertical field of view, in (0, pi).
        stamp_ns: Time at which the image was taken.
        frame_id: Optical frame of the camera.

    Raises:
        MessageError: The field of view is out of range.
    """
    if not 0.0 < vertical_fov_rad < math.pi:
        raise MessageError(f"vertical_fov_rad must be in (0, pi), got {vertical_fov_rad!r}.")
    focal = 0.5 * height / math.tan(0.5 * vertical_fov_rad)
    # ROS counts pixel centres from 0, so the middle of the image is half a pixel less than half.
    centre_x, centre_y = 0.5 * (width - 1), 0.5 * (height - 1)
    message = CameraInfo(width=width, height=height, distortion_model="plumb_bob")
    message.header.stamp = time_message(stamp_ns)
    message.header.frame_id = frame_id
    message.d = _doubles(np.zeros(5))
    message.k = [focal, 0.0, centre_x, 0.0, focal, centre_y, 0.0, 0.0, 1.0]
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    message.p = [focal, 0.0, centre_x, 0.0, 0.0, focal, centre_y, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


def joint_trajectory_message(
    joints: Sequence[str],
    positions: ArrayLike,
    velocities: ArrayLike | None,
    times_s: ArrayLike,
    *,
    stamp_ns: int = 0,
) -> JointTrajectory:
    """Return a trajectory for a joint_trajectory_controller.

    Args:
        joints: Joint names, all joints of the controller.
        positions: Targets, rad or m, [M, A].
        velocities: Velocities at the targets, rad/s or m/s, [M, A]; None leaves them out, which
            makes the controller interpolate linearly.
        times_s: Time of each target after the stamp, strictly increasing, [M].
        stamp_ns: Start of the trajectory; 0 means when it arrives.

    Raises:
        ShapeError: The arrays do not fit each other.
    """
    targets = np.ascontiguousarray(positions, dtype=np.float64)
    offsets_ns = np.rint(np.asarray(times_s, dtype=np.float64) * NANOSECONDS_PER_SECOND)
    if targets.ndim != 2 or targets.shape[1] != len(joints):
        raise ShapeError(f"positions must be [M, {len(joints)}], got {list(targets.shape)}.")
    if offsets_ns.shape != targets.shape[:1]:
        raise ShapeError(f"times_s must be [{len(targets)}], got {list(offsets_ns.shape)}.")
    message = JointTrajectory(joint_names=list(joints))
    message.header.stamp = time_message(stamp_ns)
    rows = _rows(targets)
    if velocities is None:
        speed_rows = [array("d")] * len(rows)
    else:
        speeds = np.ascontiguousarray(velocities, dtype=np.float64)
        if speeds.shape != targets.shape:
            raise ShapeError(
                f"velocities must be {list(targets.shape)} like positions, "
                f"got {list(speeds.shape)}."
            )
        speed_rows = _rows(speeds)
    for row, speed_row, offset in zip(rows, speed_rows, offsets_ns.tolist(), strict=True):
        point = JointTrajectoryPoint()
        point.positions = row
        point.velocities = speed_row
        seconds, nanoseconds = divmod(int(offset), NANOSECONDS_PER_SECOND)
        point.time_from_start.sec = seconds
        point.time_from_start.nanosec = nanoseconds
        message.points.append(point)
    return message


def _rows(matrix: NDArray[np.float64]) -> list[array[float]]:
    return [array("d", row) for row in matrix.tolist()]


def action_chunk_message(
    chunk: types.ActionChunk,
    *,
    sequence: int,
    epoch: int,
    inference_start_ns: int,
    generation_ns: int,
    image_stamps_ns: Mapping[str, int],
    state_stamp_ns: int,
    committed_steps: int = 0,
    frame_id: str = "",
) -> ActionChunk:
    """Return a chunk as the message that policy_node publishes.

    Args:
        chunk: The chunk.
        sequence: Number of the chunk, from 1.
        epoch: Counter of instructions and resets.
        inference_start_ns: When inference began.
        generation_ns: When the chunk was complete.
        image_stamps_ns: Stamp of every camera's frame, in the contract's order.
        state_stamp_ns: Stamp of the joint state.
        committed_steps: Leading steps that were fixed before inference.
        frame_id: Frame of end-effector actions.

    Raises:
        MessageError: The kind of action has no constant in the message.
    """
    if chunk.kind not in ACTION_KINDS:
        raise MessageError(f"kind {chunk.kind!r} is not known; available: {sorted(ACTION_KINDS)}.")
    message = ActionChunk(
        sequence=sequence,
        epoch=epoch,
        checkpoint_id=chunk.checkpoint_id,
        instruction=chunk.instruction,
        kind=ACTION_KINDS[chunk.kind],
        joint_names=list(chunk.joints),
        dt=float(chunk.dt_s),
        horizon=len(chunk.actions),
        committed_steps=committed_steps,
        camera_names=list(image_stamps_ns),
        camera_stamps=[time_message(stamp) for stamp in image_stamps_ns.values()],
    )
    message.header.stamp = time_message(chunk.stamp_ns)
    message.header.frame_id = frame_id
    message.inference_start_stamp = time_message(inference_start_ns)
    message.generation_stamp = time_message(generation_ns)
    message.joint_state_stamp = time_message(state_stamp_ns)
    message.actions = _doubles(chunk.actions)
    message.policy_actions = _floats(chunk.policy_actions)
    return message


def revocation_message(
    *, epoch: int, checkpoint_id: str, stamp_ns: int, instruction: str = ""
) -> ActionChunk:
    """Return the chunk without steps by which policy_node revokes all chunks before it.

    Args:
        epoch: The new epoch.
        checkpoint_id: Identity of the loaded checkpoint; empty when the policy ends, and nobody
            is to go on with its instruction.
        stamp_ns: Time now.
        instruction: What the policy goes on with; empty when it is idle.
    """
    message = ActionChunk(
        epoch=epoch, checkpoint_id=checkpoint_id, instruction=instruction, horizon=0
    )
    message.header.stamp = time_message(stamp_ns)
    message.generation_stamp = message.inference_start_stamp = message.header.stamp
    return message
