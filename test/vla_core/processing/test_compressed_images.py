# SPDX-License-Identifier: MIT
import io
import struct

import numpy as np
import pytest
from PIL import Image

from vla_core.errors import MessageError
from vla_core.processing.compressed_images import (
    compressed_image_from_message,
    compressed_size,
)

RANGE = (0.5, 2.5)


def encode(pixels, file_type, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, file_type, **options)
    return file.getvalue()


@pytest.fixture
def rgb():
    ramp = np.linspace(0, 255, 16, dtype=np.uint8)
    return np.stack(np.broadcast_arrays(ramp[:8, None], ramp, 255 - ramp), axis=-1)


def test_png_gives_the_very_pixels(messages, rgb):
    message = messages.compressed("rgb8; png compressed bgr8", encode(rgb, "PNG"))
    np.testing.assert_array_equal(compressed_image_from_message(message), rgb)


def test_jpeg_gives_nearly_the_pixels(messages, rgb):
    file = encode(rgb, "JPEG", quality=95, subsampling=0)
    image = compressed_image_from_message(messages.compressed("bgr8; jpeg compressed bgr8", file))
    np.testing.assert_allclose(image.astype(int), rgb, atol=12)


@pytest.mark.parametrize("format", ["jpeg", "", "rgb8; whatever"])
def test_type_of_the_file_counts_and_not_the_format(messages, rgb, format):
    message = messages.compressed(format, encode(rgb, "PNG"))
    np.testing.assert_array_equal(compressed_image_from_message(message), rgb)


def test_grey_has_equal_channels(messages, rgb):
    message = messages.compressed("mono8; png compressed mono8", encode(rgb[..., 1], "PNG"))
    expected = np.repeat(rgb[..., 1:2], 3, axis=-1)
    np.testing.assert_array_equal(compressed_image_from_message(message), expected)


def test_grey_of_16_bits_is_scaled_to_8(messages, rgb):
    deep = rgb[..., 1].astype(np.uint16) * 257
    message = messages.compressed("mono16; png compressed mono16", encode(deep, "PNG"))
    expected = np.repeat(rgb[..., 1:2], 3, axis=-1)
    np.testing.assert_array_equal(compressed_image_from_message(message), expected)


MILLIMETRES = np.array([[500, 1000, 1500], [2500, 0, 9000]], np.uint16)
GREY = np.repeat([[0, 64, 128], [255, 255, 255]], 3).reshape(2, 3, 3)


@pytest.mark.parametrize(
    ("format", "header"),
    [
        ("16UC1; png compressed ", b""),
        ("16UC1; compressedDepth png", struct.pack("<iff", 0, 0, 0)),
    ],
)
def test_depth_in_millimetres_is_grey_by_the_range(messages, format, header):
    message = messages.compressed(format, header + encode(MILLIMETRES, "PNG"))
    np.testing.assert_array_equal(compressed_image_from_message(message, RANGE), GREY)


def test_compressed_depth_in_metres_is_the_inverse_of_its_quantisation(messages):
    # As image_transport does: quantised = a / depth + b, 0 where there is no depth.
    a, b = 100.0 * 101.0, -99.0
    metres = np.array([[0.5, 1.0, 1.5], [2.5, np.nan, 9.0]])
    quantised = np.nan_to_num(np.rint(a / metres + b)).astype(np.uint16)
    data = struct.pack("<iff", 0, a, b) + encode(quantised, "PNG")
    message = messages.compressed("32FC1; compressedDepth png", data)
    image = compressed_image_from_message(message, RANGE)
    np.testing.assert_allclose(image.astype(int), GREY, atol=1)


def test_size_is_known_without_decoding(messages, rgb):
    file = encode(rgb, "PNG")
    assert compressed_size(messages.compressed("png", file[:60])) == (16, 8)


def test_depth_without_a_range_says_what_the_contract_lacks(messages):
    message = messages.compressed("16UC1; png compressed ", encode(MILLIMETRES, "PNG"))
    with pytest.raises(MessageError, match="give the camera a depth_range_m"):
        compressed_image_from_message(message)


def test_colour_from_a_depth_camera_is_refused(messages, rgb):
    message = messages.compressed("png", encode(rgb, "PNG"))
    with pytest.raises(MessageError, match="has RGB pixels, but the camera has a depth_range_m"):
        compressed_image_from_message(message, RANGE)


@pytest.mark.parametrize("file_type", ["PNG", "JPEG"])
def test_truncated_file_is_refused(messages, rgb, file_type):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    file = encode(noise, file_type)
    with pytest.raises(MessageError, match="damaged"):
        compressed_image_from_message(messages.compressed("x", file[: len(file) // 2]))


@pytest.mark.parametrize("data", [b"", b"no image", b"BM" + bytes(60)])
def test_other_data_is_refused_with_what_it_begins_with(messages, data):
    shown = data[:8].hex(" ") or "nothing"
    with pytest.raises(MessageError, match=f"must be JPEG or PNG, got .* begin with {shown}"):
        compressed_image_from_message(messages.compressed("jpeg", data))


@pytest.mark.parametrize(
    ("format", "data"),
    [("32FC1; compressedDepth rvl", bytes(40)), ("16UC1; compressedDepth", bytes(5))],
)
def test_compressed_depth_that_is_no_png_is_refused(messages, format, data):
    with pytest.raises(MessageError, match="set the publisher's compressedDepth format to 'png'"):
        compressed_image_from_message(messages.compressed(format, data), RANGE)
