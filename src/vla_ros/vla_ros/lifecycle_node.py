# SPDX-License-Identifier: MIT
"""A lifecycle node whose failed transitions are loud and which has one way to be torn down.

rclpy turns an exception in a transition into a return code and drops its text. Here it is logged,
kept in ``failure`` and whatever the transition had built up is released.
"""

from __future__ import annotations

import abc
import traceback
from collections.abc import Callable

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from vla_core.errors import ConfigError, VLAError


class ManagedNode(LifecycleNode, abc.ABC):
    """Base of lifecycle nodes: implement ``configure``, ``activate``, ``deactivate``, ``release``.

    They raise what goes wrong. ``deactivate`` and ``release`` must work in any state, also after
    half a ``configure``.

    Args:
        name: Node name.

    Attributes:
        failure: Why the last transition failed; empty when it did not.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.failure = ""

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
        self.deactivate()
        self.release()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Call ``configure`` after super's part."""
        return self._attempt("configure", self.configure, super().on_configure, state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Call ``activate`` after super's part."""
        return self._attempt("activate", self.activate, super().on_activate, state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Call ``deactivate`` after super's part."""
        return self._attempt("deactivate", self.deactivate, super().on_deactivate, state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Call ``release`` after super's part."""
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
