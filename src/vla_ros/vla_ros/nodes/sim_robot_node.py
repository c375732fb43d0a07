# SPDX-License-Identifier: MIT
"""Publish the simulated robot of a task: joint states and cameras out, commands in.

Physics follows the wall clock in steps of 2 ms; the stamps are the times of the physics. The
controllers that take the commands refuse what the real ones refuse.
"""

from __future__ import annotations

import sys

from vla_msgs.srv import ResetEpisode

from vla_core.errors import ConfigError
from vla_ros.node_main import run_node
from vla_ros.parameters import SimRobotParameters
from vla_ros.sim_robot import SimRobot
from vla_ros.ticking_node import TickingNode


class SimRobotNode(TickingNode[SimRobotParameters]):
    """The simulated robot, which stands still while the node is not active.

    Publishes ``joint_states``, the contract's cameras with ``camera_info`` beside each, and
    ``~/status``. Subscribes to the contract's command topics. Serves ``~/reset``.

    Raises:
        ConfigError: A parameter is not valid.
    """

    def __init__(self) -> None:
        super().__init__(SimRobotParameters)
        self._robot: SimRobot | None = None
        self.create_service(ResetEpisode, "~/reset", self._on_reset)

    @property
    def tick_rate_hz(self) -> float:
        """Rate of the loop that advances the physics."""
        return self.parameters.loop_rate_hz

    @property
    def main_priority(self) -> int:
        """Real-time priority of the loop; 0 for none."""
        return self.parameters.realtime_priority

    def configure(self) -> None:
        """Build the scene, publish and subscribe.

        Raises:
            ConfigError: The contract does not fit the simulation, or the cameras cannot be
                rendered.
        """
        self._robot = SimRobot(self, self.parameters)

    def activate(self) -> None:
        """Let the physics run."""
        assert self._robot is not None
        self._robot.start()

    def deactivate(self) -> None:
        """Stand still; `tick` is called no more."""

    def release(self) -> None:
        """Give back the topics and the scene."""
        if self._robot is not None:
            self._robot.destroy()
        self._robot = None

    def apply(self, parameters: SimRobotParameters) -> None:
        """Take parameters that were set.

        Raises:
            ConfigError: The cameras cannot be rendered.
        """
        if self._robot is not None:
            self._robot.set_rates(parameters)
        super().apply(parameters)

    def tick(self) -> None:
        """Advance the robot to now."""
        assert self._robot is not None
        self._robot.tick()

    def _on_reset(
        self, request: ResetEpisode.Request, response: ResetEpisode.Response
    ) -> ResetEpisode.Response:
        try:
            if self._robot is None:
                raise ConfigError(f"the node is not configured. {self.failure}".rstrip())
            response.target, response.instruction = self._robot.reset(request.seed, request.target)
        except ConfigError as error:
            response.message = str(error)
            return response
        response.success = True
        self.get_logger().info(
            f"episode {self._robot.episode}: seed {request.seed}, {response.instruction!r}"
        )
        return response


def main(args: list[str] | None = None) -> int:
    """Run sim_robot_node until SIGINT or SIGTERM."""
    return run_node("sim_robot_node", SimRobotNode, args)


if __name__ == "__main__":
    sys.exit(main())
