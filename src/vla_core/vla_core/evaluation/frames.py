# SPDX-License-Identifier: MIT
"""Camera frames of a recorded episode, side by side in time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_core.dataset.recording import Recording
from vla_core.processing.contract import RobotContract
from vla_core.processing.frames import frame_from_message
from vla_core.processing.messages import stamp_ns


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One instant of all cameras.

    stamp_ns: Stamp of the reference camera's image.
    images: Newest RGB image of every camera in the contract's order, uint8 [H, W, 3].
    """

    stamp_ns: int
    images: dict[str, NDArray[np.uint8]]


def iter_frames(
    recording: Recording, contract: RobotContract, *, start_ns: int, stop_ns: int
) -> Iterator[Frame]:
    """Yield a frame for every image of the reference camera, once all cameras have delivered.

    Args:
        recording: An open recording.
        contract: Contract that names the cameras.
        start_ns: First moment, on the robot's clock.
        stop_ns: Moment to stop at, on the robot's clock.

    Raises:
        DatasetError: The recording lacks a camera.
        MessageError: An image cannot be read, or has another size than the contract says.
    """
    cameras = {recording.topic(camera.topic): name for name, camera in contract.cameras.items()}
    newest: dict[str, NDArray[np.uint8]] = {}
    for topic, message in recording.messages(*cameras, start_ns=start_ns, stop_ns=stop_ns):
        camera = cameras[topic]
        newest[camera] = frame_from_message(message, contract.cameras[camera])
        if camera == contract.reference_camera and len(newest) == len(cameras):
            yield Frame(
                stamp_ns=stamp_ns(message),
                images={name: newest[name] for name in contract.cameras},
            )
