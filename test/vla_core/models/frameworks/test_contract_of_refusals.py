# SPDX-License-Identifier: MIT
"""What every framework refuses, and how."""

import numpy as np
import pytest
import torch

from vla_core.errors import ConfigError, ShapeError
from vla_core.models.action_heads import DDPMActionHead

CHUNK_SIZE, BATCH = 4, 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.rand(3, 32, 32)}, r"images must be \[B, 3, H, W\] or .*\[3, 32, 32\]"),
        ({"images": torch.rand(3, 1, 3, 32, 32)}, "images must be from 2 cameras .*got 1"),
        ({"images": "picture.png"}, "images must be a tensor.*got str"),
        ({"proprioception": torch.rand(3, 6)}, r"\[3, 5\] \(batch, state_dim\).*got .*\[3, 6\]"),
        ({"proprioception": "red"}, r"proprioception must be a tensor \[3, 5\].*got str"),
        ({"actions": torch.rand(3, 4, 2)}, r"actions must be \[3, 4, 3\].*got \[3, 4, 2\]"),
        ({"actions": torch.rand(3, 4)}, r"actions must be \[3, 4, 3\].*got \[3, "),
        ({"text": ["one", "two"]}, "text must be one string or a list of 3.*got 2"),
        ({"text": []}, "text must be one string or a list of 3.*got 0"),
        ({"text": 5}, "text must be one string or a list of 3.*got int"),
        ({"text": b"lift"}, "text must be one string or a list of 3.*got bytes"),
        ({"text": [1, 2, 3]}, "text must be strings, got a list of int"),
        ({"images": torch.rand(3, 0, 3, 32, 32)}, r"at least one row, camera.*\[3, 0, 3, 32"),
        ({"images": torch.rand(0, 2, 3, 32, 32)}, r"at least one row, camera.*\[0, 2, 3, 32"),
        ({"images": torch.zeros(3, 2, 3, 32, 32).byte()}, "images must be floating point"),
        ({"actions": np.zeros((3, 4, 3))}, r"actions must be a tensor \[3, 4, 3\], got ndarray"),
        ({"action_is_pad": [[False] * 4] * 3}, r"action_is_pad must be a bool tensor \[3, 4\]"),
        ({"action_mask": [[True] * 4] * 3}, "action_mask must be a bool tensor.*got list"),
    ],
)
def test_wrong_inputs_are_refused_with_what_is_expected(build, change, message, make_batch):
    with pytest.raises(ShapeError, match=message):
        build()(**make_batch(**change))


@pytest.mark.parametrize("size", ["action_dim", "chunk_size"])
def test_a_size_of_zero_is_refused(build, size):
    if build().framework == "custom":  # Its size is that of its head.
        with pytest.raises(ConfigError, match=f"{size} must be at least 1, got 0"):
            DDPMActionHead(32, **{"action_dim": 3, size: 0})
        return
    name = "plan_horizon" if size == "chunk_size" and build().framework == "helix" else size
    with pytest.raises(ConfigError, match=f"{name} must be at least 1, got 0"):
        build(**{size: 0})


def test_what_is_no_vlm_is_refused_with_how_to_get_one(build):
    config = build().get_config()
    if "vlm" in config:
        keywords = {key: value for key, value in config.items() if key != "framework"}
        with pytest.raises(ConfigError, match=r"get_vlm\('tiny'\), got 'tiny'"):
            type(build())(**{**keywords, "vlm": "tiny"})


def test_a_misspelt_keyword_is_refused_and_not_passed_over(build, make_batch):
    is_pad = torch.zeros(BATCH, CHUNK_SIZE, dtype=torch.bool)
    with pytest.raises(TypeError, match=r"keywords \['action_is_padded'\]"):
        build()(**make_batch(), action_is_padded=is_pad)
