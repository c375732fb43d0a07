# SPDX-License-Identifier: MIT
"""Replace this process by a program that the kernel kills when its parent dies (Linux).

Run as a script: ``python die_with_parent.py PARENT_PID PROGRAM ARGUMENTS...``. The request
outlives exec, and setting it here rather than between fork and exec keeps it clear of the parent's
threads. It is bound to the parent's thread: start this from one that stays.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask for SIGKILL on the parent's death, then become the program."""
    parent, program = int(sys.argv[1]), sys.argv[2]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit("the parent died before the program was started")
    os.execv(program, sys.argv[2:])


if __name__ == "__main__":
    main()
