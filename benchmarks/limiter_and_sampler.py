# SPDX-License-Identifier: MIT
"""Time the command loop's maths: its parts, whole ticks, and what a new chunk costs.

Run with ``python benchmarks/limiter_and_sampler.py``; the numbers are microseconds per call, on
the machine as it is and while another process keeps one core busy. As command_node does, it asks
for real-time priority, which only root or a user with `ulimit -r` gets.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

import vla_core.sim
from vla_core.inference.action_chunks import ChunkSampler
from vla_core.inference.command_stream import CommandStream
from vla_core.inference.motion import COMMIT_S
from vla_core.inference.safety import CommandLimiter
from vla_core.processing.contract import RobotContract, load_contract
from vla_core.types import ActionChunk

NUM_TICKS = 5_000
PERCENTILES = (50, 90, 99)
HOME = np.array([0.0, 0.11231, 1.56362, 0.0, 1.46566, 0.0, 0.04])
URDF = Path(vla_core.sim.__file__).parent / "assets" / "tabletop_arm.urdf"
KINEMATICS = {"urdf": str(URDF), "base_link": "base_link", "tip_link": "tool0"}
GRIPPERS = {"gripper_joint": {"open": 0.045, "closed": 0.0}}
BOX = {"lower": [0.1, -0.4, 0.02], "upper": [0.6, 0.4, 0.6]}


SETTINGS: dict[str, dict[str, Any]] = {
    "": {},
    ", ensemble": {"blending": "ensemble"},
    ", jerk": {"jerk": 200.0},
    ", workspace": {"workspace": BOX},
    ", jerk and workspace": {"jerk": 200.0, "workspace": BOX},
    ", end effector": {"kind": "end_effector_delta"},
}


def main() -> None:
    """Follow random chunks that arrive at the policy's rate and print percentiles per stage."""
    header = "".join(f"{f'p{p}':>8}" for p in PERCENTILES)
    cases = ("as it is", "one core busy")
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        sys.stdout.write("without real-time priority: the highest percentiles are the machine's\n")
    sys.stdout.write(f"{'':<32}" + "".join(f"{case:>24}" for case in cases) + "\n")
    sys.stdout.write(f"{'us':<32}{header}{header}\n")
    rows: dict[str, str] = {}
    for is_busy in (False, True):
        with one_core_busy() if is_busy else nullcontext():
            times = time_parts()
            for name, settings in SETTINGS.items():
                stages = time_ticks(**settings)
                times |= {f"{stage}{name}": values for stage, values in stages.items()}
        for stage, values in times.items():
            row = "".join(f"{v / 1e3:8.1f}" for v in np.percentile(values, PERCENTILES))
            rows[stage] = rows.get(stage, "") + row
    for stage, row in rows.items():
        sys.stdout.write(f"{stage:<32}{row}\n")


@contextmanager
def one_core_busy() -> Iterator[None]:
    """Keep the last core of this process busy with another one, and stay on the others."""
    context = multiprocessing.get_context("spawn")
    cores = os.sched_getaffinity(0)
    core = max(cores)
    is_busy = context.Event()
    process = context.Process(target=keep_busy, args=(core, is_busy), daemon=True)
    process.start()
    is_busy.wait()
    os.sched_setaffinity(0, cores - {core} or cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        process.kill()
        process.join()


def keep_busy(core: int, is_busy: Any) -> None:
    """Multiply matrices on one core until killed."""
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    os.sched_setaffinity(0, {core})
    matrix = np.ones((200, 200))
    is_busy.set()
    while True:
        matrix @ matrix


def make_chunk(contract: RobotContract, actions: np.ndarray, stamp_ns: int) -> ActionChunk:
    """Return a chunk of actions [K, A] of the contract's kind."""
    return ActionChunk(
        actions=actions,
        policy_actions=actions.astype(np.float32),
        joints=contract.action_names,
        dt_s=contract.action.dt_s,
        stamp_ns=stamp_ns,
        checkpoint_id="benchmark",
        instruction="",
        kind=contract.action.kind,
    )


def time_parts() -> dict[str, list[int]]:
    """Time sampler and limiter alone."""
    contract = load_contract("sim")
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
            chunk = make_chunk(contract, position + np.cumsum(steps, axis=0), now_ns)
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
    return times


def time_ticks(
    *,
    jerk: float | None = None,
    kind: str = "joint_position",
    workspace: Mapping[str, Any] | None = None,
    **settings: Any,
) -> dict[str, list[int]]:
    """Time whole ticks of the command stream, and its chunks."""
    data = load_contract("sim").to_dict()
    data["action"]["kind"] = kind
    if jerk is not None:
        data["limits"] = {name: {**limit, "jerk": jerk} for name, limit in data["limits"].items()}
    if workspace is not None:
        data |= {"workspace": workspace, "kinematics": KINEMATICS}
    if kind == "end_effector_delta":
        data |= {"kinematics": KINEMATICS, "grippers": GRIPPERS}
    contract = RobotContract.from_dict(data)
    stream = CommandStream(contract, commit_s=COMMIT_S, **settings)
    rng = np.random.default_rng(0)
    tick_ns = round(contract.command.dt_s * 1e9)
    ticks_per_chunk = round(contract.command.rate_hz / contract.action.rate_hz)
    measured = HOME
    times: dict[str, list[int]] = {"tick": [], "chunk": []}
    for tick in range(NUM_TICKS):
        now_ns = tick * tick_ns
        stream.put_joint_state(measured, now_ns)
        if tick % ticks_per_chunk == 0:
            if kind == "end_effector_delta":
                # There and back again: the arm stays where it can move in all directions.
                there = rng.normal(0.0, (*[0.005] * 3, *[0.02] * 3, 0.0), (8, 7))
                actions = np.vstack((there, -there[::-1]))
                actions[:, 6] = 0.02
            else:
                actions = HOME + np.cumsum(rng.normal(0.0, 0.03, (16, 7)), axis=0)
            chunk = make_chunk(contract, actions, now_ns)
            begin = time.perf_counter_ns()
            stream.put_chunk(chunk, sequence=1, epoch=1, now_ns=now_ns)
            times["chunk"].append(time.perf_counter_ns() - begin)
        begin = time.perf_counter_ns()
        plan = stream.tick(now_ns).plan
        times["tick"].append(time.perf_counter_ns() - begin)
        if plan is not None:
            measured = plan[0][0]
    return times


if __name__ == "__main__":
    main()
