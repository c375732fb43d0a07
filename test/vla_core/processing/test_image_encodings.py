# SPDX-License-Identifier: MIT
import sys

import numpy as np
import pytest

from vla_core.errors import MessageError
from vla_core.processing import color_conversion
from vla_core.processing.color_conversion import BAYER_ENCODINGS
from vla_core.processing.image_encodings import (
    VIEWED_ENCODINGS,
    image_from_message,
    to_8_bit,
)


@pytest.fixture(autouse=True)
def _forget_converter():
    """Let each test choose which of the two libraries there is."""
    color_conversion._converter.cache_clear()
    yield
    color_conversion._converter.cache_clear()


@pytest.fixture
def rgb():
    return np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def encode(rgb, encoding):
    """Return the pixels in the order of memory, in the depth of the encoding."""
    bgr, grey = rgb[..., ::-1], rgb[..., :1]
    alpha = np.full((*rgb.shape[:2], 1), 77, np.uint8)
    by_order = {
        "rgb": rgb,
        "bgr": bgr,
        "rgba": np.concatenate((rgb, alpha), axis=-1),
        "bgra": np.concatenate((bgr, alpha), axis=-1),
        "mono": grey,
        "8UC1": grey,
        "8UC3": bgr,
        "8UC4": np.concatenate((bgr, alpha), axis=-1),
    }
    return by_order[encoding if "UC" in encoding else encoding.rstrip("0123456789")]


@pytest.mark.parametrize("is_bigendian", [0, 1])
@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", VIEWED_ENCODINGS)
def test_every_8_bit_encoding_decodes_to_rgb(messages, rgb, encoding, padding, is_bigendian):
    rows = encode(rgb, encoding).reshape(4, -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    message = messages.image(encoding, 4, 6, padded.shape[1], padded.tobytes(), is_bigendian)
    is_grey = encoding in ("mono8", "8UC1")
    expected = np.repeat(rgb[..., :1], 3, axis=-1) if is_grey else rgb
    np.testing.assert_array_equal(image_from_message(message), expected)


@pytest.mark.parametrize("encoding", VIEWED_ENCODINGS)
def test_decoding_8_bit_copies_nothing(messages, rgb, encoding):
    pixels = encode(rgb, encoding)
    message = messages.image(encoding, 4, 6, 6 * pixels.shape[2], pixels.tobytes())
    assert np.shares_memory(image_from_message(message), np.frombuffer(message.data, np.uint8))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("encoding", ["rgb16", "bgr16", "rgba16", "bgra16", "mono16"])
def test_16_bit_are_scaled_to_8_in_either_byte_order(messages, rgb, encoding, padding, order):
    deep = (encode(rgb, encoding).astype(np.uint16) * 257 + 100).astype(order + "u2")
    rows = np.frombuffer(deep.tobytes(), np.uint8).reshape(4, -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    message = messages.image(encoding, 4, 6, padded.shape[1], padded.tobytes(), int(order == ">"))
    expected = np.repeat(rgb[..., :1], 3, axis=-1) if encoding == "mono16" else rgb
    np.testing.assert_array_equal(image_from_message(message), expected)


def test_scaling_to_8_bit_rounds_to_the_nearest():
    values = np.arange(2**16, dtype=np.uint16)
    np.testing.assert_array_equal(to_8_bit(values), np.rint(values * (255 / 65535)))


@pytest.mark.parametrize("encoding", BAYER_ENCODINGS)
def test_each_bayer_pattern_puts_its_colours_where_they_belong(messages, encoding):
    rgb = {"r": 200, "g": 90, "b": 30}
    mosaic = np.empty((8, 10), np.uint8)
    for index, color in enumerate(encoding.split("_")[1][:4]):
        mosaic[index // 2 :: 2, index % 2 :: 2] = rgb[color]
    values = mosaic if encoding.endswith("8") else mosaic.astype("<u2") * 257
    message = messages.image(encoding, 8, 10, values.strides[0], values.tobytes())
    expected = np.broadcast_to(list(rgb.values()), (8, 10, 3))
    np.testing.assert_array_equal(image_from_message(message), expected)


def test_padded_and_big_endian_bayer_rows_are_read_alike(messages):
    mosaic = np.random.default_rng(1).integers(0, 2**16, (6, 8), dtype=np.uint16)
    plain = messages.image("bayer_grbg16", 6, 8, 16, mosaic.astype("<u2").tobytes())
    swapped = np.pad(
        np.frombuffer(mosaic.astype(">u2").tobytes(), np.uint8).reshape(6, 16), (0, 3)
    )
    padded = messages.image("bayer_grbg16", 6, 8, 19, swapped[:6].tobytes(), is_bigendian=1)
    np.testing.assert_array_equal(image_from_message(padded), image_from_message(plain))


# By BT.601: luma, then the two chromas, of pure colours.
YUV_COLORS = {"red": (81, 90, 240), "green": (145, 54, 34), "blue": (41, 240, 110)}
YUV_ORDERS = {"uyvy": "uyvy", "yuv422": "uyvy", "yuyv": "yuyv", "yuv422_yuy2": "yuyv"}


@pytest.mark.parametrize("encoding", [*YUV_ORDERS, "nv12", "nv21"])
@pytest.mark.parametrize(("channel", "color"), list(enumerate(YUV_COLORS)))
def test_yuv_of_a_pure_colour_is_that_colour(messages, encoding, channel, color):
    y, u, v = YUV_COLORS[color]
    if encoding in YUV_ORDERS:
        step, order = 12, {"y": y, "u": u, "v": v}
        data = bytes(order[letter] for letter in YUV_ORDERS[encoding]) * (3 * 4)
    else:
        step, pair = 6, (u, v) if encoding == "nv12" else (v, u)
        data = bytes([y]) * (6 * 4) + bytes(pair) * (3 * 2)
    image = image_from_message(messages.image(encoding, 4, 6, step, data))
    expected = np.zeros((4, 6, 3))
    expected[..., channel] = 255
    np.testing.assert_allclose(image, expected, atol=2)


@pytest.mark.parametrize("code", ["NV12", "NV21"])
def test_semi_planar_yuv_has_the_pixels_of_opencv(messages, code):
    cv2 = pytest.importorskip("cv2")
    planes = np.random.default_rng(2).integers(0, 256, (12, 10), dtype=np.uint8)
    image = image_from_message(messages.image(code.lower(), 8, 10, 10, planes.tobytes()))
    expected = cv2.cvtColor(planes, getattr(cv2, f"COLOR_YUV2RGB_{code}"))
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("encoding", [*BAYER_ENCODINGS, *YUV_ORDERS])
def test_cv_bridge_and_rosbags_image_give_the_same_pixels(messages, encoding, monkeypatch):
    pytest.importorskip("cv_bridge")
    size = 1 if encoding.startswith("bayer") and encoding.endswith("8") else 2
    data = np.random.default_rng(3).integers(0, 256, 8 * 10 * size, dtype=np.uint8)
    message = messages.image(encoding, 8, 10, 10 * size, data.tobytes())
    with_bridge = image_from_message(message)
    color_conversion._converter.cache_clear()
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    np.testing.assert_array_equal(image_from_message(message), with_bridge)


def test_lack_of_both_converters_says_what_to_install(messages, monkeypatch):
    for module in ("cv_bridge", "rosbags.image"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MessageError, match=r"need cv_bridge .* or rosbags-image"):
        image_from_message(messages.image("yuyv", 2, 2, 4, bytes(8)))


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("encoding", "distances"),
    [
        ("32FC1", [0.5, 1.0, 1.5, 2.5, 0.1, 9.0, 0.0, -1.0, NAN, INF]),
        ("16UC1", [500, 1000, 1500, 2500, 100, 9000, 0, 65535, 0, 0]),
        ("mono16", [500, 1000, 1500, 2500, 100, 9000, 0, 65535, 0, 0]),
    ],
)
def test_depth_is_grey_from_nearest_to_farthest_and_far_where_unknown(
    messages, encoding, distances, order
):
    values = np.array(distances, order + ("f4" if encoding == "32FC1" else "u2")).reshape(2, 5)
    message = messages.image(
        encoding, 2, 5, values.strides[0], values.tobytes(), int(order == ">")
    )
    image = image_from_message(message, depth_range_m=(0.5, 2.5))
    assert image.dtype == np.uint8
    grey = [0, 64, 128, 255, 0, 255, 255, 255, 255, 255]
    np.testing.assert_array_equal(image, np.repeat(grey, 3).reshape(2, 5, 3))


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_depth_without_a_range_says_what_the_contract_lacks(messages, encoding):
    message = messages.image(encoding, 2, 2, 8, bytes(16))
    with pytest.raises(MessageError, match="give the camera a depth_range_m"):
        image_from_message(message)


def test_colour_from_a_depth_camera_is_refused(messages):
    with pytest.raises(MessageError, match=r"'rgb8' is not one of depth, but .* depth_range_m"):
        image_from_message(messages.image("rgb8", 2, 2, 6, bytes(12)), (0.5, 2.5))


@pytest.mark.parametrize("encoding", ["64FC1", "yuv420", "jpeg", ""])
def test_another_encoding_is_refused_with_the_supported_ones(messages, encoding):
    message = messages.image(encoding, 2, 2, 8, bytes(16))
    with pytest.raises(MessageError, match=f"'{encoding}' is not supported.*'rgb8'.*'32FC1'"):
        image_from_message(message)


@pytest.mark.parametrize(
    ("encoding", "height", "width", "step", "num_bytes", "expected"),
    [
        ("yuyv", 2, 3, 6, 12, "must have an even width, got 3"),
        ("nv12", 3, 4, 4, 16, "must have an even width and height, got 4x3"),
        ("nv12", 2, 4, 4, 8, r"must be 12 bytes \(step 4 x 3 rows\), got 8"),
        ("16UC1", 2, 2, 3, 6, "step must be at least 4 bytes for 2 pixels of 16UC1, got 3"),
    ],
)
def test_layout_that_the_encoding_does_not_allow_is_refused(
    messages, encoding, height, width, step, num_bytes, expected
):
    message = messages.image(encoding, height, width, step, bytes(num_bytes))
    depth = (0.5, 2.5) if encoding == "16UC1" else None
    with pytest.raises(MessageError, match=expected):
        image_from_message(message, depth)


@pytest.mark.parametrize(
    ("height", "width", "step", "num_bytes", "expected"),
    [
        (4, 6, 18, 71, r"must be 72 bytes \(step 18 x 4 rows\), got 71"),
        (4, 6, 18, 73, r"must be 72 bytes.*got 73"),
        (4, 6, 18, 0, r"must be 72 bytes.*got 0"),
        (4, 6, 17, 68, r"step must be at least 18 bytes for 6 pixels of rgb8, got 17"),
        (0, 6, 18, 0, r"must have pixels, got 6x0"),
        (4, 0, 0, 0, r"must have pixels, got 0x4"),
    ],
)
def test_sizes_that_contradict_each_other_are_refused(
    messages, height, width, step, num_bytes, expected
):
    message = messages.image("rgb8", height, width, step, bytes(num_bytes))
    with pytest.raises(MessageError, match=expected):
        image_from_message(message)
