# SPDX-License-Identifier: MIT
"""Recordings become episodes: split as asked, nothing left out in silence, resumable."""

import json
import shutil

import numpy as np
import pytest

from vla_core.cli import main
from vla_core.dataset import EpisodeDataset, EpisodeWriter
from vla_core.dataset.bag_import import AGES, BagImporter, age_feature, find_bags
from vla_core.dataset.bag_observations import BagObservations
from vla_core.errors import DatasetError


@pytest.fixture
def import_bags(bags, tmp_path):
    """Import bags into a dataset without loss; return it and the report."""

    def run(*paths, storage="image", contract=None, resume=False, **arguments):
        contract = contract or bags.make_contract()
        arguments.setdefault("instruction", "pick")
        with EpisodeWriter.for_contract(
            tmp_path / "data",
            contract,
            storage=storage,
            columns={AGES: age_feature(contract)},
            resume=resume,
        ) as writer:
            importer = BagImporter(writer, contract, **arguments)
            for path in paths:
                importer.add(path)
        return EpisodeDataset(tmp_path / "data"), importer.report

    return run


@pytest.fixture
def silent_camera(bags, tmp_path):
    """A bag whose front camera is silent for 0.6 s in the middle."""
    messages = [
        sent
        for sent in bags.robot_messages(2000)
        if "front" not in sent.topic or not 700 < sent.at_ms < 1300
    ]
    return bags.write_bag(tmp_path / "silent", messages)


def test_dataset_holds_what_the_ticks_gave(bags, import_bags, tmp_path):
    path = bags.write_bag(tmp_path / "bag", bags.robot_messages())
    with BagObservations(path, bags.make_contract(), instruction="pick") as reader:
        ticks = [tick for tick in reader if tick.action is not None]
    dataset, report = import_bags(path)
    episode = dataset.episode(0)
    assert dataset.fps == 10
    assert report.num_written == 1
    for name in ("front", "wrist"):
        expected = np.stack([tick.observation.images[name] for tick in ticks])
        np.testing.assert_array_equal(episode.images[name], expected)
    np.testing.assert_allclose(
        episode.state, [tick.observation.state for tick in ticks], rtol=1e-6
    )
    np.testing.assert_allclose(episode.actions, [tick.action for tick in ticks], rtol=1e-6)
    np.testing.assert_allclose(
        dataset.column(AGES), [list(tick.ages_s.values()) for tick in ticks], rtol=1e-5
    )
    assert dataset.tasks == ["pick"]
    assert dataset.metadata(0) == {"bag": str(path), "start_ns": ticks[0].time_ns}


def test_videos_hold_the_frames_within_what_the_codec_loses(bags, import_bags, tmp_path):
    path = bags.write_bag(tmp_path / "bag", bags.robot_messages(800))
    episode = import_bags(path, storage="video")[0].episode(0)
    for row, frame in enumerate(episode.images["front"]):
        level = int(frame[:, 12:].mean())
        assert level == pytest.approx(2 * row, abs=4)


def test_marked_episodes_are_cut_at_their_marks(bags, import_bags, tmp_path):
    marks = [
        bags.Sent(at, "/teaching", bags.BOOL, bags.make(bags.BOOL, data=running))
        for at, running in ((205, True), (705, False), (905, True), (1505, False))
    ]
    path = bags.write_bag(tmp_path / "bag", [*bags.robot_messages(1800), *marks])
    dataset, report = import_bags(path, episodes="topic", episode_topic="teaching")
    assert dataset.episode_lengths == [5, 6]
    assert report.num_written == 2


def test_another_instruction_begins_another_episode(bags, import_bags, tmp_path):
    texts = [
        bags.Sent(at, "/task", bags.STRING, bags.text(words))
        for at, words in ((0, "pick"), (605, "place"))
    ]
    path = bags.write_bag(tmp_path / "bag", [*bags.robot_messages(1200), *texts])
    dataset, _ = import_bags(path, instruction=None, instruction_topic="task")
    assert dataset.tasks == ["pick", "place"]


def test_episode_with_a_hole_is_an_error_that_says_what_to_do(import_bags, silent_camera):
    with pytest.raises(
        DatasetError, match=r"nothing for 0\.\d s from .*camera 'front'.*--skip-bad.*gaps"
    ):
        import_bags(silent_camera)


def test_episode_with_a_hole_can_be_left_out_by_name(bags, import_bags, silent_camera, tmp_path):
    sound = bags.write_bag(tmp_path / "sound", bags.robot_messages(800))
    dataset, report = import_bags(sound, silent_camera, skip_bad=True)
    assert dataset.num_episodes == 1
    assert [bool(episode.left_out) for episode in report.episodes] == [False, True]
    assert "camera 'front'" in report.episodes[1].left_out


def test_episodes_can_be_split_at_gaps(import_bags, silent_camera):
    dataset, _ = import_bags(silent_camera, episodes="gaps")
    assert dataset.num_episodes == 2
    assert min(dataset.episode_lengths) >= 7


def test_unreadable_bag_is_left_out_by_name(bags, import_bags, tmp_path):
    sound = bags.write_bag(tmp_path / "sound", bags.robot_messages(500))
    damaged = bags.write_bag(tmp_path / "damaged", bags.robot_messages(500))
    (damaged / "damaged.mcap").write_bytes(b"no bag")
    _, report = import_bags(damaged, sound, skip_bad=True)
    assert report.num_written == 1
    assert "damaged' cannot be read" in report.episodes[0].left_out


@pytest.mark.parametrize(("success", "is_left_out"), [(True, False), (False, True), (None, True)])
def test_only_successes_are_taken_when_asked_for(
    bags, import_bags, tmp_path, success, is_left_out
):
    notes = json.dumps({"instruction": "pick", "success": success})
    noted = bags.write_bag(tmp_path / "noted", bags.robot_messages(500), notes=notes)
    other = bags.write_bag(
        tmp_path / "other", bags.robot_messages(500), notes=json.dumps({"success": True})
    )
    _, report = import_bags(noted, other, only_successes=True)
    assert [bool(episode.left_out) for episode in report.episodes] == [is_left_out, False]


def test_bag_without_instruction_is_refused(bags, import_bags, tmp_path):
    words = bags.Sent(0, "/task", bags.STRING, bags.text("pick"))
    path = bags.write_bag(tmp_path / "bag", [*bags.robot_messages(300), words])
    options = r"give --instruction TEXT or --instruction-topic /task\."
    with pytest.raises(DatasetError, match=f"nothing of an instruction.*{options}"):
        import_bags(path, instruction=None)


def test_instruction_that_comes_late_can_begin_the_episode(bags, import_bags, tmp_path):
    words = bags.Sent(305, "/task", bags.STRING, bags.text("pick"))
    path = bags.write_bag(tmp_path / "bag", [*bags.robot_messages(800), words])
    with pytest.raises(DatasetError, match=r"nor does task by then; give .*--episode-topic task"):
        import_bags(path, instruction=None, instruction_topic="task")
    dataset, _ = import_bags(path, instruction=None, episodes="topic", episode_topic="task")
    assert dataset.tasks == ["pick"]


def test_two_robots_in_a_bag_are_told_apart_by_whole_names(bags, import_bags, tmp_path):
    one = list(bags.robot_messages(300))
    both = [*one, *(s._replace(topic=s.topic.replace("/robot", "/other")) for s in one)]
    path = bags.write_bag(tmp_path / "bag", both)
    with pytest.raises(DatasetError, match=r"more than one .*/other/front/image.*whole name"):
        import_bags(path)


def test_interrupted_import_goes_on_where_it_was(bags, import_bags, tmp_path):
    first = bags.write_bag(tmp_path / "first", bags.robot_messages(500))
    damaged = bags.write_bag(tmp_path / "second", bags.robot_messages(500))
    whole = (damaged / "second.mcap").read_bytes()
    (damaged / "second.mcap").write_bytes(whole[:-100])
    with pytest.raises(DatasetError):
        import_bags(first, damaged)
    (damaged / "second.mcap").write_bytes(whole)
    dataset, _ = import_bags(first, damaged, resume=True)
    assert [dataset.metadata(i)["bag"] for i in range(2)] == [str(first), str(damaged)]


def test_folder_of_recordings_stands_for_all_of_them(bags, tmp_path):
    paths = [bags.write_bag(tmp_path / f"episode_{i}", bags.robot_messages(60)) for i in range(3)]
    assert find_bags([tmp_path]) == paths
    with pytest.raises(DatasetError, match="no bag at"):
        find_bags([tmp_path / "nowhere"])


def test_command_imports_and_reports(bags, tmp_path, capsys):
    path = bags.write_bag(tmp_path / "bag", bags.robot_messages(600))
    robot = tmp_path / "robot.yaml"
    robot.write_text(json.dumps(bags.make_contract().to_dict()))
    arguments = [str(path), "--robot", str(robot), "--output", str(tmp_path / "data")]
    assert main(["dataset", "from-bag", *arguments, "--instruction", "pick"]) == 0
    shown = capsys.readouterr().out
    assert "/robot/front/image: 12 messages at 20 Hz, 0 dropped, 0 stalls" in shown
    report = json.loads((tmp_path / "data/meta/import.json").read_text())
    assert report["episodes"][0]["left_out"] is None
    assert report["topics"][str(path)]["/robot/joint_states"]["rate_hz"] == pytest.approx(100)


def test_command_goes_on_only_as_it_began(bags, tmp_path, capsys):
    first = bags.write_bag(tmp_path / "first", bags.robot_messages(400))
    lacking = [sent for sent in bags.robot_messages(400) if "wrist" not in sent.topic]
    second = bags.write_bag(tmp_path / "second", lacking)
    contract = tmp_path / "robot.yaml"
    contract.write_text(json.dumps(bags.make_contract().to_dict()))
    options = ["--robot", str(contract), "--output", str(tmp_path / "data")]
    options += ["--images", "png", "--instruction"]

    def run(*arguments):
        status = main(["dataset", "from-bag", *map(str, arguments)])
        return status, capsys.readouterr().err

    assert run(first, second, *options, "pick")[0] == 2
    status, error = run(first, second, *options, "place", "--actions", "state", "--resume")
    assert status == 2
    assert "another actions (['command'], now ['state']) and instruction ('pick', now" in error
    status, error = run(second, *options, "pick", "--resume")
    assert status == 2
    assert f"has episodes of '{first}'; name them too" in error
    shutil.rmtree(second)
    bags.write_bag(second, bags.robot_messages(400))
    assert run(first, second, *options, "pick", "--resume") == (0, "")
    assert EpisodeDataset(tmp_path / "data").tasks == ["pick", "pick"]


def test_command_names_a_bag_that_cannot_be_used(bags, tmp_path, capsys):
    path = bags.write_bag(tmp_path / "bag", bags.robot_messages(300))
    arguments = [str(path), "--robot", "sim", "--output", str(tmp_path / "data")]
    assert main(["dataset", "from-bag", *arguments, "--instruction", "pick"]) == 2
    assert "has no topic 'front_camera/image_raw'" in capsys.readouterr().err
    assert main(["dataset", "from-bag", *arguments, "--instruction", "pick", "--skip-bad"]) == 2
    output = capsys.readouterr()
    assert "left out:" in output.out
    assert "no episode was written" in output.err
    assert {p.name for p in tmp_path.iterdir()} == {"bag"}
