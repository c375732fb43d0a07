# SPDX-License-Identifier: MIT
"""Files that vla_core installs beside its modules; all metadata is in setup.cfg."""

import sys
from pathlib import Path

from setuptools import setup

# Not python_requires: colcon evaluates a package's metadata as literals, which it is not.
if sys.version_info < (3, 10):
    sys.exit(f"vla_core needs Python 3.10 or newer; this is {sys.version.split()[0]}.")

PACKAGE = Path("vla_core")
# Listed here, as the setuptools of ROS Humble knows no '**' in package_data. `robots` and
# `recipes` are links to the repository's config/, so the installed package has the same files.
PATTERNS = (
    "py.typed",
    "checkpoints/**/*",
    "robots/*.yaml",
    "recipes/*.yaml",
    "sim/assets/**/*",
)

setup(
    package_data={
        "vla_core": sorted(
            path.relative_to(PACKAGE).as_posix()
            for pattern in PATTERNS
            for path in PACKAGE.glob(pattern)
            if path.is_file()
        )
    },
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/vla_core"]),
        ("share/vla_core", ["package.xml"]),
    ],
)
