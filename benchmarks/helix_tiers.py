# SPDX-License-Identifier: MIT
"""Time the three tiers of Helix apart, each as the process that runs it would.

Run with ``python benchmarks/helix_tiers.py``; the numbers are milliseconds per call with one
observation, one thread and the small VLM.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from vla_core.models.frameworks import HelixVLA
from vla_core.models.vlm import get_vlm

NUM_CALLS, NUM_WARM_UP_CALLS = 100, 5
PERCENTILES = (50, 90, 99)
NUM_CAMERAS, STATE_DIM = 2, 14


def main() -> None:
    """Print percentiles and the rate of each tier."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = HelixVLA(get_vlm("tiny"), state_dim=STATE_DIM, num_cameras=NUM_CAMERAS).eval()
    images, state = torch.rand(1, NUM_CAMERAS, 3, 96, 96), torch.rand(1, STATE_DIM)
    with torch.inference_mode():
        plan = model.planner(images, "pick up the red block")
        sequence = model.policy(plan, images, state)
        calls: dict[str, Callable[[], object]] = {
            "planner": lambda: model.planner(images, "pick up the red block"),
            "policy": lambda: model.policy(plan, images, state),
            "motor_control": lambda: model.motor_control(sequence, state, elapsed=0.4),
        }
        for tier, call in calls.items():
            times_ms = _time_calls(call)
            shown = "  ".join(
                f"p{percentile} {value:7.2f} ms"
                for percentile, value in zip(
                    PERCENTILES, np.percentile(times_ms, PERCENTILES), strict=True
                )
            )
            sys.stdout.write(f"{tier:<14}{shown}  {1e3 / np.median(times_ms):6.0f} Hz\n")


def _time_calls(call: Callable[[], object]) -> list[float]:
    """Return the duration of each call in ms."""
    times_ms = []
    for _ in range(NUM_WARM_UP_CALLS + NUM_CALLS):
        begin = time.perf_counter()
        call()
        times_ms.append(1e3 * (time.perf_counter() - begin))
    return times_ms[NUM_WARM_UP_CALLS:]


if __name__ == "__main__":
    main()
