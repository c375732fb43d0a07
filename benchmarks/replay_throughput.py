# SPDX-License-Identifier: MIT
"""How fast recordings are decoded, aligned and batched, beside plain loops over the same file.

Writes a recording of two 640x480 cameras at 30 Hz, joints at 200 Hz and commands at 50 Hz, and
reads it with a policy of no cost at 10 Hz. The plain loops are what one writes with the libraries
alone: `rosbags` or `mcap_ros2` decodes every message, numpy and torch make the batches of the
newest ones. In "+ our batch" the plain loop has the batches of vla_core, which tells reading and
batching apart. With `--checkpoint` it is a whole replay, with checks and the MCAP file of the
predictions: by how much is its wall time longer than its inferences?

  python benchmarks/replay_throughput.py
  python benchmarks/replay_throughput.py --compression zstd
  python benchmarks/replay_throughput.py --jpeg
  python benchmarks/replay_throughput.py --checkpoint groot
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from numpy.typing import NDArray
from PIL import Image
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from torch.nn import functional as F

from vla_core.dataset.bag_observations import BagObservations
from vla_core.evaluation.replay.bag_result import BagResult
from vla_core.evaluation.replay.inference import LocalInference
from vla_core.evaluation.replay.replay_process import ReplayProcess
from vla_core.evaluation.replay.runner import ReplayJob, replay_bag
from vla_core.evaluation.replay.settings import ReplaySettings
from vla_core.inference.policy import Policy
from vla_core.processing.contract import RobotContract
from vla_core.processing.normalization import Statistics
from vla_core.processing.pipeline import ProcessingPipeline
from vla_core.types import Observation

START_NS = 1_700_000_000_000_000_000
JOINTS = tuple(f"joint_{number}" for number in range(1, 8))
RATE_HZ, CAMERA_HZ, JOINT_HZ, COMMAND_HZ = 10.0, 30.0, 200.0, 50.0
WIDTH, HEIGHT = 640, 480
CHUNK_SIZE, IMAGE_SIZE = 16, 96

Batch = Callable[[list[NDArray[np.uint8]], NDArray[np.float32]], Any]


def make_contract(transport: str) -> RobotContract:
    """Return a robot of seven joints and two cameras."""
    limits = {"lower": -3.0, "upper": 3.0, "velocity": 2.0, "acceleration": 10.0}
    camera = {"width": WIDTH, "height": HEIGHT, "max_age_s": 0.25, "transport": transport}
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


def make_pictures() -> list[NDArray[np.uint8]]:
    """Return pictures of large areas with some noise, which compress as those of cameras do."""
    random = np.random.default_rng(0)
    areas = random.integers(40, 216, (8, HEIGHT // 16, WIDTH // 16, 3), np.uint8)
    areas = areas.repeat(16, axis=1).repeat(16, axis=2)
    return list(areas + random.integers(0, 8, areas.shape, np.uint8))


def write_recording(path: Path, seconds: float, compression: str, *, is_jpeg: bool) -> None:
    """Write the recording."""
    store = get_typestore(Stores.ROS2_JAZZY)
    pictures = make_pictures()
    files = []
    for picture in pictures:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=90)
        files.append(np.frombuffer(file.getvalue(), np.uint8))

    def make(kind: str, **fields: Any) -> Any:
        return store.types[kind](**fields)

    def stamp(at_ns: int, kind: str = "Time") -> Any:
        whole, rest = divmod(at_ns, 1_000_000_000)
        return make(f"builtin_interfaces/msg/{kind}", sec=whole, nanosec=rest)

    def header(at_ns: int) -> Any:
        return make("std_msgs/msg/Header", stamp=stamp(at_ns), frame_id="")

    def times(rate_hz: float) -> list[int]:
        return [round(k * 1e9 / rate_hz) for k in range(int(seconds * rate_hz))]

    def image(number: int, at_ns: int) -> Any:
        if is_jpeg:
            return make(
                "sensor_msgs/msg/CompressedImage",
                header=header(START_NS + at_ns),
                format="rgb8; jpeg compressed bgr8",
                data=files[number % len(files)],
            )
        return make(
            "sensor_msgs/msg/Image",
            header=header(START_NS + at_ns),
            height=HEIGHT,
            width=WIDTH,
            encoding="rgb8",
            is_bigendian=0,
            step=3 * WIDTH,
            data=pictures[number % len(pictures)].ravel(),
        )

    empty = np.zeros(0)
    events: list[tuple[int, str, str, Callable[[], Any]]] = []
    kind = f"sensor_msgs/msg/{'CompressedImage' if is_jpeg else 'Image'}"
    for number, at in enumerate(times(CAMERA_HZ)):
        for camera in ("front", "wrist"):
            build = partial(image, number, at)
            events.append((at, f"/{camera}/image_raw", kind, build))
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
    writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
    if compression != "none":
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
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


def make_policy(name: str, contract: RobotContract) -> Policy:
    """Return a shipped policy of seven joints and two cameras as one of the recorded robot."""
    trained = Policy.from_checkpoint(name)
    pipeline = ProcessingPipeline(
        contract=contract,
        state_statistics=trained.pipeline.state_statistics,
        action_statistics=trained.pipeline.action_statistics,
        image_size=trained.pipeline.image_size,
        chunk_size=trained.pipeline.chunk_size,
    )
    policy = Policy(trained.model, pipeline, trained.checkpoint_id)
    policy.warm_up()
    return policy


def replay(path: Path, contract: RobotContract, answer: Callable[[Observation], Any]) -> int:
    """Read with the reader of the replay; return the number of observations."""
    count = 0
    with BagObservations(path, contract, instruction="pick up the red block") as ticks:
        for tick in ticks:
            if tick.observation is not None:
                answer(tick.observation)
                count += 1
    return count


def measure_overhead(name: str, path: Path, contract: RobotContract, repeats: int) -> None:
    """Print what a replay adds to the inferences of a policy, in two processes and in one."""
    policy = make_policy(name, contract)
    settings = ReplaySettings(instruction="pick up the red block")
    job = ReplayJob(
        checkpoint=name, settings=settings, folder=path.parent / "replay", writes_mcap=True
    )
    with ReplayProcess() as process:
        ways: dict[str, Callable[[], BagResult]] = {
            "two processes": lambda: process.replay(job, path, policy, lambda *_: None),
            "one process": lambda: replay_bag(job, path, inference=LocalInference(policy)),
        }
        found: dict[str, list[BagResult]] = {way: [] for way in ways}
        for _ in range(repeats):
            for way, replay in ways.items():
                found[way].append(replay())
    for way, results in found.items():
        facts = min((result.facts for result in results), key=_overhead)
        latency_s = np.median(np.concatenate([result.ticks["latency_s"] for result in results]))
        sys.stdout.write(
            f"{way:<14} {facts['ticks']['answered']} inferences, each {1e3 * latency_s:.2f} ms "
            f"(median); the replay adds {100 * _overhead(facts):.1f} %\n"
        )


def _overhead(facts: Mapping[str, Any]) -> float:
    """Return what metrics.json calls ``timing.overhead_share``."""
    return float((facts["wall_s"] - facts["probing_s"]) / facts["inference_s"] - 1.0)


def plain_loop(messages: Iterator[tuple[str, Any]], to_batch: Batch) -> int:
    """Decode every message, keep the newest ones, and batch them at the rate of the policy.

    This is what one writes in an hour with numpy and torch, without vla_core.
    """
    images: dict[str, Any] = {}
    state = action = None
    count, next_ns = 0, START_NS
    for topic, message in messages:
        if topic == "/joint_states":
            positions = dict(zip(message.name, message.position, strict=True))
            state = np.array([positions[joint] for joint in JOINTS], np.float32)
        elif topic == "/arm/joint_trajectory":
            action = np.array(message.points[0].positions, np.float32)
        elif hasattr(message, "format"):
            images[topic] = np.asarray(Image.open(io.BytesIO(message.data)).convert("RGB"))
        else:
            pixels = np.frombuffer(message.data, np.uint8)
            images[topic] = pixels.reshape(message.height, message.width, 3)
        if len(images) < 2 or state is None or action is None or topic == "/joint_states":
            continue
        stamp = message.header.stamp
        if topic.startswith("/front") and stamp.sec * 10**9 + stamp.nanosec >= next_ns:
            next_ns += round(1e9 / RATE_HZ)
            to_batch([images[name] for name in sorted(images)], state)
            count += 1
    return count


def plain_batch(images: list[NDArray[np.uint8]], state: NDArray[np.float32]) -> dict[str, Any]:
    """Return what `ProcessingPipeline.to_batch` does: images in [0, 1], values in [-1, 1]."""
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255.0
    shape = (IMAGE_SIZE, IMAGE_SIZE)
    resized = F.interpolate(pixels, shape, mode="bilinear", antialias=True)
    return {
        "images": resized[None],
        "text": ["go"],
        "proprioception": torch.from_numpy(state)[None] / 3.0,
    }


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
    parser.add_argument("--repeats", type=int, default=5, help="the best counts (default 5)")
    parser.add_argument("--compression", choices=("none", "zstd"), default="none")
    parser.add_argument("--jpeg", action="store_true", help="compressed images")
    parser.add_argument("--checkpoint", help="a shipped policy that answers, such as groot")
    args = parser.parse_args()
    torch.set_num_threads(1)
    contract = make_contract("compressed" if args.jpeg else "raw")
    pipeline = make_pipeline(contract)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bag"
        write_recording(path, args.seconds, args.compression, is_jpeg=args.jpeg)
        if args.checkpoint:
            measure_overhead(args.checkpoint, path, contract, args.repeats)
            return

        def our_batch(images: list[NDArray[np.uint8]], state: NDArray[np.float32]) -> Any:
            frames = dict(zip(contract.cameras, images, strict=True))
            stamps = dict.fromkeys(frames, 0)
            pipeline.to_batch(
                [
                    Observation(
                        images=frames,
                        state=state.astype(np.float64),
                        instruction="go",
                        stamp_ns=0,
                        image_stamps_ns=stamps,
                        state_stamp_ns=0,
                    )
                ]
            )

        ways: dict[str, Callable[[], int]] = {
            "vla_core": lambda: replay(path, contract, lambda seen: pipeline.to_batch([seen])),
            "rosbags": lambda: plain_loop(read_with_rosbags(path), plain_batch),
            "mcap_ros2": lambda: plain_loop(read_with_mcap_ros2(path), plain_batch),
            "rosbags + our batch": lambda: plain_loop(read_with_rosbags(path), our_batch),
            "mcap_ros2 + our batch": lambda: plain_loop(read_with_mcap_ros2(path), our_batch),
        }
        cpu_s, wall_s = dict.fromkeys(ways, float("inf")), dict.fromkeys(ways, float("inf"))
        counts = dict.fromkeys(ways, 0)
        for _ in range(args.repeats):
            for name, way in ways.items():
                begin, begin_cpu = time.perf_counter(), time.process_time()
                counts[name] = way()
                cpu_s[name] = min(cpu_s[name], time.process_time() - begin_cpu)
                wall_s[name] = min(wall_s[name], time.perf_counter() - begin)
    for name, count in counts.items():
        sys.stdout.write(
            f"{name:<21} {count} batches, each {1e3 * cpu_s[name] / count:5.2f} ms of CPU, "
            f"{1e3 * wall_s[name] / count:5.2f} ms in all: "
            f"{cpu_s[name] / cpu_s['vla_core']:4.1f} and "
            f"{wall_s[name] / wall_s['vla_core']:4.1f} times vla_core's\n"
        )


if __name__ == "__main__":
    main()
