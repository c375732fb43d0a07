# SPDX-License-Identifier: MIT
"""The tasks of the simulation: what each one simulates, who demonstrates it, on which robot.

A task is a simulation class, which builds the scene, draws its instruction and judges it, and a
demonstrator class, the scripted expert. The environment, the recorder, the rollout and the ROS
node know a task by its name alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import UnknownNameError
from vla_core.processing.contract import load_contract

RENDER_SIZE = 192
TIMESTEP_S = 0.002
DEFAULT_TASK = "pick"
AUTO_TASK = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStatus:
    """How far the episode's task has come.

    Attributes:
        target: What the episode is about, one of the simulation's targets: 'red'.
        lifted_m: Height of each object above its resting place on the table, by name [m].
        success: The task is done.
        failure: Why it can no longer be done, in words: 'lifted the green block'; else empty.
    """

    target: str
    lifted_m: Mapping[str, float]
    success: bool
    failure: str

    @property
    def failed(self) -> bool:
        """The task can no longer be done."""
        return bool(self.failure)


class Simulation(Protocol):
    """The physics, cameras and judge of one task.

    Attributes:
        joints: Joints that are commanded, in the order of every array of joints.
        cameras: Cameras that can be rendered.
        targets: What an episode can be about; the instruction follows from it.
        home: Joint positions at the start of an episode, rad and m, [J].
        lower: Least joint positions, rad and m, [J].
        upper: Greatest joint positions, rad and m, [J].
        time_limit_s: An episode that lasts longer has failed.
    """

    joints: ClassVar[tuple[str, ...]]
    cameras: ClassVar[tuple[str, ...]]
    targets: ClassVar[tuple[str, ...]]
    home: ClassVar[NDArray[np.float64]]
    time_limit_s: ClassVar[float]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]

    def __init__(self, render_size: int = RENDER_SIZE) -> None:
        """Build the scene, whose camera images are render_size px wide and high."""

    @classmethod
    def wordings(cls, target: str) -> tuple[str, ...]:
        """Return every instruction that asks for a target; the first is the plain one."""

    def reset(self, seed: int, target: str | None = None) -> str:
        """Put the arm at home and the objects at random; return the target, drawn or given."""

    def set_joint_positions(self, positions: NDArray[np.float64]) -> None:
        """Place the robot at rest at joint positions [J]."""

    def step(self, command_positions: NDArray[np.float64], n: int = 1) -> None:
        """Advance the physics by n times TIMESTEP_S towards a joint command [J]."""

    def joint_positions(self) -> NDArray[np.float64]:
        """Return the measured joint positions, rad and m, [J]."""

    def joint_velocities(self) -> NDArray[np.float64]:
        """Return the measured joint velocities, rad/s and m/s, [J]."""

    def render(self, camera: str) -> NDArray[np.uint8]:
        """Render a camera: RGB, [render_size, render_size, 3]."""

    def vertical_fov_rad(self, camera: str) -> float:
        """Return the full vertical field of view of a camera."""

    def task_status(self) -> TaskStatus:
        """Return the progress of the task, as judged at every physics step."""

    def close(self) -> None:
        """Release the renderer."""


class Demonstrator(Protocol):
    """The scripted expert of one task.

    Attributes:
        time_limit_s: A demonstration that lasts longer is given up.
        hold_steps: Actions that are still recorded from the one that fulfils the task.
    """

    time_limit_s: ClassVar[float]
    hold_steps: ClassVar[int]

    def __init__(self, sim: Any) -> None:
        """Watch a simulation of the task."""

    def choose_start(self, rng: np.random.Generator) -> tuple[str, NDArray[np.float64] | None]:
        """Choose where a demonstration starts; objects may be moved for it.

        Returns:
            The kind of start, and joint positions [J]; None leaves the scene as it was reset.
        """

    def act(self, command: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the joint target [J] of the next action, given the present command [J]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimTask:
    """One task.

    Attributes:
        name: Its name on the command line.
        description: What is to be done, for `--help`.
        example: An instruction of it, to try.
        contract: Name of the robot contract in config/robots.
        simulation: 'module:class' of a Simulation.
        demonstrator: 'module:class' of a Demonstrator.
    """

    name: str
    description: str
    example: str
    contract: str
    simulation: str
    demonstrator: str

    @property
    def dataset(self) -> Path:
        """Where its demonstrations are recorded to by default."""
        return Path("out/data") / self.name

    def simulation_class(self) -> type[Simulation]:
        """Import what simulates it, and with that MuJoCo.

        Raises:
            ConfigError: OpenGL is missing.
        """
        simulation: type[Simulation] = _load(self.simulation)
        return simulation

    def demonstrator_class(self) -> type[Demonstrator]:
        """Import the expert that acts in its simulation."""
        demonstrator: type[Demonstrator] = _load(self.demonstrator)
        return demonstrator


TASKS = {
    task.name: task
    for task in (
        SimTask(
            name="pick",
            description="lift the named one of three blocks",
            example="pick up the blue block",
            contract="sim",
            simulation="vla_core.sim.scene:TabletopSim",
            demonstrator="vla_core.sim.expert:ScriptedExpert",
        ),
        SimTask(
            name="put_in_box",
            description="put two named blocks in the box, in the order of their naming",
            example="put the blue block in the box, then the red one",
            contract="sim",
            simulation="vla_core.sim.box_scene:BoxSim",
            demonstrator="vla_core.sim.box_expert:BoxExpert",
        ),
        SimTask(
            name="hand_over",
            description="the left arm picks up a bar and hands it to the right arm",
            example="hand the bar over",
            contract="sim_bimanual",
            simulation="vla_core.sim.hand_over:HandOverSim",
            demonstrator="vla_core.sim.hand_over_expert:HandOverExpert",
        ),
    )
}


def get_task(name: str) -> SimTask:
    """Return a task by its name.

    Raises:
        UnknownNameError: There is none.
    """
    if name not in TASKS:
        raise UnknownNameError(f"task {name!r} is unknown; available: {', '.join(TASKS)}.")
    return TASKS[name]


def find_tasks(joints: Collection[str]) -> list[SimTask]:
    """Return the tasks of the robot that has these joints, in any order; none if none has."""
    return [
        task
        for task in TASKS.values()
        if set(load_contract(task.contract).state.joints) == set(joints)
    ]


def choose_task(name: str, joints: Collection[str]) -> SimTask:
    """Return a task by its name or, for AUTO_TASK, the first one of a robot.

    Args:
        name: Name of a task, or AUTO_TASK.
        joints: Joints of the robot, in any order.

    Raises:
        UnknownNameError: There is no task of that name.
    """
    if name != AUTO_TASK:
        return get_task(name)
    return next(iter(find_tasks(joints)), TASKS[DEFAULT_TASK])


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
