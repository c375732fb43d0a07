# SPDX-License-Identifier: MIT
"""Run a policy: cameras and joint states in, action chunks out.

The node answers services and the action in its main thread, infers in another one and loads
checkpoints in a third.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.parameter import Parameter
from std_msgs.msg import String
from std_srvs.srv import Trigger
from vla_msgs.action import ExecuteInstruction
from vla_msgs.msg import PolicyStatus
from vla_msgs.srv import LoadCheckpoint, SetInstruction

from vla_core.errors import VLAError
from vla_core.inference.trained_instructions import hint_at_instructions
from vla_core.processing.contract import RobotContract, load_contract
from vla_ros.conversions import status_qos
from vla_ros.cooperative import Pause
from vla_ros.diagnostics import DiagnosticReport, Diagnostics
from vla_ros.inference_diagnostics import report_inference, report_observations
from vla_ros.inference_loop import InferenceLoop
from vla_ros.instruction_goals import InstructionGoals
from vla_ros.lifecycle_node import ManagedNode
from vla_ros.node_clock import steady_clock
from vla_ros.node_main import run_node
from vla_ros.parameters import PolicyParameters
from vla_ros.warm_up import warm_up

if TYPE_CHECKING:
    from vla_core.inference.policy import Policy

_STATUS_PERIOD_S = 0.5


class PolicyNode(ManagedNode[PolicyParameters]):
    """The policy as a lifecycle node.

    ``configure`` loads checkpoint and contract and warms up, ``activate`` starts the inference.
    Publishes ``action_chunk``, ``~/status`` and diagnostics. Takes instructions by the parameter,
    the topic ``instruction``, ``~/set_instruction`` and the action ``~/execute_instruction``;
    serves ``~/reset`` and ``~/load_checkpoint``.

    Raises:
        ConfigError: A parameter is not valid.
    """

    def __init__(self) -> None:
        super().__init__(PolicyParameters)
        self.loop = InferenceLoop(self, lambda: self.parameters, self._publish_status)
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._loading: Future[Policy] | None = None
        self._first_instruction = self.parameters.instruction.strip()
        self._is_first_activation = True
        self._last_hint = ""
        self._status = self.create_publisher(PolicyStatus, "~/status", status_qos())
        self.create_service(SetInstruction, "~/set_instruction", self._on_set_instruction)
        self.create_service(Trigger, "~/reset", self._on_reset)
        # In a group of its own: while it waits, nothing else of its group is executed.
        self.create_service(
            LoadCheckpoint,
            "~/load_checkpoint",
            self._on_load_checkpoint,
            callback_group=ReentrantCallbackGroup(),
        )
        self.create_subscription(String, "instruction", self._on_instruction, 1)
        self._goals = InstructionGoals(
            self, why_not=self._why_no_goal, follow=self._follow, describe=self._describe
        )
        self.create_timer(_STATUS_PERIOD_S, self._publish_status, clock=steady_clock())
        diagnostics = Diagnostics(self, self.parameters.contract)
        diagnostics.add("inference", self._report_inference)
        diagnostics.add("observations", self._report_observations)

    def configure(self) -> None:
        """Load the contract and the checkpoint, infer once without consequences, subscribe.

        Raises:
            VLAError: The contract, the checkpoint or the device is not valid, or they do not fit
                each other.
        """
        contract = load_contract(self.parameters.contract)
        self.loop.prepare(self._load(self.parameters.checkpoint, contract))
        self._warn_of_other_words()

    def activate(self) -> None:
        """Begin a new epoch and start the inference.

        If a policy before this process died at its task, that task is taken up.
        """
        if self._is_first_activation:
            self._is_first_activation = False
            self._take_up_task()
        self.loop.start()

    def deactivate(self) -> None:
        """Stop the inference and have the arm stopped."""
        self._goals.fail("the node was deactivated")
        self.loop.stop()

    def release(self) -> None:
        """Unsubscribe and drop the policy."""
        self.loop.release()

    @property
    def has_failed(self) -> bool:
        """Whether the inference has died of an error."""
        return self.loop.has_failed

    def destroy_node(self) -> None:
        """Release the node, its action and its threads."""
        self._loader.shutdown()
        self._goals.destroy()
        super().destroy_node()

    def _load(self, checkpoint: str, contract: RobotContract) -> Policy:
        """Return a policy that has inferred before."""
        # Loading torch takes seconds; whoever only asks for the node's parameters needs none.
        from vla_core.inference.helix_tiers import PlannedPolicy
        from vla_core.inference.policy import Policy

        start = time.monotonic()
        kind = PlannedPolicy if self.parameters.follows_plans else Policy
        policy = kind.from_checkpoint(
            checkpoint,
            contract=contract,
            num_threads=self.parameters.num_threads,
            device=self.parameters.device,
        )
        latency_ms = warm_up(policy)
        self.get_logger().info(
            f"checkpoint '{checkpoint}' ({policy.checkpoint_id}) for robot '{contract.robot}' "
            f"loaded on {policy.device} in {time.monotonic() - start:.1f} s; an inference takes "
            f"{latency_ms:.0f} ms."
        )
        return policy

    def _publish_status(self) -> None:
        report, policy, receiver = self.loop.report, self.loop.policy, self.loop.receiver
        now_ns = self.loop.now_ns()
        status = report.message(now_ns, policy.checkpoint_id if policy is not None else "")
        status.instruction, status.epoch = self.loop.task()
        status.effect_delay = self.loop.effect_delay_s
        if receiver is not None and report.state != PolicyStatus.RUNNING:
            ages = receiver.buffer.camera_ages_s(now_ns)
            status.camera_names, status.camera_ages = list(ages), list(ages.values())
            status.joint_state_age = receiver.buffer.state_age_s(now_ns)
        self._status.publish(status)

    def _describe(self, feedback: ExecuteInstruction.Feedback) -> None:
        report = self.loop.report
        feedback.state, feedback.reason = report.state, report.reason
        feedback.sequence, feedback.inference_latency = report.sequence, report.latency_s
        feedback.camera_names = list(report.camera_ages_s)
        feedback.camera_ages = list(report.camera_ages_s.values())
        feedback.joint_state_age = report.state_age_s

    def _report_inference(self) -> DiagnosticReport:
        report = report_inference(self.loop.report, self.loop.latencies_s, self.loop.policy)
        more = {
            "delay from observation to execution [s]": self.loop.effect_delay_s,
            "committed steps": self.loop.report.committed_steps,
        }
        return replace(report, values={**report.values, **more})

    def _report_observations(self) -> DiagnosticReport:
        return report_observations(self.loop.report, self.loop.receiver, self.loop.now_ns())

    def apply(self, parameters: PolicyParameters) -> None:
        """Take parameters that were set; another instruction is followed."""
        self.parameters = parameters
        if parameters.instruction.strip() != self.loop.task()[0]:
            self._goals.preempt("the parameter 'instruction'")
            self.loop.follow(parameters.instruction)
            self._warn_of_other_words()

    def _take_up_task(self) -> None:
        instruction = self.loop.succeed()
        if self.loop.task()[0] != self._first_instruction:
            return  # it was given another one meanwhile
        if instruction is not None and instruction != self._first_instruction:
            self.get_logger().warning(
                "a policy before this one has died; its instruction is taken up instead of the "
                f"parameter's {self._first_instruction!r}."
            )
            self._follow(instruction)

    def _follow(self, instruction: str) -> int:
        """Follow an instruction and have the parameter tell so; return the epoch."""
        epoch = self.loop.follow(instruction)
        self._warn_of_other_words()
        self.set_parameters([Parameter("instruction", value=instruction)])
        return epoch

    def _warn_of_other_words(self) -> None:
        """Say once that the policy was not trained with the words of the instruction."""
        hint = self._hint()
        if hint and hint != self._last_hint:
            self.get_logger().warning(f"{hint}.")
        self._last_hint = hint

    def _hint(self) -> str:
        policy = self.loop.policy
        trained = () if policy is None else policy.instructions
        return hint_at_instructions(self.loop.task()[0], trained)

    def _why_no_goal(self) -> str:
        if self.loop.has_failed:
            return self.loop.report.reason
        return "" if self.loop.is_running else "the node is not active"

    def _take_instruction(self, instruction: str, source: str) -> int:
        self._goals.preempt(source)
        return self._follow(instruction)

    def _on_instruction(self, message: String) -> None:
        # Whoever repeats an instruction does not want to begin anew.
        if message.data.strip() != self.loop.task()[0]:
            self._take_instruction(message.data, "the topic 'instruction'")

    def _on_set_instruction(
        self, request: SetInstruction.Request, response: SetInstruction.Response
    ) -> SetInstruction.Response:
        response.epoch = self._take_instruction(request.instruction, "~/set_instruction")
        response.success = True
        if not request.instruction.strip():
            response.message = "idle: the arm stops and holds"
        elif not self.loop.is_running:
            response.message = "taken; it is followed once the node is active"
        else:
            response.message = "taken"
        if hint := self._hint():
            response.message += f"; {hint}"
        return response

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = True, f"epoch {self.loop.reset()}"
        return response

    async def _on_load_checkpoint(
        self, request: LoadCheckpoint.Request, response: LoadCheckpoint.Response
    ) -> LoadCheckpoint.Response:
        try:
            policy = await self._load_beside(request.checkpoint)
        except VLAError as error:
            response.message = str(error)
            self.get_logger().error(f"checkpoint '{request.checkpoint}' is not loaded: {error}")
        else:
            self.loop.swap(policy)
            self._warn_of_other_words()
            self.parameters = replace(self.parameters, checkpoint=request.checkpoint)
            self.set_parameters([Parameter("checkpoint", value=request.checkpoint)])
            response.success, response.message = True, f"'{request.checkpoint}' acts now"
        acting = self.loop.policy
        response.checkpoint_id = acting.checkpoint_id if acting is not None else ""
        return response

    async def _load_beside(self, checkpoint: str) -> Policy:
        """Load a checkpoint while the old one goes on acting.

        Raises:
            VLAError: It cannot be loaded or does not fit, or the node is not in a state to take
                it.
        """
        acting = self.loop.policy
        if acting is None:
            raise VLAError("the node is not configured; set the parameter 'checkpoint' instead.")
        if self._loading is not None:
            raise VLAError("another checkpoint is being loaded; wait for it.")
        self._loading = self._loader.submit(self._load, checkpoint, acting.contract)
        try:
            while not self._loading.done():
                await Pause()
            policy = self._loading.result()
        except VLAError:
            raise
        except Exception as error:
            raise VLAError(f"{type(error).__name__}: {error}") from error
        finally:
            self._loading = None
        if self.loop.policy is not acting:
            raise VLAError("the node was configured anew meanwhile; load it again.")
        return policy


def main(args: list[str] | None = None) -> int:
    """Run policy_node until SIGINT or SIGTERM."""
    return run_node("policy_node", PolicyNode, args)


if __name__ == "__main__":
    sys.exit(main())
