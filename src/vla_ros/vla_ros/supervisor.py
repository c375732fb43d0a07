# SPDX-License-Identifier: MIT
"""Run the processes of a graph without the launch system: start, watch, restart, stop all.

A node that ends by itself is reported with its status and last lines; its ``on_exit`` decides
whether the graph stops, starts it again or goes on. Every process is in a group of its own, so
that Ctrl-C reaches the supervisor alone, which passes it on; none outlives the supervisor, even
when that is killed.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from types import TracebackType
from typing import TextIO, TypeVar

from vla_core.errors import ConfigError, UnknownNameError
from vla_ros.graph import EXIT_CONFIGURATION, NodeSpec
from vla_ros.node_process import NodeProcess, describe_status, find_executable

_KILL_PATIENCE_S = 5.0
"""Signals and how long each is given to work, in s; None: what the node says."""
_NUM_REPORTED_LINES = 20
_COLOURS = (36, 33, 35, 32, 34, 31)

_T = TypeVar("_T")


class Supervisor:
    """Run the processes of a graph until it stops; also a context manager.

    Args:
        nodes: What to run.
        output: Where the nodes' lines go, each with the node's name; None: nowhere, they are only
            kept for ``output_of``.

    Raises:
        ConfigError: An executable is not found, or two nodes have the same name.
    """

    def __init__(self, nodes: Iterable[NodeSpec], *, output: TextIO | None = None) -> None:
        specs = tuple(nodes)
        names = [spec.name for spec in specs]
        if len(set(names)) != len(names):
            raise ConfigError(f"node names must differ, got {', '.join(names)}.")
        self._console = _Console(output, names)
        self._nodes = {
            spec.name: NodeProcess(spec, find_executable(spec.package, spec.executable))
            for spec in specs
        }
        # The kernel ties a child to the thread that started it: one thread starts them all.
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="supervisor", daemon=True)
        self._finished = threading.Event()
        self._hurry = threading.Event()
        self._stopping = False
        self._status = 0

    def __enter__(self) -> Supervisor:
        """Start all nodes."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop all nodes."""
        self.stop()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the nodes."""
        return tuple(self._nodes)

    def start(self) -> None:
        """Start all nodes."""
        self._thread.start()
        try:
            self._call(self._start_all)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all nodes: SIGTERM, and SIGKILL to those that take longer than they may.

        An interruption meanwhile skips to SIGKILL; the call always returns with all nodes gone.
        """
        self._jobs.put(self._stop_all)
        while not self._finished.is_set():
            try:
                self._finished.wait()
            except (KeyboardInterrupt, SystemExit):
                self._hurry.set()

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait until the graph has stopped.

        Args:
            timeout_s: Longest time to wait; None: for ever.

        Returns:
            The exit status of the graph: 0, or 1 after a node failed; None after the time-out.
        """
        return self._status if self._finished.wait(timeout_s) else None

    def kill(self, name: str, signal_number: int = signal.SIGKILL) -> None:
        """Send a signal to a node; what follows is as if the node had ended by itself.

        Args:
            name: Node name.
            signal_number: The signal.
        """
        self._node(name).send(signal_number)

    def restart(self, name: str) -> None:
        """Start a node anew, ending it first when it runs."""
        node = self._node(name)
        self._call(lambda: self._restart(node))

    def is_alive(self, name: str) -> bool:
        """Say whether a node's process runs."""
        return self._node(name).is_alive()

    def pid_of(self, name: str) -> int:
        """Return the process id of a node, of its last process when it has ended."""
        return self._node(name).pid

    def output_of(self, name: str) -> list[str]:
        """Return the newest lines that a node has written, of all its processes."""
        return list(self._node(name).lines)

    def _node(self, name: str) -> NodeProcess:
        if name not in self._nodes:
            raise UnknownNameError(f"node {name!r} is unknown; available: {list(self._nodes)}.")
        return self._nodes[name]

    def _call(self, function: Callable[[], _T]) -> _T:
        """Run a function in the thread of the supervisor and return its result."""
        future: Future[_T] = Future()

        def job() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        self._jobs.put(job)
        return future.result()

    def _work(self) -> None:
        while not self._finished.is_set():
            due_times = [node.respawn_at for node in self._nodes.values() if node.respawn_at]
            timeout_s = max(0.0, min(due_times) - time.monotonic()) if due_times else None
            try:
                self._jobs.get(timeout=timeout_s)()
            except queue.Empty:
                self._start_due()

    def _start_all(self) -> None:
        for node in self._nodes.values():
            self._start(node)

    def _start_due(self) -> None:
        for node in self._nodes.values():
            if node.respawn_at and node.respawn_at <= time.monotonic():
                self._console.report(f"{node.spec.name} is started again.")
                self._start(node)

    def _start(self, node: NodeProcess) -> None:
        process = node.start()
        threading.Thread(
            target=self._read, args=(node, process), name=f"{node.spec.name} output", daemon=True
        ).start()

    def _read(self, node: NodeProcess, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as stream:
            for raw in stream:
                line = raw.decode(errors="replace").rstrip("\r\n")
                node.lines.append(line)
                self._console.write(node.spec.name, line)
        process.wait()
        self._jobs.put(lambda: self._on_exit(node, process))

    def _on_exit(self, node: NodeProcess, process: subprocess.Popen[bytes]) -> None:
        if self._stopping or node.process is not process:
            return
        status = process.returncode
        lines = [f"    {line}" for line in list(node.lines)[-_NUM_REPORTED_LINES:]]
        # What was killed has not said why.
        if status == -signal.SIGKILL:
            lines = []
        self._console.report(
            f"{node.spec.name} ended with {describe_status(status)}"
            + (f"; its last lines:\n{chr(10).join(lines)}" if status and lines else ".")
        )
        if node.spec.on_exit == "continue" or (node.spec.on_exit == "finish" and not status):
            return
        if node.spec.on_exit == "respawn" and status != EXIT_CONFIGURATION:
            delay_s = node.schedule_respawn()
            if delay_s is not None:
                self._console.report(f"{node.spec.name} will be started again in {delay_s:g} s.")
                return
            self._console.report(f"{node.spec.name} keeps ending; giving up.")
        self._status = 1 if status else self._status
        self._console.report("stopping the graph.")
        self._stop_all()

    def _restart(self, node: NodeProcess) -> None:
        self._end([node])
        self._start(node)

    def _stop_all(self) -> None:
        if self._finished.is_set():
            return
        self._stopping = True
        self._end(list(self._nodes.values()))
        self._finished.set()

    def _end(self, nodes: list[NodeProcess]) -> None:
        # Not SIGINT: to that a node that has only begun to start answers with a traceback.
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            is_last = signal_number == signal.SIGKILL
            alive = [node for node in nodes if node.is_alive()]
            if alive and is_last and not self._hurry.is_set():
                names = ", ".join(node.spec.name for node in alive)
                self._console.report(f"SIGKILL to {names}.")
            for node in alive:
                node.send(signal_number)
            start = time.monotonic()
            for node in alive:
                deadline = start + (_KILL_PATIENCE_S if is_last else node.spec.stop_s)
                while node.is_alive() and time.monotonic() < deadline:
                    if self._hurry.is_set() and not is_last:
                        break
                    node.wait(0.05)
        for node in nodes:
            node.clean_up_group()


class _Console:
    """Write the lines of all nodes to one stream, each behind its node's name."""

    def __init__(self, stream: TextIO | None, names: list[str]) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._width = max((len(name) for name in names), default=0)
        has_colour = stream is not None and stream.isatty() and "NO_COLOR" not in os.environ
        self._colours = dict(zip(names, _cycle(_COLOURS, len(names)), strict=True))
        self._has_colour = has_colour

    def write(self, name: str, line: str) -> None:
        prefix = f"{name:<{self._width}} |"
        if self._has_colour:
            prefix = f"\033[{self._colours[name]}m{prefix}\033[0m"
        self._emit(f"{prefix} {line}\n")

    def report(self, text: str) -> None:
        self._emit(f"\033[1m{text}\033[0m\n" if self._has_colour else f"{text}\n")

    def _emit(self, text: str) -> None:
        if self._stream is None:
            return
        with self._lock:
            try:
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):
                # The reader of the pipe has gone; the nodes must still be stopped in order.
                self._stream = None


def _cycle(values: tuple[int, ...], count: int) -> list[int]:
    return [values[index % len(values)] for index in range(count)]
