# SPDX-License-Identifier: MIT
"""Predictions and recording side by side in an MCAP file."""

import io

import numpy as np
import pytest
from PIL import Image

from vla_core.dataset.recording import Recording
from vla_core.evaluation.replay.bag_replay import BagReplay
from vla_core.evaluation.replay.inference import LocalInference
from vla_core.evaluation.replay.predictions_bag import PredictionsBag
from vla_core.evaluation.replay.settings import ReplaySettings


@pytest.fixture(scope="module")
def written(policy, robot_bag, tmp_path_factory):
    """The messages of a written bag by topic, and the replay that wrote it."""
    path = tmp_path_factory.mktemp("predictions") / "bag"
    settings = ReplaySettings(instruction="pick", num_worst=0, probe_every=0)
    with PredictionsBag(path, policy.contract) as bag:
        result = BagReplay(LocalInference(policy), robot_bag, settings, sinks=[bag.add]).run()
    messages = {}
    with Recording(path) as recording:
        for topic, message in recording.messages(*recording.message_counts):
            messages.setdefault(topic, []).append(message)
    return messages, result


@pytest.mark.parametrize("name", ["predicted", "recorded"])
def test_first_steps_are_joint_states(written, name):
    messages, result = written
    positions = np.array([message.position for message in messages[f"/replay/{name}"]])
    expected = result.ticks[name]
    known = np.isfinite(expected).all(axis=1)
    np.testing.assert_allclose(positions, expected[known])


def test_error_is_the_difference(written):
    messages, _ = written
    parts = [messages[f"/replay/{name}"] for name in ("error", "predicted", "recorded")]
    stamps = [{(m.header.stamp.sec, m.header.stamp.nanosec): m.position for m in p} for p in parts]
    for stamp, error in stamps[0].items():
        np.testing.assert_allclose(error, stamps[1][stamp] - stamps[2][stamp])
    assert len(stamps[0]) > 10


def test_whole_chunks_frames_and_instruction_are_there(written, policy):
    messages, result = written
    chunk = messages["/replay/chunk"][0]
    assert list(chunk.joint_names) == list(policy.contract.action.joints)
    assert len(chunk.points) == policy.pipeline.chunk_size
    assert chunk.points[1].time_from_start.nanosec == 200_000_000
    frames = messages["/replay/front/compressed"]
    assert len(frames) == result.facts["ticks"]["answered"]
    assert Image.open(io.BytesIO(frames[0].data.tobytes())).size == (16, 8)
    assert [message.data for message in messages["/replay/instruction"]] == ["pick"]
