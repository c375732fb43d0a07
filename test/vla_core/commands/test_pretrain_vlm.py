# SPDX-License-Identifier: MIT
import json

import pytest
import torch

from vla_core.cli import main
from vla_core.commands import pretrain_vlm
from vla_core.models.vlm import get_vlm


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A folder of weights after three steps on a few scenes."""
    folder = tmp_path_factory.mktemp("vlm")
    num_threads = torch.get_num_threads()
    arguments = ["--scenes", "8", "--steps", "3", "--batch-size", "4", "--workers", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain_vlm, "HELD_OUT_SCENES", 8)
        assert main(["pretrain-vlm", *arguments, "--output", str(folder)]) == 0
    torch.set_num_threads(num_threads)
    return folder


def test_weights_are_trained_and_load_as_those_of_the_tiny_vlm(pretrained):
    images = torch.rand(1, 2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    loaded = get_vlm("tiny", pretrained=pretrained).encode(images, "red block").features
    untrained = get_vlm("tiny", seed=0).encode(images, "red block").features
    assert torch.isfinite(loaded).all()
    assert not torch.allclose(loaded, untrained, atol=1e-4)


def test_report_has_the_settings_and_the_error_on_scenes_held_out(pretrained):
    report = json.loads((pretrained / "pretraining.json").read_text())
    assert (report["scenes"], report["steps"], report["held_out_scenes"]) == (8, 3, 8)
    assert report["held_out"]["front_error_median_m"] > 0.0
    assert 0.0 <= report["held_out"]["cell_accuracy"] <= 1.0
    assert (pretrained / "loss.png").stat().st_size > 1000
