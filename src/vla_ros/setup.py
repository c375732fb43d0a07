# SPDX-License-Identifier: MIT
"""Files that vla_ros installs into its share folder; all metadata is in setup.cfg."""

from glob import glob

from setuptools import setup

SHARE = "share/vla_ros"
# `launch` and `config` are links to the repository's folders of these names.
FOLDERS = {
    "launch": "launch/*.launch.py",
    "config": "config/*.*",
    "config/robots": "config/robots/*.yaml",
    "config/foxglove": "config/foxglove/*.json",
    "config/train": "config/train/*.yaml",
}

setup(
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/vla_ros"]),
        (SHARE, ["package.xml"]),
        *((f"{SHARE}/{folder}", sorted(glob(pattern))) for folder, pattern in FOLDERS.items()),
    ],
)
