# SPDX-License-Identifier: MIT
"""Random traces of the command stream through a model of each distribution's controller.

Run with ``nice python benchmarks/controller_traces.py --traces 100000 --workers 2``. Every trace
has its own latencies, lost chunks and messages, wrong clocks and missed ticks. The numbers are the
worst of all traces, as shares of a limit where nothing else is said.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import sys

from vla_core.processing.contract import RobotContract
from vla_core.sim.command_traces import Disturbance, TraceFigures, run_trace

LIMITS = {"lower": -1.5, "upper": 2.0, "velocity": 1.5, "acceleration": 6.0, "jerk": 60.0}
# Distribution of the controller, its allow_trajectory_replacement, and messages lost in a row.
CASES: tuple[tuple[str, bool | None, int], ...] = (
    ("humble", None, 1),
    ("jazzy", None, 1),
    ("rolling", False, 1),
    ("rolling", None, 1),
    ("jazzy", None, 2),
)
BATCH = 250
COLUMNS = (
    ("messages", "num_messages"),
    ("command v", "command_velocity"),
    ("command a", "command_acceleration"),
    ("command j", "command_jerk"),
    ("v", "velocity"),
    ("a", "acceleration"),
    ("j", "jerk"),
    ("range [rad]", "range_excess"),
    ("seam [rad]", "seam_jump"),
)


def main() -> None:
    """Spread the traces over the cases and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--traces", type=int, default=2_000, help="in all (default: %(default)s)")
    parser.add_argument("--ticks", type=int, default=40, help="per trace (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: %(default)s)")
    args = parser.parse_args()
    num = max(1, args.traces // len(CASES))
    header = "".join(f"{title:>12}" for title, _ in COLUMNS)
    sys.stdout.write(f"{'':<36}{header}  rejected\n")
    total = 0
    with multiprocessing.Pool(args.workers) as pool:
        for case in CASES:
            run = functools.partial(run_batch, case, args.ticks)
            batches = [range(first, min(first + BATCH, num)) for first in range(0, num, BATCH)]
            figures = TraceFigures()
            for part in pool.imap_unordered(run, batches):
                figures.add(part)
            total += figures.num_traces
            distro, replacement, num_lost = case
            name = distro if replacement is None else f"{distro}, replacement {replacement}"
            name += f", {num_lost} lost in a row" if num_lost > 1 else ""
            row = "".join(f"{getattr(figures, field):12.5g}" for _, field in COLUMNS)
            sys.stdout.write(f"{name:<36}{row}  {figures.rejections or 0}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{total} traces of {args.ticks} ticks\n")


def run_batch(case: tuple[str, bool | None, int], num_ticks: int, seeds: range) -> TraceFigures:
    """Run some traces of one case, half of them with limited jerk."""
    distro, replacement, num_lost = case
    figures = TraceFigures()
    for seed in seeds:
        figures.add(
            run_trace(
                make_contract(has_jerk=seed % 2 == 0),
                distro,
                seed,
                num_ticks=num_ticks,
                disturbance=Disturbance(lost_in_a_row=num_lost),
                allow_trajectory_replacement=replacement,
                blending="ensemble" if seed % 4 > 1 else "blend",
            )
        )
    return figures


@functools.lru_cache
def make_contract(*, has_jerk: bool) -> RobotContract:
    """Return two joints whose chunks count for a second."""
    limits = {**LIMITS, "jerk": LIMITS["jerk"] if has_jerk else None}
    action = {"kind": "joint_position", "joints": ["a", "b"], "rate_hz": 10.0, "max_age_s": 1.0}
    return RobotContract.from_dict(
        {
            "robot": "two_joints",
            "cameras": {"front": {"topic": "image", "width": 8, "height": 8, "max_age_s": 0.2}},
            "state": {"topic": "joint_states", "joints": ["a", "b"], "max_age_s": 0.1},
            "action": action,
            "command": {"rate_hz": 50.0, "output": "joint_trajectory", "topic": "trajectory"},
            "limits": {"a": limits, "b": limits},
        }
    )


if __name__ == "__main__":
    main()
