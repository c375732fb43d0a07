# SPDX-License-Identifier: MIT
"""Observations of a bag: aligned like the node's, named errors for what cannot be used."""

import json
import shutil
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import yaml
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from vla_core.dataset.bag_observations import BagObservations
from vla_core.errors import DatasetError
from vla_core.processing.gaps import GapCause


@pytest.fixture
def read(bags):
    """Return all ticks of a bag and their reader."""

    def ticks_of(path, contract=None, **arguments):
        arguments.setdefault("instruction", "pick")
        with BagObservations(path, contract or bags.make_contract(), **arguments) as reader:
            return list(reader), reader

    return ticks_of


@pytest.fixture
def spoil(bags, tmp_path):
    """Return a bag of a robot whose messages were changed by a function."""

    def write(change):
        messages = (change(sent) for sent in bags.robot_messages())
        return bags.write_bag(tmp_path / "bag", [sent for sent in messages if sent is not None])

    return write


def test_every_step_has_an_observation_and_the_ages_of_its_samples(bags, read, tmp_path):
    ticks, _ = read(bags.write_bag(tmp_path / "bag", bags.robot_messages()))
    assert len(ticks) == 15
    assert all(tick.observation is not None for tick in ticks)
    steps = np.diff([tick.observation.stamp_ns for tick in ticks]) / bags.MS
    np.testing.assert_allclose(steps, 100.0)
    assert ticks[5].ages_s == pytest.approx({"front": 0.010, "wrist": 0.010, "state": 0.010})


def test_observation_holds_the_frames_of_its_stamp_and_the_state_at_it(bags, read, tmp_path):
    ticks, _ = read(bags.write_bag(tmp_path / "bag", bags.robot_messages()))
    observation = ticks[7].observation
    at_ms = (observation.stamp_ns - bags.START_NS) / bags.MS
    number = round(at_ms / 50)
    assert observation.images["front"][0, -1, 0] == number
    assert observation.images["wrist"][0, -1, 0] == number + 90
    expected = [bags.joints_at(at_ms)[joint] for joint in bags.JOINTS]
    np.testing.assert_allclose(observation.state, expected)
    assert observation.instruction == "pick"


@pytest.mark.parametrize("actions", [("command",), ("state",), ("joint_states",)])
def test_action_is_the_target_one_step_after_the_observation(bags, read, tmp_path, actions):
    path = bags.write_bag(tmp_path / "bag", bags.robot_messages())
    ticks, _ = read(path, actions=actions)
    for tick in ticks[2:12]:
        at_ms = (tick.observation.stamp_ns - bags.START_NS) / bags.MS + 100
        expected = [bags.joints_at(at_ms)[joint] for joint in bags.JOINTS]
        np.testing.assert_allclose(tick.action, expected, atol=0.021 * 2e-1)


def test_changes_of_joints_add_up_to_the_way(bags, read, tmp_path):
    path = bags.write_bag(tmp_path / "bag", bags.robot_messages())
    absolute, _ = read(path, actions=("state",))
    contract = bags.make_contract(action={"kind": "joint_delta"})
    changes, _ = read(path, contract, actions=("state",))
    way = np.sum([tick.action for tick in changes[3:8]], axis=0)
    np.testing.assert_allclose(way, absolute[7].action - absolute[2].action, atol=1e-12)


@pytest.mark.parametrize(
    ("storage", "compression"),
    [
        (StoragePlugin.MCAP, CompressionMode.STORAGE),
        (StoragePlugin.MCAP, CompressionMode.MESSAGE),
        (StoragePlugin.SQLITE3, None),
        (StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
        (StoragePlugin.SQLITE3, CompressionMode.FILE),
    ],
)
def test_storage_and_compression_make_no_difference(bags, read, tmp_path, storage, compression):
    expected, _ = read(bags.write_bag(tmp_path / "plain", bags.robot_messages(500)))
    path = bags.write_bag(
        tmp_path / "bag", bags.robot_messages(500), storage=storage, compression=compression
    )
    _require_equal(read(path)[0], expected)


def test_split_bag_is_read_as_one(bags, read, tmp_path):
    messages = sorted(bags.robot_messages(600), key=lambda sent: sent.at_ms)
    expected, _ = read(bags.write_bag(tmp_path / "whole", messages))
    half = len(messages) // 2
    path = bags.write_bag(tmp_path / "split", messages[:half])
    second = bags.write_bag(tmp_path / "second", messages[half:])
    shutil.move(second / "second.mcap", path / "split_1.mcap")
    metadata = yaml.safe_load((path / "metadata.yaml").read_text())
    metadata["rosbag2_bagfile_information"]["relative_file_paths"].append("split_1.mcap")
    (path / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    _require_equal(read(path)[0], expected)


def test_bag_without_metadata_and_a_single_file_are_read(bags, read, tmp_path):
    path = bags.write_bag(tmp_path / "bag", bags.robot_messages(500))
    expected, _ = read(path)
    _require_equal(read(path / "bag.mcap")[0], expected)
    (path / "metadata.yaml").unlink()
    _require_equal(read(path)[0], expected)


def test_recorder_of_another_clock_is_told_from_a_slow_one(bags, read, tmp_path):
    messages = [replace_at(sent, sent.at_ms + 3_600_000) for sent in bags.robot_messages(500)]
    path = bags.write_bag(tmp_path / "bag", messages)
    with pytest.raises(DatasetError, match=r"3600 s after its stamp.*--clock stamp"):
        read(path)
    ticks, _ = read(path, clock="stamp", actions=("state",))
    assert [tick.observation is not None for tick in ticks] == [True] * 5


def test_instruction_and_outcome_that_the_recorder_noted_are_found(bags, read, tmp_path):
    notes = json.dumps({"instruction": "pick up the cup", "success": True})
    path = bags.write_bag(tmp_path / "bag", bags.robot_messages(300), notes=notes)
    ticks, _ = read(path, instruction=None)
    assert {tick.observation.instruction for tick in ticks} == {"pick up the cup"}


def test_texts_of_a_topic_begin_and_end_episodes(bags, read, tmp_path):
    marks = [
        bags.Sent(at, "/task", bags.STRING, bags.text(words))
        for at, words in ((0, ""), (205, "pick"), (505, ""), (705, "place"), (1005, "push"))
    ]
    path = bags.write_bag(tmp_path / "bag", [*bags.robot_messages(1200), *marks])
    ticks, _ = read(path, instruction=None, episode_topic="task")
    found = [(tick.episode, tick.observation.instruction) for tick in ticks]
    assert (None, "") in found
    assert {pair for pair in found if pair[0] is not None} == {
        (0, "pick"),
        (1, "place"),
        (2, "push"),
    }


def test_history_of_an_observation_are_the_steps_before_it(bags, read, tmp_path):
    path = bags.write_bag(tmp_path / "bag", bags.robot_messages(900))
    ticks, _ = read(path, history_length=2)
    assert [len(tick.observation.history) for tick in ticks[:4]] == [0, 1, 2, 2]
    np.testing.assert_array_equal(
        ticks[5].observation.history[0].images["front"], ticks[3].observation.images["front"]
    )


def test_camera_that_stops_makes_gaps_and_is_counted_as_a_stall(read, spoil):
    def stop(sent):
        return None if "front" in sent.topic and 400 < sent.at_ms < 1000 else sent

    ticks, reader = read(spoil(stop))
    silent = [tick for tick in ticks if tick.gap is not None]
    assert {tick.gap.cause for tick in silent} == {GapCause.SILENT}
    assert 2 <= len(silent) <= 5
    statistics = reader.statistics["/robot/front/image"]
    assert statistics.num_stalls == 1
    assert statistics.longest_s == pytest.approx(0.6, abs=0.06)


def test_dropped_messages_are_counted_by_topic(read, spoil):
    def drop(sent):
        return None if "wrist" in sent.topic and sent.at_ms in (210.0, 610.0, 660.0) else sent

    _, reader = read(spoil(drop))
    assert reader.statistics["/robot/wrist/image"].num_dropped == 3
    assert reader.statistics["/robot/front/image"].num_dropped == 0


def test_order_of_joints_may_change_midway(bags, read, spoil):
    def turn(sent):
        if sent.kind != bags.JOINT_STATE or sent.at_ms < 700:
            return sent
        order = ("shoulder", "elbow")
        values = dict(zip(sent.message.name, sent.message.position.tolist(), strict=True))
        at_ms = sent.at_ms - 1
        return sent._replace(message=bags.joint_state(at_ms, {j: values[j] for j in order}))

    ticks, _ = read(spoil(turn))
    at_ms = (ticks[-1].observation.stamp_ns - bags.START_NS) / bags.MS
    expected = [bags.joints_at(at_ms)[joint] for joint in bags.JOINTS]
    np.testing.assert_allclose(ticks[-1].observation.state, expected)


def test_truncated_bag_is_named_with_what_to_do(bags, read, tmp_path):
    path = bags.write_bag(tmp_path / "bag", bags.robot_messages(300))
    file = path / "bag.mcap"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(DatasetError, match=r"bag'.*cannot be read.*mcap recover"):
        read(path)


def test_missing_topic_is_named_with_those_that_there_are(read, spoil):
    path = spoil(lambda sent: None if "wrist" in sent.topic else sent)
    with pytest.raises(DatasetError, match=r"wrist/image.*/robot/front/image.*cameras\.wrist"):
        read(path)


def test_wrong_type_is_named_with_the_expected_one(bags, read, spoil):
    def retype(sent):
        if "wrist" not in sent.topic:
            return sent
        return sent._replace(kind=bags.STRING, message=bags.text("no image"))

    with pytest.raises(DatasetError, match=r"/robot/wrist/image carries std_msgs.*sensor_msgs"):
        read(spoil(retype))


def test_missing_commands_are_explained_by_the_alternatives(read, spoil):
    path = spoil(lambda sent: None if "trajectory" in sent.topic else sent)
    with pytest.raises(DatasetError, match=r"arm/trajectory.*--actions: 'state'"):
        read(path)


def test_clock_that_goes_back_is_an_error_or_a_new_segment(bags, read, spoil):
    def set_back(sent):
        if sent.at_ms < 800:
            return sent
        if sent.kind == bags.IMAGE:
            return sent._replace(message=bags.image(sent.at_ms - 5000, 1))
        if sent.kind == bags.JOINT_STATE:
            joints = bags.joints_at(0)
            return sent._replace(message=bags.joint_state(sent.at_ms - 5000, joints))
        return sent

    path = spoil(set_back)
    with pytest.raises(DatasetError, match=r"clock of /robot/\S+ goes back by \d\.\d+ s at"):
        read(path)
    ticks, _ = read(path, strict=False, clock="stamp")
    assert {tick.segment for tick in ticks if tick.observation is not None} == {0, 1}


@pytest.mark.parametrize("num_bytes", [0, 40])
def test_image_without_pixels_is_an_error_or_a_gap(bags, read, spoil, num_bytes):
    def empty(sent):
        if "front" not in sent.topic or not 600 < sent.at_ms < 700:
            return sent
        return sent._replace(message=replace(sent.message, data=sent.message.data[:num_bytes]))

    path = spoil(empty)
    with pytest.raises(DatasetError, match=r"bag'.*camera 'front' on front/image"):
        read(path)
    ticks, _ = read(path, strict=False)
    assert [tick.gap.cause for tick in ticks if tick.gap] == [GapCause.BROKEN]


def test_message_whose_bytes_are_cut_off_is_named(bags, read, tmp_path):
    path = bags.write_bag(
        tmp_path / "bag",
        bags.robot_messages(400),
        change=lambda data, sent: data[:30] if sent.kind == bags.JOINT_STATE else data,
    )
    with pytest.raises(DatasetError, match=r"bytes are no sensor_msgs/msg/JointState"):
        read(path)


def replace_at(sent, at_ms):
    return sent._replace(at_ms=at_ms)


def _require_equal(found, expected):
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert one.time_ns == other.time_ns
        np.testing.assert_array_equal(one.observation.state, other.observation.state)
        for name, image in other.observation.images.items():
            np.testing.assert_array_equal(one.observation.images[name], image)


def test_memory_does_not_grow_with_the_bag(bags, tmp_path):
    camera = {"width": 160, "height": 120, "max_age_s": 0.25}
    contract = bags.make_contract(cameras={"front": {"topic": "front/image", **camera}})

    def peak_bytes(seconds):
        messages = [
            sent._replace(message=bags.image(sent.at_ms - 8, 1, 160, 120))
            if "front" in sent.topic
            else sent
            for sent in bags.robot_messages(seconds * 1000)
            if "wrist" not in sent.topic
        ]
        path = bags.write_bag(tmp_path / f"{seconds}", messages)
        tracemalloc.start()
        with BagObservations(path, contract, instruction="pick") as reader:
            assert sum(tick.observation is not None for tick in reader) == seconds * 10
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak_bytes(12) < 1.2 * peak_bytes(4)
