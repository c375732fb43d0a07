# SPDX-License-Identifier: MIT
"""A restarted policy may count anew once nobody speaks of the old epoch any more."""

import pytest

from vla_core.inference.newest_epoch import NewestEpoch

SECOND = 10**9


@pytest.fixture
def epoch():
    """Epoch 3, heard at 10 s."""
    epoch = NewestEpoch(max_age_s=0.5)
    epoch.hear(3, 10 * SECOND)
    return epoch


def test_the_first_epoch_may_have_any_number():
    assert not NewestEpoch(max_age_s=0.5).is_late(0, SECOND)


@pytest.mark.parametrize(("number", "late"), [(2, True), (3, False), (4, False)])
def test_only_a_lower_number_is_late(epoch, number, late):
    assert epoch.is_late(number, 10 * SECOND) == late


def test_no_number_is_late_after_the_newest_was_silent_for_the_age_of_a_chunk(epoch):
    assert epoch.is_late(0, 10 * SECOND + SECOND // 2)
    assert not epoch.is_late(0, 10 * SECOND + SECOND // 2 + 1)


def test_each_word_of_the_newest_epoch_keeps_the_lower_ones_late(epoch):
    epoch.hear(3, 12 * SECOND)
    assert epoch.is_late(2, 12 * SECOND + SECOND // 4)
