"""Fixtures of the simulation's tests."""

import pytest

from vla_core.sim.scene import TabletopSim


@pytest.fixture(scope="module")
def sim():
    simulation = TabletopSim()
    yield simulation
    simulation.close()
