# SPDX-License-Identifier: MIT
"""Parameters of the nodes: one frozen dataclass each, declared with type, meaning and bounds.

The values live in ``config/<node>.param.yaml`` and nowhere else: that file is what a node starts
with, and ``--params-file`` or ``-p name:=value`` override it. A parameter that the file lacks, or
that only the file has, is an error.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    ParameterType,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from vla_core.errors import ConfigError
from vla_core.inference.action_chunks import BLENDINGS
from vla_core.sim.tasks import AUTO_TASK, TASKS
from vla_ros.graph import find_config

ParametersT = TypeVar("ParametersT")

# Of vla_core.dataset, which command_node has no use for.
_CLOCKS = ("received", "stamp")

_TYPES: dict[Any, int] = {
    bool: ParameterType.PARAMETER_BOOL,
    int: ParameterType.PARAMETER_INTEGER,
    float: ParameterType.PARAMETER_DOUBLE,
    str: ParameterType.PARAMETER_STRING,
    tuple[str, ...]: ParameterType.PARAMETER_STRING_ARRAY,
    tuple[float, ...]: ParameterType.PARAMETER_DOUBLE_ARRAY,
    tuple[int, ...]: ParameterType.PARAMETER_INTEGER_ARRAY,
}


def parameter(
    description: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[str] = (),
    read_only: bool = True,
) -> Any:
    """Describe one field of a parameter dataclass.

    Args:
        description: Meaning and unit.
        minimum: Smallest value of a number; give both bounds or none.
        maximum: Largest value of a number.
        choices: Values of a string; empty allows any.
        read_only: Whether the value is fixed when the node starts.
    """
    return dataclasses.field(
        metadata={
            "description": description,
            "minimum": minimum,
            "maximum": maximum,
            "choices": tuple(choices),
            "read_only": read_only,
        }
    )


def load_parameter_file(path: Path) -> dict[str, Any]:
    """Return the parameters of a file that has one section, for any node name.

    Raises:
        ConfigError: The file does not have the form ``/**: ros__parameters: {name: value}``.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    section = content.get("/**") if isinstance(content, dict) else None
    values = section.get("ros__parameters") if isinstance(section, dict) else None
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path} must have the form '/**: {{ros__parameters: {{name: value}}}}'."
        )
    return values


def declare_parameters(node: Node, parameters: type[ParametersT]) -> ParametersT:
    """Declare every field of a dataclass on the node and return the values in force.

    Args:
        node: Node that gets the parameters; its file is that of ``parameters.NODE``.
        parameters: Dataclass whose fields are made by `parameter`, with a class attribute
            ``NODE``, the name of the executable.

    Raises:
        ConfigError: File and dataclass have different names, or a value has the wrong type or is
            out of bounds.
    """
    executable: str = parameters.NODE  # type: ignore[attr-defined]
    path = find_config(f"{executable}.param.yaml")
    defaults = load_parameter_file(path)
    fields = dataclasses.fields(parameters)  # type: ignore[arg-type]
    names = [field.name for field in fields]
    if set(names) != set(defaults):
        missing, unknown = set(names) - set(defaults), set(defaults) - set(names)
        raise ConfigError(
            f"{path} must have exactly the parameters {sorted(names)}; "
            f"it lacks {sorted(missing)} and has unknown {sorted(unknown)}."
        )
    kinds = typing.get_type_hints(parameters)
    values = {
        field.name: _declare(node, field, kinds[field.name], defaults[field.name])
        for field in fields
    }
    return parameters(**values)


def _declare(node: Node, field: dataclasses.Field[Any], kind: Any, default: Any) -> Any:
    metadata = field.metadata
    descriptor = ParameterDescriptor(
        name=field.name,
        type=_TYPES[kind],
        description=metadata["description"],
        read_only=metadata["read_only"],
    )
    low, high = metadata["minimum"], metadata["maximum"]
    if low is not None and kind is float:
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)
        ]
    elif low is not None and kind is int:
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    choices = metadata["choices"]
    if choices:
        descriptor.additional_constraints = f"one of {', '.join(choices)}"
    try:
        value = node.declare_parameter(field.name, default, descriptor).value
    except InvalidParameterTypeException as error:
        raise ConfigError(
            f"parameter {field.name!r} must be {getattr(kind, '__name__', kind)}: {error}. "
            "A decimal number has a point, as in 10.0; a whole number has none."
        ) from error
    except InvalidParameterValueException as error:
        bounds = "" if low is None else f" between {low} and {high}"
        raise ConfigError(f"parameter {field.name!r} must be{bounds}: {error}.") from error
    if choices and value not in choices:
        raise ConfigError(
            f"parameter {field.name!r} is {value!r}; available: {', '.join(choices)}."
        )
    return tuple(value) if isinstance(default, list) else value


def follow_changes(
    node: Node, parameters: ParametersT, apply: Callable[[ParametersT], None]
) -> None:
    """Call back with the new values whenever a parameter is set while the node runs.

    Args:
        node: Node that has declared the parameters.
        parameters: Values in force.
        apply: Takes all values; those that are read-only never change. A ``ConfigError`` refuses
            the change with its text.
    """
    known = {field.name: field for field in dataclasses.fields(parameters)}  # type: ignore[arg-type]
    in_force = [parameters]

    def on_set(changes: list[Parameter]) -> SetParametersResult:
        values = {p.name: p.value for p in changes if p.name in known}
        for name, value in values.items():
            choices = known[name].metadata["choices"]
            if choices and value not in choices:
                return SetParametersResult(
                    successful=False, reason=f"{name} must be one of {', '.join(choices)}."
                )
        new: ParametersT = dataclasses.replace(in_force[0], **values)  # type: ignore[type-var]
        try:
            apply(new)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        in_force[0] = new
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(on_set)


@dataclasses.dataclass(frozen=True)
class SimRobotParameters:
    """Parameters of sim_robot_node."""

    NODE: typing.ClassVar[str] = "sim_robot_node"

    contract: str = parameter(
        "Robot contract, a name of config/robots or a path: topics, joints, cameras, limits."
    )
    task: str = parameter(
        "Task of the simulation, for its scene; auto: the first one of the contract's robot.",
        choices=(AUTO_TASK, *TASKS),
    )
    seed: int = parameter("Seed of the first episode's scene.", minimum=0, maximum=2**32 - 1)
    loop_rate_hz: float = parameter(
        "Rate of the loop that advances physics and takes commands [Hz]. Physics steps at 500 Hz.",
        minimum=50.0,
        maximum=500.0,
    )
    joint_state_rate_hz: float = parameter(
        "Rate of joint_states [Hz], at most loop_rate_hz.", minimum=1.0, maximum=500.0
    )
    camera_rate_hz: float = parameter(
        "Rate of every camera [Hz]; 0 switches rendering off.", minimum=0.0, maximum=60.0
    )
    status_rate_hz: float = parameter("Rate of ~/status [Hz].", minimum=1.0, maximum=100.0)
    controller_distro: str = parameter(
        "ROS distribution whose joint_trajectory_controller defaults apply. Humble accepts a "
        "trajectory that ends with a velocity, the others reject it; lyrical and rolling splice.",
        choices=("humble", "jazzy", "kilted", "lyrical", "rolling"),
    )
    interpolate_from_desired_state: bool = parameter(
        "Whether a new trajectory starts from the desired state instead of the measured one, as "
        "streaming needs (open_loop_control in humble)."
    )
    realtime_priority: int = parameter(
        "Real-time priority of the loop, so that a busy machine does not delay its ticks; 0 for "
        "an ordinary process. Where it is not permitted the node says so and goes on without.",
        minimum=0,
        maximum=98,
    )


@dataclasses.dataclass(frozen=True)
class RecorderParameters:
    """Parameters of recorder_node."""

    NODE: typing.ClassVar[str] = "recorder_node"

    path: str = parameter(
        "Folder of a bag that is recorded from the start; it must not exist yet. Empty: only "
        "episodes are recorded."
    )
    episodes_path: str = parameter(
        "Folder that gets one bag per episode, which ~/start_episode and ~/stop_episode bound."
    )
    min_free_mib: int = parameter(
        "Free space below which the bags are closed and none is opened [MiB].",
        minimum=0,
        maximum=2**31 - 1,
        read_only=False,
    )
    topics: tuple[str, ...] = parameter(
        "Topics to record: 'name' takes the type from the graph as soon as somebody publishes, "
        "'name package/msg/Type' subscribes at once."
    )
    compress: bool = parameter("Whether the bag's chunks are compressed, with zstd.")
    depth: int = parameter(
        "Messages per topic that may wait for the recorder; more are dropped and counted.",
        minimum=1,
        maximum=10000,
    )
    poll_rate_hz: float = parameter(
        "How often the subscriptions are read and written out [Hz].", minimum=1.0, maximum=500.0
    )
    discovery_period_s: float = parameter(
        "How often the graph is searched for publishers, for types and profiles [s].",
        minimum=0.1,
        maximum=60.0,
    )
    flush_period_s: float = parameter(
        "How often a chunk is closed and written to the disk [s]: a killed recorder loses at most "
        "this much.",
        minimum=0.1,
        maximum=60.0,
    )


@dataclasses.dataclass(frozen=True)
class PolicyParameters:
    """Parameters of policy_node."""

    NODE: typing.ClassVar[str] = "policy_node"

    contract: str = parameter(
        "Robot contract, a name of config/robots or a path; the checkpoint must fit it. Fixed "
        "while the node is configured.",
        read_only=False,
    )
    checkpoint: str = parameter(
        "Checkpoint, a shipped name or the path of a folder. Fixed while the node is configured; "
        "~/load_checkpoint changes it without a gap.",
        read_only=False,
    )
    device: str = parameter(
        "Where to infer; auto takes CUDA where there is one. Fixed while the node is configured.",
        choices=("cpu", "cuda", "auto"),
        read_only=False,
    )
    instruction: str = parameter(
        "What the robot is asked to do; empty: idle until another instruction comes.",
        read_only=False,
    )
    autostart: bool = parameter(
        "Whether the node configures and activates itself instead of waiting for a manager."
    )
    max_inference_rate_hz: float = parameter(
        "Highest rate at which inferences start [Hz].",
        minimum=0.1,
        maximum=100.0,
        read_only=False,
    )
    num_threads: int = parameter(
        "Threads of the inference. Fixed while the node is configured.",
        minimum=1,
        maximum=64,
        read_only=False,
    )
    follows_plans: bool = parameter(
        "Whether planner_node makes the plans: the checkpoint is Helix's, and only its policy is "
        "loaded here. Fixed while the node is configured.",
        read_only=False,
    )
    seed: int = parameter(
        "Seed of the sampling; the same seed and observation give the same chunk.",
        minimum=0,
        maximum=2**31 - 1,
        read_only=False,
    )
    chunking: str = parameter(
        "Real-time chunking: freeze begins each chunk with the steps of the one before that will "
        "have been executed, as measured; guided draws the rest to the old chunk, too.",
        choices=("off", "freeze", "guided"),
        read_only=False,
    )
    command_status_topic: str = parameter(
        "Where the command node tells which chunk it executes; real-time chunking measures by it. "
        "Fixed while the node is configured.",
        read_only=False,
    )
    frame_wait_s: float = parameter(
        "How long an inference waits for a new frame of the first camera before it takes one "
        "that is already there [s]; 0 takes what is there.",
        minimum=0.0,
        maximum=1.0,
        read_only=False,
    )
    camera_wait_s: float = parameter(
        "How long an inference then waits for the other cameras to deliver a frame that is not "
        "older [s].",
        minimum=0.0,
        maximum=1.0,
        read_only=False,
    )
    camera_skew_s: float = parameter(
        "Difference of stamps up to which two frames count as equally old [s].",
        minimum=0.0,
        maximum=1.0,
        read_only=False,
    )


@dataclasses.dataclass(frozen=True)
class PlannerParameters:
    """Parameters of planner_node."""

    NODE: typing.ClassVar[str] = "planner_node"

    contract: str = parameter(
        "Robot contract, a name of config/robots or a path; the checkpoint must fit it."
    )
    checkpoint: str = parameter(
        "Helix's checkpoint, a shipped name or the path of a folder; only its planner is loaded."
    )
    autostart: bool = parameter(
        "Whether the node configures and activates itself instead of waiting for a manager."
    )
    rate_hz: float = parameter("Rate at which plans start [Hz].", minimum=0.1, maximum=100.0)
    device: str = parameter(
        "Where the planner runs; auto: CUDA where there is one.", choices=("cpu", "cuda", "auto")
    )
    num_threads: int = parameter("Threads of the planner.", minimum=1, maximum=64)
    camera_wait_s: float = parameter(
        "How long a plan waits for the other cameras to deliver a frame that is not older than "
        "the first one's [s].",
        minimum=0.0,
        maximum=1.0,
    )
    camera_skew_s: float = parameter(
        "Difference of stamps up to which two frames count as equally old [s].",
        minimum=0.0,
        maximum=1.0,
    )


@dataclasses.dataclass(frozen=True)
class CommandParameters:
    """Parameters of command_node."""

    NODE: typing.ClassVar[str] = "command_node"

    contract: str = parameter("Robot contract, a name of config/robots or a path.")
    motor_checkpoint: str = parameter(
        "Helix's checkpoint, whose motor control corrects every command by the newest state; "
        "empty: none."
    )
    autostart: bool = parameter(
        "Whether the node configures and activates itself; false waits for a lifecycle manager."
    )
    dry_run: str = parameter(
        "Whether the node begins with previews only, until ~/arm is called: 'contract' does as "
        "the contract's safety.dry_run says.",
        choices=("contract", "always", "never"),
    )
    blend_s: float = parameter(
        "Duration of the fade from one chunk to the next [s].",
        minimum=0.0,
        maximum=1.0,
        read_only=False,
    )
    blending: str = parameter(
        "How chunks are merged: 'blend' fades to the newest, 'ensemble' averages all that have "
        "not ended.",
        choices=BLENDINGS,
    )
    ensemble_m: float = parameter(
        "Decay of the weights of an ensemble: above 0 older chunks count more, below 0 less.",
        minimum=-10.0,
        maximum=10.0,
    )
    slow_s: float = parameter(
        "Time before the end of a chunk from which on it is followed ever slower, if no other "
        "has come [s].",
        minimum=0.0,
        maximum=1.0,
    )
    start_speed: float = parameter(
        "Share of the velocity limits with which a motion approaches its first target.",
        minimum=0.01,
        maximum=1.0,
    )
    num_lookahead: int = parameter(
        "Ticks that every trajectory plans along the chunk before its stop tail.",
        minimum=3,
        maximum=50,
    )
    max_tracking_error: float = parameter(
        "How far any joint may be from its command before the arm is stopped, until the next "
        "instruction [rad or m].",
        minimum=0.001,
        maximum=10.0,
        read_only=False,
    )
    validity_service: str = parameter(
        "MoveIt's service that judges the way ahead of a chunk, check_state_validity of "
        "move_group; empty: nobody does."
    )
    validity_group: str = parameter("Planning group that it judges; empty: the whole robot.")
    validity_horizon_s: float = parameter(
        "How far ahead it looks: longer than the arm takes to stop [s].",
        minimum=0.1,
        maximum=5.0,
    )
    validity_needed: bool = parameter(
        "Whether the arm holds where the service is missing or late; false only reports it."
    )
    teleop_timeout_s: float = parameter(
        "Silence of teleop_joint_states after which the leader arm has let go [s].",
        minimum=0.02,
        maximum=5.0,
        read_only=False,
    )
    marker_rate_hz: float = parameter(
        "Rate of ~/markers, the predicted path of the tool [Hz]; 0 for none. Needs the "
        "contract's kinematics.",
        minimum=0.0,
        maximum=20.0,
    )
    realtime_priority: int = parameter(
        "Real-time priority of the loop, so that a busy machine does not delay its ticks; 0 for "
        "an ordinary process. Where it is not permitted the node says so and goes on without.",
        minimum=0,
        maximum=98,
    )


@dataclasses.dataclass(frozen=True)
class EpisodeParameters:
    """Parameters of episode_node."""

    NODE: typing.ClassVar[str] = "episode_node"

    episodes: int = parameter("Number of episodes to run.", minimum=1, maximum=100000)
    first_seed: int = parameter(
        "Seed of the first scene; scenes that training may have seen are refused.",
        minimum=0,
        maximum=2**32 - 1,
    )
    swap_instruction: bool = parameter("Whether to name another colour than the scene's own.")
    time_limit_s: float = parameter(
        "Duration after which an episode has failed [s].", minimum=1.0, maximum=600.0
    )
    service_timeout_s: float = parameter(
        "How long a node may take to answer, and the arm to come to rest [s].",
        minimum=0.1,
        maximum=60.0,
    )
    start_timeout_s: float = parameter(
        "How long the other nodes may take to be ready [s].", minimum=1.0, maximum=600.0
    )


@dataclasses.dataclass(frozen=True)
class PlayerParameters:
    """Parameters of player_node."""

    NODE: typing.ClassVar[str] = "player_node"

    bag: str = parameter("Folder of a rosbag2 recording, or one of its storage files.")
    contract: str = parameter(
        "Robot contract, a name of config/robots or a path: its cameras, joint states and inputs "
        "are played, nothing else."
    )
    rate: float = parameter("Speed, 1.0 as recorded.", minimum=0.01, maximum=100.0)
    start_s: float = parameter(
        "How much of the beginning is left out [s].", minimum=0.0, maximum=1e6
    )
    duration_s: float = parameter("How much is played [s]; 0.0 for all.", minimum=0.0, maximum=1e6)
    clock: str = parameter(
        "Whose time /clock is: the recorder's, or that of the messages' stamps.", choices=_CLOCKS
    )
    clock_rate_hz: float = parameter(
        "Steps of /clock in a second of simulated time [Hz].", minimum=10.0, maximum=1000.0
    )
    start_paused: bool = parameter("Whether it waits until ~/pause is called with false.")
    wait_for_subscribers: bool = parameter(
        "Whether it waits until every topic has a subscriber, and all that there are are matched."
    )


@dataclasses.dataclass(frozen=True)
class ReplayParameters:
    """Parameters of replay_node."""

    NODE: typing.ClassVar[str] = "replay_node"

    bag: str = parameter("The recording that is played.")
    output: str = parameter("Folder of the results.")
    contract: str = parameter("Robot contract, a name of config/robots or a path.")
    checkpoint: str = parameter("The policy that runs, a shipped name or the path of a folder.")
    device: str = parameter(
        "Where it is asked again when all is played; auto: CUDA where there is one.",
        choices=("cpu", "cuda", "auto"),
    )
    actions: tuple[str, ...] = parameter(
        "What the demonstrator did: 'command', 'state', or topics, as `vla replay --actions`."
    )
    instruction: str = parameter("What the policy is asked to do; empty: what the bag says.")
    instruction_topic: str = parameter("Topic of the bag with the instruction; empty: none.")
    episode_topic: str = parameter(
        "Topic of the bag that says when an episode runs; empty: that of a policy's status."
    )
    clock: str = parameter(
        "Whose time /clock is: the recorder's, or that of the messages' stamps.", choices=_CLOCKS
    )
    asks_again: bool = parameter(
        "Whether the policy is also asked without ROS, to say how both differ."
    )
    probe_every: int = parameter(
        "Answers between two checks with spoilt inputs, 0 for none.", minimum=0, maximum=1000000
    )
    player: str = parameter(
        "Who plays: player_node, or the player of rosbag2.", choices=("own", "rosbag2")
    )
