# SPDX-License-Identifier: MIT
"""The demonstration: a graph of real nodes, episodes with a live line each, and a report."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from vla_core.cli import EXIT_INTERRUPTED, main
from vla_core.errors import VLAError
from vla_core.evaluation.console import describe_episode
from vla_core.evaluation.episodes import EpisodeResult, append_result
from vla_ros.graph import graph_environment
from vla_ros.graphs import get_graph
from vla_ros.private_domain import private_domain
from vla_ros.realtime import priority_of
from vla_ros.supervisor import Supervisor

ARTIFACTS = (
    "bag",
    "plots",
    "replay",
    "rollout",
    "contact_sheet.png",
    "demo.mp4",
    "episodes.jsonl",
    "report.html",
    "summary.json",
)
"""Results of a demonstration, which replace an earlier one's."""
_PREVIOUS = ".previous"
_PACED_NODES = ("sim_robot_node", "command_node")


@dataclass(kw_only=True)
class Demo:
    """One demonstration.

    Attributes:
        graph: Name of the graph.
        checkpoint: Shipped name or folder.
        seeds: Scenes.
        ablate: Whether to run every scene again with another colour named.
        folder: Where everything is written.
        console: Where the live lines go.
        results: Episodes so far.
        problems: What went wrong, for people.
        start_up: Seconds from the start to ready nodes and to the first motion.
        priorities: Real-time priority of the paced nodes, 0 where it was refused.
        checkpoint_id: Identity of the checkpoint that ran.
        is_interrupted: Whether Ctrl-C ended the run early.
    """

    graph: str
    checkpoint: str
    seeds: Sequence[int]
    ablate: bool
    folder: Path
    console: Console
    results: list[EpisodeResult] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    start_up: dict[str, float] = field(default_factory=dict)
    priorities: dict[str, int] = field(default_factory=dict)
    checkpoint_id: str = ""
    is_interrupted: bool = False

    def run(self) -> None:
        """Start the graph, run the episodes and stop the graph again.

        Ctrl-C and a failing node end the run early; `is_interrupted` and `problems` tell. The
        results so far are kept.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        previous = self.folder / _PREVIOUS
        move_artifacts(self.folder, previous)
        started_ns = time.time_ns()
        with (
            private_domain(),
            (self.folder / "nodes.log").open("w", encoding="utf-8") as log,
        ):
            os.environ.update(graph_environment())
            nodes = get_graph(self.graph).nodes(
                {
                    "checkpoint": self.checkpoint,
                    "instruction": "",
                    "record": str(self.folder / "bag"),
                }
            )
            # A demonstration that quietly restarts a node would hide what it is to show.
            nodes = tuple(replace(node, on_exit="stop") for node in nodes)
            with Supervisor(nodes, output=log) as supervisor:
                try:
                    self._run_episodes(supervisor, started_ns)
                except KeyboardInterrupt:
                    self.is_interrupted = True
                    self.console.print("stopping the nodes")
                except VLAError as error:
                    self.problems.append(str(error))
                with self._finishing("stopping the nodes"):
                    supervisor.stop()
        report = last_report(self.folder / "nodes.log")
        if not self.results:
            # A run that showed nothing must not cost the results of the one before.
            move_artifacts(previous, self.folder)
        shutil.rmtree(previous, ignore_errors=True)
        if self.problems and report:
            self.problems = [report[0].partition("; its last lines")[0].rstrip(".") + "."]
            self.console.print("\n".join(report), style="red", markup=False, soft_wrap=True)

    @property
    def num_planned(self) -> int:
        """Number of episodes that were asked for."""
        return len(self.seeds) * (2 if self.ablate else 1)

    def _run_episodes(self, supervisor: Supervisor, started_ns: int) -> None:
        from rclpy import init
        from rclpy.signals import SignalHandlerOptions
        from rclpy.utilities import try_shutdown

        from vla_ros.nodes.episode_node import EpisodeNode

        def check() -> None:
            if supervisor.wait(0.0) is not None:
                raise VLAError("a node of the graph ended; nodes.log has its lines.")

        init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        node = EpisodeNode(check=check)
        try:
            with self.console.status("starting the nodes"):
                node.wait_until_ready()
            self.start_up["nodes_ready_s"] = (time.time_ns() - started_ns) / 1e9
            self.priorities = {name: priority_of(supervisor.pid_of(name)) for name in _PACED_NODES}
            self.checkpoint_id = node.checkpoint_id
            conditions = (False, True) if self.ablate else (False,)
            total = self.num_planned
            for swap in conditions:
                for seed in self.seeds:
                    number = len(self.results) + 1
                    with self.console.status(f"episode {number} of {total}"):
                        result = node.run_episode(number, seed, swap=swap)
                    if node.first_motion_ns is not None:
                        first_motion_s = (node.first_motion_ns - started_ns) / 1e9
                        self.start_up.setdefault("first_motion_s", first_motion_s)
                    self.results.append(result)
                    append_result(self.folder / "episodes.jsonl", result)
                    self.console.print(describe_episode(result, total), soft_wrap=True)
        finally:
            node.destroy_node()
            try_shutdown()

    def run_rollout(self) -> dict[str, Any] | None:
        """Run the same scenes in the gymnasium loop with all ablations.

        Ctrl-C ends it early; `is_interrupted` tells.

        Returns:
            The figures of `vla rollout --ablate` of the episodes that it finished, None if none.
        """
        folder = self.folder / "rollout"
        command = ["rollout", "--ablate", "--checkpoint", self.checkpoint]
        command += ["--episodes", str(len(self.seeds)), "--first-seed", str(self.seeds[0])]
        command += ["--output", str(folder)]
        self.console.print("\nThe same scenes in the gymnasium loop, with ablations:")
        try:
            status = main(command)
        except KeyboardInterrupt:
            status = EXIT_INTERRUPTED
        if status == EXIT_INTERRUPTED:
            self.is_interrupted = True
        elif status:
            self.problems.append(f"vla rollout ended with status {status}.")
            return None
        return read_rollout(folder / "rollout.json")

    def write_report(self, rollout: dict[str, Any] | None) -> None:
        """Write every artifact of the run.

        The first Ctrl-C of a run does not keep it from being reported: it only sets
        `is_interrupted`. The second one ends the report too.

        Args:
            rollout: Figures of the gymnasium loop, if it ran.

        Raises:
            DatasetError: The recording is incomplete.
            KeyboardInterrupt: It was interrupted for the second time.
        """
        with self._finishing("finishing the report; Ctrl-C again stops at once"):
            self._write_artifacts(rollout)

    def _write_artifacts(self, rollout: dict[str, Any] | None) -> None:
        from vla_core.evaluation.artifacts import write_artifacts
        from vla_core.processing.contract import load_contract

        replay = None if self.is_interrupted else self._replay()
        write_artifacts(
            self.folder,
            bag=self.folder / "bag",
            contract=load_contract("sim"),
            episodes=self.results,
            facts={
                "checkpoint": self.checkpoint,
                "checkpoint_id": self.checkpoint_id,
                "start_up": self.start_up,
                "real_time_priority": self.priorities,
                "problems": self.problems,
                "rollout": rollout,
                "replay": replay,
                "is_interrupted": self.is_interrupted,
                "planned_episodes": self.num_planned,
            },
        )

    def _replay(self) -> dict[str, Any] | None:
        """Replay the recording; return what the report says of it."""
        from vla_core.evaluation.replay.output import describe_run, write_outputs
        from vla_core.evaluation.replay.runner import ReplayJob, replay_bag
        from vla_core.evaluation.replay.settings import ReplaySettings

        job = ReplayJob(
            checkpoint=self.checkpoint, settings=ReplaySettings(), folder=self.folder / "replay"
        )
        try:
            result = replay_bag(job, self.folder / "bag")
        except VLAError as error:
            self.problems.append(f"The recording cannot be replayed: {error}")
            return None
        metrics = describe_run(job, [result])
        write_outputs(job, [result], metrics)
        return {
            "page": "replay/report.html",
            "answered": metrics["ticks"]["answered"],
            "error_rad": metrics["error"]["total"]["rad"]["mae"],
        }

    @contextmanager
    def _finishing(self, what: str) -> Iterator[None]:
        """Let the first Ctrl-C of the run wait until a block has ended, saying what goes on."""

        def on_interrupt() -> None:
            self.is_interrupted = True
            self.console.print(what)

        if self.is_interrupted:
            yield
        else:
            with postponed_interrupt(on_interrupt):
                yield


@contextmanager
def postponed_interrupt(on_interrupt: Callable[[], None]) -> Iterator[None]:
    """Call a function at the first SIGINT or SIGTERM; raise KeyboardInterrupt at the next.

    Args:
        on_interrupt: Called once, between two steps of the block, which then goes on.
    """
    signals = (signal.SIGINT, signal.SIGTERM)

    def handle(number: int, frame: FrameType | None) -> None:
        for each in signals:
            signal.signal(each, signal.default_int_handler)
        on_interrupt()

    previous = {each: signal.signal(each, handle) for each in signals}
    try:
        yield
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)


def read_rollout(path: Path) -> dict[str, Any] | None:
    """Read the figures of `vla rollout`; None if it was ended before its first episode."""
    if not path.exists():
        return None
    figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return figures if figures["episodes"] else None


def move_artifacts(source: Path, target: Path) -> None:
    """Move what a demonstration left in a folder to another, in place of what lies there."""
    if not source.is_dir():
        return
    target.mkdir(exist_ok=True)
    for name in ARTIFACTS:
        stale = target / name
        if stale.is_dir():
            shutil.rmtree(stale)
        else:
            stale.unlink(missing_ok=True)
        if (source / name).exists():
            (source / name).rename(target / name)


def last_report(log: Path) -> list[str]:
    """Return the lines in which the supervisor reported the node that ended; none if none did."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    starts = [index for index, line in enumerate(lines) if " ended with " in line]
    if not starts:
        return []
    report = lines[starts[0] :]
    return (
        report[: report.index("stopping the graph.")]
        if "stopping the graph." in report
        else report
    )
