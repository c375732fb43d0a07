# SPDX-License-Identifier: MIT
"""Start each graph on the simulated robot, watch what it commands, stop it, print one line each.

  python benchmarks/launch_all.py                     # all eight, a minute each
  python benchmarks/launch_all.py helix --seconds 10
  python benchmarks/launch_all.py --ros2-launch       # through `ros2 launch` instead of `vla up`

A line tells: seconds to the first command, commands per second, the 50th and 99th percentile and
the maximum of the command loop's period, chunks (and plans) per second, the share of ticks that
executed, commands out of the limits, trajectories that the controller rejected, and how the graph
ended.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.qos import QoSProfile
from trajectory_msgs.msg import JointTrajectory
from vla_msgs.msg import ActionChunk, CommandStatus, LatentPlan, SimStatus

from vla_core.processing.contract import RobotContract, load_contract
from vla_core.processing.messages import stamp_ns
from vla_ros.graphs import available_graphs, get_graph
from vla_ros.polled_subscription import PolledSubscription
from vla_ros.private_domain import private_domain

START_PATIENCE_S, STOP_PATIENCE_S = 120.0, 30.0
_TOLERANCE = 1e-6


class Watcher:
    """Hears the graph and keeps every message."""

    def __init__(self, node: Any, contract: RobotContract) -> None:
        topics = {
            JointTrajectory: contract.command.topic,
            CommandStatus: "command_node/status",
            ActionChunk: "action_chunk",
            LatentPlan: "latent_plan",
            SimStatus: "sim_robot_node/status",
        }
        self._sources = {
            kind: PolledSubscription(node, kind, topic, QoSProfile(depth=1000))
            for kind, topic in topics.items()
        }
        self.heard: dict[type, list[Any]] = {kind: [] for kind in topics}

    def listen(self) -> None:
        """Take what has arrived."""
        for kind, source in self._sources.items():
            while (message := source.take_next()) is not None:
                self.heard[kind].append(message)
        time.sleep(0.002)

    def forget(self) -> None:
        """Begin anew."""
        for messages in self.heard.values():
            messages.clear()

    def rate_hz(self, kind: type, seconds: float) -> float:
        """Return the messages of a kind per second."""
        return len(self.heard[kind]) / seconds


def main() -> int:
    """Run the graphs and return 1 if one of them did not do its work."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("graphs", nargs="*", metavar="GRAPH", help="default: all")
    parser.add_argument("--seconds", type=float, default=60.0, help="time to watch (default 60)")
    parser.add_argument("--ros2-launch", action="store_true", help="start them by `ros2 launch`")
    parser.add_argument("--logs", type=Path, default=Path("out/launch"), help="default out/launch")
    args = parser.parse_args()
    args.logs.mkdir(parents=True, exist_ok=True)
    # What a shell starts with `&` ignores Ctrl-C, and so would the graphs.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    good = True
    # A replay has nothing to play unless it is told what.
    for name in args.graphs or [name for name in available_graphs() if name != "replay"]:
        with private_domain() as domain, (args.logs / f"{name}.log").open("w") as log:
            good &= run_graph(name, args.seconds, args.ros2_launch, domain, log)
    return 0 if good else 1


def run_graph(name: str, seconds: float, by_launch: bool, domain: int, log: Any) -> bool:
    """Start one graph, watch it, stop it by SIGINT, print what it did."""
    contract = load_contract(get_graph(name).resolve({})["robot"])
    context = rclpy.Context()
    rclpy.init(args=[], context=context, domain_id=domain)
    watcher = Watcher(rclpy.create_node("launch_all", context=context), contract)
    command = (
        ["ros2", "launch", "vla_ros", f"{name}.launch.py"] if by_launch else ["vla", "up", name]
    )
    start = time.monotonic()
    process = subprocess.Popen(
        command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        while (
            not watcher.heard[JointTrajectory]
            and process.poll() is None
            and time.monotonic() < start + START_PATIENCE_S
        ):
            watcher.listen()
        to_first_s = time.monotonic() - start
        watcher.forget()
        end = time.monotonic() + seconds
        while time.monotonic() < end and process.poll() is None:
            watcher.listen()
    finally:
        stop = time.monotonic()
        # As a terminal does; the launch system relies on Ctrl-C reaching the nodes too.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        status = process.wait(STOP_PATIENCE_S)
        context.try_shutdown()
    return report(name, contract, watcher, seconds, to_first_s, status, time.monotonic() - stop)


def report(
    name: str,
    contract: RobotContract,
    watcher: Watcher,
    seconds: float,
    to_first_s: float,
    status: int,
    stop_s: float,
) -> bool:
    """Print one line and return whether the graph did its work."""
    ticks = watcher.heard[CommandStatus]
    # When each tick began: a busy machine delays this process more than the command loop.
    starts_s = [stamp_ns(tick) * 1e-9 + tick.tick_lateness for tick in ticks]
    periods_ms = 1e3 * np.diff(starts_s) if len(ticks) > 1 else [np.nan]
    executing = np.mean([tick.mode == CommandStatus.EXECUTING for tick in ticks]) if ticks else 0.0
    beyond = sum(is_beyond(tick, contract) for tick in ticks)
    sims = watcher.heard[SimStatus]
    rejected = sims[-1].rejected_trajectories if sims else -1
    rate_hz = watcher.rate_hz(JointTrajectory, seconds)
    p50, p99, worst = *np.percentile(periods_ms, (50, 99)), np.max(periods_ms)
    plans = f" plans {watcher.rate_hz(LatentPlan, seconds):4.1f} Hz"
    sys.stdout.write(
        f"{name:<8} first command {to_first_s:5.1f} s  commands {rate_hz:6.1f} Hz "
        f"(period p50 {p50:5.1f} p99 {p99:5.1f} max {worst:5.1f} ms)  chunks "
        f"{watcher.rate_hz(ActionChunk, seconds):4.1f} Hz"
        f"{plans if watcher.heard[LatentPlan] else ''}  executing {100 * executing:5.1f} %  "
        f"beyond limits {beyond}  rejected {rejected}  ended {status} in {stop_s:.1f} s\n"
    )
    idle = (tick for tick in ticks if tick.mode != CommandStatus.EXECUTING)
    reasons = Counter(re.sub(r"\b\d+(\.\d+)?", "_", tick.reason) for tick in idle)
    for reason, count in reasons.most_common():
        sys.stdout.write(f"         not executing in {count} ticks: {reason}\n")
    sys.stdout.flush()
    is_on_rate = rate_hz > 0.98 * contract.command.rate_hz
    return is_on_rate and not beyond and rejected == 0 and status in (0, 130, -2)


def is_beyond(tick: Any, contract: RobotContract) -> bool:
    """Say whether a commanded position or velocity is out of the contract's limits."""
    limits = contract.action_limits.values()
    return any(
        not limit.lower - _TOLERANCE <= position <= limit.upper + _TOLERANCE
        or abs(velocity) > limit.velocity + _TOLERANCE
        for limit, position, velocity in zip(
            limits, tick.command_positions, tick.command_velocities, strict=False
        )
    )


if __name__ == "__main__":
    sys.exit(main())
