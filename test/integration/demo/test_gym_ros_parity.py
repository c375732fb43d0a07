# SPDX-License-Identifier: MIT
"""The policy answers a recorded observation as it answered it over ROS, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest

from vla_core.dataset.recording import Recording
from vla_core.inference.policy import Policy
from vla_core.processing.contract import load_contract
from vla_core.processing.image_encodings import image_from_message
from vla_core.processing.joint_history import JointHistory
from vla_core.processing.messages import stamp_ns, time_ns
from vla_core.types import Observation
from vla_ros.graph import find_config
from vla_ros.parameters.declaration import load_parameter_file

pytestmark = [pytest.mark.ros, pytest.mark.slow]


@pytest.fixture(scope="module")
def recorded(finished_demo):
    """Every recorded chunk with the very observation that it answers."""
    assert finished_demo.status == 0, finished_demo.output
    contract = load_contract("sim")
    with Recording(finished_demo.folder / "bag") as bag:
        topics = {bag.topic(camera.topic): name for name, camera in contract.cameras.items()}
        joint_topic = bag.topic(contract.state.topic)
        chunk_topic = bag.topic_of_type("vla_msgs/msg/ActionChunk")
        images, states, chunks = {}, [], []
        for topic, message in bag.messages(*topics, joint_topic, chunk_topic):
            if topic in topics:
                images[topics[topic], stamp_ns(message)] = message
            elif topic == joint_topic:
                states.append(message)
            elif message.horizon:
                chunks.append(message)
    return [(observation_of(chunk, images, states, contract), chunk) for chunk in chunks]


def observation_of(chunk, images, states, contract):
    stamps = {
        camera: time_ns(stamp)
        for camera, stamp in zip(chunk.camera_names, chunk.camera_stamps, strict=True)
    }
    state_ns = time_ns(chunk.joint_state_stamp)
    history = JointHistory(contract.state.joints)
    for message in states:
        if abs(stamp_ns(message) - state_ns) < 500_000_000:
            history.add(message)
    state = history.at(state_ns, contract.state.max_age_s)
    return Observation(
        images={
            camera: image_from_message(images[camera, stamp]) for camera, stamp in stamps.items()
        },
        state=state.values,
        instruction=chunk.instruction,
        stamp_ns=stamp_ns(chunk),
        image_stamps_ns=stamps,
        state_stamp_ns=state_ns,
    )


def test_recorded_observation_gives_the_identical_chunk(recorded):
    parameters = load_parameter_file(find_config("policy_node.param.yaml"))
    policy = Policy.from_checkpoint("groot", num_threads=parameters["num_threads"])
    assert len(recorded) >= 10
    for observation, message in recorded[:: max(1, len(recorded) // 10)]:
        # The steps that were committed by the chunk before are the only thing not in the bag's
        # observation; the node says how many they were.
        steps = np.array(message.policy_actions).reshape(message.horizon, -1)
        committed = steps[: message.committed_steps] if message.committed_steps else None
        chunk = policy.predict_chunk(observation, seed=parameters["seed"], committed=committed)
        assert chunk.checkpoint_id == message.checkpoint_id
        assert chunk.policy_actions.ravel().tobytes() == message.policy_actions.tobytes()
        np.testing.assert_array_equal(chunk.actions.ravel(), message.actions)


def test_another_scene_gives_another_chunk(recorded):
    policy = Policy.from_checkpoint("groot", num_threads=1)
    (first, _), (last, _) = recorded[0], recorded[-1]
    answers = [policy.predict_chunk(observation).policy_actions for observation in (first, last)]
    assert not np.array_equal(*answers)
