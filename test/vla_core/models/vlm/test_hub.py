# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.errors import CheckpointError
from vla_core.models.vlm import get_vlm
from vla_core.models.vlm.hub import check_complete, from_cache_or_hub, unreachable

pytest.importorskip("transformers")


@pytest.mark.parametrize("name", ["paligemma", "smolvlm", "florence2"])
def test_published_weights_in_the_cache_need_no_hub(name, cached_repository):
    vlm = get_vlm(name, size="tiny", seed=3).eval()
    vlm.model.save_pretrained(cached_repository(vlm.published))
    loaded = get_vlm(name, pretrained=True).eval()
    assert loaded.get_config()["tokenizer"] == vlm.published
    assert loaded.encode(torch.rand(1, 3, 32, 32), "lift it").features.isfinite().all()
    expected = vlm.model.state_dict()
    for key, value in loaded.model.state_dict().items():
        assert torch.equal(value, expected[key])


def test_what_the_cache_lacks_is_asked_of_the_hub(cached_repository):
    snapshot = cached_repository("owner/name")
    asked = []

    def load(place):
        asked.append(place)
        if place == str(snapshot):
            raise OSError("some file is not there")
        return "weights"

    assert from_cache_or_hub("owner/name", load) == "weights"
    assert asked == [str(snapshot), "owner/name"]


def test_a_folder_is_not_said_to_be_a_repository(tmp_path):
    of_folder = unreachable("weights", str(tmp_path), OSError("no file"))
    assert "hf download" not in of_folder
    assert "hf download owner/name" in unreachable("weights", "owner/name", OSError("no file"))


def test_many_faults_are_counted_and_the_first_are_named():
    with pytest.raises(CheckpointError, match=r"4 weights are missing: a, b, c, \.\.\."):
        check_complete("paligemma", "folder", {"missing": ["a", "b", "c", "d"], "unknown": []})
    check_complete("paligemma", "folder", {"missing": []})
