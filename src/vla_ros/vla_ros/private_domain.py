# SPDX-License-Identifier: MIT
"""A ROS domain that no other run on this machine uses: two of them must not hear each other."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vla_core.errors import VLAError
from vla_ros.dead_ports import remove_dead_ports

# Linux keeps the UDP ports of these domains free of its ephemeral ones. From the end, because
# people count from the beginning.
_DOMAINS = range(101, 0, -1)


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
            # Somebody else's, or of this process from before, which is still to be freed.
            if not remove_dead_ports(domain):
                continue
            with _environment(
                ROS_DOMAIN_ID=str(domain), ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST"
            ):
                yield domain
            return
    raise VLAError(
        f"all ROS domains from 1 to {_DOMAINS[0]} are in use on this machine; end another run."
    )


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
