# SPDX-License-Identifier: MIT
"""Augmentation changes what it says, image by image, and nothing else."""

import pytest
import torch

from vla_core.errors import ConfigError, ShapeError
from vla_core.processing.augmentation import ImageAugmentation


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    return torch.rand(3, 2, 3, 16, 24, generator=generator(7))


def test_nothing_asked_for_changes_nothing(images):
    assert torch.equal(ImageAugmentation()(images), images)


def test_every_part_keeps_shape_and_range(images):
    everything = ImageAugmentation(
        crop=0.2, shift=0.1, brightness=0.5, contrast=0.5, saturation=0.5
    )
    changed = everything(images, generator())
    assert changed.shape == images.shape
    assert changed.min() >= 0.0
    assert changed.max() <= 1.0
    assert torch.equal(changed, everything(images, generator()))
    assert not torch.equal(changed, everything(images, generator(1)))


def test_every_image_changes_in_its_own_way():
    same = torch.rand(1, 3, 8, 8, generator=generator()).expand(2, 3, 8, 8)
    first, second = ImageAugmentation(crop=0.5, brightness=0.5)(same, generator())
    assert not torch.equal(first, second)


def test_shift_moves_by_at_most_its_share():
    image = torch.zeros(200, 3, 20, 20)
    image[..., 10, 10] = 1.0
    moved = ImageAugmentation(shift=0.1)(image, generator())
    rows, columns = torch.nonzero(moved[:, 0].amax(dim=2) > 0.2)[:, 1], moved[:, 0].amax(dim=1)
    assert 8 <= int(rows.min()) < int(rows.max()) <= 12
    assert int(torch.nonzero(columns > 0.2)[:, 1].max()) <= 12


def test_crop_shows_a_part_of_the_image_enlarged():
    ramp = torch.linspace(0, 1, 32).expand(100, 3, 32, 32)
    cropped = ImageAugmentation(crop=0.5)(ramp, generator())
    spread = cropped[:, 0, 0, -1] - cropped[:, 0, 0, 0]
    assert (spread <= 1.0 + 1e-5).all()
    assert spread.min() >= 0.45
    assert spread.max() > 0.8


@pytest.mark.parametrize("part", ["contrast", "saturation"])
def test_grey_of_one_level_has_neither_contrast_nor_saturation(part):
    grey = torch.full((4, 3, 8, 8), 0.4)
    torch.testing.assert_close(ImageAugmentation(**{part: 0.9})(grey, generator()), grey)


def test_saturation_leaves_the_luma():
    images = 0.3 + 0.4 * torch.rand(4, 3, 8, 8, generator=generator())
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    changed = ImageAugmentation(saturation=0.3)(images, generator())
    torch.testing.assert_close((changed * luma).sum(1), (images * luma).sum(1))


def test_values_out_of_range_and_other_shapes_are_refused():
    with pytest.raises(ConfigError, match=r"shift must be in \[0, 1\), got 1.5"):
        ImageAugmentation(shift=1.5)
    with pytest.raises(ShapeError, match=r"\[\.\.\., 3, H, W\], got \[2, 8, 8\]"):
        ImageAugmentation()(torch.zeros(2, 8, 8))
