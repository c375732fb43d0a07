# SPDX-License-Identifier: MIT
"""Keep a MoveIt Servo node ready for one kind of command, and hear how it fares.

Servo of Humble is started, paused and unpaused by Trigger services and reports a number. Since
Jazzy it wants its command type switched, is paused by a SetBool service, and reports a message of
moveit_msgs. Which one is there is seen from its services.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from std_msgs.msg import Int8
from std_srvs.srv import SetBool, Trigger

from vla_core.errors import ConfigError
from vla_ros.conversions import sensor_subscription_qos
from vla_ros.outputs.base import import_interface
from vla_ros.outputs.remote_parameters import RemoteParameters
from vla_ros.polled_subscription import PolledSubscription

_COMMAND_TYPES = {"servo_joint_jog": 0, "servo_twist": 1, "servo_pose": 2}
_INVALID = "it finds the commands invalid"
_STATUS_SINCE_JAZZY = {
    -1: _INVALID,
    2: "it halts near a singularity",
    5: "it halts before a collision",
    6: "it halts at a joint's limit",
}
_STATUS_OF_HUMBLE = {
    -1: _INVALID,
    2: "it halts near a singularity",
    4: "it halts before a collision",
    5: "it halts at a joint's limit",
}
_PREFIX = "moveit_servo."
_SCALES = ("linear", "rotational", "joint")


class _State(enum.Enum):
    ABSENT = "absent"
    PAUSED = "paused"
    READY = "ready"


class ServoLink:
    """The services and the status of one servo node.

    Args:
        node: Node that owns the clients.
        servo: Name of the servo node.
        output: The contract's name of the output: the kind of command.
        report: Takes what went wrong.
    """

    def __init__(self, node: Node, servo: str, output: str, report: Callable[[str], None]) -> None:
        self._node = node
        self._servo = servo
        self._output = output
        self._report = report
        self._parameters = RemoteParameters(
            node,
            servo,
            [f"{_PREFIX}command_in_type", *(f"{_PREFIX}scale.{name}" for name in _SCALES)],
        )
        self._guard = node.create_guard_condition(self._change)
        self._clients: dict[str, Any] = {}
        self._status: PolledSubscription[Any] | None = None
        self._status_words: dict[int, str] = {}
        self._state = _State.ABSENT
        self._wants_ready = False
        self._is_changing = False
        self._refusal = ""

    def wake(self) -> None:
        """Have the servo node made ready for commands, from any thread."""
        self._want(True)

    def rest(self) -> None:
        """Have the servo node paused, from any thread, so that others may drive the arm."""
        self._want(False)

    def _want(self, ready: bool) -> None:
        if self._wants_ready != ready:
            self._wants_ready = ready
            self._guard.trigger()

    def blocker(self) -> str:
        """Return why no command may be sent yet; empty when one may."""
        if self._refusal:
            return self._refusal
        if self._state is _State.ABSENT:
            return f"MoveIt Servo {self._servo} is not there: it has no services"
        if self._state is _State.PAUSED:
            return f"MoveIt Servo {self._servo} is paused"
        if not (self._parameters.has_answered or self._parameters.is_absent):
            return f"the units of MoveIt Servo {self._servo} are not known yet"
        return ""

    def scale(self, name: str) -> float:
        """Return what a velocity has to be divided by.

        Args:
            name: ``linear``, ``rotational`` or ``joint``.
        """
        values = self._parameters.values
        if values.get(f"{_PREFIX}command_in_type", "speed_units") != "unitless":
            return 1.0
        return float(values.get(f"{_PREFIX}scale.{name}", 1.0)) or 1.0

    def poll(self) -> None:
        """Find the node, ask it for its units, hear its status; in the executor's thread."""
        self._parameters.poll()
        self._find()
        self._change()
        status = self._status.take() if self._status is not None else None
        if status is not None and self._state is _State.READY:
            code = int(getattr(status, "code", getattr(status, "data", 0)))
            if words := self._status_words.get(code):
                self._report(f"MoveIt Servo {self._servo}: {words}")

    def _find(self) -> None:
        services = dict(self._node.get_service_names_and_types())
        prefix = self._node.resolve_service_name(self._servo)
        is_new = f"{prefix}/switch_command_type" in services
        if not is_new and f"{prefix}/start_servo" not in services:
            self._state, self._is_changing = _State.ABSENT, False
        elif self._state is _State.ABSENT:
            self._refusal = ""
            try:
                self._meet(is_new)
            except ConfigError as error:
                self._refusal = str(error)

    def _meet(self, is_new: bool) -> None:
        if not is_new and self._output == "servo_pose":
            raise ConfigError(
                f"MoveIt Servo {self._servo} is that of Humble, which takes no poses; choose "
                "command.output servo_twist."
            )
        self._forget()
        if is_new:
            services = import_interface("moveit_msgs.srv", self._output)
            status_type = import_interface("moveit_msgs.msg", self._output).ServoStatus
            self._status_words = _STATUS_SINCE_JAZZY
            self._clients = {
                "switch_command_type": self._client(
                    services.ServoCommandType, "switch_command_type"
                ),
                "pause_servo": self._client(SetBool, "pause_servo"),
            }
        else:
            status_type, self._status_words = Int8, _STATUS_OF_HUMBLE
            names = ("start_servo", "pause_servo", "unpause_servo")
            self._clients = {name: self._client(Trigger, name) for name in names}
        self._status = PolledSubscription(
            self._node, status_type, f"{self._servo}/status", sensor_subscription_qos()
        )
        self._state = _State.PAUSED

    def _client(self, service: Any, name: str) -> Any:
        return self._node.create_client(service, f"{self._servo}/{name}")

    def _change(self) -> None:
        """Take the next step towards the wanted state, if none is under way."""
        if self._is_changing or self._refusal or self._state is _State.ABSENT:
            return
        if self._wants_ready == (self._state is _State.READY):
            return
        if not all(client.service_is_ready() for client in self._clients.values()):
            return
        self._is_changing = True
        switch = self._clients.get("switch_command_type")
        if not self._wants_ready:
            self._pause(True)
        elif switch is not None:
            request = switch.srv_type.Request(command_type=_COMMAND_TYPES[self._output])
            self._call(switch, request, lambda: self._pause(False))
        else:
            start = self._clients["start_servo"]
            self._call(start, Trigger.Request(), lambda: self._pause(False))

    def _pause(self, pause: bool) -> None:
        end = _State.PAUSED if pause else _State.READY
        if "switch_command_type" in self._clients:
            client, request = self._clients["pause_servo"], SetBool.Request(data=pause)
        else:
            name = "pause_servo" if pause else "unpause_servo"
            client, request = self._clients[name], Trigger.Request()
        self._call(client, request, lambda: self._arrive(end))

    def _arrive(self, state: _State) -> None:
        self._state, self._is_changing = state, False
        self._change()

    def _call(self, client: Any, request: Any, then: Callable[[], None]) -> None:
        def on_answer(future: Any) -> None:
            if self._state is _State.ABSENT:
                return
            if future.result().success:
                then()
            else:
                self._is_changing = False
                self._report(f"{client.srv_name} was refused by MoveIt Servo")

        client.call_async(request).add_done_callback(on_answer)

    def _forget(self) -> None:
        for client in self._clients.values():
            self._node.destroy_client(client)
        if self._status is not None:
            self._status.destroy()
        self._clients, self._status = {}, None

    def destroy(self) -> None:
        """Destroy the clients and the subscription."""
        self._forget()
        self._parameters.destroy()
        self._node.destroy_guard_condition(self._guard)
