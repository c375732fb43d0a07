# SPDX-License-Identifier: MIT
"""Drive episodes of the simulated robot over its public interface: reset, instruct, judge.

An episode is: no instruction, so that the arm comes to rest; a new scene; the instruction; then
success, a failure that cannot be made good, or the task's time limit. Beside a running graph::

  python -m vla_ros.nodes.episode_node --ros-args -p episodes:=10
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from vla_msgs.msg import CommandStatus, PolicyStatus, SimStatus
from vla_msgs.srv import ResetEpisode, SetInstruction

from vla_core.errors import VLAError
from vla_core.evaluation.episodes import (
    NORMAL,
    SWAPPED_INSTRUCTION,
    EpisodeResult,
    describe_outcome,
    other_target,
)
from vla_core.evaluation.metrics import SuccessRate
from vla_core.evaluation.seeds import held_out_seeds
from vla_core.processing.messages import stamp_ns
from vla_ros.conversions import status_qos
from vla_ros.parameters import EpisodeParameters
from vla_ros.parameters.declaration import declare_parameters
from vla_ros.polled_subscription import PolledSubscription
from vla_ros.stop_signal import StopSignal

_POLL_S = 0.05
# A frame that was rendered before the reset must not start the new episode.
_SETTLE_S = 0.25
_MOVING_VELOCITY = 0.02


class EpisodeNode(Node):
    """Runs episodes; its calls block, spinning an executor of its own meanwhile.

    Args:
        check: Called while waiting; it may raise to end the wait.

    Attributes:
        first_motion_ns: When the command loop first moved the arm, on this node's clock; None
            until then.
        checkpoint_id: Identity of the policy's checkpoint; empty until the policy has told.
    """

    def __init__(self, *, check: Callable[[], None] = lambda: None) -> None:
        super().__init__("episode_node")
        self.parameters = declare_parameters(self, EpisodeParameters)
        self.first_motion_ns: int | None = None
        self._check = check
        self._sim: SimStatus | None = None
        self._command: CommandStatus | None = None
        self._policy: PolicyStatus | None = None
        self._highest: dict[str, float] = {}
        self._statuses: dict[PolledSubscription[Any], Callable[[Any], None]] = {
            PolledSubscription(self, kind, topic, status_qos()): take
            for kind, topic, take in (
                (SimStatus, "sim_robot_node/status", self._on_sim),
                (CommandStatus, "command_node/status", self._on_command),
                (PolicyStatus, "policy_node/status", self._on_policy),
            )
        }
        self._reset = self.create_client(ResetEpisode, "sim_robot_node/reset")
        self._instruct = self.create_client(SetInstruction, "policy_node/set_instruction")
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self)

    @property
    def checkpoint_id(self) -> str:
        """Identity of the policy's checkpoint; empty until the policy has told."""
        return str(self._policy.checkpoint_id) if self._policy is not None else ""

    def destroy_node(self) -> None:
        """Release the node and its executor."""
        self._executor.shutdown()
        super().destroy_node()

    def wait_until_ready(self) -> None:
        """Wait until the robot, the command loop and the policy run.

        Raises:
            VLAError: They do not within `start_timeout_s`.
        """
        self._wait_until(
            self._is_ready,
            self.parameters.start_timeout_s,
            "the robot, the command loop and the policy to be ready",
        )

    def run_episodes(self, seeds: Sequence[int], *, swap: bool = False) -> Iterator[EpisodeResult]:
        """Run one episode per scene and yield each result.

        Args:
            seeds: Scenes.
            swap: Name another target than the scene's own.

        Raises:
            VLAError: A node did not answer.
        """
        for number, seed in enumerate(seeds, start=1):
            yield self.run_episode(number, seed, swap=swap)

    def run_episode(self, number: int, seed: int, *, swap: bool = False) -> EpisodeResult:
        """Run one episode; the policy has no instruction afterwards.

        Args:
            number: Place in the run.
            seed: Scene.
            swap: Name another target than the scene's own.

        Raises:
            VLAError: A node did not answer.
        """
        self._set_instruction("")
        self._wait_until_arm_rests()
        scene, instruction = self._start_scene(seed, "")
        if swap:
            other = other_target(scene.target, list(scene.targets))
            scene, instruction = self._start_scene(seed, other)
        self._highest = dict.fromkeys(scene.block_names, 0.0)
        self._set_instruction(instruction)
        start_ns = self.get_clock().now().nanoseconds
        end = self._wait_for_end(scene, start_ns)
        end_ns = stamp_ns(end)
        self._set_instruction("")
        return EpisodeResult(
            number=number,
            seed=seed,
            condition=SWAPPED_INSTRUCTION if swap else NORMAL,
            instruction=instruction,
            target=scene.target,
            success=bool(end.success),
            outcome=describe_outcome(success=bool(end.success), failure=str(end.failure)),
            duration_s=(end_ns - start_ns) / 1e9,
            lifted_m=dict(self._highest),
            start_stamp_ns=start_ns,
            end_stamp_ns=end_ns,
        )

    def _is_ready(self) -> bool:
        return (
            self._sim is not None
            and self._command is not None
            and self._policy is not None
            and self._policy.state not in (PolicyStatus.UNCONFIGURED, PolicyStatus.ERROR)
            and self._reset.service_is_ready()
            and self._instruct.service_is_ready()
        )

    def _set_instruction(self, instruction: str) -> None:
        request = SetInstruction.Request(instruction=instruction)
        response = self._call(self._instruct, request)
        if not response.success:
            raise VLAError(f"policy_node refused instruction {instruction!r}: {response.message}")

    def _start_scene(self, seed: int, target: str) -> tuple[SimStatus, str]:
        """Reset the robot; return its first settled status and the instruction."""
        assert self._sim is not None
        before = self._sim.episode
        response = self._call(self._reset, ResetEpisode.Request(seed=seed, target=target))
        if not response.success:
            raise VLAError(f"sim_robot_node refused seed {seed}: {response.message}")

        def settled() -> bool:
            assert self._sim is not None
            return bool(self._sim.episode > before and self._sim.elapsed >= _SETTLE_S)

        self._wait_until(settled, self.parameters.service_timeout_s, f"the scene of seed {seed}")
        return self._sim, str(response.instruction)

    def _wait_until_arm_rests(self) -> None:
        self._command = None
        resting = (CommandStatus.HOLDING, CommandStatus.WAITING)
        self._wait_until(
            lambda: self._command is not None and self._command.mode in resting,
            self.parameters.service_timeout_s,
            "the arm to come to rest",
        )

    def _wait_for_end(self, scene: SimStatus, start_ns: int) -> SimStatus:
        limit_s = self.parameters.time_limit_s or float(scene.time_limit)
        limit_ns = round(limit_s * 1e9)

        def ended() -> bool:
            status = self._sim
            if status is None or status.episode != scene.episode:
                return False
            return bool(
                status.success or status.failure or stamp_ns(status) - start_ns >= limit_ns
            )

        patience_s = limit_s + self.parameters.service_timeout_s
        self._wait_until(ended, patience_s, "the episode to end")
        assert self._sim is not None
        return self._sim

    def _call(self, client: Any, request: Any) -> Any:
        future = client.call_async(request)
        self._wait_until(
            future.done, self.parameters.service_timeout_s, f"an answer of {client.srv_name}"
        )
        return future.result()

    def _wait_until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            self._check()
            if time.monotonic() > deadline:
                raise VLAError(f"waited {timeout_s:g} s in vain for {what}.")
            self._executor.spin_once(timeout_sec=_POLL_S)
            for subscription, take in self._statuses.items():
                while (message := subscription.take_next()) is not None:
                    take(message)

    def _on_sim(self, message: SimStatus) -> None:
        self._sim = message
        for block, lifted in zip(message.block_names, message.lifted, strict=True):
            self._highest[block] = max(lifted, self._highest.get(block, 0.0))

    def _on_command(self, message: CommandStatus) -> None:
        self._command = message
        velocity = max(map(abs, message.command_velocities), default=0.0)
        if self.first_motion_ns is None and velocity > _MOVING_VELOCITY:
            self.first_motion_ns = stamp_ns(message)

    def _on_policy(self, message: PolicyStatus) -> None:
        self._policy = message


def main(args: list[str] | None = None) -> int:
    """Run episodes beside a running graph and log each result."""
    with StopSignal(args) as stop:

        def check() -> None:
            if stop.is_set:
                raise KeyboardInterrupt

        try:
            node = EpisodeNode(check=check)
            parameters = node.parameters
            seeds = held_out_seeds(parameters.first_seed, parameters.episodes)
        except VLAError as error:
            get_logger("episode_node").fatal(str(error))
            return 1
        outcomes = []
        status = 0
        try:
            node.wait_until_ready()
            for result in node.run_episodes(seeds, swap=parameters.swap_instruction):
                outcomes.append(result.success)
                node.get_logger().info(
                    f"{result.number}/{len(seeds)}, seed {result.seed}, {result.instruction!r}: "
                    f"{result.outcome} after {result.duration_s:.1f} s"
                )
        except KeyboardInterrupt:
            node.get_logger().info("stopped.")
        except VLAError as error:
            node.get_logger().fatal(str(error))
            status = 1
        node.get_logger().info(f"success: {SuccessRate.from_outcomes(outcomes)}")
        node.destroy_node()
    return status


if __name__ == "__main__":
    sys.exit(main())
