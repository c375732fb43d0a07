# SPDX-License-Identifier: MIT
"""Every framework's graph with no arguments: active, commanding at the contract's rate, stopped.

Once through the supervisor, and once through the launch system where that is installed.
"""

import os
import signal
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from vla_core.processing.contract import load_contract
from vla_core.processing.messages import time_ns
from vla_ros.graphs import available_graphs, get_graph
from vla_ros.private_domain import private_domain
from vla_ros.supervisor import Supervisor

pytestmark = pytest.mark.ros

PATIENCE_S = 120.0
FRAMEWORKS = [name for name in available_graphs() if name != "replay"]
NUM_TICKS = 100
LAUNCH_FILES = Path(__file__).resolve().parents[2] / "launch"


@pytest.fixture
def listening(open_listener):
    """`with listening(contract) as listener:` hears a robot's graph in a domain of its own."""
    from trajectory_msgs.msg import JointTrajectory
    from vla_msgs.msg import CommandStatus, SimStatus

    @contextmanager
    def listening(contract):
        topics = contract.command.topics or [contract.command.topic]
        with private_domain() as domain:
            listener = open_listener(
                domain,
                command=(CommandStatus, "command_node/status"),
                sim=(SimStatus, "sim_robot_node/status"),
                **{topic: (JointTrajectory, topic) for topic in topics},
            )
            with closing(listener):
                yield listener

    return listening


def executing(listener):
    from vla_msgs.msg import CommandStatus

    return [tick for tick in listener.heard["command"] if tick.mode == CommandStatus.EXECUTING]


def contract_of(name):
    return load_contract(get_graph(name).resolve({})["robot"])


def assert_it_works(contract, listener):
    """The arm is commanded at the contract's rate, within its limits; the controllers accept."""
    listener.listen_until(lambda: len(executing(listener)) > NUM_TICKS, "commands")
    ticks = executing(listener)[:NUM_TICKS]
    period_s = (time_ns(ticks[-1].header.stamp) - time_ns(ticks[0].header.stamp)) * 1e-9
    # The stamps are a grid; the ticks that a busy machine has skipped are its gaps.
    steps = round(period_s * contract.command.rate_hz)
    assert steps >= NUM_TICKS - 1
    assert period_s == pytest.approx(steps / contract.command.rate_hz, abs=0.02)
    topics = contract.command.topics or {contract.command.topic: contract.arm_joints}
    for topic, joints in topics.items():
        assert tuple(listener.heard[topic][-1].joint_names) == joints
    for tick in ticks:
        assert len(tick.command_positions) == len(contract.action_limits)
        for limit, position, velocity in zip(
            contract.action_limits.values(),
            tick.command_positions,
            tick.command_velocities,
            strict=True,
        ):
            assert limit.lower - 1e-6 <= position <= limit.upper + 1e-6
            assert abs(velocity) <= limit.velocity + 1e-6
    listener.listen_until(lambda: listener.heard["sim"], "the robot")
    assert listener.heard["sim"][-1].rejected_trajectories == 0


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_graph_runs_under_the_supervisor_with_no_arguments(name, listening):
    run_under_the_supervisor(get_graph(name).nodes(), contract_of(name), listening)


def test_act_moves_two_arms_at_once(listening):
    """`vla up act robot:=sim_bimanual checkpoint:=act_hand_over`."""
    nodes = get_graph("act").nodes({"robot": "sim_bimanual", "checkpoint": "act_hand_over"})
    run_under_the_supervisor(nodes, load_contract("sim_bimanual"), listening)


def run_under_the_supervisor(nodes, contract, listening):
    with listening(contract) as listener:
        supervisor = Supervisor(nodes)
        with supervisor:
            assert_it_works(contract, listener)
        for node in supervisor.names:
            assert "Traceback" not in "\n".join(supervisor.output_of(node))
        assert supervisor.wait(0.0) == 0


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_graph_runs_under_the_launch_system_with_no_arguments(name, listening, tmp_path):
    pytest.importorskip("launch_ros")
    code = (
        "import sys\nfrom launch import LaunchService\n"
        "from launch.actions import IncludeLaunchDescription\n"
        "from launch import LaunchDescription\n"
        "from launch.launch_description_sources import PythonLaunchDescriptionSource\n"
        "service = LaunchService()\n"
        "source = PythonLaunchDescriptionSource(sys.argv[1])\n"
        "service.include_launch_description(\n"
        "    LaunchDescription([IncludeLaunchDescription(source)]))\n"
        "sys.exit(service.run())\n"
    )
    log_path = tmp_path / "launch.log"
    contract = contract_of(name)
    with listening(contract) as listener, log_path.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(LAUNCH_FILES / f"{name}.launch.py")],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            assert_it_works(contract, listener)
        finally:
            # A terminal sends Ctrl-C to the nodes too; the launch system relies on that.
            os.killpg(process.pid, signal.SIGINT)
            status = process.wait(PATIENCE_S)
    assert status == 0, log_path.read_text()
    assert "process has died" not in log_path.read_text()
    assert "escalating" not in log_path.read_text()
