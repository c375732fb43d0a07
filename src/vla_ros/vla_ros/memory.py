# SPDX-License-Identifier: MIT
"""Keep the memory of one image for the next."""

from __future__ import annotations

import ctypes

# <malloc.h>
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 64 << 20
_LARGEST_MMAP_THRESHOLD = 32 << 20


def keep_freed_memory() -> None:
    """Have the allocator of this process, if it is glibc's, keep 64 MiB that are free.

    On its way to Python an image passes through several buffers of its size. As glibc comes, it
    gives them back to the kernel each time and takes new ones, page by page: 1 ms per 640x480
    image.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
