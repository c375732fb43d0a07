# SPDX-License-Identifier: MIT
"""What a machine must have before the set-up starts; each lack is named with its remedy."""

import ctypes.util
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

# .venv takes 2 GiB with a CPU build of PyTorch and 7 with the CUDA one that most indices offer.
FIRST_GIB = 8.0
BUILD_GIB = 0.3
OLDEST_GLIBC = (2, 28)
OLDEST_CMAKE = (3, 16)
CXX_COMPILERS = ("c++", "g++", "clang++")
INSTALL_TOOLS = (
    "Debian, Ubuntu: sudo apt install build-essential cmake libegl1 python3-dev python3-venv; "
    "Fedora: sudo dnf install gcc-c++ make cmake libglvnd-egl python3-devel"
)
# What renders the simulation's cameras, by the value of MUJOCO_GL: no wheel has it.
RENDERERS = {
    "egl": ("EGL", "libegl1", "libglvnd-egl"),
    "osmesa": ("OSMesa", "libosmesa6", "mesa-libOSMesa"),
}


class SetupError(Exception):
    """The set-up cannot go on; the message says why and what to do."""


def check_machine(root: Path, min_free_gib: float) -> None:
    """Check everything that can be known before the first download.

    Args:
        root: The repository.
        min_free_gib: Disk space that must be free there.

    Raises:
        SetupError: Something is missing.
    """
    check_path(root)
    check_platform(platform.system(), platform.machine(), platform.libc_ver())
    check_disk(root, min_free_gib)
    check_tools()
    check_python_parts()
    check_renderer(os.environ.get("MUJOCO_GL", "egl"))


def check_path(root: Path) -> None:
    """Refuse a folder whose name the set-up files of colcon cannot quote.

    Raises:
        SetupError: The path has white space.
    """
    if len(str(root).split()) != 1:
        raise SetupError(
            f"the path '{root}' has white space, which the files that colcon writes cannot deal "
            "with. Move the repository to a path without."
        )


def check_platform(system: str, machine: str, libc: tuple[str, str]) -> None:
    """Refuse what no ROS 2 wheel exists for.

    Raises:
        SetupError: It is not Linux with glibc 2.28 or newer on x86-64.
    """
    remedy = "Install ROS 2 itself and build with colcon; the README says how."
    if system != "Linux" or machine != "x86_64":
        raise SetupError(
            f"this is {system} on {machine}, but ROS 2 comes as wheels for Linux on x86_64 only. "
            + remedy
        )
    name, version = libc
    if name != "glibc" or tuple(int(part) for part in version.split(".")[:2]) < OLDEST_GLIBC:
        raise SetupError(
            f"the C library is {name or 'not glibc'} {version}, but the wheels need glibc "
            f"{'.'.join(map(str, OLDEST_GLIBC))} or newer. {remedy}"
        )


def check_disk(root: Path, min_free_gib: float) -> None:
    """Refuse a disk that would be full before the end.

    Raises:
        SetupError: Less than `min_free_gib` is free where the repository is.
    """
    free_gib = shutil.disk_usage(root).free / 2**30
    if free_gib < min_free_gib:
        raise SetupError(
            f"not enough disk space: {free_gib:.1f} GiB are free in {root}, {min_free_gib:g} are "
            "needed. Free some, or clone the repository to a larger disk. Where pip gets a CPU "
            "build of PyTorch, 3 are enough: python3 scripts/set_up.py --min-free-gib 3"
        )


def check_tools() -> None:
    """Look for the compiler, cmake and make that vla_msgs is built with.

    Raises:
        SetupError: One is missing or too old.
    """
    compilers = [os.environ["CXX"]] if os.environ.get("CXX") else CXX_COMPILERS
    if not any(shutil.which(name) for name in compilers):
        raise SetupError(
            f"no C++ compiler: there is no {' or '.join(compilers)} on PATH. {INSTALL_TOOLS}"
        )
    for tool in ("cmake", "make"):
        if shutil.which(tool) is None:
            raise SetupError(f"{tool} is not on PATH. {INSTALL_TOOLS}")
    output = subprocess.run(
        ["cmake", "--version"], capture_output=True, text=True, check=False
    ).stdout
    version = output.split()[2] if len(output.split()) > 2 else "unknown"
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < OLDEST_CMAKE:
        oldest = ".".join(map(str, OLDEST_CMAKE))
        raise SetupError(f"cmake is {version}, but {oldest} or newer is needed. {INSTALL_TOOLS}")


def check_python_parts() -> None:
    """Look for what distributions split off Python and vla_msgs and the environment need.

    Raises:
        SetupError: Its headers or its venv module are missing.
    """
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if not header.is_file():
        raise SetupError(f"{sys.executable} has no headers: {header} is missing. {INSTALL_TOOLS}")
    if not all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")):
        raise SetupError(f"{sys.executable} cannot make virtual environments. {INSTALL_TOOLS}")


def check_renderer(renderer: str) -> None:
    """Look for the library that renders the cameras of the simulation.

    Args:
        renderer: Value of MUJOCO_GL; one without a library of its own is not checked.

    Raises:
        SetupError: The library is missing.
    """
    library, debian, fedora = RENDERERS.get(renderer.lower(), ("", "", ""))
    if library and ctypes.util.find_library(library) is None:
        raise SetupError(
            f"the simulation cannot render its cameras: there is no lib{library}. "
            f"Debian, Ubuntu: sudo apt install {debian}; Fedora: sudo dnf install {fedora}"
        )
