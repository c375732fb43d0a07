# SPDX-License-Identifier: MIT
import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Keep small matrices on one core: more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
