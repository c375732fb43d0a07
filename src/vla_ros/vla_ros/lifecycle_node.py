# SPDX-License-Identifier: MIT
"""A lifecycle node whose failed transitions are loud and which has one way to be torn down.

rclpy turns an exception in a transition into a return code and drops its text. Here it is logged,
kept in ``failure`` and whatever the transition had built up is released.
"""

from __future__ import annotations

import abc
import traceback
from collections.abc import Callable
from typing import Generic, TypeVar

from rclpy.executors import Executor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from vla_core.errors import ConfigError, VLAError
from vla_ros.parameters.declaration import ManagedParameters, declare_parameters, follow_changes

_TURN_S = 0.1

ParametersT = TypeVar("ParametersT", bound=ManagedParameters)


class ManagedNode(LifecycleNode, abc.ABC, Generic[ParametersT]):
    """Base of lifecycle nodes: implement ``configure``, ``activate``, ``deactivate``, ``release``.

    They raise what goes wrong. ``deactivate`` and ``release`` must work in any state, also after
    half a ``configure``.

    Args:
        parameters: Class of the node's parameters, which has its name, too.

    Attributes:
        parameters: The parameters in force.
        failure: Why the last transition failed; empty when it did not.
        is_configured: Whether it is configured; active, too, then.
        is_active: Whether it is active.

    Raises:
        ConfigError: A parameter is not valid.
    """

    def __init__(self, parameters: type[ParametersT]) -> None:
        super().__init__(parameters.NODE)
        self.failure = ""
        self.is_configured = self.is_active = False
        self.parameters = declare_parameters(self, parameters)
        follow_changes(self, lambda: self.parameters, self.apply, lambda: self.is_configured)

    @abc.abstractmethod
    def configure(self) -> None:
        """Load everything that the work needs; a ``VLAError`` leaves the node unconfigured."""

    @abc.abstractmethod
    def activate(self) -> None:
        """Start to work."""

    @abc.abstractmethod
    def deactivate(self) -> None:
        """Stop working; return when nothing runs any more."""

    @abc.abstractmethod
    def release(self) -> None:
        """Free what ``configure`` has loaded."""

    def apply(self, parameters: ParametersT) -> None:
        """Take parameters that were set.

        Raises:
            ConfigError: They are not valid together.
        """
        self.parameters = parameters

    def turn(self, executor: Executor) -> None:
        """Do one turn of the main loop: answer whoever calls, for a moment."""
        executor.spin_once(timeout_sec=_TURN_S)

    @property
    def has_failed(self) -> bool:
        """Whether the work has died of an error; the process should end."""
        return False

    @property
    def main_priority(self) -> int:
        """Real-time priority that the main thread asks for; 0 for none."""
        return 0

    def forget(self) -> None:
        """Forget what is kept for a process that is started again after a failure."""
        return

    def bring_up(self) -> None:
        """Configure and activate without a lifecycle manager.

        Raises:
            ConfigError: A transition failed; the node's ``failure``.
        """
        for transition in (self.trigger_configure, self.trigger_activate):
            if transition() != TransitionCallbackReturn.SUCCESS:
                raise ConfigError(self.failure)

    def tear_down(self) -> None:
        """Stop and release everything, from any state."""
        self.is_active = False
        self.deactivate()
        self.release()
        self.is_configured = False

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Call ``configure`` after super's part."""
        result = self._attempt("configure", self.configure, super().on_configure, state)
        self.is_configured = result == TransitionCallbackReturn.SUCCESS
        return result

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Call ``activate`` after super's part."""
        result = self._attempt("activate", self.activate, super().on_activate, state)
        self.is_active = result == TransitionCallbackReturn.SUCCESS
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Call ``deactivate`` after super's part."""
        self.is_active = False
        return self._attempt("deactivate", self.deactivate, super().on_deactivate, state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Call ``release`` after super's part."""
        self.is_configured = False
        return self._attempt("clean up", self.release, super().on_cleanup, state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Tear everything down after super's part."""
        return self._attempt("shut down", self.tear_down, super().on_shutdown, state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Return to unconfigured; the failed transition has been torn down already."""
        return TransitionCallbackReturn.SUCCESS

    def _attempt(
        self,
        name: str,
        action: Callable[[], None],
        before: Callable[[LifecycleState], TransitionCallbackReturn],
        state: LifecycleState,
    ) -> TransitionCallbackReturn:
        self.failure = ""
        try:
            result = before(state)
            action()
        except VLAError as error:
            self.failure = f"cannot {name}: {error}"
            self.get_logger().error(self.failure)
            self._undo(name)
            return TransitionCallbackReturn.FAILURE
        except Exception as error:
            self.failure = f"cannot {name}: {type(error).__name__}: {error}"
            self.get_logger().error(f"cannot {name}:\n{traceback.format_exc()}")
            self.tear_down()
            return TransitionCallbackReturn.ERROR
        return result

    def _undo(self, name: str) -> None:
        if name == "configure":
            self.release()
        elif name == "activate":
            self.deactivate()
