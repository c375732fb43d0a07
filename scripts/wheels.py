# SPDX-License-Identifier: MIT
"""Fill the virtual environment with one call of pip and mend what the ROS wheels carry along."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from machine_checks import SetupError

QUICK_PROBE = ("--retries", "1", "--timeout", "20")
NETWORK_SIGNS = (
    "Retrying (",
    "NewConnectionError",
    "Max retries exceeded",
    "Connection refused",
    "Read timed out",
    "Temporary failure in name resolution",
    "ProxyError",
    "SSLError",
)
# Where the machine stood that the ROS wheels were made on; their CMake files name it.
BUILD_MACHINE = re.compile(
    r"/opt/python/cp\d+-cp\d+/(include/python3\.\d+|lib/python3\.\d+/site-packages)"
)
REPORT_EVERY_S = 10.0


def install_wheels(
    venv: Path,
    requirements: Path,
    declared: Sequence[str],
    log: Path,
    report: Callable[[str], None],
) -> None:
    """Install the pinned wheels and what the packages declare.

    Args:
        venv: The virtual environment.
        requirements: The file with the pinned versions.
        declared: Requirements of the packages; the pinned ones satisfy them.
        log: Where pip's whole output goes.
        report: Prints a line of progress.

    Raises:
        SetupError: The package index cannot be reached or pip failed.
    """
    python = str(venv / "bin/python")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    lines = requirements.read_text(encoding="utf-8").splitlines()
    probe = next(line for line in lines if line.startswith("setuptools=="))
    report("wheels: asking the package index")
    command = [
        *pip,
        "install",
        "--dry-run",
        "--ignore-installed",
        "--no-deps",
        *QUICK_PROBE,
        probe,
    ]
    _run_pip(command, venv, log, report)

    remove_half_installed(site_packages(venv))
    report("wheels: PyTorch, MuJoCo, ROS 2 and tools (first time: 0.7 to 3 GB to download)")
    # As constraints too: a package's own looser demand would have pip fetch the newest first.
    pins = ("-r", str(requirements), "-c", str(requirements))
    command = [*pip, "install", "--prefer-binary", *pins, *declared]
    _run_pip(command, venv, log, report)
    mend_build_paths(venv)


def site_packages(venv: Path) -> Path:
    """Return the folder of the environment's packages."""
    return next(venv.glob("lib/python3.*/site-packages"))


def remove_half_installed(packages: Path) -> None:
    """Remove what an interrupted pip left behind, so that the next one installs it again.

    Pip writes a distribution's RECORD last and takes one without for installed.

    Args:
        packages: The folder with the *.dist-info folders.
    """
    for info in packages.glob("*.dist-info"):
        if not (info / "RECORD").is_file():
            shutil.rmtree(info)


def mend_build_paths(venv: Path) -> int:
    """Point the CMake files of the ROS wheels to this environment's headers and packages.

    Args:
        venv: The virtual environment.

    Returns:
        The number of files that were changed.
    """
    query = (
        "import sysconfig; p = sysconfig.get_paths(); print(p['include'], p['purelib'], sep='\\n')"
    )
    include, purelib = subprocess.run(
        [str(venv / "bin/python"), "-c", query], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    changed = 0
    for path in (venv / "share").glob("**/*.cmake"):
        text = path.read_text(encoding="utf-8")
        mended = BUILD_MACHINE.sub(
            lambda match: include if match[1].startswith("include") else purelib, text
        )
        if mended != text:
            path.write_text(mended, encoding="utf-8")
            changed += 1
    return changed


def _run_pip(command: Sequence[str], venv: Path, log: Path, report: Callable[[str], None]) -> None:
    """Run pip with its output in a file, reporting now and then how far it is."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        try:
            while _is_running(process):
                installed = len(list(site_packages(venv).glob("*.dist-info")))
                report(f"  {describe_progress(log.read_text(encoding='utf-8'), installed)}")
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if process.returncode != 0:
        raise SetupError(explain_failure(log.read_text(encoding="utf-8"), log))


def _is_running(process: subprocess.Popen[bytes]) -> bool:
    """Wait a while for the process; say whether it still runs."""
    try:
        process.wait(REPORT_EVERY_S)
    except subprocess.TimeoutExpired:
        return True
    return False


def describe_progress(output: str, installed: int) -> str:
    """Return one line about what pip is doing.

    Args:
        output: What it printed so far.
        installed: The number of packages in the environment.
    """
    if "Installing collected packages" in output:
        return f"all packages are here, {installed} unpacked"
    downloads = [line.split()[1] for line in output.splitlines() if "Downloading " in line]
    latest = f", downloading {downloads[-1].partition('-cp')[0]}" if downloads else ""
    return f"{output.count('Collecting ')} packages found{latest}"


def explain_failure(output: str, log: Path) -> str:
    """Return why pip failed and what to do, from its output.

    Args:
        output: All that pip printed.
        log: The file that has it.
    """
    if "No space left on device" in output:
        return f"the disk is full. Free some space (pip's own cache is one place). Log: {log}"
    if any(sign in output for sign in NETWORK_SIGNS):
        return (
            "pip cannot reach the package index. Check the network; behind a proxy or with a "
            "mirror set HTTPS_PROXY or PIP_INDEX_URL. Then run the set-up again: it goes on from "
            f"here. Log: {log}"
        )
    errors = [line for line in output.splitlines() if line.startswith("ERROR:")]
    reason = "\n".join(errors or output.splitlines()[-5:])
    return f"pip failed; all of its output is in {log}:\n{reason}"
