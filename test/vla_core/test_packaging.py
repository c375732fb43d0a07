# SPDX-License-Identifier: MIT
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path
from xml.etree import ElementTree

import pytest

import vla_core
from vla_core.cli import GROUP, read_docstring

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src/vla_core"


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory):
    """Build the wheel from a copy of the sources and return the names of the files in it."""
    root = tmp_path_factory.mktemp("wheel")
    skipped = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    shutil.copytree(SOURCE, root / "src/vla_core", symlinks=True, ignore=skipped)
    shutil.copytree(ROOT / "config", root / "config")
    checkpoint = root / "src/vla_core/vla_core/checkpoints/sample/model.safetensors"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"),
            *("--no-build-isolation", "--wheel-dir", str(root), str(root / "src/vla_core")),
        ],
        check=True,
    )
    with zipfile.ZipFile(next(root.glob("*.whl"))) as wheel:
        return set(wheel.namelist())


def package_files(pattern):
    """Return the files of the package that match, as a wheel names them."""
    paths = (SOURCE / "vla_core").glob(pattern)
    return {path.relative_to(SOURCE).as_posix() for path in paths if path.is_file()}


def test_wheel_has_every_module(wheel_names):
    modules = package_files("**/*.py")
    assert modules
    assert modules - wheel_names == set()


@pytest.mark.parametrize(
    "pattern",
    ["robots/*.yaml", "recipes/*.yaml", "sim/assets/**/*", "py.typed"],
)
def test_wheel_has_the_files_that_are_read_at_run_time(wheel_names, pattern):
    files = package_files(pattern)
    assert files
    assert files - wheel_names == set()


def test_wheel_has_the_checkpoints(wheel_names):
    assert "vla_core/checkpoints/sample/model.safetensors" in wheel_names
    assert package_files("checkpoints/**/*") - wheel_names == set()


def test_wheel_has_neither_tests_nor_caches(wheel_names):
    strays = [n for n in wheel_names if re.match(r"test/|.*(__pycache__|conftest|\.egg-info)", n)]
    assert strays == []


def test_every_robot_and_recipe_of_the_repository_is_in_the_package():
    for folder, link in {"robots": "robots", "train": "recipes"}.items():
        names = {path.name for path in (ROOT / "config" / folder).glob("*.yaml")}
        assert names == {path.name for path in (SOURCE / "vla_core" / link).glob("*.yaml")}


def test_versions_agree():
    manifest = ElementTree.parse(SOURCE / "package.xml").findtext("version")
    setup = re.search(r"^version = (.+)$", (SOURCE / "setup.cfg").read_text(), re.MULTILINE)
    assert setup is not None
    assert vla_core.__version__ == manifest == setup[1]


def test_all_is_the_sum_of_the_other_extras():
    extras = (SOURCE / "setup.cfg").read_text().partition("[options.extras_require]")[2]
    extras = extras.partition("\n[")[0]
    parts = {
        name: set(body.split()) for name, body in re.findall(r"(\w+) =\n((?: .+\n)+)", extras)
    }
    everything = parts.pop("all")
    parts.pop("test")
    assert everything == set().union(*parts.values())


def test_every_declared_command_has_a_module_with_help():
    declared = [p for p in entry_points(group=GROUP) if p.value.startswith("vla_core.")]
    assert declared, "vla_core is not installed; run 'make setup' and '. scripts/env.sh'"
    assert [point.name for point in declared if not read_docstring(point.value)] == []


def test_importing_the_package_loads_no_heavy_library():
    heavy = ("torch", "transformers", "mujoco", "rclpy", "matplotlib", "pyarrow")
    code = f"import sys, vla_core; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr


def test_nothing_in_the_package_imports_ros():
    ros = re.compile(
        r"^\s*(?:import|from)\s+(rclpy|launch|vla_ros|vla_msgs|ament_\w+)\b", re.MULTILINE
    )
    found = {
        path.name: ros.findall(path.read_text(encoding="utf-8"))
        for path in (SOURCE / "vla_core").rglob("*.py")
    }
    assert {name: imports for name, imports in found.items() if imports} == {}
