# SPDX-License-Identifier: MIT
import platform
import subprocess
import sys

import pytest

COUNT_PAGE_FAULTS = """
import resource
from vla_ros.memory import keep_freed_memory

def num_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    buffers = [b"x" * 921_600 for _ in range(4)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory()
num_faults()
print(num_faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's allocator")
def test_buffers_of_an_image_are_used_again_without_a_page_fault():
    output = subprocess.check_output([sys.executable, "-c", COUNT_PAGE_FAULTS], text=True)
    assert int(output) < 4 * 921_600 // 4096 // 10
