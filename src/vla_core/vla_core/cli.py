# SPDX-License-Identifier: MIT
"""The `vla` command: it finds the sub-commands of the installed packages and runs one.

A sub-command is an entry point of the group `vla.commands` that names a module with
`add_arguments(parser)` and `run(args) -> int`; the module's docstring is its help text. Only the
chosen module is imported, so `vla --help` is quick and works where an optional package is missing.
"""

import argparse
import ast
import errno
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points

from vla_core import __version__
from vla_core.errors import VLAError

GROUP = "vla.commands"
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


def find_commands() -> dict[str, EntryPoint]:
    """Return the sub-commands of all installed packages by name, sorted."""
    return {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda p: p.name)}


def read_docstring(module: str) -> str:
    """Return a module's docstring without importing it; '' if it has none or cannot be found.

    Args:
        module: Dotted name. Its parent packages are imported, the module itself is not.
    """
    try:
        spec = importlib.util.find_spec(module)
    except ImportError:
        return ""
    if spec is None or spec.origin is None:
        return ""
    with open(spec.origin, encoding="utf-8") as source:
        return ast.get_docstring(ast.parse(source.read())) or ""


def format_commands(commands: dict[str, EntryPoint]) -> str:
    """Return the table of sub-commands, one line each with the first line of its help."""
    width = max((len(name) for name in commands), default=0)
    lines = []
    for name, point in commands.items():
        summary = read_docstring(point.value).partition("\n")[0]
        lines.append(f"  {name:<{width}}  {summary}".rstrip())
    return "\n".join(lines)


def build_parser(commands: dict[str, EntryPoint]) -> argparse.ArgumentParser:
    """Return the parser of what stands before the sub-command's own arguments."""
    parser = argparse.ArgumentParser(
        prog="vla",
        description="Train, try and run vision-language-action policies.",
        epilog=f"commands:\n{format_commands(commands)}\n\n'vla COMMAND --help' explains one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"vla {__version__}")
    parser.add_argument("command", metavar="COMMAND", help="what to do; one of those below")
    parser.add_argument("arguments", metavar="...", nargs=argparse.REMAINDER, help="its arguments")
    return parser


def run_command(name: str, point: EntryPoint, arguments: Sequence[str]) -> int:
    """Import a sub-command, parse its arguments and run it.

    Args:
        name: The sub-command as the user typed it.
        point: Where its module is.
        arguments: What followed its name on the command line.

    Returns:
        The exit status of the process.
    """
    module = importlib.import_module(point.value)
    parser = argparse.ArgumentParser(
        prog=f"vla {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    return int(module.run(_parse(parser, arguments)) or 0)


def _parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    try:  # Else what may be given several times is found before the first option alone.
        return parser.parse_intermixed_args(arguments)
    except TypeError:  # A command with sub-commands, or one that hands its arguments on.
        return parser.parse_args(arguments)


def describe_missing(package: str) -> str:
    """Return what to do about a package that a sub-command needs and that is not installed."""
    if package in ("rclpy", "vla_msgs"):
        return f"{package!r} is not in this environment; source install/setup.bash first."
    return f"{package!r} is not installed; run: pip install 'vla_core[all]'."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the `vla` command.

    Args:
        arguments: The command line without the program's name; by default that of the process.

    Returns:
        The exit status: the sub-command's own, 2 for an error that the user can mend, 130 after
        Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    name = arguments[0] if arguments else ""
    try:
        commands = find_commands()
        if not arguments:
            build_parser(commands).print_help()
            return EXIT_USER_ERROR
        if name.startswith("-"):
            build_parser(commands).parse_args(arguments)
        if name not in commands:
            print(f"vla: there is no command {name!r}; available:", file=sys.stderr)
            print(format_commands(commands), file=sys.stderr)
            return EXIT_USER_ERROR
        return run_command(name, commands[name], arguments[1:])
    except VLAError as error:
        print(f"vla {name}: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "vla_core", "vla_ros"):
            raise
        print(f"vla {name}: {describe_missing(missing)}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        pass
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        where = "" if error.filename is None else f" at '{error.filename}'"
        print(
            f"vla {name}: the disk is full{where}; free some space and run it again, with "
            "--resume where the command has it.",
            file=sys.stderr,
        )
        return EXIT_USER_ERROR
    except ImportError as error:
        # What a C extension says when it is interrupted while it is imported.
        if not isinstance(error.__cause__, KeyboardInterrupt):
            raise
    print(f"\nvla {name}: stopped.", file=sys.stderr)
    return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
