# SPDX-License-Identifier: MIT
"""The supervisor with real processes: output, crashes, respawn, stopping, no orphans."""

import io
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from vla_core.errors import ConfigError, UnknownNameError
from vla_ros.graph import EXIT_CONFIGURATION, NodeSpec
from vla_ros.supervisor import Supervisor

PATIENCE_S = 20.0

SLEEPER = "print('up', flush=True)\nimport time\ntime.sleep(60)\n"
STUBBORN = (
    "import signal, time\n"
    "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print('up', flush=True)\n"
    "time.sleep(60)\n"
)
POLITE = (
    "import signal, sys, time\n"
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('bye', flush=True)))\n"
    "print('up', flush=True)\n"
    "time.sleep(60)\n"
)


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Install Python programs as executables of the package 'pkg'."""
    folder = tmp_path / "lib" / "pkg"
    folder.mkdir(parents=True)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))

    def install(name: str, code: str, on_exit="stop", **spec) -> NodeSpec:
        path = folder / name
        path.write_text(f"#!{sys.executable} -S\n{textwrap.dedent(code)}")
        path.chmod(0o755)
        return NodeSpec(executable=name, name=name, package="pkg", on_exit=on_exit, **spec)

    return install


def wait_until(condition) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def test_lines_appear_behind_the_node_s_name(program):
    output = io.StringIO()
    with Supervisor([program("speaker", "print('hello')")], output=output) as supervisor:
        assert supervisor.wait(PATIENCE_S) == 0
    assert "speaker | hello\n" in output.getvalue()


def test_program_gets_its_ros_arguments_and_environment(program):
    code = "import os, sys\nprint(sys.argv[1:], os.environ['COLOUR'])"
    spec = program("echo", code, environment={"COLOUR": "red"}, parameters={"seed": 3})
    with Supervisor([spec]) as supervisor:
        supervisor.wait(PATIENCE_S)
        (line,) = supervisor.output_of("echo")
    assert "'--ros-args', '-r', '__node:=echo', '-p', 'seed:=3'" in line
    assert line.endswith("red")


def test_crashed_node_is_reported_with_its_status_and_last_lines(program):
    code = "for i in range(40): print('line', i)\nraise SystemExit(7)"
    output = io.StringIO()
    with Supervisor([program("crasher", code)], output=output) as supervisor:
        assert supervisor.wait(PATIENCE_S) == 1
    report = output.getvalue().partition("crasher ended with status 7; its last lines:\n")[2]
    assert [line.strip() for line in report.splitlines()[:20]] == [
        f"line {number}" for number in range(20, 40)
    ]


def test_what_was_killed_has_no_last_lines_that_say_why(program):
    code = "import os\nprint('fine', flush=True)\nos.kill(os.getpid(), 9)"
    output = io.StringIO()
    with Supervisor([program("victim", code)], output=output) as supervisor:
        assert supervisor.wait(PATIENCE_S) == 1
    assert "victim ended with signal SIGKILL.\n" in output.getvalue()


def test_crash_of_one_node_stops_the_others(program):
    nodes = [program("crasher", "raise SystemExit(7)"), program("sleeper", SLEEPER)]
    with Supervisor(nodes) as supervisor:
        assert supervisor.wait(PATIENCE_S) == 1
        assert not supervisor.is_alive("sleeper")


def test_node_that_finishes_well_ends_the_graph_with_success(program):
    nodes = [program("worker", "print('done')"), program("sleeper", SLEEPER)]
    with Supervisor(nodes) as supervisor:
        assert supervisor.wait(PATIENCE_S) == 0


def test_killed_node_is_started_again_when_its_spec_says_so(program):
    nodes = [program("phoenix", SLEEPER, on_exit="respawn"), program("other", SLEEPER)]
    with Supervisor(nodes) as supervisor:
        wait_until(lambda: supervisor.output_of("phoenix") == ["up"])
        first, other = supervisor.pid_of("phoenix"), supervisor.pid_of("other")
        supervisor.kill("phoenix")
        wait_until(lambda: supervisor.output_of("phoenix") == ["up", "up"])
        assert supervisor.pid_of("phoenix") != first
        assert supervisor.pid_of("other") == other


def test_node_that_keeps_crashing_ends_the_graph(program, monkeypatch):
    monkeypatch.setattr("vla_ros.restarts._DELAYS_S", (0.01, 0.01))
    spec = program("crasher", "print('try')\nraise SystemExit(1)", on_exit="respawn")
    with Supervisor([spec]) as supervisor:
        assert supervisor.wait(PATIENCE_S) == 1
        assert supervisor.output_of("crasher") == ["try"] * 3


def test_node_that_cannot_be_configured_is_not_started_again(program):
    code = f"print('try')\nraise SystemExit({EXIT_CONFIGURATION})"
    with Supervisor([program("wrong", code, on_exit="respawn")]) as supervisor:
        assert supervisor.wait(PATIENCE_S) == 1
        assert supervisor.output_of("wrong") == ["try"]


def test_graph_goes_on_without_a_node_that_may_end(program):
    nodes = [program("guest", SLEEPER, on_exit="continue"), program("host", SLEEPER)]
    with Supervisor(nodes) as supervisor:
        supervisor.kill("guest")
        wait_until(lambda: not supervisor.is_alive("guest"))
        assert supervisor.wait(0.2) is None
        assert supervisor.is_alive("host")


@pytest.mark.parametrize(("status", "goes_on"), [(0, True), (1, False)])
def test_graph_goes_on_without_a_node_that_has_done_its_work(program, status, goes_on):
    worker = program("worker", f"raise SystemExit({status})", on_exit="finish")
    with Supervisor([worker, program("host", SLEEPER)]) as supervisor:
        wait_until(lambda: not supervisor.is_alive("worker"))
        assert supervisor.wait(0.2 if goes_on else PATIENCE_S) == (None if goes_on else 1)


@pytest.mark.parametrize(("stop_s", "last"), [(30.0, "bye"), (0.1, "up")])
def test_node_is_given_the_time_to_end_that_it_names(program, stop_s, last):
    slow = (
        "import signal, sys, time\n"
        "def end(*_):\n"
        "    time.sleep(1.0)\n"
        "    sys.exit(print('bye', flush=True))\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('up', flush=True)\n"
        "time.sleep(60)\n"
    )
    with Supervisor([program("slow", slow, stop_s=stop_s)]) as supervisor:
        wait_until(lambda: supervisor.output_of("slow") == ["up"])
        supervisor.stop()
        time.sleep(0.1)
        assert supervisor.output_of("slow")[-1] == last


def test_restart_brings_a_node_back(program):
    with Supervisor([program("guest", SLEEPER, on_exit="continue")]) as supervisor:
        supervisor.kill("guest")
        wait_until(lambda: not supervisor.is_alive("guest"))
        supervisor.restart("guest")
        assert supervisor.is_alive("guest")


def test_restart_ends_a_running_node_first(program):
    with Supervisor([program("node", SLEEPER)]) as supervisor:
        first = supervisor.pid_of("node")
        supervisor.restart("node")
        assert supervisor.is_alive("node")
        assert not is_running(first)


def test_stop_asks_politely_first(program):
    with Supervisor([program("polite", POLITE)]) as supervisor:
        wait_until(lambda: supervisor.output_of("polite") == ["up"])
        supervisor.stop()
        wait_until(lambda: supervisor.output_of("polite") == ["up", "bye"])


def test_node_that_is_stopped_before_it_has_started_ends_without_a_traceback(program):
    with Supervisor([program("sleeper", SLEEPER)]) as supervisor:
        wait_until(lambda: supervisor.output_of("sleeper") == ["up"])
        supervisor.stop()
        assert supervisor.output_of("sleeper") == ["up"]


def test_stubborn_node_is_killed_in_the_end(program):
    output = io.StringIO()
    with Supervisor([program("stubborn", STUBBORN, stop_s=0.1)], output=output) as supervisor:
        wait_until(lambda: supervisor.output_of("stubborn") == ["up"])
    assert not supervisor.is_alive("stubborn")
    assert "SIGKILL to stubborn." in output.getvalue()


def test_child_of_a_node_does_not_outlive_it(program):
    code = """
        import subprocess, sys, time
        child = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL)
        print(child.pid, flush=True)
        time.sleep(60)
    """
    with Supervisor([program("parent", code)]) as supervisor:
        wait_until(lambda: supervisor.output_of("parent"))
        child = int(supervisor.output_of("parent")[0])
    wait_until(lambda: not is_running(child))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ties children only on Linux")
@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_node_outlives_the_supervisor(program, signal_number):
    spec = program("sleeper", SLEEPER)
    code = (
        "from vla_ros.graph import NodeSpec\nfrom vla_ros.supervisor import Supervisor\n"
        "from vla_ros.commands.up import end_on_signals\n"
        f"spec = NodeSpec(executable={spec.executable!r}, name='sleeper', package='pkg')\n"
        "with end_on_signals(), Supervisor([spec]) as supervisor:\n"
        "    print(supervisor.pid_of('sleeper'), flush=True)\n"
        "    supervisor.wait()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with process, process.stdout as stream:
        child = int(stream.readline())
        assert is_running(child)
        os.kill(process.pid, signal_number)
        process.wait(PATIENCE_S)
        wait_until(lambda: not is_running(child))


def test_unknown_executable_names_the_available_ones(program):
    program("speaker", "")
    with pytest.raises(ConfigError, match=r"'speeker'.*available: speaker"):
        Supervisor([NodeSpec(executable="speeker", name="x", package="pkg")])


def test_two_nodes_of_one_name_are_refused(program):
    spec = program("twin", SLEEPER)
    with pytest.raises(ConfigError, match="must differ, got twin, twin"):
        Supervisor([spec, spec])


def test_unknown_node_names_the_available_ones(program):
    with (
        Supervisor([program("known", SLEEPER)]) as supervisor,
        pytest.raises(UnknownNameError, match=r"'other' is unknown; available: \['known'\]"),
    ):
        supervisor.is_alive("other")
