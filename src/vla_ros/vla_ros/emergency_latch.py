# SPDX-License-Identifier: MIT
"""An emergency stop outlasts a process that is killed: a file keeps it until the reset.

Who starts the killed node again is the parent of both processes, the supervisor or the launch
system. So the parent's number is in the file's name: a node that another one starts is not meant.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path


class EmergencyLatch:
    """The file of one node.

    Args:
        node_name: Full name of the node, with its namespace.
    """

    def __init__(self, node_name: str) -> None:
        domain = os.environ.get("ROS_DOMAIN_ID") or "0"
        name = node_name.strip("/").replace("/", ".")
        self._path = (
            Path(tempfile.gettempdir())
            / f"vla_ros_emergency_stop_{os.getuid()}_{domain}_{name}_{os.getppid()}"
        )

    def find_reason(self) -> str:
        """Return why and since when the stop of an earlier process is in force; empty: it is not.

        A file that cannot be read counts, too: it may have been killed while it wrote.
        """
        try:
            since = time.localtime(self._path.lstat().st_mtime)
        except FileNotFoundError:
            return ""
        try:
            reason = self._path.read_text(encoding="utf-8") or "unknown reason"
        except (OSError, UnicodeDecodeError):
            reason = "unknown reason"
        return f"{reason}, since {time.strftime('%Y-%m-%d %H:%M:%S', since)}"

    def keep(self, reason: str) -> None:
        """Keep that a stop is in force, or with an empty reason that none is.

        Raises:
            OSError: The file cannot be written or removed.
        """
        if not reason:
            self._path.unlink(missing_ok=True)
            return
        # Never through a link that somebody else has laid in a folder that all may write to.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with open(os.open(self._path, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(reason)
