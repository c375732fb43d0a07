# SPDX-License-Identifier: MIT
"""Replay of one recording: the policy's answers against the demonstrator's actions."""

import json
import weakref

import numpy as np
import pytest

from vla_core.dataset.bag_observations import BagObservations
from vla_core.errors import ConfigError
from vla_core.evaluation.replay import tick_log
from vla_core.evaluation.replay.bag_replay import BagReplay
from vla_core.evaluation.replay.bag_result import BagResult, load_finished
from vla_core.evaluation.replay.inference import LocalInference
from vla_core.evaluation.replay.metrics import compute_metrics
from vla_core.evaluation.replay.settings import ReplaySettings


def test_every_control_tick_is_answered_with_the_chunk_that_the_policy_gives(
    policy, robot_bag, result
):
    with BagObservations(robot_bag, policy.contract, instruction="pick") as ticks:
        observations = [tick.observation for tick in ticks]
    expected = [policy.predict_chunk(each).actions[0] for each in observations]
    np.testing.assert_array_equal(result.ticks["predicted"], expected)
    assert len(expected) == 15


def test_errors_are_those_between_prediction_and_recording(result):
    ticks, horizon = result.ticks, result.horizon
    first = np.abs(ticks["predicted"] - ticks["recorded"])
    np.testing.assert_allclose(horizon["absolute"][0], np.nansum(first, axis=0), rtol=1e-4)
    np.testing.assert_allclose(horizon["largest"][0], np.nanmax(first, axis=0), rtol=1e-4)
    assert (np.diff(horizon["count"], axis=0) <= 0).all()


def test_what_the_demonstrator_did_is_the_command_of_the_recording(bags, result):
    times_ms = (result.ticks["time_ns"] - bags.START_NS) / bags.MS
    for at_ms, recorded in list(zip(times_ms, result.ticks["recorded"], strict=True))[2:12]:
        expected = [bags.joints_at(at_ms - 10 + 100)[joint] for joint in bags.JOINTS]
        np.testing.assert_allclose(recorded, expected, atol=0.005)


def test_metrics_are_json_with_figures_of_every_kind(policy, result):
    metrics = compute_metrics([result], policy.contract)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert metrics["schema"] == {"name": "vla_replay_metrics", "version": 1}
    total = metrics["error"]["total"]["rad"]
    assert 0.0 < total["mae"] <= total["rmse"] <= total["max"]
    assert len(metrics["error"]["over_horizon"]["rad"]) == 4
    assert metrics["gripper"] is None
    assert metrics["limiter"]["command_ticks"] > 50
    assert metrics["ticks"]["gap"] == 0
    assert metrics["timing"]["ages_s"]["front"]["p50"] == pytest.approx(0.01)
    checks = metrics["sensitivity"]["checks"]
    assert set(checks) == {
        "instruction swapped",
        "state frozen",
        "camera front black",
        "camera wrist black",
    }
    assert metrics["worst"][0]["score"] >= metrics["worst"][1]["score"]


def test_what_limits_hold_back_is_told_for_each_joint(policy, result):
    limiter = compute_metrics([result], policy.contract)["limiter"]
    assert list(limiter["joints"]) == list(policy.contract.action.joints)
    for joint in limiter["joints"].values():
        assert 0.0 < joint["cut_share"] <= limiter["cut_share"] <= 1.0
        assert 0.0 < joint["mean_cut"] < joint["largest_cut"]


def test_merged_figures_of_equal_recordings_are_those_of_one(policy, result):
    one, two = (compute_metrics([result] * n, policy.contract) for n in (1, 2))
    assert _numbers(one["error"]) == pytest.approx(_numbers(two["error"]))
    assert one["limiter"]["cut_share"] == two["limiter"]["cut_share"]
    assert two["ticks"]["answered"] == 2 * one["ticks"]["answered"]


def test_a_saved_result_is_read_back_and_found_by_what_it_is_of(result, tmp_path):
    result.save(tmp_path)
    loaded = BagResult.load(tmp_path)
    for part in ("ticks", "horizon", "probes"):
        for name, values in getattr(result, part).items():
            np.testing.assert_array_equal(getattr(loaded, part)[name], values)
    assert list(loaded.frames) == list(result.frames)
    assert len(loaded.frames) == 2
    own = {name: result.facts[name] for name in ("checkpoint_id", "bag_bytes", "settings")}
    assert load_finished(tmp_path, own) is not None
    assert load_finished(tmp_path, {**own, "checkpoint_id": "another"}) is None
    (tmp_path / "ticks.npz").write_bytes((tmp_path / "ticks.npz").read_bytes()[:100])
    assert load_finished(tmp_path, own) is None


def test_worst_moments_that_nothing_can_draw_are_refused_before_the_recording_is_read(
    replay, monkeypatch, tmp_path
):
    monkeypatch.setattr(tick_log, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"num_worst must be 0 without matplotlib"):
        replay(tmp_path / "no_such_bag", num_worst=1)


def test_ticks_outside_of_episodes_are_not_judged(bags, policy, tmp_path):
    marks = [
        bags.Sent(at, "/task", bags.STRING, bags.text(words))
        for at, words in ((0, ""), (305, "pick"), (905, ""))
    ]
    bag = bags.write_bag(tmp_path / "bag", [*bags.robot_messages(1200), *marks])
    settings = ReplaySettings(episode_topic="task", probe_every=0, num_worst=0)
    found = BagReplay(LocalInference(policy), bag, settings).run()
    assert found.facts["instructions"] == {"pick": found.facts["ticks"]["answered"]}
    assert found.facts["ticks"]["outside"] > 2
    # The last chunks of the episode are compared as far as it goes.
    counts = found.horizon["count"][:, 0]
    assert counts[0] > counts[-1] > 0


def test_no_chunk_is_judged_by_what_was_done_for_another_instruction(bags, replay, tmp_path):
    words = [
        bags.Sent(at, "/task", bags.STRING, bags.text(task))
        for at, task in ((0, "pick"), (705, "place"))
    ]
    bag = bags.write_bag(tmp_path / "bag", [*bags.robot_messages(1400), *words])
    found = replay(bag, instruction=None, instruction_topic="task")
    alone = [
        replay(
            bags.write_bag(tmp_path / name, bags.robot_messages(700, start)), instruction=name
        ).horizon["count"][:, 0]
        for name, start in (("pick", 0), ("place", 700))
    ]
    assert set(found.facts["instructions"]) == {"pick", "place"}
    # Each step of a chunk that begins with one instruction and ends with the other counts not.
    lost = found.horizon["count"][0, 0] - found.horizon["count"][:, 0]
    assert lost.tolist() == (sum(alone)[0] - sum(alone)).tolist()


def test_a_replay_can_end_early(replay, robot_bag):
    assert replay(robot_bag, max_ticks=3).facts["ticks"]["answered"] == 3


def leader_messages(bags, until_ms):
    """A robot that is shown for 3 s what to do by a leader whose joint states may end early."""
    yield from (sent for sent in bags.robot_messages(3000) if sent.kind != bags.TRAJECTORY)
    for at in range(0, until_ms, 10):
        state = bags.joint_state(at, bags.joints_at(at))
        yield bags.Sent(at + 1, "/robot/leader", bags.JOINT_STATE, state)


def test_a_leader_that_falls_silent_costs_neither_memory_nor_what_it_did_before(
    bags, policy, replay, tmp_path
):
    whole = bags.write_bag(tmp_path / "whole", leader_messages(bags, 3000))
    short = bags.write_bag(tmp_path / "short", leader_messages(bags, 1000))
    expected = replay(whole, actions=("leader",))
    frames, held = [], []

    def hold(tick):
        frames.append(weakref.ref(tick.observation.images["front"]))
        held.append(sum(frame() is not None for frame in frames))

    settings = ReplaySettings(instruction="pick", actions=("leader",), num_worst=0, probe_every=0)
    found = BagReplay(LocalInference(policy), short, settings, sinks=[hold]).run()
    assert len(found.ticks["score"]) == len(expected.ticks["score"]) == 30
    assert max(held) <= 10
    np.testing.assert_array_equal(found.ticks["score"][:6], expected.ticks["score"][:6])
    assert np.isnan(found.ticks["score"][12:]).all()
    num_unknown = int(np.isnan(found.ticks["recorded"]).all(axis=1).sum())
    assert list(found.facts["lacking"].values()) == [num_unknown]


def test_a_camera_that_stops_is_counted_as_gaps(bags, replay, tmp_path):
    kept = (
        sent
        for sent in bags.robot_messages()
        if "front" not in sent.topic or not 400 < sent.at_ms < 1000
    )
    found = replay(bags.write_bag(tmp_path / "bag", kept))
    assert found.facts["ticks"]["gap"] >= 3
    assert set(found.facts["gaps"]) <= {"camera 'front': late", "camera 'front': fell silent"}
    topic = next(each for name, each in found.facts["topics"].items() if "front" in name)
    assert topic["stalls"] == 1


def _numbers(value):
    if isinstance(value, dict):
        return [number for part in value.values() for number in _numbers(part)]
    if isinstance(value, list):
        return [number for part in value for number in _numbers(part)]
    return [value] if isinstance(value, float) else []
