# SPDX-License-Identifier: MIT
"""Measure what receiving costs a policy: three 640x480 cameras at 30 Hz, joint states at 500 Hz.

Run with ``python benchmarks/observation_receiving.py`` in an environment with ROS 2
(``. scripts/env.sh``). One process publishes; another makes observations as policy_node does, as
many as a camera has frames and at a policy's rate, without inference. Printed are the share of one
core that receiving takes, the observations per second, their longest skew, and gaps by cause.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import threading
import time
from collections import Counter
from typing import Any

import numpy as np

WIDTH, HEIGHT, CAMERA_HZ, STATE_HZ = 640, 480, 30.0, 500.0
CAMERAS = ("front", "left", "wrist")
JOINTS = tuple(f"joint_{number}" for number in range(1, 8))
_PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")


def main() -> int:
    """Measure at every rate of inference and print one row each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each run")
    parser.add_argument(
        "--rates", type=float, nargs="+", default=[8.0, 30.0], help="inferences per second"
    )
    arguments = parser.parse_args()
    from vla_ros.graph import graph_environment

    os.environ.update({name: graph_environment()[name] for name in _PROFILE_VARIABLES})
    sys.stdout.write(f"{'rate Hz':<9}{'cpu':>7}{'made Hz':>9}{'skew ms':>9}  gaps\n")
    for rate_hz in arguments.rates:
        cpu, num_made, skew_ms, gaps = _measure(rate_hz, arguments.seconds)
        made_hz = num_made / arguments.seconds
        shown = ", ".join(f"{cause} {count}" for cause, count in gaps.items()) or "none"
        sys.stdout.write(f"{rate_hz:<9g}{cpu:>7.1%}{made_hz:>9.1f}{skew_ms:>9.2f}  {shown}\n")
        sys.stdout.flush()
    return 0


def _measure(rate_hz: float, seconds: float) -> Any:
    from vla_ros.private_domain import private_domain

    context = multiprocessing.get_context("spawn")
    with private_domain() as domain:
        is_over, results = context.Event(), context.Queue()
        sender = context.Process(target=_send, args=(domain, is_over))
        receiver = context.Process(target=_receive, args=(domain, rate_hz, seconds, results))
        sender.start()
        receiver.start()
        try:
            return results.get(timeout=seconds + 60.0)
        finally:
            is_over.set()
            receiver.join()
            sender.join()


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
            "command": {"rate_hz": 50.0, "output": "joint_trajectory", "topic": "trajectory"},
            "limits": dict.fromkeys(JOINTS, limits),
        }
    )


def _send(domain: int, is_over: Any) -> None:
    import rclpy
    from sensor_msgs.msg import Image, JointState

    from vla_ros.conversions import (
        image_message,
        joint_state_message,
        sensor_publisher_qos,
        time_message,
    )
    from vla_ros.polled_subscription import AbsoluteRate, Periodic

    rclpy.init(domain_id=domain)
    node = rclpy.create_node("robot")
    qos = sensor_publisher_qos()
    cameras = [node.create_publisher(Image, name, qos) for name in CAMERAS]
    states = node.create_publisher(JointState, "joint_states", qos)
    random = np.random.default_rng(0)
    frames = [
        image_message(random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8), stamp_ns=0)
        for _ in range(3)
    ]
    zeros = np.zeros(len(JOINTS))
    camera_due, rate, number = Periodic(1.0 / CAMERA_HZ), AbsoluteRate(1.0 / STATE_HZ), 0
    while not is_over.is_set():
        now_ns = time.time_ns()
        states.publish(joint_state_message(JOINTS, zeros, zeros, stamp_ns=now_ns))
        if camera_due.is_due():
            number += 1
            frame = frames[number % len(frames)]
            frame.header.stamp = time_message(now_ns)
            for camera in cameras:
                camera.publish(frame)
        rate.sleep()
    rclpy.shutdown()


def _receive(domain: int, rate_hz: float, seconds: float, results: Any) -> None:
    import rclpy

    from vla_core.types import Observation
    from vla_ros.node_clock import NodeClock
    from vla_ros.observation_receiver import ObservationReceiver

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

    while not isinstance(observe(), Observation):
        time.sleep(0.05)
    gaps: Counter[str] = Counter()
    num_made, skew_s = 0, 0.0
    start_cpu, start = time.process_time(), time.monotonic()
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
    cpu = (time.process_time() - start_cpu) / (time.monotonic() - start)
    results.put((cpu, num_made, skew_s * 1e3, dict(gaps)))
    rclpy.shutdown()


if __name__ == "__main__":
    sys.exit(main())
