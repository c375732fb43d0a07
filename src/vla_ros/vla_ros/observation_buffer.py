# SPDX-License-Identifier: MIT
"""Hold the newest message of every source and make an observation of them, or say what lacks.

A gap in the data has a name and stops inference; nothing is filled in. Messages are decoded only
when an observation is made, so frames that no inference uses cost next to nothing.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vla_core.errors import MessageError
from vla_core.processing.contract import RobotContract
from vla_core.processing.frames import frame_from_message
from vla_core.processing.messages import (
    joint_positions_from_message,
    stamp_ns,
)
from vla_core.types import Observation

_JOINT_STATES = "joint states"


class GapCause(enum.Enum):
    """What is wrong with a source of data."""

    NO_PUBLISHER = "no publisher"
    NOTHING_RECEIVED = "nothing received"
    STALE = "stale"
    FUTURE = "future stamp"
    BROKEN = "broken message"


@dataclass(frozen=True, slots=True)
class Gap:
    """Why there is no observation.

    Attributes:
        source: The camera, or the joint states.
        cause: What is wrong; together with the source it tells two gaps apart.
        reason: The whole story for a human.
    """

    source: str
    cause: GapCause
    reason: str


@dataclass(frozen=True, slots=True)
class _Source:
    name: str
    topic: str
    max_age_s: float


class ObservationBuffer:
    """The newest camera frames and joint states of one robot.

    Args:
        contract: The robot: which cameras and joints, how old they may be.
        count_publishers: Says how many publishers a topic of the contract has now.
        future_tolerance_s: How far ahead of the clock a stamp may be, for clocks of two machines.
    """

    def __init__(
        self,
        contract: RobotContract,
        count_publishers: Callable[[str], int],
        *,
        future_tolerance_s: float = 0.05,
    ) -> None:
        self._contract = contract
        self._count_publishers = count_publishers
        self._future_tolerance_s = future_tolerance_s
        self._cameras = {
            name: _Source(f"camera '{name}'", camera.topic, camera.max_age_s)
            for name, camera in contract.cameras.items()
        }
        self._state = _Source(_JOINT_STATES, contract.state.topic, contract.state.max_age_s)
        self._frames: dict[str, Any] = {}
        self._joint_state: Any = None

    def put_image(self, camera: str, message: Any) -> None:
        """Keep a camera's newest message.

        Args:
            camera: Name of the camera in the contract.
            message: sensor_msgs/Image, of rclpy or of rosbags.
        """
        self._frames[camera] = message

    def put_joint_state(self, message: Any) -> None:
        """Keep the newest joint states, sensor_msgs/JointState."""
        self._joint_state = message

    def clear(self) -> None:
        """Forget all messages."""
        self._frames.clear()
        self._joint_state = None

    def image_stamp_ns(self, camera: str) -> int | None:
        """Return the stamp of a camera's newest frame, None before the first."""
        return stamp_ns(self._frames[camera]) if camera in self._frames else None

    def is_aligned(self, tolerance_s: float) -> bool:
        """Say whether no camera is behind the reference camera.

        Cameras that are triggered together arrive one after the other; waiting for the last of
        them makes an observation of frames of one instant.

        Args:
            tolerance_s: By how much a frame's stamp may be older than the reference camera's.
        """
        reference_ns = self.image_stamp_ns(self._contract.reference_camera)
        stamps = [self.image_stamp_ns(camera) for camera in self._cameras]
        return reference_ns is not None and all(
            stamp is not None and stamp >= reference_ns - tolerance_s * 1e9 for stamp in stamps
        )

    def camera_ages_s(self, now_ns: int) -> dict[str, float]:
        """Return the age of every camera's newest frame, infinite before the first."""
        return {name: _age_s(self._frames.get(name), now_ns) for name in self._cameras}

    def state_age_s(self, now_ns: int) -> float:
        """Return the age of the newest joint states, infinite before the first."""
        return _age_s(self._joint_state, now_ns)

    def observe(self, instruction: str, now_ns: int) -> Observation | Gap:
        """Return an observation of the newest messages, or the first gap.

        Args:
            instruction: What the robot is asked to do.
            now_ns: Time now, on the clock of the stamps.
        """
        for name, source in self._cameras.items():
            gap = self._check_age(source, self._frames.get(name), now_ns)
            if gap is not None:
                return gap
        gap = self._check_age(self._state, self._joint_state, now_ns)
        return gap if gap is not None else self._decode(instruction)

    def _check_age(self, source: _Source, message: Any, now_ns: int) -> Gap | None:
        if message is None:
            if self._count_publishers(source.topic) == 0:
                return self._gap(source, GapCause.NO_PUBLISHER, "the topic has no publisher")
            return self._gap(source, GapCause.NOTHING_RECEIVED, "nothing was received yet")
        if stamp_ns(message) == 0:
            return self._gap(source, GapCause.BROKEN, "the stamp is zero; stamp the messages")
        age_s = _age_s(message, now_ns)
        if age_s < -self._future_tolerance_s:
            return self._gap(
                source,
                GapCause.FUTURE,
                f"the stamp is {-age_s:.3f} s in the future; synchronise the clocks",
            )
        if age_s > source.max_age_s:
            late = f"{age_s:.3f} s old, at most {source.max_age_s:g} s is allowed"
            if self._count_publishers(source.topic) == 0:
                return self._gap(
                    source, GapCause.NO_PUBLISHER, f"{late}; the topic has no publisher any more"
                )
            return self._gap(source, GapCause.STALE, late)
        return None

    def _decode(self, instruction: str) -> Observation | Gap:
        images = {}
        for name, camera in self._contract.cameras.items():
            try:
                images[name] = frame_from_message(self._frames[name], camera)
            except MessageError as error:
                return self._gap(self._cameras[name], GapCause.BROKEN, str(error).rstrip("."))
        try:
            state = joint_positions_from_message(self._joint_state, self._contract.state.joints)
        except MessageError as error:
            return self._gap(self._state, GapCause.BROKEN, str(error).rstrip("."))
        stamps = {name: stamp_ns(self._frames[name]) for name in images}
        return Observation(
            images=images,
            state=state,
            instruction=instruction,
            stamp_ns=stamps[self._contract.reference_camera],
            image_stamps_ns=stamps,
            state_stamp_ns=stamp_ns(self._joint_state),
        )

    @staticmethod
    def _gap(source: _Source, cause: GapCause, what: str) -> Gap:
        return Gap(source.name, cause, f"{source.name} on {source.topic}: {what}.")


def _age_s(message: Any, now_ns: int) -> float:
    return math.inf if message is None else (now_ns - stamp_ns(message)) * 1e-9
