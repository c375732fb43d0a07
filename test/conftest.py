# SPDX-License-Identifier: MIT
"""Which tests share a process, what tests of two folders need, and reasons to skip a test.

With --strict-skips, as .ci/run gives it, any reason that is not listed makes the run fail: a test
that could have run on this machine and did not is no evidence of anything.
"""

import os
import re
import shutil
import signal

import hypothesis
import pytest

# MuJoCo reads this when a test first imports it; EGL renders without a display.
os.environ.setdefault("MUJOCO_GL", "egl")
# Several processes test at a time, and the models are too small for several threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# How long an example of a law takes is up to whatever else this machine does.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def heed_ctrl_c():
    """Have this process heed SIGINT: whoever ignores it passes that on to all that it starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


heed_ctrl_c()  # a shell's background job does not


@pytest.fixture(autouse=True)
def _heed_ctrl_c():
    yield
    heed_ctrl_c()  # nor does a node that has ended


@pytest.fixture
def with_other_weights(tmp_path):
    """`with_other_weights(checkpoint)` is the folder of another policy of its kind."""
    import torch

    from vla_core.models.frameworks import AbstractVLA

    def change(checkpoint):
        folder = tmp_path / "other"
        shutil.copytree(checkpoint, folder)
        model = AbstractVLA.from_pretrained(folder)
        torch.nn.init.ones_(model.missing_state)
        model.save_pretrained(folder)
        return folder

    return change


ALLOWED_SKIPS = (
    r"could not import '(cv_bridge|launch|launch_ros|launch_testing|rosbag2_py)'",
    r"could not import '(control_msgs|moveit_msgs)\.",  # not on PyPI
    r"launch_ros is not installed",  # not on PyPI
    r"its vision tower reads numbers back from the device",  # so it cannot run on 'meta'
    r"no CUDA device",
    r"no Python older than 3\.10 or newer than 3\.13 is installed",
    r"setarch is not installed",
)

_WITH_NODES = ("test/integration/", "test/vla_ros/")


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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give each file to one process, and all that starts nodes to the same one.

    Two graphs at a time would take the processor from each other's control loops.
    """
    from xdist.scheduler import LoadScopeScheduling

    class OneGraphAtATime(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            path = nodeid.partition("::")[0]
            return "graphs" if path.startswith(_WITH_NODES) else path

    return OneGraphAtATime(config, log)
