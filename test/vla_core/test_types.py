# SPDX-License-Identifier: MIT
import dataclasses

import numpy as np
import pytest

from vla_core.errors import ShapeError
from vla_core.types import ActionChunk


def make_chunk(**overrides):
    fields = {
        "actions": np.zeros((16, 2)),
        "policy_actions": np.zeros((16, 2), np.float32),
        "joints": ("joint_1", "joint_2"),
        "dt_s": 0.1,
        "stamp_ns": 1_700_000_000_000_000_001,
        "checkpoint_id": "0123456789ab",
        "instruction": "",
    }
    return ActionChunk(**{**fields, **overrides})


def test_a_chunk_ends_when_its_last_target_is_reached():
    assert make_chunk().end_ns == 1_700_000_000_000_000_001 + 1_600_000_000


def test_a_chunk_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_chunk().dt_s = 0.2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"joints": ("joint_1",)}, r"actions must be \[K, 1\] for joints.*got \[16, 2\]"),
        ({"actions": np.zeros(2)}, r"actions must be \[K, 2\].*got \[2\]"),
        ({"actions": np.zeros((0, 2))}, "at least one step"),
        ({"policy_actions": np.zeros((8, 2))}, r"shape of actions \[16, 2\], got \[8, 2\]"),
        ({"dt_s": 0.0}, r"dt_s must be positive, got 0\.0"),
        ({"dt_s": float("nan")}, "dt_s must be positive, got nan"),
    ],
)
def test_a_chunk_whose_parts_do_not_fit_is_refused(overrides, message):
    with pytest.raises(ShapeError, match=message):
        make_chunk(**overrides)
