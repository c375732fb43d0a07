# SPDX-License-Identifier: MIT
"""Measure the jump where one chunk follows another, by latency and kind of real-time chunking.

The shipped policy, the command loop and the simulated arm run in one process on simulated time: an
inference takes as long as the table says, a fifth more or less, whatever it takes here. Run with
``python benchmarks/chunk_seams.py``; the jumps are distances between the old and the new chunk's
command at the instant of the switch, the largest of all joints, in mrad.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence

import numpy as np

from vla_core.inference.command_stream import CommandStream
from vla_core.inference.policy import Policy
from vla_core.inference.real_time_chunking import CHUNKING_MODES, RealTimeChunking
from vla_core.types import ActionChunk, Observation

LATENCIES_MS = (20.0, 50.0, 100.0, 200.0, 400.0, 800.0)
FIRST_SEED = 70_000
FRAME_PERIOD_S = 0.05


def main(arguments: Sequence[str] | None = None) -> None:
    """Run episodes and print a row per latency and kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="groot")
    parser.add_argument("--episodes", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of an episode")
    parser.add_argument("--latencies", type=float, nargs="+", default=LATENCIES_MS, help="in ms")
    options = parser.parse_args(arguments)
    os.environ.setdefault("MUJOCO_GL", "egl")
    policy = Policy.from_checkpoint(options.checkpoint)
    columns = ("latency", "chunking", "switches", "median", "p95", "max", "lifted")
    sys.stdout.write("".join(f"{name:>10}" for name in columns) + "\n")
    for latency_ms in options.latencies:
        for mode in CHUNKING_MODES:
            episodes = [
                run_episode(policy, mode, latency_ms * 1e-3, FIRST_SEED + number, options.seconds)
                for number in range(options.episodes)
            ]
            jumps = np.concatenate([jumps for jumps, _ in episodes]) * 1e3
            figures = (*np.percentile(jumps, (50.0, 95.0)), jumps.max())
            row = f"{latency_ms:7.0f} ms{mode:>10}{len(jumps):10}"
            row += "".join(f"{figure:10.1f}" for figure in figures)
            row += f"{sum(lifted for _, lifted in episodes):8}/{len(episodes)}"
            sys.stdout.write(row + "\n")
            sys.stdout.flush()


def run_episode(
    policy: Policy, mode: str, latency_s: float, seed: int, duration_s: float
) -> tuple[list[float], bool]:
    """Return the jump of every switch in rad, and whether the block was lifted.

    Args:
        policy: Policy.
        mode: One of ``CHUNKING_MODES``.
        latency_s: Time from an observation to its chunk's arrival.
        seed: Decides the scene.
        duration_s: How long to go on.
    """
    from vla_core.sim.scene import TIMESTEP_S, TabletopSim, instruction

    # An arm that waits 0.8 s for a chunk must be allowed to follow the one before as long.
    action = dataclasses.replace(policy.contract.action, max_age_s=3.0)
    contract = dataclasses.replace(policy.contract, action=action)
    sim = TabletopSim()
    sim.reset(seed)
    stream, chunking = CommandStream(contract), RealTimeChunking(mode)
    tick_ns = round(contract.command.dt_s * 1e9)
    ticks_per_frame = round(FRAME_PERIOD_S / contract.command.dt_s)
    command = sim.joint_positions()
    pending: tuple[int, ActionChunk] | None = None
    rng = np.random.default_rng(seed)
    sequence, is_lifted, jumps = 0, False, []
    for tick in range(round(duration_s / contract.command.dt_s)):
        now_ns = tick_ns * (tick + 1)
        is_switch = pending is not None and now_ns >= pending[0]
        if pending is not None and is_switch:
            sequence += 1
            chunking.put_chunk(pending[1], sequence)
            stream.put_chunk(pending[1], sequence=sequence, epoch=0, now_ns=now_ns)
            pending = None
        if pending is None and tick % ticks_per_frame == 0:
            known = chunking.known_steps(now_ns)
            images = {name: sim.render(name) for name in contract.cameras}
            observation = Observation(
                images=images,
                state=sim.joint_positions(),
                instruction=instruction(sim.task_status().target),
                stamp_ns=now_ns,
                image_stamps_ns=dict.fromkeys(images, now_ns),
                state_stamp_ns=now_ns,
            )
            chunk = policy.predict_chunk(
                observation,
                committed=None if known is None else known.committed,
                overlap=None if known is None else known.overlap,
            )
            pending = now_ns + round(latency_s * rng.uniform(0.8, 1.2) * 1e9), chunk
        stream.put_joint_state(sim.joint_positions(), now_ns)
        decided = stream.tick(now_ns)
        chunking.put_execution(decided.chunk_sequence, now_ns)
        if is_switch and sequence > 1:
            jumps.append(decided.switch_jump)
        if decided.position is not None:
            command = decided.position
        sim.step(command, round(contract.command.dt_s / TIMESTEP_S))
        is_lifted = is_lifted or sim.task_status().success
    sim.close()
    return jumps, is_lifted


if __name__ == "__main__":
    main()
