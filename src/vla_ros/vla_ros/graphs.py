# SPDX-License-Identifier: MIT
"""The graphs: one per framework, with the simulated robot and no arguments needed, and `replay`.

The launch files (``vla_ros.launching``) and the supervisor (``vla_ros.supervisor``) both read
them, so that ``ros2 launch vla_ros groot.launch.py`` and ``vla up groot`` cannot drift apart.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial

from vla_core.errors import UnknownNameError
from vla_core.processing.contract import available_contracts, load_contract
from vla_core.processing.value_checks import available
from vla_core.sim.tasks import AUTO_TASK, TASKS, find_tasks
from vla_ros.graph import (
    DEVICE,
    LOG_LEVEL,
    ONE_THREAD,
    GraphArgument,
    GraphSpec,
    NodeSpec,
    OnExit,
    ParameterValue,
    graph_node,
)
from vla_ros.replay_graph import replay_graph


def available_graphs() -> tuple[str, ...]:
    """Return the names of all graphs."""
    return tuple(_GRAPHS)


def get_graph(name: str) -> GraphSpec:
    """Return the graph of this name.

    Raises:
        UnknownNameError: There is none.
    """
    if name not in _GRAPHS:
        raise UnknownNameError(f"graph {name!r} is unknown; {available(name, _GRAPHS)}.")
    return _GRAPHS[name]


def _build(has_tiers: bool, values: Mapping[str, str]) -> tuple[NodeSpec, ...]:
    """Return the nodes of a graph.

    Args:
        has_tiers: Whether the policy is Helix in three processes.
        values: The value of every argument.
    """
    robot: dict[str, ParameterValue] = {"contract": values["robot"]}
    model = {**robot, "checkpoint": values["checkpoint"], "device": values["device"]}
    policy = {**model, "instruction": values["instruction"]}
    command = {**robot, "dry_run": _DRY_RUN[values["dry_run"]]}
    sim = {**robot, "task": values["task"]}
    node = partial(graph_node, values=values)
    inference = partial(node, environment=ONE_THREAD, on_exit="respawn")
    nodes = []
    if has_tiers:
        policy.update(_HELIX_POLICY)
        command.update(_HELIX_COMMAND)
        command.update(motor_checkpoint=values["checkpoint"])
        sim.update(_HELIX_SIM)
        nodes.append(inference("planner_node", parameters=model))
    nodes.append(inference("policy_node", parameters=policy))
    on_exit: OnExit = "respawn" if has_tiers else "stop"  # each tier may fail and return alone
    nodes.append(node("command_node", parameters=command, environment=ONE_THREAD, on_exit=on_exit))
    if _is_simulated(values):
        gl = {"MUJOCO_GL": os.environ.get("MUJOCO_GL", "egl")}
        nodes.insert(0, node("sim_robot_node", parameters=sim, environment=gl))
    if values["record"]:
        nodes.append(node("recorder_node", parameters={"path": values["record"]}))
    return tuple(nodes)


def _is_simulated(values: Mapping[str, str]) -> bool:
    if values["robot_sim"] != "auto":
        return values["robot_sim"] == "true"
    return bool(find_tasks(load_contract(values["robot"]).state.joints))


# A parameter of true or false could not leave it to the contract.
_DRY_RUN = {"contract": "contract", "true": "always", "false": "never"}
# At most 50 Hz; each inference needs a new frame, as motor control needs a new state for each
# command. At such rates the newest chunk alone would never come to its second step, and a policy
# whose first step repeats the state would stand still: all chunks count that say something about
# now, and none is bound to those before it.
_HELIX_POLICY: Mapping[str, ParameterValue] = {
    "follows_plans": True,
    "max_inference_rate_hz": 50.0,
    "chunking": "off",
}
_HELIX_COMMAND: Mapping[str, ParameterValue] = {"blending": "ensemble"}
_HELIX_SIM = {"camera_rate_hz": 30.0, "loop_rate_hz": 200.0, "joint_state_rate_hz": 200.0}


def _arguments(framework: str, checkpoint: str, robot: str) -> tuple[GraphArgument, ...]:
    return (
        GraphArgument(
            name="checkpoint",
            description="Checkpoint: a shipped name, the path of a folder, hf:<owner>/<name>, or "
            f"untrained:{framework}, which moves aimlessly within the limits.",
            default=checkpoint,
        ),
        GraphArgument(
            name="robot",
            description=f"Robot contract: {', '.join(available_contracts())}, or the path of a "
            "YAML file.",
            default=robot,
        ),
        GraphArgument(
            name="robot_sim",
            description="Start the simulated robot; auto: if the contract is of a robot that the "
            "simulation has. Other robots provide their topics themselves.",
            default="auto",
            choices=("auto", "true", "false"),
        ),
        GraphArgument(
            name="task",
            description="What the simulated robot's scene is for; "
            + "; ".join(f"{task.name}: {task.description}" for task in TASKS.values())
            + "; auto: the robot's first.",
            default=AUTO_TASK,
            choices=(AUTO_TASK, *TASKS),
        ),
        GraphArgument(
            name="dry_run",
            description="Preview the commands until command_node/arm is called; contract: if its "
            "safety.dry_run says so.",
            default="contract",
            choices=tuple(_DRY_RUN),
        ),
        GraphArgument(
            name="instruction",
            description="What the robot is asked to do from the start; empty: idle until "
            "policy_node/set_instruction is called.",
            default="pick up the red block",
        ),
        DEVICE,
        GraphArgument(
            name="namespace",
            description="Namespace of all nodes and topics, for more than one robot.",
            default="",
        ),
        LOG_LEVEL,
        GraphArgument(
            name="parameters",
            description="YAML file with more parameters of any of the nodes, such as those that "
            "'ros2 param dump' writes; arguments of the launch win. Empty: none.",
            default="",
        ),
        GraphArgument(
            name="record",
            description="Folder for an MCAP bag of the run; empty: nothing is recorded.",
            default="",
        ),
    )


def _graph(
    name: str,
    title: str,
    checkpoint: str,
    *,
    framework: str = "",
    robot: str = "sim",
    has_tiers: bool = False,
) -> GraphSpec:
    loop = "its planner, its policy and" if has_tiers else "the policy and"
    return GraphSpec(
        name=name,
        description=f"{title}: {loop} the command loop, with the simulated robot by default.",
        arguments=_arguments(framework or name, checkpoint, robot),
        build=partial(_build, has_tiers),
    )


_GRAPHS = {
    graph.name: graph
    for graph in (
        _graph("groot", "GR00T", "groot", framework="gr00t"),
        _graph("pi0", "Pi0", "pi0"),
        _graph("octo", "Octo", "octo"),
        _graph("openvla", "OpenVLA", "openvla"),
        _graph("rt2", "RT-2", "rt2"),
        _graph("act", "ACT", "act"),
        _graph("helix", "Helix", "helix", robot="sim_200hz", has_tiers=True),
        _graph("custom", "Custom", "custom"),
        replay_graph(),
    )
}
