# SPDX-License-Identifier: MIT
"""The steps of the set-up: virtual environment, wheels, colcon build.

Each step has a stamp in .venv/.setup with the digest of what it was made from. The stamp is
emptied when the step starts and written when it has succeeded.
"""

import configparser
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from machine_checks import SetupError
from wheels import install_wheels

PYTHON_PACKAGES = ("vla_core", "vla_ros")
# colcon does not link these to the sources, so a change in them needs another build.
BUILT_FILES = ("src/*/package.xml", "src/*/setup.*", "src/vla_msgs/**/*", "colcon.meta")
# Here a file that is new or gone matters, its content is linked.
BUILT_NAMES = ("launch/*", "config/**/*")
ROS_LIBRARIES = "lib/python3.*/site-packages/ros_*.libs"


class Step(NamedTuple):
    """One step: what it is made from, what exists once it is done, and how it is done."""

    name: str
    digest: str
    product: Path
    action: Callable[[], None]


class Steps:
    """The set-up of one repository, as steps that are due or done.

    Args:
        root: The repository; .venv, build, install and log are made in it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.venv = root / ".venv"
        self.stamps = self.venv / ".setup"
        self.started = time.monotonic()
        requirements = [self._digest([root / "scripts/requirements.txt"], declared(root))]
        build = [
            *requirements,
            self._digest(self._files(BUILT_FILES), map(str, self._files(BUILT_NAMES))),
        ]
        # A moved repository needs a new environment: the scripts in it have absolute paths.
        place = self._digest([], [str(root)])
        venv, digest = self.venv, self._digest
        self.steps = (
            Step("environment", place, venv / "bin/python", self._create_environment),
            Step("wheels", digest([], requirements), venv / "bin/colcon", self._install_wheels),
            Step("build", digest([], build), root / "install/setup.bash", self._build),
        )

    def due(self) -> list[str]:
        """Return the names of the steps that have to run: the first stale one and all after it."""
        for index, step in enumerate(self.steps):
            stamp = self.stamps / step.name
            is_stamped = stamp.is_file() and stamp.read_text(encoding="utf-8") == step.digest
            if not (is_stamped and step.product.exists()):
                return [later.name for later in self.steps[index:]]
        return []

    def run(self) -> None:
        """Run the steps that are due.

        Raises:
            SetupError: A step failed.
        """
        due = self.due()
        for step in self.steps:
            if step.name not in due:
                continue
            stamp = self.stamps / step.name
            if stamp.is_file():
                stamp.write_text("", encoding="utf-8")
            step.action()
            stamp.write_text(step.digest, encoding="utf-8")
        self._report("ready; in a shell of your own: . scripts/env.sh")

    def _files(self, patterns: Iterable[str]) -> list[Path]:
        found = {path for pattern in patterns for path in self.root.glob(pattern)}
        return sorted(path for path in found if path.is_file())

    @staticmethod
    def _digest(files: Iterable[Path], words: Iterable[str]) -> str:
        digest = hashlib.sha256()
        for path in files:
            digest.update(f"{path}\0".encode() + path.read_bytes() + b"\0")
        for word in words:
            digest.update(f"{word}\0".encode())
        return digest.hexdigest()

    def _report(self, line: str) -> None:
        print(f"[{time.monotonic() - self.started:5.1f} s] {line}", flush=True)

    def _create_environment(self) -> None:
        self._report(f"virtual environment: .venv with Python {sys.version.split()[0]}")
        for folder in ("build", "install", "log"):
            shutil.rmtree(self.root / folder, ignore_errors=True)
        # One that this program did not make, or did not finish, is kept and completed.
        moved = (self.stamps / "environment").is_file()
        command = [sys.executable, "-m", "venv", *(["--clear"] if moved else []), str(self.venv)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            reason = (result.stdout + result.stderr).strip().splitlines()[-1:]
            raise SetupError(f"{' '.join(command)} failed: {' '.join(reason)}")
        self.stamps.mkdir(exist_ok=True)

    def _install_wheels(self) -> None:
        install_wheels(
            self.venv,
            self.root / "scripts/requirements.txt",
            declared(self.root),
            self.stamps / "pip.log",
            self._report,
        )

    def _build(self) -> None:
        self._report("colcon build: vla_msgs, vla_core, vla_ros (half a minute)")
        command = [
            *(str(self.venv / "bin/colcon"), "build"),
            *("--symlink-install", "--base-paths", "src"),
            *("--event-handlers", "console_cohesion+", "console_start_end-"),
        ]
        log = self.stamps / "colcon.log"
        with log.open("w", encoding="utf-8") as output:
            status = subprocess.run(
                command,
                cwd=self.root,
                env=build_environment(self.venv),
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
        if status != 0:
            with log.open(encoding="utf-8") as output:
                tail = "".join(deque(output, 25))
            raise SetupError(f"colcon build failed; all of its output is in {log}:\n{tail}")


def declared(root: Path) -> list[str]:
    """Return the requirements, extras included, in the setup.cfg of the Python packages."""
    requirements: set[str] = set()
    for package in PYTHON_PACKAGES:
        parser = configparser.ConfigParser()
        parser.read(root / "src" / package / "setup.cfg", encoding="utf-8")
        fields = [
            parser["options"]["install_requires"],
            *parser["options.extras_require"].values(),
        ]
        requirements.update(line for field in fields for line in field.split("\n") if line)
    return sorted(requirements - set(PYTHON_PACKAGES))


def build_environment(venv: Path) -> dict[str, str]:
    """Return the variables for colcon: those of scripts/env.sh without an earlier build's."""
    dropped = ("PYTHONPATH", "PYTHONHOME", "COLCON_PREFIX_PATH")
    environment = {key: value for key, value in os.environ.items() if key not in dropped}
    return {
        **environment,
        "VIRTUAL_ENV": str(venv),
        "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "AMENT_PREFIX_PATH": str(venv),
        "CMAKE_PREFIX_PATH": str(venv),
        "LD_LIBRARY_PATH": os.pathsep.join(map(str, [venv / "lib", *venv.glob(ROS_LIBRARIES)])),
        "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1",
        # colcon's own choice adds a load limit, which on a busy machine leaves one job.
        "MAKEFLAGS": f"-j{len(os.sched_getaffinity(0))}",
        "ROS_DISTRO": "jazzy",
        "ROS_VERSION": "2",
    }
