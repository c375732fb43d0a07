# SPDX-License-Identifier: MIT
"""Time one tick of the command loop's maths: sample the chunk, limit the target, plan the stop.

Run with ``python benchmarks/limiter_and_sampler.py``; the numbers are microseconds per tick.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from vla_core.inference.action_chunks import ChunkSampler
from vla_core.inference.safety import CommandLimiter
from vla_core.processing.contract import load_contract
from vla_core.types import ActionChunk

NUM_TICKS = 5_000
PERCENTILES = (50, 90, 99)


def main() -> None:
    """Follow random chunks that arrive at the policy's rate and print percentiles per stage."""
    contract = load_contract("tabletop")
    limiter = CommandLimiter(contract.action_limits, contract.command.dt_s)
    sampler = ChunkSampler(contract.action.joints, max_age_s=contract.action.max_age_s)
    rng = np.random.default_rng(0)
    position = (limiter.lower + limiter.upper) / 2.0
    velocity = np.zeros_like(position)
    tick_ns = round(contract.command.dt_s * 1e9)
    ticks_per_chunk = round(contract.command.rate_hz / contract.action.rate_hz)

    times: dict[str, list[int]] = {"add": [], "sample": [], "limit": [], "stop": []}
    for tick in range(NUM_TICKS):
        now_ns = tick * tick_ns
        if tick % ticks_per_chunk == 0:
            steps = rng.normal(0.0, 0.05, (16, len(position)))
            chunk = ActionChunk(
                actions=position + np.cumsum(steps, axis=0),
                policy_actions=steps.astype(np.float32),
                joints=contract.action.joints,
                dt_s=contract.action.dt_s,
                stamp_ns=now_ns,
                checkpoint_id="benchmark",
                instruction="",
            )
            begin = time.perf_counter_ns()
            sampler.add(chunk, now_ns=now_ns, start=position)
            times["add"].append(time.perf_counter_ns() - begin)
        marks = [time.perf_counter_ns()]
        target, target_velocity = sampler.sample(now_ns + tick_ns)
        marks.append(time.perf_counter_ns())
        position, velocity, *_ = limiter.limit(target, position, velocity, target_velocity)
        marks.append(time.perf_counter_ns())
        limiter.stop_trajectory(position, velocity)
        marks.append(time.perf_counter_ns())
        for stage, ns in zip(("sample", "limit", "stop"), np.diff(marks), strict=True):
            times[stage].append(int(ns))

    header = "".join(f"{f'p{p}':>8}" for p in PERCENTILES)
    lines = [f"{'us':<8}{header}"]
    for stage, values in times.items():
        row = "".join(f"{v / 1e3:8.1f}" for v in np.percentile(values, PERCENTILES))
        lines.append(f"{stage:<8}{row}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
