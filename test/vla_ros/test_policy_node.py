# SPDX-License-Identifier: MIT
"""policy_node: chunks from live topics, named reasons for silence, a loud lifecycle."""

import signal
import time

import numpy as np
import pytest
import yaml

from vla_core.inference.policy import Policy
from vla_core.processing.chunk_messages import action_chunk_from_message
from vla_core.processing.contract import load_contract
from vla_core.processing.messages import time_ns
from vla_core.sim.arm_model import HOME
from vla_core.types import Observation
from vla_ros.graph import EXIT_CONFIGURATION

pytestmark = pytest.mark.ros

CONTRACT = load_contract("sim")
TASK = "pick up the red block"


def set_instruction(call_service, text):
    from vla_msgs.srv import SetInstruction

    request = SetInstruction.Request(instruction=text)
    return call_service(SetInstruction, "policy_node/set_instruction", request)


def test_live_topics_give_the_chunk_that_the_policy_gives_for_the_same_observation(
    observed_robot, start_policy, wait_until, untrained_checkpoint
):
    start_policy(seed=5)
    message = wait_until(observed_robot.chunk, "a chunk")
    stamps = [time_ns(stamp) for stamp in message.camera_stamps]
    observation = Observation(
        images=observed_robot.frames,
        state=np.asarray(HOME, dtype=np.float64),
        instruction=TASK,
        stamp_ns=stamps[0],
        image_stamps_ns=dict(zip(message.camera_names, stamps, strict=True)),
        state_stamp_ns=time_ns(message.joint_state_stamp),
    )
    policy = Policy.from_checkpoint(untrained_checkpoint)
    expected = policy.predict_chunk(observation, seed=5)
    chunk = action_chunk_from_message(message)
    np.testing.assert_array_equal(chunk.actions, expected.actions)
    np.testing.assert_array_equal(chunk.policy_actions, expected.policy_actions)
    assert chunk.stamp_ns == stamps[0]


def test_chunk_tells_its_origin_and_ages(observed_robot, start_policy, wait_until):
    node = start_policy()
    message = wait_until(observed_robot.chunk, "a chunk")
    assert message.camera_names == list(CONTRACT.cameras)
    assert (message.sequence, message.instruction, message.horizon) == (1, TASK, 16)
    assert message.checkpoint_id == node.loop.policy.checkpoint_id
    observed = time_ns(message.header.stamp)
    assert observed <= time_ns(message.inference_start_stamp) < time_ns(message.generation_stamp)


def test_status_while_running_has_latency_and_ages(observed_robot, start_policy, wait_until):
    from vla_msgs.msg import PolicyStatus

    start_policy()
    status = wait_until(lambda: observed_robot.status_in(PolicyStatus.RUNNING), "a running policy")
    assert status.inference_latency > 0.0
    assert status.camera_names == list(CONTRACT.cameras)
    assert all(0.0 <= age < 0.25 for age in status.camera_ages)
    assert 0.0 <= status.joint_state_age < 0.15


@pytest.mark.parametrize(
    ("cameras", "reason"),
    [
        (("front",), "camera 'wrist' on wrist_camera/image_raw: nothing was received yet"),
        ((), "camera 'front' on front_camera/image_raw: nothing was received yet"),
    ],
)
def test_camera_that_is_silent_is_named_and_nothing_is_sent(
    observed_robot, start_policy, wait_until, cameras, reason
):
    from vla_msgs.msg import PolicyStatus

    start_policy()
    wait_until(
        lambda: observed_robot.status_in(PolicyStatus.WAITING, reason, cameras=cameras),
        "the reason",
    )
    assert observed_robot.chunk(cameras=cameras) is None


def test_topic_without_publisher_is_told_from_a_silent_one(node, start_policy, wait_until):
    from vla_msgs.msg import PolicyStatus

    from vla_ros.conversions import status_qos
    from vla_ros.polled_subscription import PolledSubscription

    status = PolledSubscription(node, PolicyStatus, "policy_node/status", status_qos())
    start_policy()

    def reason():
        message = status.take()
        return message is not None and message.state == PolicyStatus.WAITING and message.reason

    assert wait_until(reason, "a reason").endswith("image_raw: the topic has no publisher.")


def test_camera_that_freezes_ends_the_chunks_with_a_reason(
    observed_robot, start_policy, wait_until
):
    from vla_msgs.msg import PolicyStatus

    start_policy()
    wait_until(observed_robot.chunk, "a chunk")
    wait_until(
        lambda: observed_robot.status_in(
            PolicyStatus.WAITING, "camera 'wrist'", cameras=("front",)
        ),
        "the frozen camera's name",
    )
    assert "old, at most 0.25 s is allowed" in observed_robot.last_status.reason


def test_unknown_encoding_is_named(observed_robot, start_policy, wait_until):
    from vla_msgs.msg import PolicyStatus

    observed_robot.encoding = "yuv420"
    start_policy()
    wait_until(lambda: observed_robot.status_in(PolicyStatus.WAITING, "'yuv420'"), "the encoding")


def test_no_instruction_means_no_chunks(observed_robot, start_policy, wait_until):
    from vla_msgs.msg import PolicyStatus

    start_policy(instruction="")
    wait_until(
        lambda: observed_robot.status_in(PolicyStatus.IDLE, "no instruction"), "an idle policy"
    )
    assert observed_robot.chunk() is None


def test_new_instruction_begins_a_new_epoch(
    observed_robot, start_policy, wait_until, call_service
):
    start_policy()
    before = wait_until(observed_robot.chunk, "a chunk")
    response = set_instruction(call_service, "pick up the blue block")
    assert response.success
    assert response.epoch == before.epoch + 1

    def new_chunk():
        message = observed_robot.chunk()
        return message if message and message.epoch == response.epoch else None

    assert wait_until(new_chunk, "a chunk").instruction == "pick up the blue block"


def test_empty_instruction_revokes_the_chunks(
    observed_robot, start_policy, wait_until, call_service
):
    start_policy()
    wait_until(observed_robot.chunk, "a chunk")
    response = set_instruction(call_service, "")

    def revocation():
        message = observed_robot.chunk()
        return message if message and message.horizon == 0 else None

    assert wait_until(revocation, "the revocation").epoch == response.epoch


def test_later_process_has_a_later_epoch(start_policy):
    assert start_policy().loop.task()[1] > time.time() - 600.0


def test_deactivated_node_revokes_and_is_silent_until_activated_again(
    observed_robot, start_policy, wait_until
):
    node = start_policy()
    before = wait_until(observed_robot.chunk, "a chunk")
    node.trigger_deactivate()
    revocation = wait_until(
        lambda: (m := observed_robot.chunk()) and m.horizon == 0 and m, "the revocation"
    )
    assert revocation.epoch > before.epoch
    node.trigger_activate()
    after = wait_until(lambda: (m := observed_robot.chunk()) and m.horizon and m, "a chunk")
    assert after.epoch > revocation.epoch


def test_simulated_time_that_nobody_publishes_is_named(observed_robot, start_policy, wait_until):
    from vla_msgs.msg import PolicyStatus

    start_policy(use_sim_time=True)
    wait_until(
        lambda: observed_robot.status_in(PolicyStatus.WAITING, "use_sim_time is true"),
        "the reason",
    )
    assert observed_robot.chunk() is None


def test_node_waits_for_a_manager_without_autostart(start_policy, call_service):
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState, GetState

    start_policy(is_active=False, autostart=False)

    def state():
        return call_service(
            GetState, "policy_node/get_state", GetState.Request()
        ).current_state.label

    assert state() == "unconfigured"
    request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
    assert call_service(ChangeState, "policy_node/change_state", request).success
    assert state() == "inactive"


def test_failed_configure_leaves_the_node_unconfigured_with_the_reason(start_policy, capfd):
    node = start_policy(is_active=False, checkpoint="nowhere")
    node.trigger_configure()
    assert "checkpoint 'nowhere' is neither a directory nor shipped" in node.failure
    assert "cannot configure: checkpoint 'nowhere'" in capfd.readouterr().err


def test_checkpoint_of_another_robot_ends_the_process_saying_what_differs(
    ros_domain, untrained_checkpoint, tmp_path, capfd
):
    from vla_ros.nodes.policy_node import main

    values = CONTRACT.to_dict()
    values["cameras"]["front"]["width"] = 640
    values["state"]["joints"].reverse()
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    parameters = ("-p", f"checkpoint:={untrained_checkpoint}", "-p", f"contract:={path}")
    assert main(["--ros-args", *parameters]) == EXIT_CONFIGURATION
    output = capfd.readouterr().err
    assert "cameras.front size: 192x192 != 640x192" in output
    assert "state.joints: ['joint_1'" in output


def test_signal_ends_the_process_well(start_node, untrained_checkpoint, wait_until):
    process = start_node(
        "policy_node", "-p", f"checkpoint:={untrained_checkpoint}", "-p", "instruction:=move"
    )
    wait_until(lambda: "waiting: camera 'front'" in process.output(), "the first status")
    process.send(signal.SIGTERM)
    assert process.wait() == 0
