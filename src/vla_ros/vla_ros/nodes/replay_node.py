# SPDX-License-Identifier: MIT
"""Run a policy over ROS on a recording that is being played, and judge what it answered.

Starts the player once policy and command node listen, asks the policy for what the recording asks
for, records chunks and statuses to ``<output>/answers``, and evaluates them as `vla replay` does
when all is played, or at Ctrl-C what there is. Part of the graph `replay`::

  vla up replay bag:=out/demo/bag checkpoint:=groot
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node

from vla_core.errors import VLAError
from vla_core.processing.contract import load_contract
from vla_ros.graph import EXIT_CONFIGURATION
from vla_ros.node_clock import NodeClock
from vla_ros.parameters import ReplayParameters
from vla_ros.parameters.declaration import declare_parameters
from vla_ros.polled_subscription import AbsoluteRate
from vla_ros.replayed_run import ReplayedRun
from vla_ros.stop_signal import StopSignal

_POLL_S = 0.01
_REPORT_EVERY_S = 10.0
_WIDTH = 100


class ReplayNode(Node):
    """Follows one run and judges it.

    Raises:
        VLAError: A parameter is not valid, or the recording cannot be used.
    """

    def __init__(self) -> None:
        super().__init__("replay_node")
        # They load torch, which takes seconds, in which a signal must find its handler.
        from vla_core.dataset.bag_observations import BagObservations
        from vla_core.evaluation.replay.runner import ReplayJob
        from vla_core.evaluation.replay.settings import ReplaySettings
        from vla_core.evaluation.replay.task_schedule import read_tasks

        self.parameters = declare_parameters(self, ReplayParameters)
        parameters = self.parameters
        contract = load_contract(parameters.contract)
        settings = ReplaySettings(
            contract=parameters.contract,
            actions=parameters.actions,
            instruction=parameters.instruction or None,
            instruction_topic=parameters.instruction_topic or None,
            episode_topic=parameters.episode_topic or None,
            clock=parameters.clock,
            probe_every=parameters.probe_every,
        )
        self.bag = Path(parameters.bag)
        # What would stop the judge shall not be found when all is played.
        with BagObservations(
            self.bag, contract, actions=settings.actions, clock=settings.clock, strict=False
        ) as ticks:
            next(iter(ticks), None)
        self.answers = Path(parameters.output) / "answers"
        self.job = ReplayJob(
            checkpoint=parameters.checkpoint,
            settings=settings,
            folder=Path(parameters.output),
            device=parameters.device,
            writes_mcap=True,
        )
        self._time = NodeClock(self)
        self._run = ReplayedRun(
            self,
            self._time,
            contract,
            bag=self.bag,
            answers=self.answers,
            tasks=read_tasks(self.bag, settings, contract),
            player=parameters.player,
        )

    def follow(self, stop: StopSignal) -> None:
        """Have the recording played, and record what is answered until it ends or a signal comes.

        Raises:
            VLAError: The player went before it began.
        """
        executor = SingleThreadedExecutor(context=self.context)
        executor.add_node(self)
        rate = AbsoluteRate(_POLL_S)
        report_s = time.monotonic() + _REPORT_EVERY_S
        try:
            while not stop.is_set and not self._run.is_over():
                executor.spin_once(timeout_sec=0.0)
                self._run.step()
                if time.monotonic() > report_s:
                    report_s += _REPORT_EVERY_S
                    self.get_logger().info(self._run.describe())
                rate.sleep()
        finally:
            self._run.close()
            executor.shutdown()
        self.get_logger().info(f"{self._run.num_chunks} chunks are in {self.answers}")

    def evaluate(self, *, asks_again: bool) -> None:
        """Judge the recorded answers; leave metrics.json and report.html, print the summary.

        Raises:
            VLAError: There is nothing to judge.
        """
        from rich.console import Console

        from vla_core.evaluation.replay.console import summarize
        from vla_core.evaluation.replay.online_run import evaluate_answers
        from vla_core.evaluation.replay.output import write_outputs

        report_s = [time.monotonic() + _REPORT_EVERY_S]

        def show(elapsed_s: float, duration_s: float) -> None:
            if time.monotonic() > report_s[0]:
                report_s[0] = time.monotonic() + _REPORT_EVERY_S
                self.get_logger().info(f"judging: {elapsed_s:.0f} of {duration_s:.0f} s")

        result, metrics = evaluate_answers(
            self.job, self.bag, self.answers, asks_again=asks_again, on_progress=show
        )
        write_outputs(self.job, [result], metrics)
        console = Console(highlight=False, width=_WIDTH)
        console.print(summarize(metrics))
        console.print(f"{self.job.folder / 'report.html'}", soft_wrap=True)

    def judge(self, *, is_interrupted: bool) -> int:
        """Evaluate; Ctrl-C leaves out what takes long, another one leaves it all for later."""
        if is_interrupted and not self._run.num_chunks:
            self.get_logger().warning(
                "ended before the policy answered; there is nothing to judge"
            )
            return 0
        levels = (True, False) if self.parameters.asks_again and not is_interrupted else (False,)
        for asks_again in levels:
            self.get_logger().info("judging" if asks_again else "judging what there is")
            try:
                with _interruptible():
                    self.evaluate(asks_again=asks_again)
            except KeyboardInterrupt:
                continue
            except VLAError as error:
                self.get_logger().fatal(str(error))
                return 1
            else:
                return 0
        self.get_logger().warning(
            f"interrupted; `vla replay {self.bag} --answers {self.answers}` judges later."
        )
        return 1


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt."""
    signals = (signal.SIGINT, signal.SIGTERM)
    previous = {each: signal.signal(each, signal.default_int_handler) for each in signals}
    try:
        yield
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)


def main(args: list[str] | None = None) -> int:
    """Follow one run, to its end or a signal, and judge it."""
    with StopSignal(args) as stop:
        try:
            node = ReplayNode()
        except VLAError as error:
            get_logger("replay_node").fatal(str(error))
            return EXIT_CONFIGURATION
        try:
            node.follow(stop)
            return node.judge(is_interrupted=stop.is_set)
        except VLAError as error:
            node.get_logger().fatal(str(error))
            return 1
        finally:
            node.destroy_node()


if __name__ == "__main__":
    sys.exit(main())
