# SPDX-License-Identifier: MIT
"""Which topics of a recording feed the observations and actions of a robot contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from vla_core.dataset.bag_actions import TARGET_TYPES, DemonstratedActions, TargetTopic
from vla_core.dataset.recording import Recording
from vla_core.errors import DatasetError
from vla_core.processing.contract import RobotContract
from vla_core.processing.messages import prefix_joints
from vla_core.processing.observation_buffer import ObservationBuffer
from vla_core.processing.value_checks import quoted

COMMAND_ACTIONS = ("command",)
STATE_ACTIONS = ("state",)

_INPUT_TYPES = {
    "wrench": "geometry_msgs/msg/WrenchStamped",
    "pose": "geometry_msgs/msg/PoseStamped",
    "float64": "std_msgs/msg/Float64",
}
_CAMERA_TYPES = {
    "raw": "sensor_msgs/msg/Image",
    "compressed": "sensor_msgs/msg/CompressedImage",
}
_JOINT_STATE = "sensor_msgs/msg/JointState"
_COMMAND_TYPES = {
    "joint_trajectory": "trajectory_msgs/msg/JointTrajectory",
    "forward_position": "std_msgs/msg/Float64MultiArray",
}

Handler = Callable[[Any, int], None]
"""Takes a message and the time of its arrival in ns."""


@dataclass(frozen=True, kw_only=True)
class BagSources:
    """Where the messages of a recording go.

    Attributes:
        buffer: Makes observations, as in the policy node.
        actions: Reads the demonstrator's commands.
        handlers: What takes the messages of an absolute topic.
        reference_topic: Absolute topic of the reference camera.
    """

    buffer: ObservationBuffer
    actions: DemonstratedActions
    handlers: dict[str, list[Handler]]
    reference_topic: str


def find_sources(
    bag: Recording, contract: RobotContract, actions: Sequence[str], history_length: int
) -> BagSources:
    """Find the topics of a contract in a recording.

    Args:
        bag: An open recording.
        contract: The robot.
        actions: ``('command',)``: the contract's command topics. ``('state',)``: where the joints
            are measured to be one step later. Otherwise topics of ``TARGET_TYPES``, such as the
            leader arm's joint states, each with ``=prefix`` if its joints lack what the
            contract's names begin with.
        history_length: Earlier steps that an observation shall have.

    Raises:
        DatasetError: A topic is missing or carries another type.
        ConfigError: The contract needs kinematics that cannot be read.
    """
    finder = _Finder(bag)
    handlers: dict[str, list[Handler]] = {}
    buffer = ObservationBuffer(contract, finder.count_senders, history_length=history_length)

    def handle(topic: str, handler: Handler) -> None:
        handlers.setdefault(topic, []).append(handler)

    for name, camera in contract.cameras.items():
        kind = _CAMERA_TYPES[camera.transport]
        topic = finder.find(camera.topic, (kind,), f"cameras.{name}.topic and transport")
        handle(topic, partial(buffer.put_image, name))
    state_topics = []
    for relative in contract.state.topics:
        topic = finder.find(relative, (_JOINT_STATE,), "state.topic and extra_topics")
        prefix = contract.state.prefixes.get(relative, "")
        state_topics.append(topic)
        handle(topic, partial(_put_joint_state, buffer, prefix))
    for name, part in contract.inputs.items():
        topic = finder.find(part.topic, (_INPUT_TYPES[part.type],), f"inputs.{name}.topic")
        handle(topic, partial(buffer.put_input, name))
    if tuple(actions) == STATE_ACTIONS:
        # The messages have the contract's names already: the buffer comes first.
        targets = {topic: TargetTopic(_JOINT_STATE) for topic in state_topics}
    elif tuple(actions) == COMMAND_ACTIONS:
        targets = _command_topics(finder, contract)
    else:
        targets = _named_topics(finder, actions, contract)
    for topic, target in targets.items():
        handle(topic, target.put)
    return BagSources(
        buffer=buffer,
        actions=DemonstratedActions(contract, targets),
        handlers=handlers,
        reference_topic=finder.find(contract.cameras[contract.reference_camera].topic),
    )


def _put_joint_state(buffer: ObservationBuffer, prefix: str, message: Any, now_ns: int) -> None:
    buffer.put_joint_state(prefix_joints(message, prefix), now_ns)


class _Finder:
    """Finds topics by relative name and checks their types."""

    def __init__(self, bag: Recording) -> None:
        self._bag = bag
        self._counts = bag.message_counts

    def count_senders(self, relative: str) -> int:
        """Return 1 for a topic with messages: a recording does not say who published it."""
        return int(any(self._counts[topic] for topic in self._bag.find_topics(relative)))

    def find(self, name: str, kinds: Sequence[str] = (), key: str = "") -> str:
        """Return the absolute topic.

        Raises:
            DatasetError: It is missing, ambiguous, or carries none of the types.
        """
        try:
            topic = self._bag.topic(name)
        except DatasetError as error:
            remedy = f"Record it, or mend {key} in the contract."
            if self._bag.find_topics(name):
                remedy = f"Give the whole name of the robot's own in the contract, at {key}."
            advice = f" {remedy}" if key else ""
            raise DatasetError(f"{error}{advice}") from None
        kind = self._bag.message_types[topic]
        if kinds and kind not in kinds:
            advice = f"; mend {key} in the contract" if key else ""
            raise DatasetError(
                f"bag '{self._bag.path}': {topic} carries {kind or 'several types'}, expected "
                f"{quoted(kinds)}{advice}."
            )
        return topic

    def type_of(self, topic: str) -> str:
        return self._bag.message_types[topic]


def _command_topics(finder: _Finder, contract: RobotContract) -> dict[str, TargetTopic]:
    command = contract.command
    kind = _COMMAND_TYPES.get(command.output)
    other = "choose another source with --actions: 'state', or topics such as a leader arm's"
    if kind is None:
        raise DatasetError(
            f"command.output '{command.output}' puts no joint targets on a topic that a bag could "
            f"hold; {other}."
        )
    unrecorded = [
        joint
        for joint in contract.action.joints
        if joint in contract.grippers
        and contract.grippers[joint].output not in ("joint", "float64")
    ]
    if unrecorded:
        raise DatasetError(
            f"{quoted(unrecorded)} is commanded by an action, which a bag does not hold; {other}."
        )
    found = {}
    try:
        for topic, joints in (command.topics or {command.topic: contract.arm_joints}).items():
            prefix = command.prefixes.get(topic, "")
            names = tuple(joint.removeprefix(prefix) for joint in joints)
            found[finder.find(topic, (kind,))] = TargetTopic(kind, names, prefix)
        for joint, gripper in contract.grippers.items():
            if gripper.output == "float64":
                topic = finder.find(gripper.topic, (_INPUT_TYPES["float64"],))
                found[topic] = TargetTopic(_INPUT_TYPES["float64"], (joint,))
    except DatasetError as error:
        raise DatasetError(f"{error} The contract commands the robot there; {other}.") from None
    return found


def _named_topics(
    finder: _Finder, actions: Sequence[str], contract: RobotContract
) -> dict[str, TargetTopic]:
    found = {}
    for entry in actions:
        name, _, prefix = entry.partition("=")
        topic = finder.find(name, TARGET_TYPES)
        joints = tuple(
            joint.removeprefix(prefix)
            for joint in contract.action.joints
            if joint.startswith(prefix)
        )
        found[topic] = TargetTopic(finder.type_of(topic), joints, prefix)
    return found
