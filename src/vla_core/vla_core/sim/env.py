# SPDX-License-Identifier: MIT
"""The tasks of the simulation as one gymnasium environment."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from vla_core.sim.tasks import DEFAULT_TASK, RENDER_SIZE, TIMESTEP_S, get_task

ACTION_PERIOD_S = 0.1
_COMMAND_PERIOD_S = 0.02


class TabletopEnv(gym.Env[dict[str, NDArray[Any]], NDArray[np.float32]]):
    """A task of the simulation, one action at a time.

    Observation: an RGB frame of every camera by its name, uint8 [H, W, 3], and ``state``, the
    measured joint positions in the order of the simulation's joints, rad and m, float32 [J]. The
    instruction is in ``info['instruction']``.

    Action: absolute joint targets in the same order, rad and m, float32 [J], reached linearly
    within ACTION_PERIOD_S.

    Reward is 1 at the step that fulfils the task, else 0. An episode terminates with success or
    when the task can no longer be done, and is truncated after the task's time limit.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (gymnasium declares it so)
        "render_modes": ["rgb_array"],
        "render_fps": round(1 / ACTION_PERIOD_S),
    }

    def __init__(
        self,
        task: str = DEFAULT_TASK,
        render_mode: str | None = None,
        render_size: int = RENDER_SIZE,
    ) -> None:
        """Build the simulation.

        Args:
            task: Name of a task.
            render_mode: None or 'rgb_array' (all cameras side by side).
            render_size: Width and height of the camera images in pixels.

        Raises:
            UnknownNameError: The task does not exist.
        """
        self.render_mode = render_mode
        self.task = get_task(task)
        self.sim = self.task.simulation_class()(render_size)
        image = gym.spaces.Box(0, 255, (render_size, render_size, 3), np.uint8)
        lower, upper = self.sim.lower.astype(np.float32), self.sim.upper.astype(np.float32)
        self.observation_space = gym.spaces.Dict(  # type: ignore[assignment]
            {
                **dict.fromkeys(self.sim.cameras, image),
                # Contacts push joints a little past their stops.
                "state": gym.spaces.Box(lower - 0.1, upper + 0.1, dtype=np.float32),
            }
        )
        self.action_space = gym.spaces.Box(lower, upper, dtype=np.float32)
        self._command = self.sim.home.copy()
        self._elapsed_s = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Decides where the objects are, and the target.
            options: ``{'target': target}`` gives the instruction another target.

        Returns:
            Observation and info.
        """
        super().reset(seed=seed)
        scene_seed = seed if seed is not None else int(self.np_random.integers(2**31))
        self.sim.reset(scene_seed, (options or {}).get("target"))
        self._command = self.sim.home.copy()
        self._elapsed_s = 0.0
        return self._observe(), self._info()

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """Move to an absolute joint target within ACTION_PERIOD_S.

        Args:
            action: Joint targets in the order of the simulation's joints, rad and m, [J].

        Returns:
            Observation, reward, terminated, truncated, info.
        """
        target = np.clip(np.asarray(action, dtype=np.float64), self.sim.lower, self.sim.upper)
        updates = round(ACTION_PERIOD_S / _COMMAND_PERIOD_S)
        for update in range(1, updates + 1):
            command = self._command + (target - self._command) * (update / updates)
            self.sim.step(command, round(_COMMAND_PERIOD_S / TIMESTEP_S))
        self._command = target
        self._elapsed_s += ACTION_PERIOD_S
        info = self._info()
        terminated = info["success"] or info["failed"]
        truncated = not terminated and self._elapsed_s >= self.sim.time_limit_s - 1e-9
        return self._observe(), float(info["success"]), terminated, truncated, info

    @property
    def command(self) -> NDArray[np.float64]:
        """The present joint command, rad and m, [J]."""
        return self._command.copy()

    def start_from(self, positions: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
        """Place the arm at other joint positions [J] than home and return the observation."""
        self.sim.set_joint_positions(positions)
        self._command = np.array(positions, dtype=np.float64)
        return self._observe()

    def render(self) -> NDArray[np.uint8] | None:
        """Return all cameras side by side, uint8 [H, N W, 3], in render mode 'rgb_array'."""
        if self.render_mode != "rgb_array":
            return None
        return np.concatenate([self.sim.render(camera) for camera in self.sim.cameras], axis=1)

    def close(self) -> None:
        """Release the renderer."""
        self.sim.close()

    def _observe(self) -> dict[str, NDArray[Any]]:
        observation: dict[str, NDArray[Any]] = {
            camera: self.sim.render(camera) for camera in self.sim.cameras
        }
        observation["state"] = self.sim.joint_positions().astype(np.float32)
        return observation

    def _info(self) -> dict[str, Any]:
        status = self.sim.task_status()
        return {
            "instruction": self.sim.wordings(status.target)[0],
            "target": status.target,
            "lifted_m": status.lifted_m,
            "success": status.success,
            "failed": status.failed,
            "failure": status.failure,
            "elapsed_s": self._elapsed_s,
        }


gym.register(id="vla_core/Tabletop-v0", entry_point="vla_core.sim.env:TabletopEnv")
