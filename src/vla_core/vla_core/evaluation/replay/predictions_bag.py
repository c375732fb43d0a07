# SPDX-License-Identifier: MIT
"""Predictions and recording side by side in one MCAP file, for Foxglove and any ROS tool."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from vla_core.evaluation.replay.tick_log import AnsweredTick
from vla_core.processing.contract import RobotContract

RECORDED, PREDICTED, ERROR = "/replay/recorded", "/replay/predicted", "/replay/error"
CHUNK, INSTRUCTION = "/replay/chunk", "/replay/instruction"
_JOINT_STATE = "sensor_msgs/msg/JointState"
_TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"
_POINT = "trajectory_msgs/msg/JointTrajectoryPoint"
_IMAGE = "sensor_msgs/msg/CompressedImage"
_STRING = "std_msgs/msg/String"


def camera_topic(camera: str) -> str:
    """Return the topic of a camera's frames."""
    return f"/replay/{camera}/compressed"


class PredictionsBag:
    """A bag of what a replay saw, predicted and had recorded; use it in a `with` statement.

    The first step of every chunk and the demonstrator's action have the time of their target; the
    whole chunk, the frames and the instruction that of the control tick.

    Args:
        path: Folder to write; one that is there is replaced.
        contract: The robot.
    """

    def __init__(self, path: Path, contract: RobotContract) -> None:
        shutil.rmtree(path, ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._contract = contract
        self._dt_ns = round(contract.action.dt_s * 1e9)
        self._store = get_typestore(Stores.ROS2_JAZZY)
        self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        self._instruction = ""

    def __enter__(self) -> PredictionsBag:
        """Open the bag."""
        self._writer.open()
        kinds = {
            RECORDED: _JOINT_STATE,
            PREDICTED: _JOINT_STATE,
            ERROR: _JOINT_STATE,
            CHUNK: _TRAJECTORY,
            INSTRUCTION: _STRING,
            **{camera_topic(name): _IMAGE for name in self._contract.cameras},
        }
        self._topics = {
            topic: (self._writer.add_connection(topic, kind, typestore=self._store), kind)
            for topic, kind in kinds.items()
        }
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Write the index."""
        self._writer.close()

    def add(self, tick: AnsweredTick) -> None:
        """Write an answered control tick."""
        target_ns = tick.chunk.stamp_ns + self._dt_ns
        predicted = tick.chunk.actions[0]
        self._write(PREDICTED, target_ns, self._joints(target_ns, predicted))
        if tick.recorded is not None:
            self._write(RECORDED, target_ns, self._joints(target_ns, tick.recorded))
            self._write(ERROR, target_ns, self._joints(target_ns, predicted - tick.recorded))
        self._write(CHUNK, tick.time_ns, self._trajectory(tick))
        for name, image in tick.observation.images.items():
            stamp_ns = tick.observation.image_stamps_ns[name]
            self._write(camera_topic(name), tick.time_ns, self._image(image, stamp_ns, name))
        if tick.observation.instruction != self._instruction:
            self._instruction = tick.observation.instruction
            message = self._make(_STRING, data=self._instruction)
            self._write(INSTRUCTION, tick.time_ns, message)

    def _write(self, topic: str, at_ns: int, message: Any) -> None:
        connection, kind = self._topics[topic]
        self._writer.write(connection, at_ns, self._store.serialize_cdr(message, kind))

    def _joints(self, at_ns: int, values: NDArray[np.float64]) -> Any:
        return self._make(
            _JOINT_STATE,
            header=self._header(at_ns),
            name=list(self._contract.action_names),
            position=values.astype(np.float64),
            velocity=np.zeros(0),
            effort=np.zeros(0),
        )

    def _trajectory(self, tick: AnsweredTick) -> Any:
        points = [
            self._make(
                _POINT,
                positions=row,
                velocities=np.zeros(0),
                accelerations=np.zeros(0),
                effort=np.zeros(0),
                time_from_start=self._time((step + 1) * self._dt_ns, "Duration"),
            )
            for step, row in enumerate(tick.chunk.actions)
        ]
        return self._make(
            _TRAJECTORY,
            header=self._header(tick.chunk.stamp_ns),
            joint_names=list(tick.chunk.joints),
            points=points,
        )

    def _image(self, image: NDArray[np.uint8], stamp_ns: int, camera: str) -> Any:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format="JPEG", quality=85)
        data = np.frombuffer(buffer.getvalue(), np.uint8)
        return self._make(_IMAGE, header=self._header(stamp_ns, camera), format="jpeg", data=data)

    def _header(self, at_ns: int, frame: str = "") -> Any:
        return self._make("std_msgs/msg/Header", stamp=self._time(at_ns, "Time"), frame_id=frame)

    def _time(self, at_ns: int, kind: str) -> Any:
        seconds, nanoseconds = divmod(at_ns, 1_000_000_000)
        return self._make(f"builtin_interfaces/msg/{kind}", sec=seconds, nanosec=nanoseconds)

    def _make(self, kind: str, **fields: Any) -> Any:
        return self._store.types[kind](**fields)
