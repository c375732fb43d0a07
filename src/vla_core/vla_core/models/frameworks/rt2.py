# SPDX-License-Identifier: MIT
"""RT-2: a vision-language model that speaks actions (Brohan et al., 2023, arXiv:2307.15818).

- Each dimension of an action is cut into 256 uniform bins between its bounds, and a token of the
  language model's own vocabulary stands for each bin; no head is added.
- Actions are decoded causally, token by token with a key-value cache, and only among action
  tokens. Training scores all tokens in one pass with the true ones before them; both ways give
  the same scores.
- Sampling has a temperature and top-k. A temperature of 1 is the default;
  0 is greedy, which the `reference` preset takes.

RT-2 itself is not published. It fine-tunes PaLI-X or PaLM-E on web and robot data together, reads
one image and no state, predicts one action of eight tokens of which one ends the episode, and
counts all words in its loss. Here any VLM that can be continued serves, several cameras and a
chunk of actions are possible, a state is read if `state_dim` is given, nothing ends the episode,
and the loss counts action tokens only. A state is one more token, or a word for the bin of each of
its numbers (`state_mode='bins'`): as most actions are near the state, the model then has only to
learn the difference to words that it has read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from vla_core.models.action_heads.discrete import ActionBins, ActionTokenHead, Bounds
from vla_core.models.frameworks.action_tokens import ActionTokenDecoder, check_trainable
from vla_core.models.frameworks.base import AbstractVLA
from vla_core.models.frameworks.observations import (
    check_images,
    check_proprioception,
    check_unread_state,
    check_vlm,
    padding_from,
    refuse_sampling,
)
from vla_core.models.frameworks.prompts import check_prompt_template, fill_prompts
from vla_core.models.frameworks.registry import register_framework
from vla_core.models.frameworks.state_features import StateFeatures
from vla_core.models.keywords import check_choice
from vla_core.models.vlm.base import AbstractVLM
from vla_core.models.vlm.prefix import VLMPrefix

STATE_MODES = ("continuous", "bins")


@register_framework("rt2")
class RT2VLA(AbstractVLA):
    """Predicts actions as tokens of the language model, one after the other.

    Args:
        vlm: A language model that can be continued and has a token for each bin.
        action_dim: Width of one action.
        num_bins: Bins of each dimension.
        action_bounds: Lower and upper bound of each dimension; None for -1 and 1. See
            `quantile_bounds` for bounds of recorded actions.
        temperature: Of sampling, unless `predict_action` is given another; 0 is greedy.
        top_k: Sample among the k likeliest bins only, unless `predict_action` is given another.
        fine_tune_vlm: Train the VLM. Without it there is nothing to train but the state's token.
        state_dim: Width of the state; None to take no notice of proprioception, as RT-2 does.
        state_mode: `continuous` for one projected token, `bins` for a token of the vocabulary of
            the actions per number, which must be normalised to -1 and 1 as the actions are.
        chunk_size: Actions predicted at once.
        num_cameras: Cameras of the images; None for any number.
        prompt_template: What the VLM reads, with `{}` where the instruction goes.

    Raises:
        ConfigError: If a setting is not possible, or the VLM has too few tokens for the bins.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "seed": {},
        "reference": {"num_bins": 256, "temperature": 0.0},
    }

    def __init__(
        self,
        vlm: AbstractVLM,
        action_dim: int = 7,
        num_bins: int = 256,
        action_bounds: Bounds | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        fine_tune_vlm: bool = True,
        state_dim: int | None = None,
        chunk_size: int = 1,
        num_cameras: int | None = None,
        prompt_template: str = "{}",
        state_mode: str = "continuous",
    ) -> None:
        super().__init__()
        check_choice("state_mode", state_mode, STATE_MODES)
        self.vlm = check_vlm(vlm)
        self.action_head = ActionTokenHead(action_dim, chunk_size, action_bounds, num_bins)
        self.decoder = ActionTokenDecoder(vlm, self.action_head)
        self.state_token: StateFeatures | None = None
        self.state_bins: ActionBins | None = None
        if state_dim is not None and state_mode == "continuous":
            self.state_token = StateFeatures(state_dim, vlm.hidden_size)
        elif state_dim is not None:
            self.state_bins = ActionBins([(-1.0, 1.0)] * state_dim, num_bins)
        self.temperature = temperature
        self.top_k = top_k
        self.num_cameras = num_cameras
        self.prompt_template = check_prompt_template(prompt_template)
        self._config = {
            "framework": self.framework,
            "action_dim": action_dim,
            "num_bins": num_bins,
            "action_bounds": self.action_head.bins.bounds,
            "temperature": temperature,
            "top_k": top_k,
            "state_dim": state_dim,
            "chunk_size": chunk_size,
            "num_cameras": num_cameras,
            "prompt_template": prompt_template,
            "state_mode": state_mode,
        }
        if not fine_tune_vlm:
            self.freeze_backbone()

    def forward(
        self,
        images: Tensor | None,
        text: str | Sequence[str] | None = None,
        proprioception: Tensor | None = None,
        actions: Tensor | None = None,
        *,
        action_is_pad: Tensor | None = None,
        action_mask: Tensor | None = None,
        generator: torch.Generator | None = None,
        **sampling: Any,
    ) -> dict[str, Tensor]:
        """Compute the loss if actions are given; decode actions if not.

        Args:
            images: Camera frames in [0, 1], [B, N, C, H, W], or [B, C, H, W] from one camera.
            text: One instruction for the whole batch, or one per row; None for no instruction.
            proprioception: Normalised robot state, [B, S]; None if it is not known.
            actions: Normalised true actions, [B, K, A], or [B, A] if `chunk_size` is 1.
            action_is_pad: True where a step of the actions is padding, bool [B, K].
            action_mask: The opposite of `action_is_pad`, which may be given in its stead.
            generator: Where sampling draws from; None for the global one.
            **sampling: `temperature` and `top_k`, to replace the constructor's.

        Returns:
            `features` [B, D] that predict the first token, and `logits` [B, K * A, num_bins]; with
            actions also what `compute_loss` returns; without also `actions`, decoded without
            gradients, [B, A] or [B, K, A].

        Raises:
            ShapeError: If a tensor has another shape than the model was built for.
            ConfigError: If temperature or top_k is out of range, or if it is to be trained and
                nothing is trainable.
            TypeError: If a keyword of a sampler is given beside actions.
        """
        if actions is not None:
            check_trainable(self)
        prefix = self._read(images, text, proprioception)
        if actions is None:
            settings = {"temperature": self.temperature, "top_k": self.top_k, **sampling}
            return self.decoder.decode(self.vlm, prefix, generator=generator, **settings)
        refuse_sampling(sampling)
        padding = padding_from(action_is_pad, action_mask)
        outputs = self.decoder.teach(self.vlm, prefix, actions, padding)
        return {**outputs, **self.compute_loss(outputs, actions, padding, generator)}

    def compute_loss(
        self,
        outputs: Mapping[str, Tensor],
        actions: Tensor,
        action_is_pad: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Compare `outputs['logits']` with the bins of the true actions by cross-entropy.

        Returns:
            `loss` and its one component `token_loss`, `token_accuracy` and `clipped_actions`; see
            `ActionTokenHead.compute_loss`.
        """
        return self.action_head.compute_loss(outputs["logits"], actions, action_is_pad, generator)

    @torch.no_grad()
    def predict_action(
        self,
        images: Tensor | None,
        text: str | Sequence[str] | None = None,
        proprioception: Tensor | None = None,
        *,
        temperature: float | None = None,
        top_k: int | None = None,
        generator: torch.Generator | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Decode normalised actions, [B, A] if `chunk_size` is 1, else [B, K, A].

        Args:
            images: As in `forward`.
            text: As in `forward`.
            proprioception: As in `forward`.
            temperature: Of sampling, 0 for greedy; None for the constructor's.
            top_k: Sample among the k likeliest bins only; None for the constructor's.
            generator: Where sampling draws from; None for the global one. The same state
                gives the same actions.
            **kwargs: Refused.
        """
        given = {"temperature": temperature, "top_k": top_k}
        kwargs.update({name: value for name, value in given.items() if value is not None})
        return self(images, text, proprioception, generator=generator, **kwargs)["actions"]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor keywords as JSON values, and `framework`."""
        trained = not self.vlm.is_frozen
        return {**self._config, "fine_tune_vlm": trained, "vlm": self.vlm.get_config()}

    def _read(
        self,
        images: Tensor | None,
        text: str | Sequence[str] | None,
        proprioception: Tensor | None,
    ) -> VLMPrefix:
        """Let the VLM read images, instruction and state."""
        images = check_images(images, self.num_cameras)
        prefix = self.vlm.prefill(images, fill_prompts(self.prompt_template, text, len(images)))
        if self.state_token is not None:
            token = self.state_token(proprioception, len(images)).to(prefix.features.dtype)
            return self.vlm.extend(token.unsqueeze(1), prefix).prefix
        if self.state_bins is None:
            check_unread_state(proprioception, len(images))
            return prefix
        if proprioception is None:
            return prefix
        state = check_proprioception(proprioception, len(images), len(self.state_bins.bounds))
        words = self.decoder.token_ids[self.state_bins.quantize(state)]
        return self.vlm.extend(self.vlm.embed_tokens(words), prefix).prefix
