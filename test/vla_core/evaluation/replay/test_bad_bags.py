# SPDX-License-Identifier: MIT
"""Recordings that something is wrong with: an error that names it, or figures that are right."""

import struct
from dataclasses import replace

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin

from vla_core.dataset.mcap_messages import MAGIC
from vla_core.errors import DatasetError


@pytest.fixture
def replay_spoilt(bags, replay, tmp_path):
    """Return the function that replays a recording whose messages were changed by a function."""

    def run(change, **settings):
        messages = (change(sent) for sent in bags.robot_messages())
        kept = [sent for sent in messages if sent is not None]
        return replay(bags.write_bag(tmp_path / "bag", kept), **settings)

    return run


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_truncated_or_unindexed_file(replay, robot_bag, tmp_path, share):
    data = (robot_bag / "good.mcap").read_bytes()
    path = tmp_path / "cut.mcap"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(DatasetError, match=r"cut.mcap' cannot be .*mcap recover"):
        replay(path)


def test_cut_off_sqlite_file(bags, replay, tmp_path):
    bag = bags.write_bag(tmp_path / "bag", bags.robot_messages(), storage=StoragePlugin.SQLITE3)
    (path,) = bag.glob("*.db3")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DatasetError, match=r"cannot be .*sqlite3 FILE .recover") as found:
        replay(path)
    assert "mcap recover" not in str(found.value)


def test_mcap_file_without_a_summary_is_replayed(replay, robot_bag, result, tmp_path):
    data = (robot_bag / "good.mcap").read_bytes()
    footer = struct.Struct("<BQQQI")
    code, length, summary, *_ = footer.unpack_from(data, len(data) - len(MAGIC) - footer.size)
    path = tmp_path / "bare.mcap"
    path.write_bytes(data[:summary] + footer.pack(code, length, 0, 0, 0) + MAGIC)
    found = replay(path)
    np.testing.assert_array_equal(found.ticks["predicted"], result.ticks["predicted"])


def test_no_such_bag(replay, tmp_path):
    with pytest.raises(DatasetError, match=r"does not exist|cannot be opened"):
        replay(tmp_path / "nothing")


def test_no_such_topic(replay_spoilt):
    with pytest.raises(DatasetError, match=r"no topic 'wrist/image'; recorded topics: /robot"):
        replay_spoilt(lambda sent: None if "wrist" in sent.topic else sent)


def test_wrong_type(bags, replay_spoilt):
    def retype(sent):
        if "wrist" not in sent.topic:
            return sent
        return sent._replace(kind=bags.STRING, message=bags.text("no image"))

    with pytest.raises(DatasetError, match=r"wrist/image carries std_msgs/msg/String, expected"):
        replay_spoilt(retype)


def test_clock_that_goes_back(bags, replay_spoilt):
    def set_back(sent):
        if sent.at_ms < 800 or sent.kind != bags.JOINT_STATE:
            return sent
        return sent._replace(message=bags.joint_state(sent.at_ms - 5000, bags.joints_at(0)))

    with pytest.raises(DatasetError, match=r"clock of /robot/joint_states goes back by \d"):
        replay_spoilt(set_back)


@pytest.mark.parametrize("camera", ["front", "wrist"])
def test_camera_that_starts_late(replay_spoilt, camera):
    found = replay_spoilt(lambda sent: None if camera in sent.topic and sent.at_ms < 500 else sent)
    (gap, count), *others = found.facts["gaps"].items()
    assert (gap, others) == (f"camera '{camera}': nothing received", [])
    assert count in (4, 5)
    assert found.facts["ticks"]["answered"] == 10


def test_joint_order_that_changes_midway_changes_nothing(bags, replay_spoilt, result):
    def reorder(sent):
        if sent.kind != bags.JOINT_STATE or sent.at_ms < 700:
            return sent
        joints = bags.joints_at(sent.at_ms - 1)
        turned = dict(reversed(joints.items()))
        return sent._replace(message=bags.joint_state(sent.at_ms - 1, turned))

    found = replay_spoilt(reorder)
    np.testing.assert_array_equal(found.ticks["predicted"], result.ticks["predicted"])


def test_bag_shorter_than_a_chunk_is_compared_as_far_as_it_goes(bags, replay, tmp_path):
    found = replay(bags.write_bag(tmp_path / "bag", bags.robot_messages(250)))
    counts = found.horizon["count"][:, 0]
    assert counts[0] > 0
    assert counts[-1] == 0


def test_bag_without_a_command_after_the_observation(bags, replay, tmp_path):
    sent = [s for s in bags.robot_messages(250) if s.kind != bags.TRAJECTORY]
    late = [s for s in bags.robot_messages(20, 500) if s.kind == bags.TRAJECTORY]
    with pytest.raises(DatasetError, match="nothing to compare the policy with: no action for"):
        replay(bags.write_bag(tmp_path / "bag", [*sent, *late]))


def test_unknown_encoding(bags, replay_spoilt):
    def encode(sent):
        if sent.kind != bags.IMAGE:
            return sent
        return sent._replace(message=replace(sent.message, encoding="rgb96"))

    with pytest.raises(DatasetError, match=r"rgb96"):
        replay_spoilt(encode)


def test_recording_that_says_nowhere_what_was_asked(replay, robot_bag):
    with pytest.raises(DatasetError, match=r"says nowhere .* give --instruction"):
        replay(robot_bag, instruction=None)
