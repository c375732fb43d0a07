# SPDX-License-Identifier: MIT
import io

import numpy as np
import pytest
from PIL import Image

from vla_core.errors import MessageError
from vla_core.processing.contract import CameraContract
from vla_core.processing.frames import frame_from_message

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def camera(**changes):
    values = {"topic": "image", "width": 6, "height": 4, "max_age_s": 0.2}
    return CameraContract(**{**values, **changes})


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_both_transports_give_the_same_frame(messages):
    raw = messages.image("rgb8", 4, 6, 18, PIXELS.tobytes())
    compressed = messages.compressed("png", png(PIXELS))
    np.testing.assert_array_equal(frame_from_message(raw, camera()), PIXELS)
    np.testing.assert_array_equal(
        frame_from_message(compressed, camera(transport="compressed")), PIXELS
    )


def test_range_of_the_camera_makes_depth_visible(messages):
    depth = np.full((4, 6), 1500, "<u2")
    message = messages.image("16UC1", 4, 6, 12, depth.tobytes())
    frame = frame_from_message(message, camera(depth_range_m=(0.5, 2.5)))
    assert (frame == 128).all()


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_frame_of_another_size_is_refused_before_it_is_decoded(messages, transport):
    message = (
        messages.image("rgb8", 4, 6, 18, b"")
        if transport == "raw"
        else messages.compressed("png", png(PIXELS)[:60])
    )
    with pytest.raises(MessageError, match="frames are 6x4, the contract says 8x4"):
        frame_from_message(message, camera(transport=transport, width=8))
