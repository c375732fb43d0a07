# SPDX-License-Identifier: MIT
import re
import shutil
import subprocess
from importlib.metadata import entry_points
from pathlib import Path
from xml.etree import ElementTree

import pytest
from ament_index_python.packages import get_package_prefix, get_package_share_directory

from vla_core.cli import GROUP, read_docstring

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src/vla_ros"
PACKAGES = ("vla_core", "vla_msgs", "vla_ros")


def node_names():
    return sorted(path.stem for path in (SOURCE / "vla_ros/nodes").glob("*_node.py"))


def test_every_node_is_an_executable_that_ros2_run_finds():
    executables = Path(get_package_prefix("vla_ros")) / "lib/vla_ros"
    assert node_names()
    assert sorted(path.name for path in executables.iterdir()) == node_names()


def test_every_declared_command_has_a_module_with_help():
    declared = [p for p in entry_points(group=GROUP) if p.value.startswith("vla_ros.")]
    assert sorted(point.name for point in declared) == ["demo", "doctor", "say", "up"]
    assert [point.name for point in declared if not read_docstring(point.value)] == []


@pytest.mark.parametrize("pattern", ["launch/*.launch.py", "config/*.*", "config/*/*.yaml"])
def test_share_folder_has_what_the_repository_has(pattern):
    share = Path(get_package_share_directory("vla_ros"))
    names = {str(path.relative_to(ROOT)) for path in ROOT.glob(pattern) if path.is_file()}
    assert names
    assert names == {str(p.relative_to(share)) for p in share.glob(pattern) if p.is_file()}


@pytest.mark.parametrize("package", PACKAGES)
def test_manifest_has_the_version_and_maintainer_of_the_others(package):
    manifest = ElementTree.parse(ROOT / "src" / package / "package.xml")
    reference = ElementTree.parse(SOURCE / "package.xml")
    assert manifest.findtext("version") == reference.findtext("version")
    assert manifest.findtext("maintainer") == reference.findtext("maintainer")


def test_colcon_finds_three_ros_packages_and_nothing_else():
    if shutil.which("colcon") is None:
        pytest.skip("colcon is not installed")
    result = subprocess.run(
        ["colcon", "--log-base", "/dev/null", "list", "--base-paths", str(ROOT)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    types = dict(re.findall(r"^(\w+)\t.*\((.+)\)$", result.stdout, re.MULTILINE))
    assert types == {
        "vla_core": "ros.ament_python",
        "vla_msgs": "ros.ament_cmake",
        "vla_ros": "ros.ament_python",
    }
    assert "setup.py" not in result.stderr


def test_manifest_names_every_ros_package_that_is_imported():
    known = {"vla_core", "vla_msgs"} | {
        element.text
        for element in ElementTree.parse(SOURCE / "package.xml").getroot()
        if element.tag.endswith("depend")
    }
    imported = {
        name
        for folder in (SOURCE / "vla_ros", ROOT / "launch")
        for path in folder.rglob("*.py")
        for name in re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), re.MULTILINE)
        if re.search(r"(^rclpy|_msgs|_interfaces|^launch|_ros|^ament_index_python)$", name)
    } - {"vla_ros"}
    assert imported
    assert imported - known == set()
