# SPDX-License-Identifier: MIT
"""policy_node: parameters at run time, instructions from everywhere, reset, diagnostics."""

import json
import shutil

import pytest

from vla_ros.polled_subscription import PolledSubscription

pytestmark = pytest.mark.ros


@pytest.fixture
def set_parameter(call_service):
    """Set one parameter of the policy node and return what it says."""
    from rcl_interfaces.srv import SetParameters
    from rclpy.parameter import Parameter

    def set_parameter(name, value):
        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()]
        )
        return call_service(SetParameters, "policy_node/set_parameters", request).results[0]

    return set_parameter


def chunk_of_epoch(observed_robot, epoch):
    message = observed_robot.chunk()
    return message if message and message.epoch == epoch and message.horizon else None


def test_safe_parameters_are_changed_while_it_runs(start_policy, set_parameter):
    node = start_policy()
    for name, value in (("max_inference_rate_hz", 3.0), ("seed", 9), ("chunking", "guided")):
        assert set_parameter(name, value).successful
        assert getattr(node.parameters, name) == value


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("max_inference_rate_hz", 1e6, "max_inference_rate_hz"),
        ("chunking", "on", "must be one of off, freeze, guided"),
        ("checkpoint", "groot", "call ~/load_checkpoint"),
        ("contract", "other", "clean it up first"),
    ],
)
def test_parameter_that_cannot_be_set_says_why(start_policy, set_parameter, name, value, reason):
    node = start_policy()
    before = getattr(node.parameters, name)
    result = set_parameter(name, value)
    assert not result.successful
    assert reason in result.reason
    assert getattr(node.parameters, name) == before


def test_failed_configure_can_be_mended_and_tried_again(
    start_policy, set_parameter, call_service, untrained_checkpoint
):
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState, GetState

    node = start_policy(is_active=False, autostart=False, checkpoint="nowhere")

    def configure():
        request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
        return call_service(ChangeState, "policy_node/change_state", request).success

    def state():
        return call_service(GetState, "policy_node/get_state", GetState.Request()).current_state

    assert not configure()
    assert state().label == "unconfigured"
    assert "'nowhere' is neither a directory nor shipped" in node.failure
    assert set_parameter("checkpoint", str(untrained_checkpoint)).successful
    assert configure()
    assert state().label == "inactive"


def test_device_that_is_not_there_fails_configure_saying_so(start_policy):
    import torch

    node = start_policy(is_active=False, device="cuda")
    node.trigger_configure()
    if torch.cuda.is_available():
        assert node.loop.policy.device.type == "cuda"
    else:
        assert "device 'cuda' is not there" in node.failure


def test_instruction_comes_by_parameter(observed_robot, start_policy, wait_until, set_parameter):
    start_policy()
    before = wait_until(observed_robot.chunk, "a chunk")
    assert set_parameter("instruction", "pick up the green block").successful
    after = wait_until(lambda: chunk_of_epoch(observed_robot, before.epoch + 1), "the next epoch")
    assert after.instruction == "pick up the green block"


def test_parameter_tells_the_instruction_wherever_it_came_from(
    start_policy, set_parameter, call_service
):
    from vla_msgs.srv import SetInstruction

    node = start_policy()
    request = SetInstruction.Request(instruction="pick up the green block")
    call_service(SetInstruction, "policy_node/set_instruction", request)
    assert node.parameters.instruction == "pick up the green block"
    _, epoch = node.loop.task()
    assert set_parameter("instruction", "pick up the red block").successful
    assert node.loop.task() == ("pick up the red block", epoch + 1)


def test_instruction_comes_by_topic_and_its_repetition_changes_nothing(
    observed_robot, node, start_policy, wait_until
):
    from std_msgs.msg import String

    start_policy()
    instructions = node.create_publisher(String, "instruction", 1)
    before = wait_until(observed_robot.chunk, "a chunk")
    wait_until(instructions.get_subscription_count, "the policy")

    def newer_chunk():
        instructions.publish(String(data="pick up the green block"))
        return chunk_of_epoch(observed_robot, before.epoch + 1)

    after = wait_until(newer_chunk, "the next epoch")
    assert after.instruction == "pick up the green block"
    later = wait_until(newer_chunk, "another chunk")
    assert later.sequence > after.sequence


def test_words_that_no_demonstration_said_are_followed_with_one_warning(
    start_policy, untrained_checkpoint, call_service, set_parameter, tmp_path, capfd
):
    from vla_msgs.srv import SetInstruction

    trained = tmp_path / "trained"
    shutil.copytree(untrained_checkpoint, trained)
    dataset = {"instruction_texts": ["pick up the red block", "pick up the blue block"]}
    (trained / "training.json").write_text(json.dumps({"dataset": dataset}))
    node = start_policy(checkpoint=str(trained), instruction="Pick up the red block.")

    def instruct(text):
        request = SetInstruction.Request(instruction=text)
        return call_service(SetInstruction, "policy_node/set_instruction", request)

    for _ in range(2):
        response = instruct("grab the red block")
        assert response.success
        assert response.message == (
            "taken; no demonstration that the policy was trained on says 'grab the red block', so "
            "it may do something else; the nearest of them say: 'pick up the red block', 'pick up "
            "the blue block'"
        )
        assert node.loop.task()[0] == "grab the red block"
    assert instruct("pick up the blue block").message == "taken"
    assert set_parameter("instruction", "wipe the table").successful
    warnings = [line for line in capfd.readouterr().err.splitlines() if "no demonstration" in line]
    assert ["grab" in line for line in warnings] == [True, False]
    assert "'wipe the table'" in warnings[1]


def test_reset_begins_a_new_epoch_and_revokes_the_old_one(
    observed_robot, start_policy, wait_until, call_service
):
    from std_srvs.srv import Trigger

    start_policy()
    before = wait_until(observed_robot.chunk, "a chunk")
    response = call_service(Trigger, "policy_node/reset", Trigger.Request())
    assert response.success
    assert response.message == f"epoch {before.epoch + 1}"
    after = wait_until(lambda: chunk_of_epoch(observed_robot, before.epoch + 1), "the next epoch")
    assert after.instruction == before.instruction
    assert after.committed_steps == 0


def test_diagnostics_tell_rate_latency_and_the_source_of_a_gap(
    observed_robot, node, start_policy, wait_until
):
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

    start_policy()
    diagnostics = PolledSubscription(node, DiagnosticArray, "/diagnostics", 10)

    def report(name, level, cameras):
        observed_robot.publish(cameras=cameras)
        message = diagnostics.take()
        for status in message.status if message is not None else ():
            values = {pair.key: pair.value for pair in status.values}
            if status.name == f"policy_node: {name}" and status.level == level:
                return status.message, values
        return None

    def running():
        found = report("inference", DiagnosticStatus.OK, ("front", "wrist"))
        return found if found and found[0] == "running" else None

    _, values = wait_until(running, "a report")
    assert float(values["rate [Hz]"]) > 0.0
    assert float(values["latency, 99 % [s]"]) > 0.0
    message, values = wait_until(
        lambda: report("observations", DiagnosticStatus.WARN, ("front",)), "the gap"
    )
    assert "camera 'wrist'" in message
    assert float(values["age of wrist [s]"]) > float(values["age of front [s]"])
