# SPDX-License-Identifier: MIT
"""Samples per second of one worker: videos from front to back, against random access by PyAV.

All decode the same files with one thread and give the same samples: all cameras of a frame and
the frames before it, and a chunk of actions. Front to back, frames may be cached: then a second
epoch is timed, too. Random access seeks to the last key frame before the
sample, in files that stay open, or in files that are opened for each sample, as LeRobot's reader
by PyAV does. Seconds are those of the processor: other load does not count.

  python benchmarks/dataset_loader.py
  python benchmarks/dataset_loader.py --codec av1 --history 2
  python benchmarks/dataset_loader.py --codec av1 --cached 600
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

from vla_core.dataset import EpisodeDataset, EpisodeWriter, Feature, FrameStream
from vla_core.dataset.format import ACTION, STATE

FPS, CHUNK = 30, 16
ROUNDS = 10


def main() -> None:
    """Write a dataset, read it both ways and print the rates."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--codec", choices=("h264", "av1"), default="h264")
    parser.add_argument("--history", type=int, default=0, help="earlier frames of a sample")
    parser.add_argument("--cached", type=int, default=0, help="frames that stay in memory")
    parser.add_argument("--episodes", type=int, default=8)
    parser.add_argument("--frames", type=int, default=150, help="frames of an episode")
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--samples", type=int, default=200, help="samples by random access")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "data")
        write(root, args)
        dataset = EpisodeDataset(root)
        stream = FrameStream(
            dataset, chunk_size=CHUNK, history_length=args.history, cached_frames=args.cached
        )
        rates = rates_of(
            {
                "front to back": (stream.epoch(0), dataset.num_frames),
                "kept open": (random_access(dataset, args.history, True), args.samples),
                "opened each time": (random_access(dataset, args.history, False), args.samples),
            }
        )
        if args.cached:
            samples = {"cached": (stream.epoch(1), dataset.num_frames)}
            rates |= rates_of(samples)
    size = f"{args.width}x{args.height}"
    sys.stdout.write(f"{args.codec}, 2 cameras {size}, history {args.history}, samples/s:\n")
    for name, rate in rates.items():
        kept_open, opened = (rate / rates[key] for key in ("kept open", "opened each time"))
        sys.stdout.write(f"{name:17}{rate:6.0f}   {kept_open:.1f} and {opened:.1f} times random\n")


def write(root: Path, args: argparse.Namespace) -> None:
    """Write episodes in which a few shapes move over a textured background."""
    cameras = {
        f"observation.images.{name}": Feature("video", (args.height, args.width, 3))
        for name in ("front", "wrist")
    }
    vectors = {key: Feature("float32", (7,)) for key in (STATE, ACTION)}
    random = np.random.default_rng(0)
    background = random.integers(60, 190, (args.height // 8, args.width // 8, 3), np.uint8)
    background = background.repeat(8, axis=0).repeat(8, axis=1)
    with EpisodeWriter(root, fps=FPS, features=cameras | vectors, codec=args.codec) as writer:
        for _ in range(args.episodes):
            speed = random.uniform(-3, 3, (4, 2))
            start = random.uniform(0, args.height - 40, (4, 2))
            episode = writer.begin_episode()
            for frame in range(args.frames):
                picture = background.copy()
                for number, corner in enumerate(start + frame * speed):
                    y, x = np.mod(corner, args.height - 40).astype(int)
                    picture[y : y + 40, x : x + 40] = 50 * number + 40
                episode.add_frame(
                    dict.fromkeys(cameras, picture)
                    | {key: np.full(7, frame, np.float32) for key in (STATE, ACTION)}
                )
            episode.finish("move", {})


def random_access(dataset: EpisodeDataset, history: int, keeps_open: bool) -> Iterator[Any]:
    """Yield samples at random places for ever."""
    random = np.random.default_rng(1)
    vectors = [dataset.vectors(i, STATE, ACTION) for i in range(dataset.num_episodes)]
    files = [
        sorted((dataset.root / "videos" / f"observation.images.{name}").rglob("*.mp4"))
        for name in dataset.camera_names
    ]
    containers: dict[Path, Any] = {}
    while True:
        episode = int(random.integers(dataset.num_episodes))
        state, actions = vectors[episode]
        frame = int(random.integers(len(state)))
        first = max(frame - history, 0)
        images = []
        for camera in files:
            path = camera[episode]
            if path not in containers:
                containers[path] = av.open(str(path))
                containers[path].streams.video[0].codec_context.thread_count = 1
            images.append(frames_between(containers[path], first, frame))
            if not keeps_open:
                containers.pop(path).close()
        yield images, state[frame], actions[frame : frame + CHUNK]


def frames_between(container: Any, first: int, last: int) -> list[Any]:
    """Decode the frames from one number to another."""
    video = container.streams.video[0]
    container.seek(round(first / FPS / video.time_base), stream=video)
    found = []
    for decoded in container.decode(video):
        number = round(decoded.time * FPS)
        if number >= first:
            found.append(decoded.to_ndarray(format="rgb24"))
        if number >= last:
            return found
    return found


def rates_of(readers: dict[str, tuple[Iterator[Any], int]]) -> dict[str, float]:
    """Return the samples per second of readers, each with how many samples it shall give.

    They take turns, so that other load on the machine meets all alike. What a reader does before
    its first sample counts.
    """
    spent = dict.fromkeys(readers, 0.0)
    for turn in range(ROUNDS):
        for name, (samples, count) in readers.items():
            begin = time.process_time()
            for _ in range(count * turn // ROUNDS, count * (turn + 1) // ROUNDS):
                next(samples)
            spent[name] += time.process_time() - begin
    return {name: count / spent[name] for name, (_, count) in readers.items()}


if __name__ == "__main__":
    main()
