# SPDX-License-Identifier: MIT
import shutil
from types import SimpleNamespace

import pytest
import torch

from vla_core.errors import TrainingError
from vla_core.training.failures import (
    explain_failures,
    explain_full_disk,
    require_finite,
    require_memory,
)
from vla_core.training.recipe import load_recipe

_MORE_THAN_ANY_MACHINE_HAS = 1 << 60


@pytest.fixture
def recipe():
    return load_recipe("groot", ["precision=fp32"])


def test_lack_of_memory_says_what_needs_less(recipe):
    expected = r"ran out while a step was trained.*gradient_accumulation=2.*batch_size below 256"
    with (
        pytest.raises(TrainingError, match=f"{expected}.*precision=bf16"),
        explain_failures(recipe, "a step was trained"),
    ):
        torch.empty(_MORE_THAN_ANY_MACHINE_HAS, dtype=torch.uint8)


def test_lack_of_memory_before_the_steps_is_not_blamed_on_the_batch(recipe):
    with (
        pytest.raises(
            TrainingError, match=r"Lower image_size \(now 96\).*cache_features"
        ) as caught,
        explain_failures(recipe, "the frames were prepared", in_training=False),
    ):
        torch.empty(_MORE_THAN_ANY_MACHINE_HAS, dtype=torch.uint8)
    assert "batch" not in str(caught.value)


def test_lack_of_gpu_memory_is_recognised(recipe):
    with (
        pytest.raises(TrainingError, match="CUDA out of memory"),
        explain_failures(recipe, "a step was trained"),
    ):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_other_errors_are_not_taken_for_a_lack_of_memory(recipe):
    with pytest.raises(RuntimeError, match="shapes"), explain_failures(recipe, "training"):
        torch.ones(2, 3) @ torch.ones(2, 3)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_text("loss"),
        lambda path: torch.save({"state": torch.ones(4)}, path),
    ],
)
def test_full_disk_is_named_whatever_writes(write, tmp_path, monkeypatch):
    full = tmp_path / "file"
    full.symlink_to("/dev/full")
    # As on a disk without space; this one has some, and the error is another one then.
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    with (
        pytest.raises(TrainingError, match=r"disk of .* is full .*--resume"),
        explain_full_disk(tmp_path),
    ):
        write(full)


def test_other_errors_are_not_taken_for_a_full_disk(tmp_path):
    with pytest.raises(FileNotFoundError), explain_full_disk(tmp_path):
        (tmp_path / "missing").read_text()


@pytest.mark.parametrize(("precision", "is_proposed"), [("fp32", False), ("bf16", True)])
def test_full_precision_is_proposed_where_it_is_not_in_use(precision, is_proposed):
    recipe = load_recipe("groot", [f"precision={precision}"])
    with pytest.raises(TrainingError, match="loss is nan at step 7") as caught:
        require_finite("loss", float("nan"), 7, recipe, None)
    assert ("precision=fp32" in str(caught.value)) is is_proposed


def test_what_does_not_fit_into_memory_is_refused_before_it_is_loaded():
    expected = r"images need 1152921504\.6 GB of memory, but [\d.]+ GB are available; resize"
    with pytest.raises(TrainingError, match=expected):
        require_memory(_MORE_THAN_ANY_MACHINE_HAS, "images", "resize them")
    require_memory(1, "images", "resize them")


def test_block_that_cannot_be_compiled_says_what_to_do(recipe):
    def fail(graph, inputs):
        raise RuntimeError("no C++ compiler")

    compiled = torch.compile(torch.nn.Linear(2, 2), backend=fail)
    with (
        pytest.raises(TrainingError, match=r"could not be compiled.*or set compile=false"),
        explain_failures(recipe, "a step was trained"),
    ):
        compiled(torch.ones(1, 2))
