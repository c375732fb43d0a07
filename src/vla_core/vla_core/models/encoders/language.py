# SPDX-License-Identifier: MIT
"""A text encoder that needs no vocabulary file."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vla_core.errors import ConfigError

_WORD = re.compile(r"[^\W_]+")


class HashedWordEncoder(nn.Module):
    """Looks words up in a table by their hash; two words may share a row.

    Args:
        output_dim: Width of the tokens.
        num_rows: Rows of the table; row 0 is padding.
        max_words: Words read; longer texts are cut.

    Raises:
        ConfigError: If the table has no row for words, or no word is read.
    """

    def __init__(self, output_dim: int, num_rows: int = 2048, max_words: int = 16) -> None:
        super().__init__()
        if num_rows < 2 or max_words < 1:
            raise ConfigError(
                f"num_rows must be at least 2 and max_words at least 1, got {num_rows} and "
                f"{max_words}."
            )
        self.max_words = max_words
        self.table = nn.Embedding(num_rows, output_dim, padding_idx=0)
        self.positions = nn.Parameter(0.02 * torch.randn(max_words, output_dim))

    def forward(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Encode texts.

        Args:
            texts: One text per row; an empty one has no word.

        Returns:
            Tokens, [B, max_words, output_dim], and True where one stands for a word, bool
            [B, max_words].
        """
        ids = torch.zeros(len(texts), self.max_words, dtype=torch.long)
        for row, text in enumerate(texts):
            for column, word in enumerate(_WORD.findall(text.lower())[: self.max_words]):
                ids[row, column] = 1 + zlib.crc32(word.encode()) % (self.table.num_embeddings - 1)
        ids = ids.to(self.positions.device)
        return self.table(ids) + self.positions, ids > 0
