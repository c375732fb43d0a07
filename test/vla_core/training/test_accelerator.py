# SPDX-License-Identifier: MIT
import pytest

from vla_core.errors import ConfigError
from vla_core.training.accelerator import start_accelerator


def test_weights_that_accelerate_would_divide_are_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")  # As `accelerate launch --use_fsdp` does.
    with pytest.raises(ConfigError, match=r"by FSDP, but .* --multi_gpu, and set shard_weights"):
        start_accelerator("cpu", batch_size=8, accumulation=1)
