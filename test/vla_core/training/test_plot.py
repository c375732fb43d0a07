# SPDX-License-Identifier: MIT
import numpy as np
from PIL import Image

from vla_core.training.plot import plot_losses


def test_loss_curve_is_a_readable_picture(tmp_path):
    steps = list(range(1, 5001))
    losses = [1.0 / step for step in steps]
    plot_losses(tmp_path / "loss.png", steps, losses, [1000, 2000], [0.3, 0.2])
    with Image.open(tmp_path / "loss.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    assert image.format == "PNG"
    assert (pixels != 255).any(axis=-1).mean() > 0.01


def test_run_without_validation_can_be_drawn(tmp_path):
    plot_losses(tmp_path / "loss.png", [1], [0.5], [], [])
    assert (tmp_path / "loss.png").stat().st_size > 0
