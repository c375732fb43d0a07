# SPDX-License-Identifier: MIT
import numpy as np
import pytest
import torch

from vla_core.errors import ShapeError
from vla_core.processing.images import frames_to_tensor

SIZES = pytest.mark.parametrize("size", [48, 40, 130, 96, (24, 60)])


@pytest.fixture
def frames():
    return np.random.default_rng(0).integers(0, 256, (5, 96, 96, 3), dtype=np.uint8)


@SIZES
def test_a_frame_gives_the_same_pixels_alone_and_in_a_batch(frames, size):
    batch = frames_to_tensor(frames, size)
    for i in range(len(frames)):
        assert torch.equal(frames_to_tensor(frames[i : i + 1], size)[0], batch[i])


@SIZES
def test_images_are_channels_first_floats_in_zero_to_one(frames, size):
    images = frames_to_tensor(frames, size)
    height, width = (size, size) if isinstance(size, int) else size
    assert images.shape == (5, 3, height, width)
    assert images.dtype == torch.float32
    assert images.is_contiguous()
    assert 0.0 <= images.min() < images.max() <= 1.0


@SIZES
@pytest.mark.parametrize("level", [0, 37, 255])
def test_an_even_frame_keeps_its_level(size, level):
    images = frames_to_tensor(np.full((1, 96, 96, 3), level, np.uint8), size)
    torch.testing.assert_close(images, torch.full_like(images, level / 255.0))


def test_shrinking_by_a_whole_factor_averages_the_pixels_that_fall_together(frames):
    images = frames_to_tensor(frames, 48)
    means = frames.reshape(5, 48, 2, 48, 2, 3).mean(axis=(2, 4)).transpose(0, 3, 1, 2) / 255.0
    np.testing.assert_allclose(images.numpy(), means, atol=1e-6)


def test_a_frame_of_the_right_size_is_only_scaled(frames):
    images = frames_to_tensor(frames, 96)
    np.testing.assert_array_equal(np.rint(images.permute(0, 2, 3, 1).numpy() * 255.0), frames)


@SIZES
def test_the_mean_level_is_kept(frames, size):
    smooth = np.tile(np.arange(96, dtype=np.uint8)[None, :, None, None], (1, 1, 96, 3))
    half_a_level = 0.5 / 255.0
    assert frames_to_tensor(smooth, size).mean().item() == pytest.approx(
        47.5 / 255.0, abs=half_a_level
    )


@pytest.mark.parametrize("size", [40, 130, (24, 60)])
def test_other_sizes_are_those_of_the_antialiased_filter_to_a_grey_level(frames, size):
    planes = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255.0
    height, width = (size, size) if isinstance(size, int) else size
    expected = torch.nn.functional.interpolate(
        planes, (height, width), mode="bilinear", antialias=True
    )
    images = frames_to_tensor(frames, size)
    torch.testing.assert_close(images, expected, atol=1.1 / 255.0, rtol=0.0)
    assert abs((images - expected).mean().item()) < 0.05 / 255.0


@pytest.mark.parametrize(
    "view",
    [
        lambda frame: frame[..., ::-1],
        lambda frame: np.broadcast_to(frame[..., :1], frame.shape),
        lambda frame: np.frombuffer(frame.tobytes(), np.uint8).reshape(frame.shape),
    ],
    ids=["reversed", "broadcast", "read-only"],
)
def test_any_view_of_a_message_is_fine(frames, view):
    expected = frames_to_tensor([np.ascontiguousarray(view(frames[0]))], 48)
    assert torch.equal(frames_to_tensor([view(frames[0])], 48), expected)


def test_the_images_do_not_change_with_the_message(frames):
    images = frames_to_tensor(frames, 96)
    before = images.clone()
    frames[:] = 0
    assert torch.equal(images, before)


@pytest.mark.parametrize(
    "frame",
    [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)],
)
def test_what_is_not_uint8_rgb_is_refused(frame):
    with pytest.raises(ShapeError, match=r"must be uint8 \[H, W, 3\], got (float32|uint8) \["):
        frames_to_tensor([frame], 2)


def test_frames_of_two_sizes_are_refused():
    with pytest.raises(ShapeError, match="must have one size, got 4x4, 6x4"):
        frames_to_tensor([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)], 2)
