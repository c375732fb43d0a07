# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.errors import ConfigError
from vla_core.models.vlm.sampling import choose_tokens

LOGITS = torch.tensor([[0.0, 3.0, 1.0, 2.0], [5.0, 0.0, 1.0, 2.0]])


def draws(**settings):
    generator = torch.Generator().manual_seed(0)
    return choose_tokens(LOGITS[:1].expand(4000, -1), generator=generator, **settings)


def test_zero_temperature_takes_the_likeliest():
    assert choose_tokens(LOGITS).tolist() == [1, 0]


def test_only_allowed_ids_are_taken():
    assert choose_tokens(LOGITS, allowed_ids=torch.tensor([3, 2])).tolist() == [3, 3]


def test_frequencies_are_those_of_the_softmax():
    frequencies = draws(temperature=2.0).bincount(minlength=4) / 4000
    expected = torch.softmax(LOGITS[0] / 2.0, dim=-1)
    torch.testing.assert_close(frequencies, expected, atol=0.03, rtol=0.0)


def test_the_k_likeliest_are_sampled():
    assert draws(temperature=3.0, top_k=2).unique().tolist() == [1, 3]


def test_k_beyond_the_choices_takes_all():
    allowed = torch.tensor([0, 2])
    assert draws(temperature=3.0, top_k=9, allowed_ids=allowed).unique().tolist() == [0, 2]


def test_low_temperature_is_nearly_greedy():
    assert (draws(temperature=0.05) == 1).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1.0}, "temperature must be at least 0, got -1.0"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"allowed_ids": torch.tensor([4])}, r"between 0 and 3 .*got \[4\]"),
        ({"allowed_ids": torch.tensor([], dtype=torch.int64)}, r"between 0 and 3 .*got \[\]"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        choose_tokens(LOGITS, **settings)
