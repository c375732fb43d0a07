# SPDX-License-Identifier: MIT
import json

import pytest
import torch

from vla_core.errors import CheckpointError, ConfigError
from vla_core.models.vlm.tokenization import (
    BYTE_VOCAB_SIZE,
    ByteTokenizer,
    load_tokenizer,
    padded_ids,
)


@pytest.fixture
def word_tokenizer(tmp_path):
    """Write a tokenizer of four words as transformers keeps it on disk."""
    pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"<unk>": 0, "<s>": 1, "pick": 2, "up": 3}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "<unk>",
        "bos_token": "<s>",
        "auto_map": {"AutoProcessor": "code.Processor"},
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    config = {"model_type": "unheard-of", "auto_map": {"AutoConfig": "code.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def test_different_texts_have_different_ids():
    tokenizer = ByteTokenizer(520)
    assert tokenizer.encode("red") != tokenizer.encode("rod")
    assert tokenizer.encode("") == []


def test_every_byte_has_an_id_of_its_own():
    ids = ByteTokenizer(520).encode("".join(map(chr, range(128))).replace("<", "") + "\u00e4")
    assert min(ids) >= 2
    assert max(ids) < BYTE_VOCAB_SIZE
    assert len(set(ids)) == 127 + 2


def test_a_marker_is_one_token():
    tokenizer = ByteTokenizer(520)
    ids = tokenizer.encode("<bos>red<|im_end|>")
    assert ids == [1, *tokenizer.encode("red"), 1]


def test_ids_are_padded_on_the_right():
    ids, mask = padded_ids(ByteTokenizer(520), ["red", "a"], 4)
    assert mask.tolist() == [[True, True, True, False], [True, False, False, False]]
    assert torch.equal(ids != 0, mask)


def test_text_beyond_the_limit_is_refused():
    with pytest.raises(ConfigError, match=r"text has 5 tokens .*max_text_tokens is 4: 'green'"):
        padded_ids(ByteTokenizer(520), ["green"], 4)


def test_tokenizer_of_a_folder_runs_none_of_its_code_and_asks_nothing(word_tokenizer):
    tokenizer = load_tokenizer(str(word_tokenizer), 4)
    assert tokenizer.encode("<s>pick up") == [1, 2, 3]
    assert tokenizer.vocab_size == 4


def test_folder_without_a_tokenizer_is_refused(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(CheckpointError, match=r"tokenizer .* could not be loaded"):
        load_tokenizer(str(tmp_path), 4)
