# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.errors import ConfigError, ShapeError
from vla_core.models.encoders import PatchVisionEncoder
from vla_core.models.encoders.history import FrameTokenizer, join_history

HISTORY = 3


def make_tokenizer(**overrides):
    torch.manual_seed(0)
    settings = {"vision_dim": 16, "hidden_dim": 8, "history_length": HISTORY, "num_cameras": 2}
    return FrameTokenizer(**{**settings, **overrides})


def make_encoder():
    torch.manual_seed(0)
    return PatchVisionEncoder(output_dim=16, hidden_dims=(8, 8, 8, 8))


def rand(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def test_tokens_are_those_of_every_camera_and_patch():
    tokenizer = make_tokenizer()
    tokens = tokenizer(make_encoder(), rand(2, 3, 2, 3, 32, 48), tokenizer.steps(3))
    assert tokens.shape == (2, 3, 2 * 2 * 3, 8)


def test_short_history_has_the_steps_of_the_end_of_a_long_one():
    tokenizer = make_tokenizer()
    assert torch.equal(tokenizer.steps(HISTORY + 1)[-2:], tokenizer.steps(2))


def test_goal_is_no_step():
    tokenizer = make_tokenizer()
    distances = torch.cdist(tokenizer.goal(), tokenizer.steps(HISTORY + 1))
    assert distances.min() > 0.0


def test_same_image_at_another_step_camera_or_place_is_another_token():
    tokenizer = make_tokenizer()
    frames = torch.full((1, 2, 2, 3, 48, 48), 0.5)
    tokens = tokenizer(make_encoder(), frames, tokenizer.steps(2)).flatten(0, 2)
    assert torch.cdist(tokens, tokens).fill_diagonal_(1.0).min() > 1e-3


def test_current_frame_comes_last_and_is_no_padding():
    images, history = rand(2, 1, 3, 8, 8), rand(2, 2, 1, 3, 8, 8)
    frames, is_pad = join_history(images, history, None, HISTORY)
    assert torch.equal(frames[:, -1], images)
    assert torch.equal(frames[:, :-1], history)
    assert not is_pad.any()


def test_history_of_one_camera_needs_no_camera_axis():
    images, history = rand(2, 1, 3, 8, 8), rand(2, 2, 3, 8, 8)
    frames, _ = join_history(images, history, None, HISTORY)
    assert torch.equal(frames[:, :-1, 0], history)


def test_padded_frames_are_black():
    is_pad = torch.tensor([[True, False], [False, False]])
    frames, joined = join_history(rand(2, 1, 3, 8, 8), rand(2, 2, 3, 8, 8), is_pad, HISTORY)
    assert (frames.flatten(2).abs().sum(-1) == 0.0).equal(joined)


def test_more_cameras_than_embeddings_are_refused():
    tokenizer = make_tokenizer()
    with pytest.raises(ShapeError, match="at most 2 cameras, got 3"):
        tokenizer(make_encoder(), rand(1, 1, 3, 3, 32, 32), tokenizer.steps(1))


@pytest.mark.parametrize(
    "settings", [{"hidden_dim": 6}, {"history_length": -1}, {"num_cameras": 0}]
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ConfigError, match="must"):
        make_tokenizer(**settings)
