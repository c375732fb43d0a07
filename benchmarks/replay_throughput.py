# SPDX-License-Identifier: MIT
"""How fast recordings are decoded, aligned and batched, beside plain loops over the same file.

Writes a recording of two 640x480 cameras at 30 Hz, joints at 200 Hz and commands at 50 Hz, and
reads it with a policy of no cost at 10 Hz. The plain loops deserialise every message of the same
topics, decode every frame and make the same batches from the newest ones.

  python benchmarks/replay_throughput.py --seconds 20
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from vla_core.dataset.bag_observations import BagObservations
from vla_core.processing.contract import RobotContract
from vla_core.processing.frames import frame_from_message
from vla_core.processing.messages import joint_positions_from_message, stamp_ns
from vla_core.processing.normalization import Statistics
from vla_core.processing.pipeline import ProcessingPipeline
from vla_core.types import Observation

START_NS = 1_700_000_000_000_000_000
JOINTS = tuple(f"joint_{number}" for number in range(1, 8))
RATE_HZ, CAMERA_HZ, JOINT_HZ, COMMAND_HZ = 10.0, 30.0, 200.0, 50.0
CHUNK_SIZE, IMAGE_SIZE = 16, 96


def make_contract() -> RobotContract:
    """Return a robot of seven joints and two cameras."""
    limits = {"lower": -3.0, "upper": 3.0, "velocity": 2.0, "acceleration": 10.0}
    camera = {"width": 640, "height": 480, "max_age_s": 0.25}
    return RobotContract.from_dict(
        {
            "robot": "benchmark",
            "cameras": {
                name: {"topic": f"{name}/image_raw", **camera} for name in ("front", "wrist")
            },
            "state": {"topic": "joint_states", "joints": JOINTS, "max_age_s": 0.1},
            "action": {
                "kind": "joint_position",
                "joints": JOINTS,
                "rate_hz": RATE_HZ,
                "max_age_s": 0.6,
            },
            "command": {
                "rate_hz": COMMAND_HZ,
                "output": "joint_trajectory",
                "topic": "arm/joint_trajectory",
            },
            "limits": {joint: dict(limits) for joint in JOINTS},
        }
    )


def write_recording(path: Path, seconds: float) -> None:
    """Write the recording."""
    store = get_typestore(Stores.ROS2_JAZZY)
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (8, 480 * 640 * 3), dtype=np.uint8)

    def make(kind: str, **fields: Any) -> Any:
        return store.types[kind](**fields)

    def stamp(at_ns: int, kind: str = "Time") -> Any:
        whole, rest = divmod(at_ns, 1_000_000_000)
        return make(f"builtin_interfaces/msg/{kind}", sec=whole, nanosec=rest)

    def header(at_ns: int) -> Any:
        return make("std_msgs/msg/Header", stamp=stamp(at_ns), frame_id="")

    def times(rate_hz: float) -> list[int]:
        return [round(k * 1e9 / rate_hz) for k in range(int(seconds * rate_hz))]

    empty = np.zeros(0)
    events: list[tuple[int, str, str, Callable[[], Any]]] = []
    for number, at in enumerate(times(CAMERA_HZ)):
        for camera in ("front", "wrist"):
            data = pixels[number % len(pixels)]
            events.append(
                (
                    at,
                    f"/{camera}/image_raw",
                    "sensor_msgs/msg/Image",
                    lambda at=at, data=data: make(
                        "sensor_msgs/msg/Image",
                        header=header(START_NS + at),
                        height=480,
                        width=640,
                        encoding="rgb8",
                        is_bigendian=0,
                        step=1920,
                        data=data,
                    ),
                )
            )
    for at in times(JOINT_HZ):
        position = np.sin(at * 1e-9 + np.arange(7.0))
        events.append(
            (
                at,
                "/joint_states",
                "sensor_msgs/msg/JointState",
                lambda at=at, position=position: make(
                    "sensor_msgs/msg/JointState",
                    header=header(START_NS + at),
                    name=list(JOINTS),
                    position=position,
                    velocity=np.zeros(7),
                    effort=np.zeros(7),
                ),
            )
        )
    for at in times(COMMAND_HZ):
        position = np.sin(at * 1e-9 + np.arange(7.0))
        events.append(
            (
                at,
                "/arm/joint_trajectory",
                "trajectory_msgs/msg/JointTrajectory",
                lambda position=position: make(
                    "trajectory_msgs/msg/JointTrajectory",
                    header=make("std_msgs/msg/Header", stamp=stamp(0), frame_id=""),
                    joint_names=list(JOINTS),
                    points=[
                        make(
                            "trajectory_msgs/msg/JointTrajectoryPoint",
                            positions=position,
                            velocities=empty,
                            accelerations=empty,
                            effort=empty,
                            time_from_start=stamp(20_000_000, "Duration"),
                        )
                    ],
                ),
            )
        )
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections: dict[str, Any] = {}
        for at, topic, kind, build in sorted(events, key=lambda event: event[0]):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            data = store.serialize_cdr(build(), kind)
            writer.write(connections[topic], START_NS + at, data)


def make_pipeline(contract: RobotContract) -> ProcessingPipeline:
    """Return the processing of a policy."""
    statistics = Statistics.from_array(np.random.default_rng(0).uniform(-1, 1, (50, 7)))
    return ProcessingPipeline(
        contract=contract,
        state_statistics=statistics,
        action_statistics=statistics,
        image_size=IMAGE_SIZE,
        chunk_size=CHUNK_SIZE,
    )


def replay(path: Path, contract: RobotContract, pipeline: ProcessingPipeline) -> int:
    """Read with the reader of the replay; return the number of batches."""
    count = 0
    with BagObservations(path, contract, instruction="go") as ticks:
        for tick in ticks:
            if tick.observation is not None:
                pipeline.to_batch([tick.observation])
                count += 1
    return count


def loop(
    messages: Iterator[tuple[str, Any]], contract: RobotContract, pipeline: ProcessingPipeline
) -> int:
    """Decode every message and batch the newest ones at the rate of the policy."""
    cameras = {f"/{camera.topic}": name for name, camera in contract.cameras.items()}
    images: dict[str, Any] = {}
    stamps: dict[str, int] = {}
    state = action = None
    count, next_ns = 0, START_NS
    for topic, message in messages:
        if topic in cameras:
            name = cameras[topic]
            images[name] = frame_from_message(message, contract.cameras[name])
            stamps[name] = stamp_ns(message)
        elif topic == "/joint_states":
            state = joint_positions_from_message(message, JOINTS)
        else:
            action = np.array(message.points[0].positions)
        if len(images) < 2 or state is None or action is None or stamps["front"] < next_ns:
            continue
        next_ns += round(1e9 / RATE_HZ)
        observation = Observation(
            images=dict(images),
            state=state,
            instruction="go",
            stamp_ns=stamps["front"],
            image_stamps_ns=dict(stamps),
            state_stamp_ns=stamps["front"],
        )
        pipeline.to_batch([observation])
        count += 1
    return count


def read_with_rosbags(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield every message, deserialised by rosbags."""
    with AnyReader([path]) as reader:
        for connection, _, data in reader.messages():
            yield connection.topic, reader.deserialize(data, connection.msgtype)


def read_with_mcap_ros2(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield every message, deserialised by mcap_ros2."""
    with next(path.glob("*.mcap")).open("rb") as stream:
        reader = make_reader(stream, decoder_factories=[DecoderFactory()])
        for _, channel, _, message in reader.iter_decoded_messages():
            yield channel.topic, message


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="of the recording")
    parser.add_argument("--repeats", type=int, default=3, help="the best counts (default 3)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    contract = make_contract()
    pipeline = make_pipeline(contract)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bag"
        write_recording(path, args.seconds)
        ways: dict[str, Callable[[], int]] = {
            "vla_core": lambda: replay(path, contract, pipeline),
            "rosbags": lambda: loop(read_with_rosbags(path), contract, pipeline),
            "mcap_ros2": lambda: loop(read_with_mcap_ros2(path), contract, pipeline),
        }
        best = dict.fromkeys(ways, float("inf"))
        counts = dict.fromkeys(ways, 0)
        for _ in range(args.repeats):
            for name, way in ways.items():
                begin = time.process_time()
                counts[name] = way()
                best[name] = min(best[name], time.process_time() - begin)
    for name, seconds in best.items():
        sys.stdout.write(
            f"{name:<10} {counts[name]:4d} batches, {1e3 * seconds / counts[name]:7.2f} ms of CPU "
            f"each, {args.seconds / seconds:6.1f} times real time, "
            f"{seconds / best['vla_core']:5.2f} times vla_core's time\n"
        )


if __name__ == "__main__":
    main()
