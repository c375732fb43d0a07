# SPDX-License-Identifier: MIT
"""Shared-memory ports of Fast DDS that killed processes have left behind.

A participant receives through a port, a file of shared memory that is named by its number and that
its senders keep mapped. If its process is killed, the next one takes the same number for a new
file; but a sender that does not notice goes on filling the old one, and the new process is deaf to
it for as long as both run (https://github.com/eProsima/Fast-DDS/pull/4737).
"""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

_SHARED_MEMORY = Path("/dev/shm")
# DDS-RTPS 9.6.1.1: the ports of a domain.
_PORT_BASE, _DOMAIN_GAIN = 7400, 250
_PORT_FILE = re.compile(r"(?:sem\.)?(fast(?:rtps|dds)_port(\d+))(?:_el|_sl|_mutex)?")
# One is held by the only reader of a port, the other by each of several.
_LOCKS = ("_el", "_sl")


def avoid_dead_ports() -> ExitStack:
    """Have the participants of this process choose other ports than those of killed processes.

    Returns:
        What keeps them; close it after the participants.
    """
    domain = int(os.environ.get("ROS_DOMAIN_ID") or 0)
    held = ExitStack()
    for port in _ports(domain):
        # Fast DDS takes a port whose lock is held for one in use, and goes on to the next number.
        if (lock := _try_lock(_SHARED_MEMORY / f"{port}_el")) is not None:
            held.enter_context(lock)
    return held


def remove_dead_ports(domain: int) -> bool:
    """Remove the dead ports of a domain unless somebody is in it.

    A mutex that its owner died with would keep the next participants from hearing each other. And
    whoever is in it may have opened a dead port, which all participants of its process, also those
    to come, would go on using after it is removed.

    Returns:
        Whether nobody is in the domain.
    """
    paths = [path for files in _ports(domain).values() for path in files]
    locks = [_try_lock(path) for path in paths if path.name.endswith(_LOCKS)]
    is_empty = None not in locks
    if is_empty:
        for path in paths:
            with suppress(OSError):  # another user's
                path.unlink()
    for lock in locks:
        if lock is not None:
            lock.close()
    return is_empty


def _ports(domain: int) -> dict[str, list[Path]]:
    """Return the files of every port of a domain, by the name of the port."""
    first = _PORT_BASE + _DOMAIN_GAIN * domain
    files: dict[str, list[Path]] = {}
    for path in _SHARED_MEMORY.glob("*_port*"):
        match = _PORT_FILE.fullmatch(path.name)
        if match and first <= int(match[2]) < first + _DOMAIN_GAIN:
            files.setdefault(match[1], []).append(path)
    return files


def _try_lock(path: Path) -> IO[bytes] | None:
    """Return the open file with its lock held; None if it is missing or a process holds it."""
    try:
        file = path.open("rb")
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
