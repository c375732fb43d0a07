# SPDX-License-Identifier: MIT
"""Make one observation of what came last, aligned by stamps, or say what lacks.

The newest frame of the reference camera, the contract's first, fixes the time. Every other camera
gives the frame nearest to it, and the state is interpolated to it. A gap in the data has a name
and stops inference; nothing is filled in. Only the frames that are used are decoded.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_core.processing.camera_frames import CameraFrames
from vla_core.processing.contract import RobotContract
from vla_core.processing.gaps import Gap, GapError
from vla_core.processing.source_watch import SourceWatch
from vla_core.processing.state_sources import StateSources
from vla_core.types import EarlierStep, Observation

# Frames of the other cameras may come this much after, and before, that of the reference camera.
_FRAMES_SPAN_S = 0.25
_STATE_SPAN_S = 1.0


class ObservationBuffer:
    """The last camera frames, joint states and inputs of one robot.

    Args:
        contract: The robot: which sources, how old they may be, how far apart.
        count_publishers: Says how many publishers a topic of the contract has now.
        history_length: Earlier steps that an observation shall have.
        future_tolerance_s: How far ahead of the clock a stamp may be, for clocks of two machines.
    """

    def __init__(
        self,
        contract: RobotContract,
        count_publishers: Callable[[str], int],
        *,
        history_length: int = 0,
        future_tolerance_s: float = 0.05,
    ) -> None:
        def watch(
            name: str, topics: tuple[str, ...], max_age_s: float, max_frozen_s: float = math.inf
        ) -> SourceWatch:
            return SourceWatch(
                name,
                topics,
                max_age_s,
                count_publishers,
                future_tolerance_s=future_tolerance_s,
                max_frozen_s=max_frozen_s,
            )

        history_s = history_length * contract.action.dt_s
        self._contract = contract
        self._history_length = history_length
        self._future_tolerance_s = future_tolerance_s
        self._max_skew_s = contract.alignment.max_skew_s or math.inf
        self._newest_now_ns = 0
        # Status reports ask for ages while the inference takes messages.
        self._lock = threading.RLock()
        self._cameras = {
            name: CameraFrames(
                camera,
                watch(
                    f"camera '{name}'",
                    (camera.topic,),
                    camera.max_age_s,
                    camera.max_frozen_s or math.inf,
                ),
                history_s + _FRAMES_SPAN_S,
            )
            for name, camera in contract.cameras.items()
        }
        self._state = StateSources(contract, watch, history_s + _STATE_SPAN_S)

    def put_image(self, camera: str, message: Any, received_ns: int) -> None:
        """Keep a frame.

        Args:
            camera: Name of the camera in the contract.
            message: sensor_msgs/Image or CompressedImage, of rclpy or of rosbags.
            received_ns: Time of its arrival, on the clock of the stamps.
        """
        with self._lock:
            self._notice_jump(received_ns)
            self._cameras[camera].put(message, received_ns)

    def put_joint_state(self, message: Any, received_ns: int) -> None:
        """Keep joint states, sensor_msgs/JointState of any publisher."""
        with self._lock:
            self._notice_jump(received_ns)
            self._state.put_joint_state(message, received_ns)

    def put_input(self, name: str, message: Any, received_ns: int) -> None:
        """Keep a message of one of the contract's further inputs."""
        with self._lock:
            self._notice_jump(received_ns)
            self._state.put_input(name, message, received_ns)

    def clear(self) -> None:
        """Forget all messages."""
        with self._lock:
            for camera in self._cameras.values():
                camera.clear()
            self._state.clear()

    def is_aligned(self, tolerance_s: float) -> bool:
        """Say whether no camera is behind the reference camera.

        Cameras that are triggered together arrive one after the other; waiting for the last of
        them makes an observation of frames of one instant.

        Args:
            tolerance_s: By how much a frame's stamp may be older than the reference camera's.
        """
        reference_ns = self._cameras[self._contract.reference_camera].newest_ns
        stamps = [camera.newest_ns for camera in self._cameras.values()]
        return reference_ns is not None and all(
            stamp is not None and stamp >= reference_ns - tolerance_s * 1e9 for stamp in stamps
        )

    def camera_ages_s(self, now_ns: int) -> dict[str, float]:
        """Return the age of every camera's newest frame, infinite before the first."""
        with self._lock:
            return {name: camera.watch.age_s(now_ns) for name, camera in self._cameras.items()}

    def joint_ages_s(self, now_ns: int) -> dict[str, float]:
        """Return the age of every joint's newest measurement, infinite before the first."""
        with self._lock:
            return self._state.joint_ages_s(now_ns)

    def input_ages_s(self, now_ns: int) -> dict[str, float]:
        """Return the age of every further input's newest message, infinite before the first."""
        with self._lock:
            return self._state.input_ages_s(now_ns)

    def state_age_s(self, now_ns: int) -> float:
        """Return the age of the joint that was measured longest ago, infinite before the first."""
        return max(self.joint_ages_s(now_ns).values())

    def observe(self, instruction: str, now_ns: int) -> Observation | Gap:
        """Return an observation at the newest frame of the reference camera, or the first gap.

        Args:
            instruction: What the robot is asked to do.
            now_ns: Time now, on the clock of the stamps.
        """
        with self._lock:
            self._notice_jump(now_ns)
            try:
                for camera in self._cameras.values():
                    camera.watch.require_fresh(now_ns)
                self._state.require_fresh(now_ns)
                return self._observe(instruction, now_ns)
            except GapError as error:
                return error.gap

    def _observe(self, instruction: str, now_ns: int) -> Observation:
        time_ns = self._cameras[self._contract.reference_camera].newest_until(
            now_ns + round(self._future_tolerance_s * 1e9)
        )
        messages = {
            name: camera.nearest(
                time_ns, self._max_skew_s, now_ns - round(camera.watch.max_age_s * 1e9)
            )
            for name, camera in self._cameras.items()
        }
        for name, (stamp, message) in messages.items():
            self._cameras[name].require_moving(stamp, message)
        state, state_stamp_ns = self._state.at(time_ns)
        return Observation(
            images=self._decode(messages),
            state=state,
            instruction=instruction,
            stamp_ns=time_ns,
            image_stamps_ns={name: stamp for name, (stamp, _) in messages.items()},
            state_stamp_ns=state_stamp_ns,
            history=self._history(time_ns),
        )

    def _history(self, time_ns: int) -> tuple[EarlierStep, ...]:
        """Return the steps before a time back to the first that is incomplete, oldest first."""
        steps: list[EarlierStep] = []
        tolerance_s = 0.5 * self._contract.action.dt_s
        reference = self._cameras[self._contract.reference_camera]
        for number in range(1, self._history_length + 1):
            due_ns = time_ns - round(number * self._contract.action.dt_s * 1e9)
            try:
                at_ns, _ = reference.nearest(due_ns, tolerance_s)
                messages = {
                    name: camera.nearest(at_ns, min(tolerance_s, self._max_skew_s))
                    for name, camera in self._cameras.items()
                }
                state, _ = self._state.at(at_ns)
                steps.append(
                    EarlierStep(images=self._decode(messages), state=state, stamp_ns=at_ns)
                )
            except GapError:
                break
        return tuple(reversed(steps))

    def _decode(self, messages: dict[str, tuple[int, Any]]) -> dict[str, NDArray[np.uint8]]:
        return {name: self._cameras[name].decode(m) for name, (_, m) in messages.items()}

    def _notice_jump(self, now_ns: int) -> None:
        """Forget what came before the clock was set back: its stamps mean nothing any more."""
        if now_ns < self._newest_now_ns - self._future_tolerance_s * 1e9:
            self.clear()
            self._newest_now_ns = now_ns
        self._newest_now_ns = max(self._newest_now_ns, now_ns)
