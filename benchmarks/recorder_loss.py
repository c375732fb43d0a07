# SPDX-License-Identifier: MIT
"""Count what recorder_node loses of two cameras, 640x480 at 30 Hz each.

The recorder is a process of its own; this one publishes frames of noise, which no compression
makes smaller, and asks for an episode. Run with ``python benchmarks/recorder_loss.py``.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vla_ros.graph import graph_environment
from vla_ros.polled_subscription import AbsoluteRate
from vla_ros.private_domain import private_domain

TOPICS = ("left_camera/image_raw", "right_camera/image_raw")
PATIENCE_S = 60.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Record one episode and print how many frames were published, written and lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=30.0, help="frames per second and camera")
    parser.add_argument("--compress", choices=("true", "false"), default="true")
    options = parser.parse_args(arguments)
    os.environ.update(graph_environment())
    with private_domain(), tempfile.TemporaryDirectory() as folder:
        values = {
            "path": "''",
            "episodes_path": folder,
            "topics": str([f"{topic} sensor_msgs/msg/Image" for topic in TOPICS]),
            "compress": options.compress,
        }
        words = [word for name, value in values.items() for word in ("-p", f"{name}:={value}")]
        recorder = subprocess.Popen(
            [sys.executable, "-m", "vla_ros.nodes.recorder_node", "--ros-args", *words],
            stderr=subprocess.DEVNULL,
        )
        try:
            measure(options.seconds, options.rate, Path(folder))
        finally:
            recorder.send_signal(signal.SIGINT)
            recorder.wait(PATIENCE_S)


def measure(duration_s: float, rate_hz: float, folder: Path) -> None:
    """Publish through one episode.

    Args:
        duration_s: How long.
        rate_hz: Frames per second and camera.
        folder: Where the recorder puts the bag.
    """
    import rclpy
    from sensor_msgs.msg import Image
    from vla_msgs.srv import StartEpisode, StopEpisode

    from vla_ros.conversions import image_message, sensor_publisher_qos

    rclpy.init()
    node = rclpy.create_node("cameras")

    def call(kind: Any, name: str) -> Any:
        client = node.create_client(kind, f"recorder_node/{name}")
        if not client.wait_for_service(PATIENCE_S):
            raise TimeoutError(f"recorder_node does not serve {name}.")
        future = client.call_async(kind.Request())
        rclpy.spin_until_future_complete(node, future, timeout_sec=PATIENCE_S)
        return future.result()

    cameras = [node.create_publisher(Image, topic, sensor_publisher_qos()) for topic in TOPICS]
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (480, 640, 3), dtype=np.uint8) for _ in range(8)]
    call(StartEpisode, "start_episode")
    rate = AbsoluteRate(1.0 / rate_hz)
    num_rounds = round(duration_s * rate_hz)
    for number in range(num_rounds):
        stamp_ns = node.get_clock().now().nanoseconds
        for camera in cameras:
            camera.publish(image_message(frames[number % len(frames)], stamp_ns=stamp_ns))
        rate.sleep()
    response = call(StopEpisode, "stop_episode")
    num_published = num_rounds * len(cameras)
    megabytes = sum(path.stat().st_size for path in folder.rglob("*.mcap")) / 1e6
    sys.stdout.write(
        f"published {num_published} frames in {duration_s:g} s ({rate.num_missed} periods late), "
        f"written {response.num_messages}, lost {num_published - response.num_messages} "
        f"(the recorder counted {response.num_lost}), {megabytes:.0f} MB on the disk\n"
    )
    node.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main()
