# SPDX-License-Identifier: MIT
"""`vla up`: arguments in both forms, help that teaches, errors that name what is possible."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vla_core.cli import main
from vla_core.errors import ConfigError
from vla_ros.commands.up import parse_overrides, suggest_instruction
from vla_ros.graphs import get_graph

GROOT = get_graph("groot")


@pytest.mark.parametrize(
    "words",
    [
        ["robot:=other", "record:=out/bag"],
        ["--robot", "other", "--record", "out/bag"],
        ["--robot=other", "record:=out/bag"],
        ["record:=out/bag", "--robot", "other"],
    ],
)
def test_both_forms_mean_the_same(words):
    assert parse_overrides(GROOT, words) == {"robot": "other", "record": "out/bag"}


def test_value_may_hold_spaces_and_the_separator():
    values = parse_overrides(GROOT, ["instruction:=say a:=b now"])
    assert values == {"instruction": "say a:=b now"}


def test_value_may_be_empty():
    assert parse_overrides(GROOT, ["instruction:="]) == {"instruction": ""}


def test_dashes_may_replace_underscores():
    assert parse_overrides(GROOT, ["--robot-sim", "false"]) == {"robot_sim": "false"}


def test_word_of_neither_form_is_refused():
    with pytest.raises(ConfigError, match="'robot=x' must be name:=value or --name value"):
        parse_overrides(GROOT, ["robot=x"])


def test_help_lists_every_argument_with_its_default(capsys):
    with pytest.raises(SystemExit):
        parse_overrides(GROOT, ["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for argument in GROOT.arguments:
        assert f"--{argument.name.replace('_', '-')}" in text
        assert " ".join(argument.description.split()) in text
    assert "Default: pick up the red block." in text
    assert text.count("--checkpoint") == 2  # in the usage and in the list


@pytest.mark.parametrize(
    ("graph", "values", "said"),
    [
        ("groot", {}, '"pick up the blue block"'),
        ("act", {"robot": "sim_bimanual"}, '"hand the bar over"'),
        ("helix", {"task": "put_in_box"}, '"put the blue block in the box, then the red one"'),
        ("groot", {"namespace": "left"}, '"pick up the blue block" --namespace left'),
    ],
)
def test_an_instruction_of_the_task_that_runs_is_suggested(graph, values, said):
    suggested = suggest_instruction(get_graph(graph).nodes(values))
    assert suggested == f"; in another terminal: vla say {said}"


@pytest.mark.parametrize(
    ("graph", "values"),
    [("groot", {"robot": "ur5e"}), ("replay", {"bag": "out/bag", "player": "own"})],
)
def test_no_instruction_is_suggested_to_what_is_not_simulated(graph, values):
    assert suggest_instruction(get_graph(graph).nodes(values)) == ""


def test_unknown_graph_is_one_line_that_names_the_known(capsys):
    assert main(["up", "grooot"]) == 2
    assert (
        "graph 'grooot' is unknown; did you mean 'groot'? Available: 'groot'"
        in capsys.readouterr().err
    )


def test_unknown_argument_is_one_line_that_names_the_known(capsys):
    assert main(["up", "groot", "robott:=x"]) == 2
    assert "argument 'robott' is unknown to graph 'groot'; available:" in capsys.readouterr().err


def test_help_needs_no_ros():
    code = (
        "import sys\nfrom vla_core.cli import main\n"
        "try:\n    main(['up', 'groot', '--help'])\n"
        "except SystemExit:\n    sys.exit('rclpy' in sys.modules or 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL)
    assert done.returncode == 0


def children_of(pid):
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in lists for child in path.read_text().split()]


@pytest.mark.ros
def test_ctrl_c_stops_a_running_graph_and_leaves_no_process(ros_domain, wait_until):
    process = subprocess.Popen(
        [sys.executable, "-m", "vla_core.cli", "up", "groot"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # a process group of its own, as a terminal gives it
    )
    with process:
        try:
            lines = []
            for line in process.stdout:
                lines.append(line)
                if line.startswith("command_node ") and "executing" in line:
                    break
            nodes = children_of(process.pid)
            assert len(nodes) == 3, "".join(lines)
        finally:
            os.killpg(process.pid, signal.SIGINT)
            output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output.endswith("vla up: stopped.\n")
    assert "Traceback" not in output
    wait_until(lambda: not any(Path(f"/proc/{node}").exists() for node in nodes), "their end")
