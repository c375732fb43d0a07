# SPDX-License-Identifier: MIT
"""Read action chunks back, from rclpy or out of a bag."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import MessageError
from vla_core.processing.contract import ACTION_KINDS
from vla_core.processing.messages import stamp_ns
from vla_core.types import ActionChunk


def action_chunk_from_message(message: Any) -> ActionChunk:
    """Return the chunk that a ``vla_msgs/ActionChunk`` carries; arrays are views into it.

    Raises:
        MessageError: The kind is unknown, the array lengths do not fit the horizon and the joints,
            dt is not positive, or a number is not finite.
    """
    joints = tuple(message.joint_names)
    shape = (int(message.horizon), len(joints))
    # rclpy has constants in the class only.
    kinds = {getattr(type(message), kind.upper()): kind for kind in ACTION_KINDS}
    if message.kind not in kinds:
        raise MessageError(f"kind {message.kind} is not known; available: {kinds}.")
    arrays: dict[str, NDArray[Any]] = {}
    for field, dtype in (("actions", np.float64), ("policy_actions", np.float32)):
        values = np.asarray(getattr(message, field), dtype=dtype)
        if values.size != shape[0] * shape[1] or values.size == 0:
            raise MessageError(
                f"{field} must have horizon * joint_names = {shape[0]} * {shape[1]} values, at "
                f"least one, got {values.size}."
            )
        if not np.isfinite(values).all():
            raise MessageError(f"{field} must be finite, got NaN or infinity.")
        arrays[field] = values.reshape(shape)
    if not (math.isfinite(message.dt) and message.dt > 0.0):
        raise MessageError(f"dt must be finite and greater than 0, got {message.dt!r}.")
    return ActionChunk(
        actions=arrays["actions"],
        policy_actions=arrays["policy_actions"],
        joints=joints,
        dt_s=float(message.dt),
        stamp_ns=stamp_ns(message),
        checkpoint_id=message.checkpoint_id,
        instruction=message.instruction,
        kind=kinds[message.kind],
    )
