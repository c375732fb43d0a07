# SPDX-License-Identifier: MIT
"""Time the way of a 640x480 rgb8 image from one process to another, as the nodes receive it.

Run with ``python benchmarks/camera_hop.py`` in an environment with ROS 2 (``. scripts/env.sh``).
Each row is a run of cameras at 30 Hz with the project's Fast DDS profile or with the middleware's
own settings: milliseconds from the call of ``publish`` to the pixels as the array that a policy
observes, and how many of the images arrived.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from typing import Any

import numpy as np

WIDTH, HEIGHT, RATE_HZ = 640, 480, 30.0
_PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")


def main() -> int:
    """Measure every combination and print one row each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each run")
    parser.add_argument("--cameras", type=int, nargs="+", default=[1, 3], help="cameras at a time")
    arguments = parser.parse_args()
    from vla_ros.graph import graph_environment

    profile = {name: graph_environment()[name] for name in _PROFILE_VARIABLES}
    sys.stdout.write(f"{'settings':<22}{'cameras':>8}{'arrived':>9}{'p50 ms':>9}{'p99 ms':>9}\n")
    for label, variables in (("project's profile", profile), ("middleware's own", {})):
        for name in _PROFILE_VARIABLES:
            os.environ.pop(name, None)
        os.environ.update(variables)
        for num_cameras in arguments.cameras:
            hops_ms, num_sent = _measure(num_cameras, arguments.seconds)
            p50, p99 = np.percentile(hops_ms, (50, 99)) if len(hops_ms) else (np.nan, np.nan)
            share = len(hops_ms) / num_sent
            sys.stdout.write(f"{label:<22}{num_cameras:>8}{share:>9.1%}{p50:>9.2f}{p99:>9.2f}\n")
            sys.stdout.flush()
    return 0


def _measure(num_cameras: int, seconds: float) -> tuple[Any, int]:
    """Return the duration of every hop in ms, and the number of images sent."""
    from vla_ros.private_domain import private_domain

    context = multiprocessing.get_context("spawn")
    with private_domain() as domain:
        ready, results = context.Event(), context.Queue()
        receiver = context.Process(
            target=_receive, args=(domain, num_cameras, seconds, ready, results)
        )
        receiver.start()
        sender = context.Process(target=_send, args=(domain, num_cameras, seconds, ready))
        sender.start()
        hops_ms = results.get(timeout=seconds + 60.0)
        receiver.join()
        sender.join()
    return hops_ms, round(seconds * RATE_HZ) * num_cameras


def _send(domain: int, num_cameras: int, seconds: float, ready: Any) -> None:
    import rclpy
    from sensor_msgs.msg import Image

    from vla_ros.conversions import image_message, sensor_publisher_qos
    from vla_ros.polled_subscription import AbsoluteRate

    rclpy.init(domain_id=domain)
    node = rclpy.create_node("cameras")
    publishers = [
        node.create_publisher(Image, f"camera_{index}", sensor_publisher_qos())
        for index in range(num_cameras)
    ]
    frame = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    ready.wait()
    while any(publisher.get_subscription_count() == 0 for publisher in publishers):
        time.sleep(0.01)
    time.sleep(0.5)
    rate = AbsoluteRate(1.0 / RATE_HZ)
    for _ in range(round(seconds * RATE_HZ)):
        for publisher in publishers:
            message = image_message(frame, stamp_ns=0)
            now_ns = time.monotonic_ns()
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(now_ns, 10**9)
            publisher.publish(message)
        rate.sleep()
    time.sleep(1.0)
    rclpy.shutdown()


def _receive(domain: int, num_cameras: int, seconds: float, ready: Any, results: Any) -> None:
    import rclpy
    from sensor_msgs.msg import Image

    from vla_core.processing.image_encodings import image_from_message
    from vla_core.processing.messages import stamp_ns
    from vla_ros.arrivals import Arrivals
    from vla_ros.conversions import sensor_subscription_qos
    from vla_ros.memory import keep_freed_memory
    from vla_ros.polled_subscription import PolledSubscription

    keep_freed_memory()
    rclpy.init(domain_id=domain)
    node = rclpy.create_node("receiver")
    sources = [
        PolledSubscription(node, Image, f"camera_{index}", sensor_subscription_qos())
        for index in range(num_cameras)
    ]
    arrivals = Arrivals(node, sources)
    ready.set()
    hops_ms: list[float] = []
    end = None
    while end is None or time.monotonic() < end:
        for source in sources:
            message = source.take()
            if message is not None:
                image_from_message(message)
                hops_ms.append((time.monotonic_ns() - stamp_ns(message)) * 1e-6)
                end = end or time.monotonic() + seconds + 0.5
        arrivals.wait(0.01)
    results.put(hops_ms)
    rclpy.shutdown()


if __name__ == "__main__":
    sys.exit(main())
