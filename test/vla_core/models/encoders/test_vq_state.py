# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.errors import ConfigError
from vla_core.models.encoders.vq_state import VQStateTokenizer


def make_tokenizer(**overrides):
    torch.manual_seed(0)
    settings = {"num_codes": 32, "num_tokens": 2, "code_dim": 4, "hidden_dim": 32, **overrides}
    return VQStateTokenizer(5, 8, **settings)


def test_states_become_one_token_per_code():
    quantized = make_tokenizer()(torch.randn(3, 5))
    assert quantized.tokens.shape == (3, 2, 8)
    assert quantized.ids.shape == (3, 2)
    assert quantized.reconstruction.shape == (3, 5)


def test_the_nearest_code_is_chosen():
    tokenizer, latents = make_tokenizer(), torch.randn(50, 2, 4)
    distances = (latents[:, :, None] - tokenizer.codebook).norm(dim=-1)  # [50, 2, codes]
    assert torch.equal(tokenizer.nearest_codes(latents), distances.argmin(-1))


def test_a_code_is_nearest_to_itself():
    tokenizer = make_tokenizer()
    ids = tokenizer.nearest_codes(tokenizer.codebook.view(16, 2, 4))
    assert torch.equal(ids.flatten(), torch.arange(32))


def test_gradient_passes_the_choice_straight_through():
    tokenizer = make_tokenizer().eval()
    state = torch.randn(3, 5)
    quantized = tokenizer(state)
    direction = torch.randn(3, 2, 8)
    (quantized.tokens * direction).sum().backward()
    passed = tokenizer.encoder[-1].weight.grad.clone()
    tokenizer.zero_grad()
    without_choice = tokenizer.projection(tokenizer.encode(state))
    (without_choice * direction).sum().backward()
    torch.testing.assert_close(passed, tokenizer.encoder[-1].weight.grad)


def test_codebook_loss_moves_only_the_chosen_codes():
    tokenizer = make_tokenizer().eval()
    quantized = tokenizer(torch.randn(3, 5))
    quantized.codebook_loss.backward()
    moved = tokenizer.codebook.grad.abs().sum(-1) > 0
    assert set(moved.nonzero().flatten().tolist()) == set(quantized.ids.flatten().tolist())
    assert all(parameter.grad is None for parameter in tokenizer.encoder.parameters())


def test_commitment_loss_moves_only_the_encoder():
    tokenizer = make_tokenizer().eval()
    tokenizer(torch.randn(3, 5)).commitment_loss.backward()
    assert tokenizer.codebook.grad is None
    assert tokenizer.encoder[0].weight.grad.abs().sum() > 0


def test_dead_codes_come_back_into_use():
    tokenizer = make_tokenizer(dead_use=0.5).train()
    with torch.no_grad():
        tokenizer.codebook[4:] += 100.0  # No state is near these.
    state = torch.randn(64, 5)
    first = tokenizer(state)
    assert first.perplexity < 5.0
    assert first.revived == 0
    assert tokenizer.used_share() <= 4 / 32
    steps = [tokenizer(state) for _ in range(100)]
    assert steps[-1].perplexity > 10.0
    assert sum(step.revived for step in steps) >= 28
    assert tokenizer.used_share() > 0.5


def test_the_used_share_is_that_of_the_codes_chosen_lately():
    tokenizer = make_tokenizer(num_tokens=1).train()
    assert tokenizer.used_share() == 0.0
    state = torch.randn(4, 5)
    with torch.no_grad():
        tokenizer.codebook[4:] += 100.0
        tokenizer.codebook[:4] = tokenizer.encode(state)[:, 0]
    assert tokenizer(state).ids.flatten().tolist() == [0, 1, 2, 3]
    assert tokenizer.used_share() == 4 / 32
    with torch.no_grad():
        tokenizer.codebook[3] += 100.0
    for _ in range(99):
        tokenizer(state)
    assert tokenizer.used_share() == 4 / 32
    tokenizer(state)
    assert tokenizer.used_share() == 3 / 32


def test_a_revived_code_that_no_state_chooses_is_not_in_use():
    tokenizer = make_tokenizer(num_tokens=1, dead_use=0.03).train()
    state = torch.randn(256, 5)
    tokenizer(state)
    used = tokenizer.used_share()
    with torch.no_grad():
        tokenizer.use.fill_(0.0)
    assert tokenizer(state[:1]).revived == 31
    assert tokenizer.used_share() == used


def test_use_is_counted_in_training_only():
    tokenizer = make_tokenizer().eval()
    state = torch.randn(64, 5)
    tokenizer(state)
    assert torch.equal(tokenizer.use, torch.ones(32))
    tokenizer.train()(state)
    assert not torch.equal(tokenizer.use, torch.ones(32))
    assert tokenizer.use.mean().item() == pytest.approx(1.0, abs=1e-4)


def test_revival_is_reproducible_from_a_generator():
    codebooks = []
    for _ in range(2):
        tokenizer = make_tokenizer(dead_use=2.0).train()
        state = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
        torch.manual_seed(len(codebooks))
        tokenizer(state, torch.Generator().manual_seed(3))
        codebooks.append(tokenizer.codebook.detach())
    assert torch.equal(*codebooks)


def test_perplexity_is_the_number_of_evenly_used_codes():
    tokenizer = make_tokenizer(num_tokens=1).eval()
    with torch.no_grad():
        tokenizer.codebook.zero_()
    assert tokenizer(torch.randn(10, 5)).perplexity.item() == pytest.approx(1.0)


def test_training_reconstructs_the_states():
    tokenizer = make_tokenizer(num_codes=64, num_tokens=3).train()
    states = torch.rand(64, 5) * 2.0 - 1.0
    optimizer = torch.optim.Adam(tokenizer.parameters(), lr=3e-3)
    errors = []
    for _ in range(300):
        optimizer.zero_grad()
        quantized = tokenizer(states)
        loss = quantized.reconstruction_loss + quantized.codebook_loss
        (loss + 0.25 * quantized.commitment_loss).backward()
        optimizer.step()
        errors.append(quantized.reconstruction_loss.item())
    assert errors[-1] < 0.25 * errors[0]


def test_autocast_chooses_the_same_codes():
    tokenizer, latents = make_tokenizer(num_codes=512), torch.randn(200, 2, 4)
    expected = tokenizer.nearest_codes(latents)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(tokenizer.nearest_codes(latents), expected)


@pytest.mark.parametrize("setting", ["num_codes", "num_tokens"])
def test_an_empty_codebook_is_refused(setting):
    with pytest.raises(ConfigError, match=f"{setting} must be at least 1, got 0"):
        make_tokenizer(**{setting: 0})
