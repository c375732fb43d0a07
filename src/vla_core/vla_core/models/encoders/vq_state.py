# SPDX-License-Identifier: MIT
"""States as discrete tokens, learned by a VQ-VAE (van den Oord et al., 2017, arXiv:1711.00937).

- An encoder turns the state into a few latents; each becomes the nearest code of one codebook.
- Gradients pass the choice straight through: the codes' gradient becomes that of the latents.
- Codes that no state has chosen for long are moved onto latents of the batch (as in Jukebox,
  Dhariwal et al., 2020, arXiv:2005.00341), so that the codebook does not collapse.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, mse_loss, one_hot

from vla_core.errors import ConfigError

_USE_DECAY = 0.99
_WATCHED_STEPS = 100
_REVIVED_SPREAD = 0.05


@dataclass(frozen=True)
class QuantizedState:
    """States after the tokeniser.

    Attributes:
        tokens: One token per code, [B, T, output_dim].
        ids: Which codes were chosen, int64 [B, T].
        reconstruction: The state that the codes stand for, [B, S].
        reconstruction_loss: Squared error of the reconstruction.
        codebook_loss: Squared distance that moves the codes to the latents.
        commitment_loss: The same distance, which moves the latents to the codes.
        perplexity: Number of codes that the batch would use if it used them evenly.
        revived: Number of dead codes that this step moved; 0 outside training.
    """

    tokens: Tensor
    ids: Tensor
    reconstruction: Tensor
    reconstruction_loss: Tensor
    codebook_loss: Tensor
    commitment_loss: Tensor
    perplexity: Tensor
    revived: Tensor


class VQStateTokenizer(nn.Module):
    """Turns a normalised state into tokens from a learned codebook.

    Args:
        state_dim: Width of the state.
        output_dim: Width of the tokens.
        num_codes: Size of the codebook.
        num_tokens: Codes per state.
        code_dim: Width of a code.
        hidden_dim: Width of the hidden layers of encoder and decoder.
        dead_use: A code is dead when its use, as a running mean, falls below this share of the
            mean use of all codes; 0 never revives a code.

    Raises:
        ConfigError: If a size is not positive.
    """

    def __init__(
        self,
        state_dim: int,
        output_dim: int,
        num_codes: int = 1024,
        num_tokens: int = 4,
        code_dim: int = 32,
        hidden_dim: int = 128,
        dead_use: float = 0.03,
    ) -> None:
        super().__init__()
        for name, value in {"num_codes": num_codes, "num_tokens": num_tokens}.items():
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}.")
        self.num_codes = num_codes
        self.num_tokens = num_tokens
        self.code_dim = code_dim
        self.dead_use = dead_use
        self.encoder = nn.Sequential(
            nn.Linear(state_dim, hidden_dim),
            nn.SiLU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.SiLU(),
            nn.Linear(hidden_dim, num_tokens * code_dim),
        )
        self.decoder = nn.Sequential(
            nn.Linear(num_tokens * code_dim, hidden_dim),
            nn.SiLU(),
            nn.Linear(hidden_dim, state_dim),
        )
        # Codes and latents start alike: zero mean, unit variance.
        self.codebook = nn.Parameter(torch.randn(num_codes, code_dim))
        self.projection = nn.Linear(code_dim, output_dim)
        self.slot_embedding = nn.Parameter(torch.randn(num_tokens, output_dim) * 0.02)
        self.use: Tensor
        self.register_buffer("use", torch.ones(num_codes))
        # Not `use`, which revival sets back: a code that no state chooses would seem in use.
        self.steps_unchosen: Tensor
        self.register_buffer("steps_unchosen", torch.full((num_codes,), _WATCHED_STEPS))

    def forward(self, state: Tensor, generator: torch.Generator | None = None) -> QuantizedState:
        """Tokenise states [B, S]; in training mode, count the use of codes and revive dead ones.

        Args:
            state: Normalised states, [B, S].
            generator: Chooses the latents that dead codes move to; None for the global one.
        """
        latents = self.encode(state)  # [B, T, code_dim]
        ids = self.nearest_codes(latents)
        revived = latents.new_zeros(())
        if self.training:
            ids, revived = self._count_and_revive(latents.detach(), ids, generator)
        codes = self.codebook[ids]
        passed = latents + (codes - latents).detach()  # The codes' value, the latents' gradient.
        reconstruction = self.decode(passed)
        return QuantizedState(
            tokens=self.projection(passed) + self.slot_embedding,
            ids=ids,
            reconstruction=reconstruction,
            reconstruction_loss=mse_loss(reconstruction.float(), state.float()),
            codebook_loss=mse_loss(codes.float(), latents.detach().float()),
            commitment_loss=mse_loss(latents.float(), codes.detach().float()),
            perplexity=_perplexity(ids, self.num_codes),
            revived=revived,
        )

    def encode(self, state: Tensor) -> Tensor:
        """Return the latents of states [B, S], each of unit variance, [B, T, code_dim]."""
        latents = self.encoder(state.to(self.codebook.dtype))
        latents = latents.unflatten(-1, (self.num_tokens, self.code_dim))
        return layer_norm(latents.float(), (self.code_dim,))

    @torch.no_grad()
    def nearest_codes(self, latents: Tensor) -> Tensor:
        """Return the code nearest to each latent [B, T, code_dim], int64 [B, T]."""
        # In full precision also under autocast: rounding would choose other codes.
        with torch.autocast(latents.device.type, enabled=False):
            codes = self.codebook.float()
            products = latents.float() @ codes.T
            return (codes.square().sum(-1) - 2.0 * products).argmin(-1)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the states [B, S] that codes [B, T, code_dim] stand for."""
        return self.decoder(codes.flatten(1).to(self.projection.weight.dtype))

    def used_share(self) -> Tensor:
        """Return the share of codes that the last 100 training steps chose, in [0, 1]."""
        return (self.steps_unchosen < _WATCHED_STEPS).float().mean()

    @torch.no_grad()
    def _count_and_revive(
        self, latents: Tensor, ids: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Update the use of codes and move dead ones.

        Returns:
            The codes chosen afterwards, int64 [B, T], and how many were moved.
        """
        counts = one_hot(ids.flatten(), self.num_codes).sum(0).to(self.use.dtype)
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        if distributed:
            torch.distributed.all_reduce(counts)
        self.use.lerp_(counts * (self.num_codes / counts.sum()), 1.0 - _USE_DECAY)
        self.steps_unchosen.add_(1).masked_fill_(counts > 0, 0).clamp_(max=_WATCHED_STEPS)
        dead = self.use < self.dead_use
        revived = dead.sum().to(latents.dtype)
        if not dead.any():
            return ids, revived
        candidates = latents.flatten(0, 1)
        device = latents.device if generator is None else generator.device
        chosen = torch.randint(
            len(candidates), (int(dead.sum()),), generator=generator, device=device
        ).to(latents.device)
        # Spread a little, or codes that moved to the same latent would stay one code.
        spread = torch.randn(len(chosen), self.code_dim, generator=generator, device=device)
        moved = candidates[chosen] + _REVIVED_SPREAD * spread.to(latents.device)
        self.codebook[dead] = moved.to(self.codebook.dtype)
        self.use[dead] = 1.0
        if distributed:
            torch.distributed.broadcast(self.codebook, src=0)
        return self.nearest_codes(latents), revived


def _perplexity(ids: Tensor, num_codes: int) -> Tensor:
    shares = one_hot(ids.flatten(), num_codes).float().mean(0)
    return torch.exp(-(shares * shares.clamp(min=1e-10).log()).sum())
