# SPDX-License-Identifier: MIT
import re

import pytest

from vla_core.evaluation.episodes import NORMAL, SWAPPED_INSTRUCTION, TIME_OUT

pytestmark = pytest.mark.ros

TIME_LIMIT_S = 1.0


@pytest.fixture
def graph(start_node, untrained_checkpoint):
    """Robot, policy and command loop as processes."""
    start_node("sim_robot_node")
    start_node("command_node")
    start_node("policy_node", "-p", f"checkpoint:={untrained_checkpoint}")


@pytest.fixture
def episode_node(graph, ros_domain):
    import rclpy

    from vla_ros.nodes.episode_node import EpisodeNode

    rclpy.init(args=["--ros-args", "-p", f"time_limit_s:={TIME_LIMIT_S}"], domain_id=ros_domain)
    node = EpisodeNode()
    node.wait_until_ready()
    yield node
    node.destroy_node()
    rclpy.try_shutdown()


def test_episodes_are_judged_on_the_block_that_is_named(episode_node):
    normal = episode_node.run_episode(1, 200_000)
    swapped = episode_node.run_episode(2, 200_000, swap=True)
    assert (normal.condition, swapped.condition) == (NORMAL, SWAPPED_INSTRUCTION)
    assert swapped.target != normal.target
    for episode in (normal, swapped):
        assert episode.instruction == f"pick up the {episode.target} block"
        assert (episode.outcome, episode.success) == (TIME_OUT, False)
        assert episode.duration_s >= TIME_LIMIT_S
        assert set(episode.lifted_m) == {"red", "green", "blue"}
    assert normal.end_stamp_ns < swapped.start_stamp_ns


def test_first_motion_comes_after_the_first_instruction(episode_node):
    assert episode_node.first_motion_ns is None
    episode = episode_node.run_episode(1, 200_000)
    assert episode.start_stamp_ns < episode_node.first_motion_ns < episode.end_stamp_ns


def test_process_logs_each_episode_and_the_success_rate(graph, start_node):
    runner = start_node("episode_node", "-p", "episodes:=2", "-p", f"time_limit_s:={TIME_LIMIT_S}")
    assert runner.wait() == 0
    assert re.search(r"1/2, seed 200000, 'pick up the \w+ block': time-out", runner.output())
    assert re.search(r"2/2, seed 200001, 'pick up the \w+ block': time-out", runner.output())
    assert "success: 0 of 2 (0%, 95% interval 0% to 66%)" in runner.output()


def test_graph_that_is_not_there_is_an_error(start_node):
    runner = start_node("episode_node", "-p", "start_timeout_s:=1.0")
    assert runner.wait() == 1
    assert "in vain for the robot, the command loop and the policy" in runner.output()


def test_scenes_that_training_may_have_seen_are_refused(start_node):
    runner = start_node("episode_node", "-p", "first_seed:=49999", "-p", "episodes:=2")
    assert runner.wait() == 1
    assert "seeds 49999 to 50000 may have been seen in training" in runner.output()
    assert "Traceback" not in runner.output()
