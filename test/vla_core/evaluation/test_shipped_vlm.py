# SPDX-License-Identifier: MIT
"""What the shipped vision-language model tells the policy on scenes that it never saw.

It is frozen, so a linear probe of its features says what they carry: here, where the block is that
the instruction names. The probe sees nothing but the mean of the front camera's image tokens.
"""

import numpy as np
import pytest
import torch

from vla_core.evaluation.seeds import held_out_seeds
from vla_core.models.vlm import get_vlm
from vla_core.sim.grounding import POSITION_SCALE_M, render_grounding_data
from vla_core.sim.scene import COLOURS, instruction

SEEDS = held_out_seeds(160_000, 120)
NUM_FITTED = 90
RIDGE = 0.01


@pytest.fixture(scope="module")
def scenes():
    return render_grounding_data(len(SEEDS), SEEDS[0], image_size=96)


@pytest.fixture(scope="module")
def errors_of(scenes):
    """Return a function from a VLM to the errors of its probe on the scenes not fitted to.

    The errors [M, colours] are the distances, in m, from where the probe says that the named
    block is to where the block of each colour is; the named one is in the first column.
    """
    front = torch.from_numpy(scenes.images[:, :1]).permute(0, 1, 4, 2, 3) / 255.0
    places = scenes.pose[:, 0, :, :2] * POSITION_SCALE_M  # [scenes, colours, 2]

    @torch.inference_mode()
    def errors(vlm):
        fitted_to, fitted, asked, true = [], [], [], []
        for index, colour in enumerate(COLOURS):
            tokens = vlm.encode(front, instruction(colour)).image_tokens()
            features = tokens.mean(dim=(1, 2)).double().numpy()
            is_seen = scenes.visible[:, 0, index]
            is_fitted = np.arange(len(SEEDS)) < NUM_FITTED
            named_first = np.roll(places, -index, axis=1)
            fitted.append(features[is_seen & is_fitted])
            fitted_to.append(named_first[is_seen & is_fitted, 0])
            asked.append(features[is_seen & ~is_fitted])
            true.append(named_first[is_seen & ~is_fitted])
        answers = probe(np.concatenate(fitted), np.concatenate(fitted_to), np.concatenate(asked))
        return np.linalg.norm(answers[:, None] - np.concatenate(true), axis=-1)

    return errors


def probe(features, targets, asked):
    """Fit targets [M, 2] linearly to features [M, D] and return the answers to others [N, 2]."""
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-6
    x = (features - mean) / scale
    weights = np.linalg.solve(
        x.T @ x + RIDGE * len(x) * np.eye(x.shape[1]), x.T @ (targets - targets.mean(axis=0))
    )
    return (asked - mean) / scale @ weights + targets.mean(axis=0)


def test_features_carry_where_the_block_is_and_untrained_ones_do_not(errors_of):
    pretrained = np.median(errors_of(get_vlm("tiny", pretrained=True).eval())[:, 0])
    untrained = np.median(errors_of(get_vlm("tiny").eval())[:, 0])
    assert pretrained < 0.07
    assert pretrained < 0.7 * untrained


def test_features_follow_the_colour_that_is_named(errors_of):
    errors = errors_of(get_vlm("tiny", pretrained=True).eval())
    is_named_nearest = errors.argmin(axis=1) == 0
    assert is_named_nearest.mean() > 0.6  # one of three by chance
