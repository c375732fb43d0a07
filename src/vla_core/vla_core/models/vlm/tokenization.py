# SPDX-License-Identifier: MIT
"""Text to token ids: a model's own tokenizer, or bytes where there is none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from vla_core.errors import CheckpointError, ConfigError
from vla_core.models.vlm.hub import from_cache_or_hub, unreachable

BYTES = "bytes"
BYTE_VOCAB_SIZE = 258

_MARKER_ID = 1
_PROBE = "pick up the red block"
_MARKER = re.compile(r"<[^<>]*>")


class Tokenizer(Protocol):
    """Turns a text, in which markers such as <bos> may stand, into token ids."""

    @property
    def vocab_size(self) -> int:
        """Number of ordinary tokens; ids from here on are markers or unused."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, nothing added."""


class ByteTokenizer:
    """Every byte is a token, so that a model of random weights needs no vocabulary file.

    Id 0 is padding, 1 every marker, 2 + b the byte b; ids from `BYTE_VOCAB_SIZE` to `vocab_size`
    stand for nothing.

    Args:
        vocab_size: Rows of the model's embedding.
    """

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, nothing added."""
        ids: list[int] = []
        start = 0
        for marker in _MARKER.finditer(text):
            ids += [2 + byte for byte in text[start : marker.start()].encode()] + [_MARKER_ID]
            start = marker.end()
        return ids + [2 + byte for byte in text[start:].encode()]


class _PretrainedTokenizer:
    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.vocab_size = int(tokenizer.vocab_size)

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])


def load_tokenizer(source: str, vocab_size: int) -> Tokenizer:
    """Return a tokenizer.

    Args:
        source: 'bytes', a directory with a tokenizer of transformers, or a repository's name.
        vocab_size: Rows of the model's embedding.

    Raises:
        CheckpointError: If there is no tokenizer at `source`, it is empty, or it is out of reach.
    """
    if source == BYTES:
        return ByteTokenizer(vocab_size)
    from transformers import AutoTokenizer

    def load(place: str) -> Tokenizer:
        # Without trust_remote_code=False, files that name code of their own make transformers ask
        # on the terminal.
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        # Without files, transformers returns an empty tokenizer for some architectures.
        if not tokenizer(_PROBE, add_special_tokens=False)["input_ids"]:
            raise OSError(f"it has no vocabulary: {_PROBE!r} gives no tokens")
        return _PretrainedTokenizer(tokenizer)

    try:
        return from_cache_or_hub(source, load)
    except Exception as error:
        raise CheckpointError(unreachable("tokenizer", source, error)) from error


def padded_ids(tokenizer: Tokenizer, texts: Sequence[str], length: int) -> tuple[Tensor, Tensor]:
    """Tokenize texts and pad them on the right.

    Args:
        tokenizer: The tokenizer.
        texts: One text per row.
        length: Tokens of every row.

    Returns:
        Ids, int64 [B, length], and True where a token is valid, bool [B, length].

    Raises:
        ConfigError: If a text has more tokens.
    """
    ids = torch.zeros(len(texts), length, dtype=torch.int64)
    mask = torch.zeros(len(texts), length, dtype=torch.bool)
    for row, text in enumerate(texts):
        tokens = tokenizer.encode(text)
        if len(tokens) > length:
            raise ConfigError(
                f"text has {len(tokens)} tokens with its prompt, max_text_tokens is {length}: "
                f"{text[:60]!r}; shorten it or build the vlm with a larger max_text_tokens."
            )
        ids[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.int64)
        mask[row, : len(tokens)] = True
    return ids, mask
