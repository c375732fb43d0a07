# SPDX-License-Identifier: MIT
"""A ROS domain that no other run on this machine uses: two of them must not hear each other."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vla_core.errors import VLAError

# Linux keeps the UDP ports of these domains free of its ephemeral ones. From the end, because
# people count from the beginning.
_DOMAINS = range(101, 0, -1)
# DDS-RTPS 9.6.1.1: the ports of a domain.
_PORT_BASE, _DOMAIN_GAIN = 7400, 250
_SHARED_MEMORY = Path("/dev/shm")
_PORT_FILE = re.compile(r"(?:sem\.)?(fast(?:rtps|dds)_port)(\d+)(?:_el|_sl|_mutex)?")


@contextmanager
def private_domain() -> Iterator[int]:
    """Reserve a domain, and set the environment of this process and of those it starts.

    Yields:
        The domain's number.

    Raises:
        VLAError: Every domain is in use.
    """
    folder = Path(tempfile.gettempdir()) / f"vla_ros_domains_{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for domain in _DOMAINS:
        with (folder / str(domain)).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            _remove_dead_ports(domain)
            with _environment(
                ROS_DOMAIN_ID=str(domain), ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST"
            ):
                yield domain
            return
    raise VLAError(
        f"all ROS domains from 1 to {_DOMAINS[0]} are in use on this machine; end another run."
    )


def _remove_dead_ports(domain: int) -> None:
    """Remove the shared-memory ports of a domain that killed processes have left behind.

    A mutex that its owner died with would keep the next participants from hearing each other.
    """
    first = _PORT_BASE + _DOMAIN_GAIN * domain
    by_port: dict[str, list[Path]] = {}
    for path in _SHARED_MEMORY.glob("*_port*"):
        match = _PORT_FILE.fullmatch(path.name)
        if match and first <= int(match[2]) < first + _DOMAIN_GAIN:
            by_port.setdefault(match[1] + match[2], []).append(path)
    for port, paths in by_port.items():
        # One lock is for the only reader of a port, the other for each of several.
        if not any(_is_held(_SHARED_MEMORY / f"{port}{lock}") for lock in ("_el", "_sl")):
            for path in paths:
                with suppress(OSError):  # another user's
                    path.unlink()


def _is_held(lock_path: Path) -> bool:
    """Return whether a living process has the lock of a port."""
    try:
        with lock_path.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
