# SPDX-License-Identifier: MIT
"""Measure what receiving costs: three 640x480 cameras at 30 Hz, joint states at 500 Hz.

Run with ``python benchmarks/observation_receiving.py`` in an environment with ROS 2
(``. scripts/env.sh``). One process is the robot; another makes observations as policy_node does,
as many as a camera has frames and at a policy's rate, without inference; command_node executes
chunks of the first at 50 Hz. ``--cores 2`` keeps all of them on two cores.

A row has, of receiving: the share of one core that it takes, observations per second, their
longest skew and the gaps by cause; of command_node: its share of a core and by how much its ticks
deviate from their times.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

WIDTH, HEIGHT, CAMERA_HZ, STATE_HZ = 640, 480, 30.0, 500.0
CHUNK_HZ, COMMAND_HZ, SETTLE_S, PATIENCE_S = 10.0, 50.0, 2.0, 60.0
CAMERAS = ("front", "left", "wrist")
JOINTS = tuple(f"joint_{number}" for number in range(1, 8))
_PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")


@dataclass(frozen=True)
class Received:
    """What the policy's side made of what it heard, and what the command loop did meanwhile."""

    seconds: float
    cpu: float
    num_made: int
    skew_s: float
    gaps: dict[str, int]
    command_cpu: float


def main() -> int:
    """Measure at every rate of inference and print one row each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="length of each run (default 20)"
    )
    parser.add_argument(
        "--rates",
        type=float,
        nargs="+",
        default=[8.0, 30.0],
        help="inferences per second (default 8 30)",
    )
    parser.add_argument("--cores", type=int, help="how many cores to use (default all)")
    arguments = parser.parse_args()
    from vla_ros.graph import graph_environment

    os.environ.update({name: graph_environment()[name] for name in _PROFILE_VARIABLES})
    if arguments.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
    sys.stdout.write(
        f"{'':<9}{'receiving':<25}command_node at {COMMAND_HZ:g} Hz\n"
        f"{'rate Hz':<9}{'cpu':>6}{'made Hz':>9}{'skew ms':>9} {'cpu':>7}{'ticks':>7}"
        f"{'p50 ms':>8}{'p99 ms':>8}{'max ms':>8}  gaps\n"
    )
    for rate_hz in arguments.rates:
        received, deviations_ms = _measure(rate_hz, arguments.seconds)
        p50, p99, worst = np.percentile(deviations_ms, (50, 99, 100))
        gaps = ", ".join(f"{cause} {count}" for cause, count in received.gaps.items()) or "none"
        sys.stdout.write(
            f"{rate_hz:<9g}{received.cpu:>6.1%}{received.num_made / received.seconds:>9.1f}"
            f"{1e3 * received.skew_s:>9.2f} {received.command_cpu:>7.1%}{len(deviations_ms):>7}"
            f"{p50:>8.2f}{p99:>8.2f}{worst:>8.2f}  {gaps}\n"
        )
        sys.stdout.flush()
    return 0


def _measure(rate_hz: float, seconds: float) -> tuple[Received, list[float]]:
    """Return what was received, and the deviation of each tick in ms."""
    from vla_ros.private_domain import private_domain

    context = multiprocessing.get_context("spawn")
    with private_domain() as domain, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "benchmark.yaml"
        path.write_text(yaml.safe_dump(_contract().to_dict(), sort_keys=False), encoding="utf-8")
        # In this order: the robot says that it executes, then the policy that it measures.
        phases = {name: context.Event() for name in ("executes", "measures", "is_over")}
        deviations, received = context.Queue(), context.Queue()
        node = subprocess.Popen(
            [
                *(sys.executable, "-m", "vla_ros.nodes.command_node", "--ros-args"),
                *("-p", f"contract:={path}", "--log-level", "error"),
            ],
            env={**os.environ, "ROS_DOMAIN_ID": str(domain)},
        )
        others = [
            context.Process(target=_be_robot, args=(domain, phases, deviations)),
            context.Process(
                target=_receive, args=(domain, phases, rate_hz, seconds, node.pid, received)
            ),
        ]
        try:
            for process in others:
                process.start()
            return (
                received.get(timeout=seconds + PATIENCE_S),
                deviations.get(timeout=PATIENCE_S),
            )
        except queue.Empty:
            sys.exit("command_node executes nothing or no observation can be made; see above.")
        finally:
            phases["is_over"].set()
            for process in others:
                process.join()
            node.terminate()
            node.wait()


def _contract() -> Any:
    from vla_core.processing.contract import RobotContract

    limits = {"lower": -2.0, "upper": 2.0, "velocity": 1.0, "acceleration": 5.0}
    return RobotContract.from_dict(
        {
            "robot": "benchmark",
            "cameras": {
                name: {
                    "topic": name,
                    "width": WIDTH,
                    "height": HEIGHT,
                    "max_age_s": 0.2,
                    "max_frozen_s": 1.0,
                }
                for name in CAMERAS
            },
            "state": {"topic": "joint_states", "joints": list(JOINTS), "max_age_s": 0.1},
            "action": {
                "kind": "joint_position",
                "joints": list(JOINTS),
                "rate_hz": 10.0,
                "max_age_s": 0.6,
            },
            "command": {
                "rate_hz": COMMAND_HZ,
                "output": "joint_trajectory",
                "topic": "trajectory",
            },
            "limits": dict.fromkeys(JOINTS, limits),
        }
    )


def _be_robot(domain: int, phases: Any, deviations: Any) -> None:
    """Send frames, joint states and chunks; hear the commands and collect the deviations."""
    import rclpy
    from sensor_msgs.msg import Image, JointState
    from trajectory_msgs.msg import JointTrajectory
    from vla_msgs.msg import ActionChunk, CommandStatus

    from vla_ros.conversions import (
        command_qos,
        image_message,
        joint_state_message,
        sensor_publisher_qos,
        status_qos,
        time_message,
    )
    from vla_ros.polled_subscription import AbsoluteRate, Periodic, PolledSubscription

    rclpy.init(domain_id=domain)
    node = rclpy.create_node("robot")
    qos = sensor_publisher_qos()
    cameras = [node.create_publisher(Image, name, qos) for name in CAMERAS]
    states = node.create_publisher(JointState, "joint_states", qos)
    chunks = node.create_publisher(ActionChunk, "action_chunk", command_qos())
    trajectories = PolledSubscription(node, JointTrajectory, "trajectory", command_qos())
    profile = status_qos()
    profile.depth = 100
    status = PolledSubscription(node, CommandStatus, "command_node/status", profile)
    random = np.random.default_rng(0)
    frames = [
        image_message(random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8), stamp_ns=0)
        for _ in range(3)
    ]
    zeros = np.zeros(len(JOINTS))
    camera_due, chunk_due = Periodic(1.0 / CAMERA_HZ), Periodic(1.0 / CHUNK_HZ)
    rate, number = AbsoluteRate(1.0 / STATE_HZ), 0
    heard: list[float] = []
    while not phases["is_over"].is_set():
        now_ns = time.time_ns()
        states.publish(joint_state_message(JOINTS, zeros, zeros, stamp_ns=now_ns))
        if camera_due.is_due():
            number += 1
            frame = frames[number % len(frames)]
            frame.header.stamp = time_message(now_ns)
            for camera in cameras:
                camera.publish(frame)
        if chunk_due.is_due():
            chunks.publish(_chunk_message(number, now_ns))
        trajectories.take()
        for tick in status.take_all():
            if tick.mode == CommandStatus.EXECUTING:
                phases["executes"].set()
            if phases["measures"].is_set():
                heard.append(tick.tick_lateness * 1e3)
        rate.sleep()
    deviations.put(heard)
    rclpy.shutdown()


def _chunk_message(number: int, now_ns: int) -> Any:
    from vla_core.types import ActionChunk
    from vla_ros.conversions import action_chunk_message

    steps = np.arange(16)[:, None] + np.zeros(len(JOINTS))
    actions = 0.02 * np.sin(0.4 * steps + number)
    chunk = ActionChunk(
        actions=actions,
        policy_actions=actions.astype(np.float32),
        joints=JOINTS,
        dt_s=0.1,
        stamp_ns=now_ns,
        checkpoint_id="benchmark",
        instruction="",
    )
    return action_chunk_message(
        chunk,
        sequence=number,
        epoch=1,
        inference_start_ns=now_ns,
        generation_ns=now_ns,
        image_stamps_ns={},
        state_stamp_ns=now_ns,
    )


def _receive(
    domain: int, phases: Any, rate_hz: float, seconds: float, command_pid: int, results: Any
) -> None:
    import rclpy

    from vla_core.types import Observation
    from vla_ros.memory import keep_freed_memory
    from vla_ros.node_clock import NodeClock
    from vla_ros.observation_receiver import ObservationReceiver

    keep_freed_memory()
    rclpy.init(domain_id=domain)
    node = rclpy.create_node("policy")
    clock = NodeClock(node)
    receiver = ObservationReceiver(node, _contract(), clock)
    is_over = threading.Event()

    def observe() -> Any:
        receiver.wait_for_frames(
            is_over, frame_wait_s=0.1, camera_wait_s=0.02, camera_skew_s=0.005
        )
        return receiver.observe("measure")

    settled = float("inf")
    while time.monotonic() < settled and not phases["is_over"].is_set():
        is_made = isinstance(observe(), Observation)
        if is_made and phases["executes"].is_set() and settled == float("inf"):
            settled = time.monotonic() + SETTLE_S
    phases["measures"].set()
    gaps: Counter[str] = Counter()
    num_made, skew_s = 0, 0.0
    command_cpu, start_cpu, start = _cpu_s(command_pid), time.process_time(), time.monotonic()
    next_start = start
    while time.monotonic() - start < seconds:
        time.sleep(max(0.0, next_start - time.monotonic()))
        # As policy_node does: the wait for the frame is not part of the period.
        made = observe()
        next_start = time.monotonic() + 1.0 / rate_hz if rate_hz < CAMERA_HZ else 0.0
        if isinstance(made, Observation):
            num_made += 1
            skew_s = max(skew_s, *(abs(value) for value in made.skews_s.values()))
        else:
            gaps[f"{made.source} {made.cause.value}"] += 1
    took_s = time.monotonic() - start
    results.put(
        Received(
            seconds=took_s,
            cpu=(time.process_time() - start_cpu) / took_s,
            num_made=num_made,
            skew_s=skew_s,
            gaps=dict(gaps),
            command_cpu=(_cpu_s(command_pid) - command_cpu) / took_s,
        )
    )
    phases["is_over"].set()
    rclpy.shutdown()


def _cpu_s(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
