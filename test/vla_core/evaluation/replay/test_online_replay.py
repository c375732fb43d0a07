# SPDX-License-Identifier: MIT
"""Recorded answers of a policy node are judged like the answers of a replay."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rosbags.typesys import get_types_from_msg

from vla_core.dataset.bag_observations import BagObservations
from vla_core.errors import DatasetError
from vla_core.evaluation.replay.agreement import agreement_text
from vla_core.evaluation.replay.online_run import evaluate_answers
from vla_core.evaluation.replay.recorded_answers import PLAYED
from vla_core.evaluation.replay.runner import ReplayJob
from vla_core.evaluation.replay.settings import ReplaySettings

MESSAGES = Path(__file__).resolve().parents[4] / "src/vla_msgs/msg"
CHUNK, COMMAND, POLICY = (
    f"vla_msgs/msg/{name}" for name in ("ActionChunk", "CommandStatus", "PolicyStatus")
)
NUM_COMMITTED = 2


@pytest.fixture(scope="module")
def registered(bags):
    """Make the types of vla_msgs known to the type store of the test bags."""
    for kind in (CHUNK, COMMAND, POLICY):
        text = (MESSAGES / f"{kind.rpartition('/')[2]}.msg").read_text()
        bags.STORE.register(get_types_from_msg(text, kind))
    return bags


@pytest.fixture(scope="module")
def answered(policy, robot_bag):
    """Tick, observation and chunk of every second control tick, as a slow node would answer."""
    with BagObservations(robot_bag, policy.contract, instruction="pick") as ticks:
        found = [(tick.time_ns, tick.observation) for tick in ticks][::2]
    chunks = []
    for _, observation in found:
        known = chunks[-1].policy_actions[-NUM_COMMITTED:] if chunks else None
        chunks.append(policy.predict_chunk(observation, committed=known))
    return [(at, seen, chunk) for (at, seen), chunk in zip(found, chunks, strict=True)]


def chunk_message(bags, at_ns, observation, chunk, sequence, committed):
    stamps = [bags.time_of(stamp) for stamp in observation.image_stamps_ns.values()]
    return bags.STORE.types[CHUNK](
        header=bags.make("std_msgs/msg/Header", stamp=bags.time_of(chunk.stamp_ns), frame_id=""),
        inference_start_stamp=bags.time_of(at_ns),
        generation_stamp=bags.time_of(at_ns + 30 * bags.MS),
        sequence=sequence,
        epoch=1,
        checkpoint_id=chunk.checkpoint_id,
        instruction=chunk.instruction,
        kind=0,
        joint_names=list(chunk.joints),
        dt=chunk.dt_s,
        horizon=len(chunk.actions),
        actions=chunk.actions.ravel(),
        policy_actions=chunk.policy_actions.ravel(),
        committed_steps=committed,
        camera_names=list(observation.image_stamps_ns),
        camera_stamps=stamps,
        joint_state_stamp=bags.time_of(observation.state_stamp_ns),
        plan_sequence=0,
        plan_stamp=bags.time_of(0),
    )


def command_status(bags, at_ms, *, cut=0.0, reason=""):
    return bags.make(
        COMMAND,
        header=bags.header(at_ms),
        mode=1,
        reason=reason,
        armed=False,
        emergency_stop=False,
        source=1,
        chunk_sequence=1,
        policy_epoch=1,
        policy_instruction="pick",
        chunk_age=0.1,
        joint_state_age=0.0,
        tick_lateness=0.0,
        limited=bool(cut),
        limited_joints=["elbow"] if cut else [],
        joint_cuts=np.array([cut] if cut else []),
        tool_cut=0.0,
        pace=1.0,
        switch_jump=0.0,
        joint_names=["shoulder", "elbow"],
        command_positions=np.zeros(2),
        command_velocities=np.zeros(2),
    )


def policy_status(bags, at_ms, state, reason=""):
    return bags.make(
        POLICY,
        header=bags.header(at_ms),
        state=state,
        reason=reason,
        instruction="pick",
        epoch=1,
        checkpoint_id="",
        sequence=0,
        inference_latency=0.0,
        effect_delay=0.0,
        committed_steps=0,
        camera_names=[],
        camera_ages=np.zeros(0),
        joint_state_age=0.0,
    )


@pytest.fixture
def write_run(registered, answered, tmp_path):
    """Write the recording of a run; `change` may alter every chunk before it is written."""

    def write(
        *, change=lambda chunk: chunk, statuses=(), span_ms=None, chunks=answered, plan_age_ms=None
    ):
        bags = registered
        sent = [bags.Sent(0, "/policy_node/status", POLICY, policy_status(bags, 0, 1, "idle"))]
        for number, (at_ns, observation, chunk) in enumerate(chunks):
            committed = NUM_COMMITTED if number else 0
            message = chunk_message(bags, at_ns, observation, change(chunk), number + 1, committed)
            if plan_age_ms is not None:
                plan_stamp = bags.time_of(chunk.stamp_ns - plan_age_ms * bags.MS)
                message = replace(message, plan_sequence=7, plan_stamp=plan_stamp)
            at_ms = (at_ns - bags.START_NS) / bags.MS + 30
            sent.append(bags.Sent(at_ms, "/action_chunk", CHUNK, message))
        # A policy that takes an instruction first revokes what it said before.
        at_ns, observation, chunk = answered[0]
        revocation = chunk_message(bags, at_ns, observation, chunk, 0, 0)
        sent.append(bags.Sent(0, "/action_chunk", CHUNK, replace(revocation, horizon=0)))
        sent += [bags.Sent(*status) for status in statuses]
        played = span_ms and [bags.START_NS + at * bags.MS for at in span_ms]
        return bags.write_bag(
            tmp_path / "answers", sent, notes=json.dumps({PLAYED: played} if played else {})
        )

    return write


@pytest.fixture
def judge(checkpoint, robot_bag, tmp_path):
    def run(answers, **options):
        settings = ReplaySettings(instruction="pick", num_worst=0, probe_every=0)
        job = ReplayJob(checkpoint=str(checkpoint), settings=settings, folder=tmp_path / "out")
        return evaluate_answers(job, robot_bag, answers, **options)

    return run


def test_answers_to_the_same_observations_are_the_chunks_of_the_policy(write_run, judge, answered):
    _, metrics = judge(write_run())
    online = metrics["online"]
    assert online["chunks"] == online["same_observation"] == online["equal"] == len(answered)
    assert online["largest_difference"] == 0.0


def test_errors_are_those_of_the_recorded_chunks(write_run, judge, answered, result):
    found, _ = judge(write_run())
    np.testing.assert_array_equal(
        found.ticks["predicted"], [chunk.actions[0] for _, _, chunk in answered]
    )
    np.testing.assert_allclose(found.ticks["recorded"], result.ticks["recorded"][::2], rtol=1e-12)
    known = np.isfinite(found.ticks["score"])
    assert known[:-1].all()


def test_difference_to_the_replay_without_ros_is_stated(write_run, judge):
    _, metrics = judge(write_run())
    row = metrics["online"]["figures"]["mean error, rad"]
    assert row["online"] == metrics["error"]["total"]["rad"]["mae"]
    assert row["difference"] == pytest.approx(row["online"] - row["offline"])
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_a_chunk_that_the_policy_would_not_give_is_noticed(write_run, judge):
    def spoil(chunk):
        return replace(chunk, policy_actions=chunk.policy_actions + 0.01)

    _, metrics = judge(write_run(change=spoil))
    online = metrics["online"]
    assert online["equal"] == 0 < online["same_observation"]
    assert online["largest_difference"] == pytest.approx(0.01, rel=1e-3)
    assert "; 0 of these are the same" in agreement_text(online)


@pytest.mark.parametrize(("plan_age_ms", "share"), [(0, 1), (50, 0)])
def test_a_chunk_of_an_older_plan_is_no_answer_to_the_observation_alone(
    write_run, judge, answered, plan_age_ms, share
):
    _, metrics = judge(write_run(plan_age_ms=plan_age_ms))
    online = metrics["online"]
    assert online["same_observation"] == online["equal"] == share * len(answered)
    assert online["chunks"] == len(answered)


def test_answers_can_be_judged_without_asking_the_policy_again(write_run, judge):
    _, metrics = judge(write_run(), asks_again=False)
    assert metrics["online"]["equal"] is None
    assert metrics["online"]["figures"]["mean error, rad"]["offline"] is None
    assert metrics["error"]["total"]["rad"]["mae"] > 0.0


def test_limits_and_refusals_are_those_of_the_command_node(registered, write_run, judge):
    bags = registered
    topic = "/command_node/status"
    statuses = [
        (200, topic, COMMAND, command_status(bags, 200)),
        (220, topic, COMMAND, command_status(bags, 220, cut=0.25)),
        (400, topic, COMMAND, command_status(bags, 400, reason="chunk 2 is refused: it ends")),
    ]
    _, metrics = judge(write_run(statuses=statuses))
    limiter = metrics["limiter"]
    assert limiter["command_ticks"] == 3
    assert limiter["joints"]["elbow"] == {
        "unit": "rad",
        "cut_share": pytest.approx(1 / 3),
        "mean_cut": pytest.approx(0.25 / 3),
        "largest_cut": 0.25,
    }
    assert limiter["refusals"] == {"it ends": 1}


def test_waiting_of_the_policy_is_counted_by_reason_after_its_first_answer(
    registered, write_run, judge
):
    bags = registered
    topic = "/policy_node/status"
    statuses = [
        (at_ms, topic, POLICY, policy_status(bags, at_ms, state, reason))
        for at_ms, state, reason in (
            (1, 2, "nothing received"),
            (500, 2, "camera 'front' is silent for 0.31 s"),
            (510, 2, "camera 'front' is silent for 0.32 s"),
            (600, 3, ""),
            (700, 2, "camera 'front' is silent for 0.35 s"),
        )
    ]
    # A planner's status, of the same type, is not the policy's.
    planner = policy_status(bags, 800, 2, "waiting for frames")
    statuses.append((800, "/planner_node/status", POLICY, planner))
    _, metrics = judge(write_run(statuses=statuses))
    assert metrics["online"]["waits"] == {"camera 'front' is silent for 0.31 s": 2}


def test_replay_without_ros_keeps_to_what_was_played(write_run, judge, answered):
    span_ms = (0, 700)
    first_ns = answered[0][0] - 10**7
    played = [each for each in answered if each[0] - first_ns < span_ms[1] * 10**6]
    _, metrics = judge(write_run(chunks=played, span_ms=span_ms))
    assert metrics["ticks"]["answered"] == len(played) < len(answered)
    assert metrics["ticks"]["outside"] > 0


def test_answers_of_another_checkpoint_are_refused(write_run, judge):
    answers = write_run(change=lambda chunk: replace(chunk, checkpoint_id="other"))
    with pytest.raises(DatasetError, match="are of checkpoint other, not of"):
        judge(answers)


def test_a_run_without_answers_says_what_the_policy_said(write_run, judge):
    with pytest.raises(DatasetError, match=r"hold no chunk.*policy_node said last: idle"):
        judge(write_run(chunks=[]))
