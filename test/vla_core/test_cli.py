# SPDX-License-Identifier: MIT
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vla_core.cli import GROUP, find_commands, main, read_docstring
from vla_core.commands.dataset import TASKS

MODULES = {
    "greet": '''"""Say hello to somebody.

A longer explanation.
"""

from vla_core.errors import ConfigError


def add_arguments(parser):
    parser.add_argument("name", help="whom to greet")


def run(args):
    if args.name == "nobody":
        raise ConfigError("name 'nobody' is not a person.")
    if args.name == "everybody":
        raise ConfigError("too many:\\n  first (2):\\n    Ada\\n    Grace")
    if args.name == "ctrl-c":
        raise KeyboardInterrupt
    print(f"hello {args.name}")
    return 7
''',
    "add": '''"""Add numbers."""


def add_arguments(parser):
    parser.add_argument("first", type=int)
    parser.add_argument("others", nargs="*", type=int)
    parser.add_argument("--times", type=int, default=1)


def run(args):
    return args.times * (args.first + sum(args.others))
''',
    "costly": '"""Fail when imported."""\n\nraise RuntimeError("imported")\n',
    "broken_off": '''"""Be interrupted in the import of a C extension."""

raise ImportError("initialization failed") from KeyboardInterrupt()
''',
    "overflow": '''"""Write to a disk that is full."""


def add_arguments(parser):
    pass


def run(args):
    with open("/dev/full", "w") as file:
        file.write("more than fits")
''',
    "lacking": '"""Need a package."""\n\nimport a_package_that_is_not_installed\n',
}


@pytest.fixture(autouse=True)
def installed_commands(tmp_path, monkeypatch):
    """Install a distribution with a few sub-commands into a folder on sys.path."""
    package = tmp_path / "sample_commands"
    package.mkdir()
    (package / "__init__.py").touch()
    for name, source in MODULES.items():
        (package / f"{name}.py").write_text(source)
    info = tmp_path / "sample_commands-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sample-commands\nVersion: 1.0\n")
    lines = [f"{name} = sample_commands.{name}" for name in MODULES]
    (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines]))
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for module in [name for name in sys.modules if name.startswith("sample_commands")]:
        del sys.modules[module]


def test_a_command_gets_its_arguments_and_gives_the_exit_status(capsys):
    assert main(["greet", "Ada"]) == 7
    assert capsys.readouterr().out == "hello Ada\n"


def test_options_may_stand_between_the_other_arguments():
    assert main(["add", "1", "--times", "2", "3", "4"]) == 16


def test_help_lists_every_command_with_its_first_line_and_imports_none(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    output = capsys.readouterr().out
    assert re.search(r"^  greet +Say hello to somebody\.$", output, re.MULTILINE)
    assert re.search(r"^  costly +Fail when imported\.$", output, re.MULTILINE)


def test_no_command_prints_the_help(capsys):
    assert main([]) == 2
    assert "Say hello to somebody." in capsys.readouterr().out


def test_help_of_a_command_is_its_docstring_and_arguments(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["greet", "--help"])
    output = capsys.readouterr().out
    assert output.startswith("usage: vla greet")
    assert "A longer explanation." in output
    assert "whom to greet" in output


@pytest.mark.parametrize(
    "words", [*([name] for name in find_commands()), *(["dataset", task] for task in TASKS)]
)
def test_every_command_explains_itself(words, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([*words, "--help"])
    assert capsys.readouterr().out.startswith(f"usage: vla {' '.join(words)} ")


def test_unknown_command_lists_the_available_ones(capsys):
    assert main(["gret"]) == 2
    error = capsys.readouterr().err
    assert "there is no command 'gret'" in error
    assert "greet" in error


def test_user_error_is_one_line_with_exit_status_2(capsys):
    assert main(["greet", "nobody"]) == 2
    assert capsys.readouterr().err == "vla greet: name 'nobody' is not a person.\n"


def test_layout_of_a_longer_report_is_kept(capsys):
    assert main(["greet", "everybody"]) == 2
    report = "too many:\n  first (2):\n    Ada\n    Grace\n"
    assert capsys.readouterr().err == f"vla greet: {report}"


def test_ctrl_c_is_one_line_with_exit_status_130(capsys):
    assert main(["greet", "ctrl-c"]) == 130
    assert capsys.readouterr().err.strip() == "vla greet: stopped."


def test_ctrl_c_while_the_commands_are_searched_is_one_line(capsys, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr("vla_core.cli.find_commands", interrupt)
    assert main(["greet", "Ada"]) == 130
    assert capsys.readouterr().err.strip() == "vla greet: stopped."


def test_ctrl_c_in_the_import_of_a_c_extension_is_one_line(capsys):
    assert main(["broken_off"]) == 130
    assert capsys.readouterr().err.strip() == "vla broken_off: stopped."


INTERRUPTED = """
import os, signal, sys
from importlib.metadata import entry_points

class Interruption:
    def find_spec(self, name, path=None, target=None):
        if name == "vla_core.cli":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interruption())
(command,) = entry_points(group="console_scripts", name="vla")
sys.exit(command.load()())
"""


def test_ctrl_c_in_the_first_import_is_one_line():
    result = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr.strip()) == (130, "vla: stopped.")


def test_full_disk_is_one_line_that_says_what_to_do(capsys):
    assert main(["overflow"]) == 2
    assert capsys.readouterr().err.startswith("vla overflow: the disk is full; free some space")


def test_missing_package_is_one_line_that_says_what_to_install(capsys):
    assert main(["lacking"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "'a_package_that_is_not_installed' is not installed; run: pip install" in error


def test_docstring_of_a_module_that_does_not_exist_is_empty():
    assert read_docstring("vla_core.no_such_module") == ""
    assert read_docstring("no_such_package.module") == ""


def test_commands_are_sorted_by_name():
    assert list(find_commands()) == sorted(find_commands())


def test_importing_the_cli_loads_neither_torch_nor_rclpy():
    code = "import sys, vla_core.cli; print([m for m in ('torch', 'rclpy') if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.home()
    )
    assert result.stdout.strip() == "[]"
