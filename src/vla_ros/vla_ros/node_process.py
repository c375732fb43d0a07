# SPDX-License-Identifier: MIT
"""One node as a child process: found, started, signalled, started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

from vla_core.errors import ConfigError
from vla_ros.graph import NodeSpec
from vla_ros.restarts import Restarts

_NUM_KEPT_LINES = 2000
_SHIM = str(Path(__file__).with_name("die_with_parent.py"))


def find_executable(package: str, executable: str) -> Path:
    """Return the path of a node's executable, found as ``ros2 run`` finds it.

    Args:
        package: Package that installs it.
        executable: Its name.

    Raises:
        ConfigError: No prefix in AMENT_PREFIX_PATH has it.
    """
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    folders = [Path(prefix) / "lib" / package for prefix in prefixes if prefix]
    for folder in folders:
        if os.access(folder / executable, os.X_OK):
            return folder / executable
    names = sorted(path.name for folder in folders for path in folder.glob("*"))
    raise ConfigError(
        f"executable {executable!r} of package {package!r} is not found; available: "
        f"{', '.join(names) or 'none'}; build the workspace and source install/setup.bash."
    )


class NodeProcess:
    """One node: its current process and its newest lines.

    The kernel kills the process when the thread that called ``start`` ends.

    Args:
        spec: The node.
        path: Its executable.

    Attributes:
        lines: Newest lines of output, of all processes that the node has had.
        process: The current or last process, None before the first start.
        respawn_at: When the node is due to be started again, on ``time.monotonic``.
    """

    def __init__(self, spec: NodeSpec, path: Path) -> None:
        self.spec = spec
        self.lines: deque[str] = deque(maxlen=_NUM_KEPT_LINES)
        self.process: subprocess.Popen[bytes] | None = None
        self.respawn_at: float | None = None
        self._path = path
        self._restarts = Restarts()

    @property
    def pid(self) -> int:
        """Process id of the current or last process, 0 before the first."""
        return self.process.pid if self.process is not None else 0

    def start(self) -> subprocess.Popen[bytes]:
        """Start a process in a group of its own, with stdout and stderr in one pipe."""
        self.clean_up_group()
        self.respawn_at = None
        self._restarts.note_start()
        program = [sys.executable, "-I", "-S", _SHIM, str(os.getpid()), str(self._path)]
        self.process = subprocess.Popen(
            [*program, *self.spec.ros_arguments()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment(),
            start_new_session=True,
        )
        return self.process

    def _environment(self) -> dict[str, str]:
        # The console adds the name already, and a pipe must not delay lines.
        defaults = {
            "PYTHONUNBUFFERED": "1",
            "RCUTILS_LOGGING_BUFFERED_STREAM": "1",
            "RCUTILS_CONSOLE_OUTPUT_FORMAT": "{severity}: {message}",
        }
        return {**defaults, **os.environ, **self.spec.environment}

    def is_alive(self) -> bool:
        """Say whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def wait(self, timeout_s: float) -> None:
        """Wait until the process ends, at most this long."""
        assert self.process is not None
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return

    def send(self, signal_number: int) -> None:
        """Send a signal to the process and its children, if it runs."""
        if self.is_alive():
            self._signal_group(signal_number)

    def clean_up_group(self) -> None:
        """Kill what the process may have left behind in its group."""
        if self.process is not None:
            self._signal_group(signal.SIGKILL)

    def _signal_group(self, signal_number: int) -> None:
        assert self.process is not None
        try:
            os.killpg(self.process.pid, signal_number)
        except (ProcessLookupError, PermissionError):
            return

    def schedule_respawn(self) -> float | None:
        """Plan the next start and return the delay to it [s]; None after too many quick ends."""
        delay_s = self._restarts.find_delay_s()
        if delay_s is None:
            return None
        self.respawn_at = time.monotonic() + delay_s
        return delay_s


def describe_status(status: int) -> str:
    """Return an exit status of ``subprocess`` for a human; negative ones are signals."""
    if status < 0:
        return f"signal {signal.Signals(-status).name}"
    return f"status {status}"
