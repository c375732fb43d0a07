# SPDX-License-Identifier: MIT
"""What a skipped test may give as its reason where every test is expected to run.

With --strict-skips, as .ci/run gives it, any other reason makes the run fail: a test that could
have run on this machine and did not is no evidence of anything.
"""

import os
import re
import signal

import pytest

# MuJoCo reads this when a test first imports it; EGL renders without a display.
os.environ.setdefault("MUJOCO_GL", "egl")

# A shell's background job ignores SIGINT, and so would every process that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ALLOWED_SKIPS = (
    r"could not import '(cv_bridge|launch|launch_ros|launch_testing|rosbag2_py)'",
    r"could not import '(control_msgs|moveit_msgs)\.",  # not on PyPI
    r"launch_ros is not installed",  # not on PyPI
    r"its vision tower reads numbers back from the device",  # so it cannot run on 'meta'
    r"no CUDA device",
    r"no Python older than 3\.10 or newer than 3\.13 is installed",
    r"setarch is not installed",
)


def pytest_addoption(parser):
    parser.addoption(
        "--strict-skips",
        action="store_true",
        help="fail if a test was skipped for a reason that is not in test/conftest.py",
    )


class UnexpectedSkips:
    """Collects the skips that no allowed reason explains."""

    def __init__(self):
        self.lines = []

    def pytest_runtest_logreport(self, report):
        self._judge(report)

    def pytest_collectreport(self, report):
        self._judge(report)

    def _judge(self, report):
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if not any(re.match(allowed, reason) for allowed in ALLOWED_SKIPS):
            self.lines.append(f"{report.nodeid}: {reason}")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session):
        if self.lines and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        if self.lines:
            terminalreporter.section("skipped, but could have run", red=True)
            for line in self.lines:
                terminalreporter.write_line(line)


def pytest_configure(config):
    if config.getoption("--strict-skips"):
        config.pluginmanager.register(UnexpectedSkips(), "unexpected-skips")
