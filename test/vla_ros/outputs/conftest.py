# SPDX-License-Identifier: MIT
"""Outputs and the controllers that they talk to, as nodes of one executor over real DDS."""

import time

import numpy as np
import pytest

from vla_core.processing.contract import RobotContract, load_contract

_PATIENCE_S = 30.0
DT_NS = 20_000_000


@pytest.fixture
def make_contract():
    """Make the table-top contract with other outputs."""

    def make(output="joint_trajectory", topic="", topics=None, **sections) -> RobotContract:
        data = load_contract("sim").to_dict()
        data["command"] = {"rate_hz": 50.0, "output": output}
        data["command"].update({"topics": topics} if topics else {"topic": topic})
        return RobotContract.from_dict({**data, **sections})

    return make


@pytest.fixture
def make_node(node, executor):
    """Make another node, of a controller, that is spun with the first."""
    import rclpy

    made = []

    def make(name):
        made.append(rclpy.create_node(name, context=node.context))
        executor.add_node(made[-1])
        return made[-1]

    yield make
    for other in made:
        other.destroy_node()


@pytest.fixture
def spin_until(executor):
    """`spin_until(condition, what)` spins all nodes until it is true and returns its value."""

    def spin(condition, what, patience_s=_PATIENCE_S):
        deadline = time.monotonic() + patience_s
        while not (value := condition()):
            if time.monotonic() > deadline:
                pytest.fail(f"waited {patience_s} s in vain for {what}")
            executor.spin_once(timeout_sec=0.01)
        return value

    return spin


@pytest.fixture
def spin(executor):
    """`spin(number)` gives every node some turns, for what may or may not happen in them."""

    def turn(number=2):
        for _ in range(number):
            executor.spin_once(timeout_sec=0.005)

    return turn


@pytest.fixture
def build(node, spin_until):
    """Build the outputs of a contract and wait until the first may be sent to."""
    from vla_core.processing.kinematics import limits_and_chain
    from vla_ros.outputs import build_outputs

    built = []

    def make(contract, waits=True):
        limits, chain = limits_and_chain(contract)
        built.extend(build_outputs(node, contract, limits, chain))

        def is_ready():
            for output in built:
                output.poll()
            return not any(output.blocker() for output in built)

        if waits:
            spin_until(is_ready, "the outputs")
        return built[0] if len(built) == 1 else built

    yield make
    for output in built:
        output.destroy()


class Motion:
    """Commands along a straight line at constant velocity, then at rest."""

    def __init__(self, start, velocity, now_ns=1_000_000_000):
        self.position = np.array(start, dtype=np.float64)
        self.velocity = np.array(velocity, dtype=np.float64)
        self.now_ns = now_ns

    def command(self, is_stopping=False, num_ticks=5):
        """Return the next command; it goes on for some ticks and then rests."""
        from vla_ros.outputs import Command

        velocity = np.zeros_like(self.velocity) if is_stopping else self.velocity
        steps = np.arange(1, num_ticks + 1)[:, None]
        positions = self.position + steps * velocity * DT_NS * 1e-9
        velocities = np.tile(velocity, (num_ticks, 1))
        velocities[-1] = 0.0
        command = Command(
            now_ns=self.now_ns,
            position=self.position,
            velocity=self.velocity,
            positions=positions,
            velocities=velocities,
            measured=self.position,
            measured_ns=self.now_ns,
            is_stopping=is_stopping,
        )
        self.position = positions[0]
        self.now_ns += DT_NS
        return command


@pytest.fixture
def motion():
    """A slow motion of all joints of the table-top arm."""
    return Motion(np.linspace(0.0, 0.03, 7), np.linspace(0.1, 0.02, 7))
