# SPDX-License-Identifier: MIT
import json
import socket

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Keep small matrices on one core: more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def cached_repository(tmp_path, monkeypatch):
    """Return the function that puts a repository with a tokenizer into the cache of the hub.

    It returns the folder for the repository's other files. The hub itself is out of reach.
    """
    pytest.importorskip("huggingface_hub")
    from tokenizers import Tokenizer, models, pre_tokenizers

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("the hub was asked"))

    def add(name):
        folder = tmp_path / f"models--{name.replace('/', '--')}"
        snapshot = folder / "snapshots/0123"
        snapshot.mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs/main").write_text("0123")
        words = {word: index for index, word in enumerate(["<unk>", "<s>", "<bos>", "lift", "it"])}
        tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.save(str(snapshot / "tokenizer.json"))
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<bos>"}
        (snapshot / "tokenizer_config.json").write_text(json.dumps(settings))
        return snapshot

    return add
