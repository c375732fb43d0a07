# SPDX-License-Identifier: MIT
"""Another checkpoint on a running policy_node: the old one acts until the new one can."""

import json
import threading

import pytest

pytestmark = pytest.mark.ros


@pytest.fixture
def other_checkpoint(untrained_checkpoint, with_other_weights):
    """The same policy with other weights."""
    return with_other_weights(untrained_checkpoint)


@pytest.fixture
def load(call_service):
    from vla_msgs.srv import LoadCheckpoint

    def load(checkpoint):
        request = LoadCheckpoint.Request(checkpoint=str(checkpoint))
        return call_service(LoadCheckpoint, "policy_node/load_checkpoint", request)

    return load


@pytest.fixture
def chunks(observed_robot):
    """All chunks that come while the robot goes on publishing in a thread."""
    heard, is_over = [], threading.Event()

    def listen():
        while not is_over.wait(0.005):
            message = observed_robot.chunk()
            if message is not None:
                heard.append(message)

    thread = threading.Thread(target=listen)
    thread.start()
    yield heard
    is_over.set()
    thread.join()


def test_old_checkpoint_acts_until_the_new_one_does(
    start_policy, chunks, load, other_checkpoint, wait_until
):
    node = start_policy()
    wait_until(lambda: chunks, "a chunk")
    old_id = chunks[0].checkpoint_id
    response = load(other_checkpoint)
    assert response.success, response.message
    assert response.checkpoint_id not in ("", old_id)
    wait_until(lambda: chunks[-1].checkpoint_id == response.checkpoint_id, "the new policy")
    assert {chunk.epoch for chunk in chunks} == {chunks[0].epoch}
    assert all(chunk.horizon for chunk in chunks)
    sequences = [chunk.sequence for chunk in chunks]
    assert sequences == sorted(sequences)
    assert node.parameters.checkpoint == str(other_checkpoint)


def test_checkpoint_that_cannot_be_loaded_leaves_the_old_one(
    start_policy, chunks, load, wait_until
):
    node = start_policy()
    wait_until(lambda: chunks, "a chunk")
    before = node.parameters.checkpoint
    response = load("nowhere")
    assert not response.success
    assert "'nowhere' is neither a directory nor shipped" in response.message
    assert response.checkpoint_id == chunks[0].checkpoint_id
    num_before = len(chunks)
    wait_until(lambda: len(chunks) > num_before, "another chunk")
    assert chunks[-1].checkpoint_id == chunks[0].checkpoint_id
    assert node.parameters.checkpoint == before


def test_checkpoint_of_another_robot_is_refused_saying_what_differs(
    start_policy, load, other_checkpoint
):
    node = start_policy()
    path = other_checkpoint / "processing.json"
    data = json.loads(path.read_text())
    data["contract"]["state"]["joints"].reverse()
    path.write_text(json.dumps(data))
    response = load(other_checkpoint)
    assert not response.success
    assert "state.joints" in response.message
    assert response.checkpoint_id == node.loop.policy.checkpoint_id


@pytest.fixture
def long_load(node, wait_until):
    """Ask for a checkpoint whose loading begins when the returned event is set."""
    from vla_msgs.srv import LoadCheckpoint

    def long_load(policy, checkpoint):
        client = node.create_client(LoadCheckpoint, "policy_node/load_checkpoint")
        wait_until(client.service_is_ready, "the service")
        may_begin = threading.Event()
        policy._loader.submit(may_begin.wait)
        client.call_async(LoadCheckpoint.Request(checkpoint=str(checkpoint)))
        wait_until(lambda: policy._loading is not None, "the request")
        return may_begin

    return long_load


def test_inference_goes_on_during_a_long_load(
    start_policy, chunks, long_load, other_checkpoint, wait_until
):
    policy = start_policy()
    wait_until(lambda: chunks, "a chunk")
    may_begin = long_load(policy, other_checkpoint)
    num_before = len(chunks)
    wait_until(lambda: len(chunks) > num_before + 2, "chunks during the load")
    assert {chunk.checkpoint_id for chunk in chunks} == {chunks[0].checkpoint_id}
    may_begin.set()
    wait_until(lambda: chunks[-1].checkpoint_id != chunks[0].checkpoint_id, "the new policy")


def test_only_one_checkpoint_is_loaded_at_a_time(start_policy, load, long_load, other_checkpoint):
    may_begin = long_load(start_policy(), other_checkpoint)
    assert "another checkpoint is being loaded" in load("groot").message
    may_begin.set()


def test_unconfigured_node_loads_nothing(start_policy, load):
    start_policy(is_active=False, autostart=False)
    response = load("groot")
    assert not response.success
    assert "not configured" in response.message
