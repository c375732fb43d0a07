# SPDX-License-Identifier: MIT
"""The start of the `vla` command: Ctrl-C is heeded before anything is imported."""

import sys


def main() -> int:
    """Run the `vla` command and return its exit status, 130 after Ctrl-C."""
    try:
        from vla_core.cli import main as run

        return run()
    except KeyboardInterrupt:
        print("\nvla: stopped.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
