# SPDX-License-Identifier: MIT
"""Command the arm: sample the newest action chunk by time, stay within limits, send the result.

This is the one process that moves the arm. It loads no torch and no images, so that nothing that
happens to the inference can delay a tick; if the inference or this process dies, the tail of the
last plan brings the arm to rest. The ticks have a thread of their own; services, actions and
diagnostics are answered in the main thread.
"""

from __future__ import annotations

import gc
import math
import sys

from std_srvs.srv import SetBool, Trigger

from vla_core.inference.command_stream import CommandStream
from vla_core.inference.motor import MotorControl
from vla_core.processing.contract import RobotContract, SafetyContract, load_contract
from vla_core.processing.kinematics import limits_and_chain
from vla_ros.command_diagnostics import CommandDiagnostics
from vla_ros.command_inputs import CommandInputs
from vla_ros.command_loop import CommandLoop
from vla_ros.diagnostics import Diagnostics
from vla_ros.emergency_latch import EmergencyLatch
from vla_ros.interlocks import Interlocks
from vla_ros.lifecycle_node import ManagedNode
from vla_ros.node_clock import steady_clock
from vla_ros.node_main import run_node
from vla_ros.outputs import CommandOutput, build_outputs
from vla_ros.parameters import CommandParameters
from vla_ros.robot_description import read_urdf
from vla_ros.state_validity import StateValidity
from vla_ros.tool_markers import ToolMarkers

_POLL_PERIOD_S = 0.2
# The main thread must not keep the interpreter from the loop's for longer.
_SWITCH_INTERVAL_S = 0.0005


class CommandNode(ManagedNode[CommandParameters]):
    """The command loop as a lifecycle node.

    Hears ``action_chunk``, the contract's joint states, ``teleop_joint_states``, ``estop`` and the
    contract's deadman. Publishes to the contract's outputs, ``~/status`` in every tick,
    ``~/preview`` while it is not armed, ``~/markers`` and ``/diagnostics``. Serves ``~/arm``,
    ``~/emergency_stop`` and ``~/reset_emergency_stop``.

    Raises:
        ConfigError: A parameter is not valid.
    """

    def __init__(self) -> None:
        super().__init__(CommandParameters)
        # Before the contract is known, so that an emergency stop counts from the first moment.
        self._latch = EmergencyLatch(self.get_fully_qualified_name())
        self._latch_guard = self.create_guard_condition(self._keep_emergency)
        self._interlocks = Interlocks(
            SafetyContract(),
            is_armed=False,
            emergency=self._latch.find_reason(),
            on_stop=self._latch_guard.trigger,
        )
        if self._interlocks.emergency:
            self.get_logger().warning(
                "the emergency stop is still in force that an earlier process of this node has "
                f"left: {self._interlocks.emergency}; call ~/reset_emergency_stop to go on"
            )
        self._outputs: list[CommandOutput] = []
        self._inputs: CommandInputs | None = None
        self._loop: CommandLoop | None = None
        self._diagnostics: Diagnostics | None = None
        self._markers: ToolMarkers | None = None
        self._validity: StateValidity | None = None
        self.create_timer(_POLL_PERIOD_S, self._poll_outputs, clock=steady_clock())
        self.create_service(SetBool, "~/arm", self._on_arm)
        self.create_service(Trigger, "~/emergency_stop", self._on_emergency_stop)
        self.create_service(Trigger, "~/reset_emergency_stop", self._on_reset)

    @property
    def has_failed(self) -> bool:
        """Whether the loop has died of an error."""
        return self._loop is not None and self._loop.has_failed

    @property
    def main_priority(self) -> int:
        """A little less than the loop's; 0 for none.

        A thread that waits for the processor with the interpreter's lock would stop the loop.
        """
        return max(0, self.parameters.realtime_priority - 1)

    def configure(self) -> None:
        """Load the contract, connect to the outputs, subscribe.

        Raises:
            VLAError: The contract is not valid or asks for what is not there.
        """
        contract = load_contract(self.parameters.contract)
        urdf = read_urdf(self, contract.kinematics) if contract.kinematics else None
        limits, chain = limits_and_chain(contract, urdf)
        checkpoint = self.parameters.motor_checkpoint
        motor = None
        if checkpoint:
            motor = MotorControl.from_checkpoint(
                checkpoint, contract, max_correction_s=self.parameters.max_correction_s
            )
        self._interlocks = Interlocks(
            contract.safety,
            is_armed=not self._is_dry_run(contract),
            emergency=self._interlocks.emergency,
            on_stop=self._latch_guard.trigger,
        )
        self._outputs = build_outputs(self, contract, limits, chain)
        self._inputs = CommandInputs(self, contract, self._interlocks)
        lookahead_s = max((output.lookahead_s for output in self._outputs), default=0.0)
        num_lookahead = math.ceil(lookahead_s / contract.command.dt_s)

        def make_stream(is_preview: bool) -> CommandStream:
            return CommandStream(
                contract,
                urdf=urdf,
                motor=motor,
                blend_s=self.parameters.blend_s,
                blending=self.parameters.blending,
                ensemble_m=self.parameters.ensemble_m,
                slow_s=self.parameters.slow_s,
                start_speed=self.parameters.start_speed,
                num_lookahead=max(num_lookahead, self.parameters.num_lookahead),
                commit_s=max((output.commit_s for output in self._outputs), default=0.0),
                follows_plans=any(output.follows_plans for output in self._outputs),
                # A previewed command is followed by nobody.
                max_tracking_error=math.inf if is_preview else self.parameters.max_tracking_error,
            )

        if self.parameters.validity_service:
            self._validity = StateValidity(
                self,
                self.parameters.validity_service,
                contract.action.joints,
                group=self.parameters.validity_group,
                horizon_s=self.parameters.validity_horizon_s,
                is_needed=self.parameters.validity_needed,
            )
        self._loop = CommandLoop(
            self,
            self._outputs,
            self._inputs,
            self._interlocks,
            make_stream,
            self.parameters,
            self._validity,
        )
        self._diagnostics = Diagnostics(self, contract.robot)
        CommandDiagnostics(
            self._diagnostics, self._loop, self._inputs, self._outputs, self._interlocks
        )
        if self._validity is not None:
            self._diagnostics.add("state validity", self._validity.report)
        if chain is not None and self.parameters.marker_rate_hz > 0.0:
            self._markers = ToolMarkers(
                self, contract, chain, rate_hz=self.parameters.marker_rate_hz
            )
        kinds = ", ".join(f"{type(out).__name__} to {out.target}" for out in self._outputs)
        mode = "armed" if self._interlocks.is_armed else "dry run: previews only, until ~/arm"
        self.get_logger().info(f"robot '{contract.robot}': {kinds}; {mode}.")

    def _is_dry_run(self, contract: RobotContract) -> bool:
        choice = self.parameters.dry_run
        return contract.safety.dry_run if choice == "contract" else choice == "always"

    def activate(self) -> None:
        """Start the loop."""
        assert self._loop is not None
        # A full collection of all that was imported would take longer than a tick may be late.
        gc.collect()
        gc.freeze()
        self._loop.start()

    def deactivate(self) -> None:
        """Bring the arm to rest and end the loop."""
        if self._loop is not None:
            self._loop.stop()

    def release(self) -> None:
        """Give back all topics and clients."""
        parts = (self._markers, self._diagnostics, self._loop, self._validity, self._inputs)
        for part in (*parts, *self._outputs):
            if part is not None:
                part.destroy()
        self._markers = self._diagnostics = self._loop = self._inputs = self._validity = None
        self._outputs = []

    def forget(self) -> None:
        """Forget the emergency stop: whoever ends the node and starts it again has decided so."""
        self._interlocks.reset()
        self._keep_emergency()

    def _keep_emergency(self) -> None:
        """Have the file say what is in force, in the executor's thread: no tick waits for it."""
        try:
            self._latch.keep(self._interlocks.emergency)
        except OSError as error:
            self.get_logger().error(
                f"{error}; should this process be killed, the next one may be wrong about the "
                "emergency stop"
            )

    def _poll_outputs(self) -> None:
        if self.parameters.has_robot:
            for output in self._outputs:
                output.poll()

    def apply(self, parameters: CommandParameters) -> None:
        """Take parameters that were set, also in the loop."""
        super().apply(parameters)
        if self._loop is not None:
            self._loop.apply(parameters)

    def _on_arm(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if self._loop is None:
            response.message = f"the node is not configured. {self.failure}"
            return response
        if request.data and self._interlocks.emergency:
            response.message = (
                f"emergency stop: {self._interlocks.emergency}; call ~/reset_emergency_stop first"
            )
            return response
        self._interlocks.is_armed = request.data
        response.success = True
        response.message = "armed" if request.data else "not armed: commands are previewed only"
        self.get_logger().warning(response.message)
        return response

    def _on_emergency_stop(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        self._interlocks.stop("service ~/emergency_stop")
        response.success = True
        response.message = "the arm stops; call ~/reset_emergency_stop to go on"
        self.get_logger().error("emergency stop by service")
        return response

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        was_stopped = self._interlocks.reset()
        self._keep_emergency()
        response.success = True
        response.message = "the arm may move again" if was_stopped else "it was not in force"
        if was_stopped:
            self.get_logger().warning("the emergency stop was reset")
        return response


def main(args: list[str] | None = None) -> int:
    """Run command_node until SIGINT or SIGTERM."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    return run_node("command_node", CommandNode, args)


if __name__ == "__main__":
    sys.exit(main())
