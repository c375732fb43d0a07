# SPDX-License-Identifier: MIT
"""Time the command loop, at 200 Hz by default, quiet and while ACT infers on the same processors.

Run with ``python benchmarks/command_period.py`` in an environment with ROS 2
(``. scripts/env.sh``). command_node runs as a process of its own and executes chunks of this one;
``act`` is a process that predicts without pause with the published ACT, 51.6 M parameters, on one
frame of 480x640. Printed are percentiles of the time between two commands, from the stamps and
latenesses in the node's status, and the load of the node.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

CHUNK_PERIOD_S = 0.1


def main() -> int:
    """Measure both cases and print one row each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each run")
    parser.add_argument("--threads", type=int, default=1, help="torch threads of ACT")
    parser.add_argument("--rate", type=float, default=200.0, help="commands per second")
    arguments = parser.parse_args()
    sys.stdout.write(
        f"{'':<8}{'ticks':>7}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}{'cpu':>7}{'inferences':>12}\n"
    )
    for label in ("quiet", "act"):
        periods_ms, cpu_share, num_inferences = _measure(
            arguments.rate, arguments.seconds, arguments.threads if label == "act" else 0
        )
        p50, p99, highest = np.percentile(periods_ms, (50, 99, 100))
        sys.stdout.write(
            f"{label:<8}{len(periods_ms):>7}{p50:>9.2f}{p99:>9.2f}{highest:>9.2f}"
            f"{cpu_share:>7.0%}{num_inferences:>12}\n"
        )
        sys.stdout.flush()
    return 0


def _measure(rate_hz: float, seconds: float, num_threads: int) -> tuple[Any, float, int]:
    """Return periods in ms, the processor time of command_node as a share, and inferences."""
    from vla_core.processing.contract import load_contract
    from vla_ros.private_domain import private_domain

    context = multiprocessing.get_context("spawn")
    is_over, count = context.Event(), context.Value("i", 0)
    data = load_contract("sim").to_dict()
    data["command"]["rate_hz"] = rate_hz
    with private_domain() as domain, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "robot.yaml"
        path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
        act = None
        if num_threads:
            act = context.Process(target=_infer, args=(num_threads, is_over, count), daemon=True)
            act.start()
            while count.value == 0:
                time.sleep(0.1)
        node = subprocess.Popen(
            [
                *(sys.executable, "-m", "vla_ros.nodes.command_node"),
                *("--ros-args", "-p", f"contract:={path}", "--log-level", "error"),
            ]
        )
        before = count.value
        try:
            periods_ms, cpu_share = _drive(domain, load_contract(path), seconds, node.pid)
        finally:
            node.terminate()
            node.wait()
            is_over.set()
        num_inferences = count.value - before
        if act is not None:
            act.join()
    return periods_ms, cpu_share, num_inferences


def _drive(domain: int, contract: Any, seconds: float, pid: int) -> tuple[Any, float]:
    """Send chunks and joint states, and collect what the node says of its ticks."""
    import rclpy
    from sensor_msgs.msg import JointState
    from vla_msgs.msg import ActionChunk, CommandStatus

    from vla_core.processing.messages import stamp_ns
    from vla_core.types import ActionChunk as Chunk
    from vla_ros.conversions import (
        action_chunk_message,
        command_qos,
        joint_state_message,
        sensor_publisher_qos,
        status_qos,
    )
    from vla_ros.polled_subscription import AbsoluteRate, Periodic, PolledSubscription

    rclpy.init(domain_id=domain)
    node = rclpy.create_node("driver")
    joints = contract.action.joints
    chunks = node.create_publisher(ActionChunk, "action_chunk", command_qos())
    states = node.create_publisher(
        JointState,
        contract.state.topic,
        sensor_publisher_qos(),
    )
    profile = status_qos()
    profile.depth = 1000
    status = PolledSubscription(node, CommandStatus, "command_node/status", profile)
    middle = np.array(
        [(limit.lower + limit.upper) / 2 for limit in contract.action_limits.values()]
    )
    rest = np.zeros_like(middle)
    chunk_due, rate = Periodic(CHUNK_PERIOD_S), AbsoluteRate(0.01)
    times_ms: list[float] = []
    begin, sequence = None, 0
    while begin is None or time.monotonic() - begin[0] < seconds:
        now_ns = node.get_clock().now().nanoseconds
        states.publish(joint_state_message(joints, middle, rest, stamp_ns=now_ns))
        if chunk_due.is_due():
            sequence += 1
            actions = middle + 0.02 * np.sin(np.arange(16)[:, None] * 0.4 + sequence)
            chunk = Chunk(
                actions=actions,
                policy_actions=actions.astype(np.float32),
                joints=joints,
                dt_s=contract.action.dt_s,
                stamp_ns=now_ns,
                checkpoint_id="benchmark",
                instruction="",
            )
            chunks.publish(
                action_chunk_message(
                    chunk,
                    sequence=sequence,
                    epoch=1,
                    inference_start_ns=now_ns,
                    generation_ns=now_ns,
                    image_stamps_ns={},
                    state_stamp_ns=now_ns,
                )
            )
        while (message := status.take_next()) is not None:
            if message.mode == CommandStatus.EXECUTING:
                begin = begin or (time.monotonic(), _cpu_s(pid))
                times_ms.append(stamp_ns(message) * 1e-6 + message.tick_lateness * 1e3)
        rate.sleep()
    assert begin is not None
    cpu_share = (_cpu_s(pid) - begin[1]) / (time.monotonic() - begin[0])
    rclpy.shutdown()
    return np.diff(times_ms), cpu_share


def _cpu_s(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _infer(num_threads: int, is_over: Any, count: Any) -> None:
    """Predict chunks with the published ACT until told to stop."""
    import torch

    from vla_core.models.frameworks import ACTVLA

    torch.set_num_threads(num_threads)
    model = ACTVLA.from_preset("reference", action_dim=14, state_dim=14).eval()
    images, state = torch.rand(1, 1, 3, 480, 640), torch.zeros(1, 14)
    with torch.inference_mode():
        while not is_over.is_set():
            model.predict_action(images, proprioception=state)
            count.value += 1


if __name__ == "__main__":
    sys.exit(main())
