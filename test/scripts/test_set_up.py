# SPDX-License-Identifier: MIT
"""Each way in which the set-up can fail, provoked on a copy of what it needs."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = "http://127.0.0.1:9/simple"


@pytest.fixture
def clone(tmp_path):
    """Copy the set-up programs and what they read; there is no .venv."""
    root = tmp_path / "clone"
    shutil.copytree(ROOT / "scripts", root / "scripts")
    for package in ("vla_core", "vla_ros", "vla_msgs"):
        shutil.copytree(
            ROOT / "src" / package,
            root / "src" / package,
            ignore=lambda _, names: [n for n in names if n not in ("setup.cfg", "package.xml")],
        )
    return root


def run_setup(root, *arguments, min_free_gib="0", python=sys.executable, wrapper=(), **variables):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
    command = [*wrapper, python, str(root / "scripts/set_up.py"), *arguments]
    return subprocess.run(
        [*command, "--min-free-gib", min_free_gib],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def path_with(folder, *tools):
    """Make a folder with links to the named tools and nothing else."""
    folder.mkdir()
    for tool in tools:
        found = shutil.which(tool)
        assert found, f"this test needs {tool}"
        (folder / tool).symlink_to(found)
    return str(folder)


def installed_pythons(minors):
    """Return the interpreters of these minor versions on this machine that start."""
    names = [f"python3.{minor}" for minor in minors]
    found = [path for name in names if (path := shutil.which(name))]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found += [str(path) for name in names for path in pyenv.glob(f"*/bin/{name}")]
    return [
        path
        for path in found
        if subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0
    ]


def test_unsupported_python_is_refused_and_the_supported_ones_are_named(clone):
    pythons = installed_pythons([6, 7, 8, 9, 14, 15])
    if not pythons:
        pytest.skip("no Python older than 3.10 or newer than 3.13 is installed")
    for python in pythons:
        result = run_setup(clone, python=python)
        assert result.returncode == 1
        assert re.search(r"is Python 3\.\d+, but 3\.10 to 3\.13 are supported", result.stderr)
        assert "make setup PYTHON=" in result.stderr
        assert "Traceback" not in result.stderr
    assert not (clone / ".venv").exists()


def test_each_supported_python_gets_past_the_check_of_its_version(clone):
    for python in {sys.executable, *installed_pythons([10, 11, 12, 13])}:
        assert (
            "not enough disk space" in run_setup(clone, min_free_gib="1e9", python=python).stderr
        )


@pytest.mark.parametrize(
    ("present", "missing"),
    [
        (("cmake", "make"), "no C++ compiler"),
        (("g++", "make"), "cmake is not on PATH"),
        (("g++", "cmake"), "make is not on PATH"),
    ],
)
def test_missing_build_tool_is_named_with_its_packages(clone, tmp_path, present, missing):
    result = run_setup(clone, PATH=path_with(tmp_path / "bin", *present))
    assert result.returncode == 1
    assert missing in result.stderr
    assert "sudo apt install build-essential cmake" in result.stderr
    assert not (clone / ".venv").exists()


def test_compiler_that_cxx_names_wrongly_is_refused(clone):
    result = run_setup(clone, CXX="no-such-compiler")
    assert result.returncode == 1
    assert "there is no no-such-compiler on PATH" in result.stderr


def test_old_cmake_is_refused_with_both_versions(clone, tmp_path):
    folder = path_with(tmp_path / "bin", "g++", "make", "sh")
    cmake = Path(folder) / "cmake"
    cmake.write_text("#!/bin/sh\necho cmake version 3.10.2\n")
    cmake.chmod(0o755)
    result = run_setup(clone, PATH=folder)
    assert result.returncode == 1
    assert "cmake is 3.10.2, but 3.16 or newer is needed" in result.stderr


@pytest.mark.parametrize(("renderer", "package"), [("egl", "libegl1"), ("osmesa", "libosmesa6")])
def test_missing_renderer_is_named_with_its_package(clone, tmp_path, renderer, package):
    hiding = "import ctypes.util\nctypes.util.find_library = lambda name: None\n"
    (tmp_path / "sitecustomize.py").write_text(hiding)
    result = run_setup(clone, PYTHONPATH=str(tmp_path), MUJOCO_GL=renderer)
    assert result.returncode == 1
    assert "the simulation cannot render its cameras" in result.stderr
    assert f"sudo apt install {package};" in result.stderr
    assert not (clone / ".venv").exists()


def test_path_with_white_space_is_refused(clone):
    moved = clone.rename(clone.with_name("a clone"))
    result = run_setup(moved)
    assert result.returncode == 1
    assert "a clone' has white space" in result.stderr
    assert not (moved / ".venv").exists()


def test_full_disk_is_refused_with_what_is_free_and_what_is_needed(clone):
    result = run_setup(clone, min_free_gib="1e9")
    assert result.returncode == 1
    assert re.search(r"not enough disk space: [\d.]+ GiB are free .*, 1e\+09 are", result.stderr)
    assert not (clone / ".venv").exists()


def test_other_processor_is_refused(clone):
    if not shutil.which("setarch"):
        pytest.skip("setarch is not installed")
    result = run_setup(clone, wrapper=("setarch", "i686"))
    assert result.returncode == 1
    assert "this is Linux on i686, but ROS 2 comes as wheels for Linux on x86_64" in result.stderr


@pytest.mark.parametrize(
    ("system", "libc", "reason"),
    [
        ("Darwin", ("", ""), "this is Darwin on x86_64"),
        ("Linux", ("glibc", "2.17"), "the C library is glibc 2.17"),
        ("Linux", ("", ""), "the C library is not glibc"),
    ],
)
def test_other_system_is_refused_with_another_way(monkeypatch, system, libc, reason):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    from machine_checks import SetupError, check_platform

    with pytest.raises(SetupError, match=f"{reason}.*Install ROS 2 itself"):
        check_platform(system, "x86_64", libc)


def test_unreachable_index_is_a_short_message_and_the_next_run_goes_on(clone):
    variables = {"PIP_INDEX_URL": NOWHERE, "PIP_CONFIG_FILE": os.devnull}
    result = run_setup(clone, **variables)
    assert result.returncode == 1
    assert "pip cannot reach the package index" in result.stderr
    assert "PIP_INDEX_URL" in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) < 5
    again = run_setup(clone, **variables)
    assert "virtual environment" not in again.stdout
    assert "pip cannot reach the package index" in again.stderr


def test_half_installed_package_is_removed_and_a_whole_one_is_kept(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    from wheels import remove_half_installed

    for name, files in {"half": ["METADATA"], "whole": ["METADATA", "RECORD"]}.items():
        (tmp_path / f"{name}-1.dist-info").mkdir()
        for file in files:
            (tmp_path / f"{name}-1.dist-info" / file).touch()
    remove_half_installed(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["whole-1.dist-info"]


def test_no_wheel_names_the_machine_that_it_was_built_on():
    share = Path(sys.prefix) / "share"
    configs = list(share.glob("*_msgs/cmake/*.cmake"))
    if not configs:
        pytest.skip("ROS 2 is not installed from wheels")
    assert [str(path) for path in configs if "/opt/python/cp" in path.read_text()] == []
    headers = sysconfig.get_paths()["include"]
    assert any(headers in path.read_text() for path in configs)


@pytest.fixture
def steps_of(monkeypatch):
    """Return the steps of a repository."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    from setup_steps import Steps

    return Steps


@pytest.fixture
def finished(clone, steps_of):
    """Return a copy of the repository with the stamps of a finished set-up."""
    for name in ("launch/groot.launch.py", "src/vla_msgs/msg/Sample.msg", "src/vla_core/cli.py"):
        (clone / name).parent.mkdir(exist_ok=True)
        (clone / name).touch()
    (clone / ".venv/lib/python{}.{}".format(*sys.version_info)).mkdir(parents=True)
    steps = steps_of(clone)
    steps.stamps.mkdir(parents=True)
    for step in steps.steps:
        step.product.parent.mkdir(exist_ok=True)
        step.product.touch()
        (steps.stamps / step.name).write_text(step.digest)
    return clone


def test_finished_setup_has_nothing_to_do_and_needs_no_tools(finished):
    result = run_setup(finished, PATH="")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "set-up: nothing has changed.\n"


def test_finished_setup_says_that_the_environment_keeps_another_python(finished):
    (venv,) = (finished / ".venv/lib").iterdir()
    venv.rename(venv.with_name("python3.9"))
    assert "for python{}.{}: rm -rf .venv".format(*sys.version_info) in run_setup(finished).stdout


@pytest.mark.parametrize(
    ("changed", "due"),
    [
        ("scripts/requirements.txt", ["wheels", "build"]),
        ("src/vla_msgs/msg/Sample.msg", ["build"]),
        ("src/vla_ros/package.xml", ["build"]),
        ("launch/new.launch.py", ["build"]),
        ("launch/groot.launch.py", []),
        ("src/vla_core/cli.py", []),
    ],
)
def test_a_change_makes_only_the_steps_due_that_depend_on_it(finished, steps_of, changed, due):
    with (finished / changed).open("a") as file:
        file.write("\n")
    assert steps_of(finished).due() == due


def test_new_dependency_of_a_package_is_installed(finished, steps_of):
    config = finished / "src/vla_core/setup.cfg"
    config.write_text(config.read_text().replace("    torch>=2.1", "    torch>=2.1\n    tqdm"))
    assert steps_of(finished).due() == ["wheels", "build"]


def test_moved_repository_is_set_up_anew(finished, steps_of):
    moved = finished.rename(finished.with_name("moved"))
    assert steps_of(moved).due() == ["environment", "wheels", "build"]


def test_removed_build_is_made_again(finished, steps_of):
    shutil.rmtree(finished / "install")
    assert steps_of(finished).due() == ["build"]


def test_interrupted_step_is_due_again(finished, steps_of):
    (finished / ".venv/.setup/wheels").write_text("")
    assert steps_of(finished).due() == ["wheels", "build"]


def test_environment_of_a_fresh_clone_says_to_run_the_setup(clone):
    result = subprocess.run(
        ["bash", "-c", ". scripts/env.sh"], cwd=clone, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert f"there is no {clone}/.venv; run 'make setup' first." in result.stderr


def test_environment_works_in_strict_shells_and_from_other_folders(tmp_path):
    script = (
        f"set -eu; . {ROOT}/scripts/env.sh; command -v vla; python -c 'import rclpy, vla_msgs'"
    )
    result = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == f"{ROOT}/install/vla_core/bin/vla"


def test_requirements_pin_one_version_of_each_package():
    lines = (ROOT / "scripts/requirements.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    names = [re.split(r"==", pin)[0] for pin in pins]
    assert all("==" in pin for pin in pins)
    assert len(names) == len(set(names))
    assert "torch==2.13.0" in pins
