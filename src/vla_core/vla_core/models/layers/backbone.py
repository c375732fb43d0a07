# SPDX-License-Identifier: MIT
"""What every backbone can do, be it a VLM or a vision encoder: be frozen, and save memory."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

Module = TypeVar("Module", bound="Backbone")


class Backbone(nn.Module):
    """A part that is often trained before, and then frozen.

    Attributes:
        gradient_checkpointing: Whether activations are to be recomputed in the backward pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self._is_frozen = False

    @property
    def is_frozen(self) -> bool:
        """Whether `freeze` is in force."""
        return self._is_frozen

    def freeze(self) -> None:
        """Stop training for good: no gradients, and eval mode even if a parent calls `train()`."""
        self._is_frozen = True
        self.requires_grad_(False)
        self.eval()

    def unfreeze(self) -> None:
        """Undo `freeze`; the mode stays eval until `train()` is called."""
        self._is_frozen = False
        self.requires_grad_(True)

    def train(self: Module, mode: bool = True) -> Module:
        """Set the training mode, except that a frozen model stays in eval mode."""
        super().train(mode and not self._is_frozen)
        return self

    def gradient_checkpointing_enable(self) -> None:
        """Recompute activations in the backward pass instead of storing them."""
        self.gradient_checkpointing = True

    def gradient_checkpointing_disable(self) -> None:
        """Store activations again."""
        self.gradient_checkpointing = False
