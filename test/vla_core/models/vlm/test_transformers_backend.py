# SPDX-License-Identifier: MIT
"""What the backends of transformers share, held against transformers itself."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vla_core.errors import CheckpointError, ConfigError
from vla_core.models.vlm import get_vlm, vlm_from_config
from vla_core.models.vlm.transformers_backend import TransformersVLM

pytest.importorskip("transformers")

BACKENDS = [
    "florence2",
    "internvl",
    "llava",
    "paligemma",
    "prismatic",
    "qwen2_5_vl",
    "qwen3_vl",
    "smolvlm",
]
# One class of transformers does the whole work of these, so it says what is right; that of
# Florence-2 takes other inputs, see test_florence2.py.
WHOLE = ["internvl", "llava", "paligemma", "qwen2_5_vl", "qwen3_vl", "smolvlm"]
TEXT = "pick up the red block"


@pytest.fixture(scope="module", params=BACKENDS)
def vlm(request):
    return get_vlm(request.param, size="tiny").eval()


def images(vlm, cameras=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, cameras, 3, vlm.image_size, vlm.image_size, generator=generator)


def prompt_ids(vlm, cameras):
    """Return the whole prompt as transformers wants it, with a placeholder per image token."""
    encode = vlm.tokenizer.encode
    seen = vlm.embed_images(images(vlm, 1)[0])
    image = [vlm.model_config.image_token_id] * seen.shape[1]
    camera = encode(vlm.image_prefix) + image + encode(vlm.image_suffix)
    ids = encode(vlm.prompt_head) + camera * cameras + encode(vlm.prompt.format(text=TEXT))
    return torch.tensor([ids])


def native_inputs(vlm, pixels, ids):
    """Return what the forward of transformers takes besides the ids."""
    flat = (pixels - torch.tensor(vlm.normalization[0])[:, None, None]) / torch.tensor(
        vlm.normalization[1]
    )[:, None, None]
    is_image = (ids == vlm.model_config.image_token_id).long()
    if vlm.name == "paligemma":
        return {"pixel_values": flat[0], "token_type_ids": torch.zeros_like(ids)}
    if vlm.name == "smolvlm":
        return {"pixel_values": flat}
    if vlm.name in ("qwen2_5_vl", "qwen3_vl"):
        side = vlm.model_config.vision_config.patch_size
        rows = vlm.image_size // side
        patches = torch.cat([qwen_patches(frame, side) for frame in flat[0]])
        grid = torch.tensor([[1, rows, rows]] * flat.shape[1])
        return {"pixel_values": patches, "image_grid_thw": grid, "mm_token_type_ids": is_image}
    return {"pixel_values": flat[0]}


def qwen_patches(frame, side):
    """Cut one image [3, H, W] as Qwen's image processor does, one patch after the other."""
    rows = frame.shape[-1] // side
    patches = [
        frame[:, side * r : side * (r + 1), side * c : side * (c + 1)]
        for block_row in range(0, rows, 2)
        for block_column in range(0, rows, 2)
        for r in (block_row, block_row + 1)
        for c in (block_column, block_column + 1)
    ]
    return torch.stack([patch.unsqueeze(1).expand(-1, 2, -1, -1).flatten() for patch in patches])


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("cameras", [1, 2])
def test_features_and_logits_are_those_of_transformers(name, cameras):
    vlm = get_vlm(name, size="tiny").eval()
    pixels, ids = images(vlm, cameras), prompt_ids(vlm, cameras)
    with torch.no_grad():
        native = vlm.model(
            input_ids=ids, output_hidden_states=True, **native_inputs(vlm, pixels, ids)
        )
        prefix = vlm.prefill(pixels, TEXT)
    assert int(prefix.mask.sum()) == ids.shape[1]
    features = prefix.features[prefix.mask]
    torch.testing.assert_close(features, native.hidden_states[-1][0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(vlm.logits(features), native.logits[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", WHOLE)
def test_greedy_generation_is_that_of_transformers(name):
    vlm = get_vlm(name, size="tiny").eval()
    pixels, ids = images(vlm), prompt_ids(vlm, 2)
    native = vlm.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=5,
        min_new_tokens=5,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        **native_inputs(vlm, pixels, ids),
    )
    assert torch.equal(vlm.generate(pixels, TEXT, 5), native[:, ids.shape[1] :])


def test_spans_hold_the_images_and_the_text(vlm):
    output = vlm.encode(images(vlm), TEXT)
    used = output.mask[0, output.text_span].sum()
    assert used == len(vlm.tokenizer.encode(vlm.prompt.format(text=TEXT)))
    assert output.mask[0, output.image_span].all()
    assert output.text_span.stop - output.text_span.start == vlm.max_text_tokens


def test_a_single_image_has_a_grid_if_nothing_stands_beside_it(vlm):
    output = vlm.encode(images(vlm, cameras=1), TEXT)
    if vlm.image_prefix or vlm.name == "florence2":  # Florence has a token for the whole image.
        assert output.image_grid is None
    else:
        rows, columns = output.image_grid
        assert rows * columns == output.image_tokens().shape[2]


def test_larger_images_are_resized(vlm):
    pixels = images(vlm)
    doubled = pixels.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)
    assert vlm.encode(doubled, TEXT).features.shape == vlm.encode(pixels, TEXT).features.shape


def test_a_grey_image_is_seen(vlm):
    grey = torch.full_like(images(vlm), 0.5)
    assert vlm.encode(grey, TEXT).features.shape == vlm.encode(images(vlm), TEXT).features.shape


def test_frozen_model_stays_in_eval_mode_and_gets_no_gradient(vlm):
    frozen = vlm_from_config(vlm.get_config())
    frozen.freeze()
    nn.ModuleDict({"vlm": frozen}).train()
    assert not any(module.training for module in frozen.modules())
    assert not frozen.encode(images(vlm), TEXT).features.requires_grad


def test_only_the_adapters_of_the_language_model_are_trainable(vlm):
    adapted = get_vlm(vlm.name, size="tiny", lora_rank=2).train()
    trainable = [key for key, p in adapted.named_parameters() if p.requires_grad]
    assert trainable
    assert all("lora_" in key and vlm.language_path in key for key in trainable)
    prefix = adapted.prefill(images(vlm), TEXT)
    adapted.predict_hidden(prefix, torch.ones(1, 2, dtype=torch.int64)).sum().backward()
    reached = [p.grad is not None for p in adapted.parameters()]
    assert sum(reached) == len(trainable)


def test_new_adapters_change_nothing(vlm):
    adapted = vlm_from_config(vlm.get_config()).eval()
    adapted.add_lora(rank=2)
    expected = vlm.encode(images(vlm), TEXT).features
    torch.testing.assert_close(adapted.encode(images(vlm), TEXT).features, expected)


def test_unfreezing_trains_the_adapters_only(vlm):
    adapted = get_vlm(vlm.name, size="tiny", lora_rank=2)
    before = [key for key, p in adapted.named_parameters() if p.requires_grad]
    adapted.freeze()
    assert not any(p.requires_grad for p in adapted.parameters())
    adapted.unfreeze()
    assert [key for key, p in adapted.named_parameters() if p.requires_grad] == before


def test_weights_without_adapters_serve_a_model_with_them(vlm, tmp_path):
    vlm.save_pretrained(tmp_path / "plain")
    adapted = get_vlm(vlm.name, pretrained=tmp_path / "plain", lora_rank=2).eval()
    assert adapted.get_config()["lora_rank"] == 2
    expected = vlm.encode(images(vlm), TEXT).features
    torch.testing.assert_close(adapted.encode(images(vlm), TEXT).features, expected)
    adapted.save_pretrained(tmp_path / "adapted")
    again = get_vlm(vlm.name, pretrained=tmp_path / "adapted", lora_rank=2)
    assert again.get_config() == adapted.get_config()


def test_adapters_of_another_rank_are_refused(tmp_path):
    get_vlm("paligemma", size="tiny", lora_rank=2).save_pretrained(tmp_path)
    for rank in (0, 4):
        with pytest.raises(CheckpointError, match="does not fit PaliGemmaVLM"):
            get_vlm("paligemma", pretrained=tmp_path, lora_rank=rank)


def test_a_folder_of_another_vlm_is_refused(tmp_path):
    get_vlm("llava", size="tiny").save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"holds a vlm 'llava', not 'paligemma'"):
        get_vlm("paligemma", pretrained=tmp_path)


def test_adapters_are_added_once():
    adapted = get_vlm("paligemma", size="tiny", lora_rank=2)
    with pytest.raises(ConfigError, match="'paligemma' has adapters of rank 2 already"):
        adapted.add_lora(rank=4)


def test_gradient_checkpointing_stores_less(vlm):
    stored = []
    for checkpointing in (False, True):
        trained = vlm_from_config(vlm.get_config()).train()
        if checkpointing:
            trained.gradient_checkpointing_enable()
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=saved: s.append(t), lambda t: t):
            trained.encode(images(vlm), TEXT)
        stored.append(sum(tensor.numel() for tensor in saved))
    assert stored[1] < 0.5 * stored[0]


def test_half_precision_keeps_the_rotary_frequencies(vlm):
    half = get_vlm(vlm.name, size="tiny", dtype="bfloat16").eval()
    output = half.encode(images(vlm), TEXT)
    assert output.features.dtype == torch.bfloat16
    buffers = dict(half.language_model.named_buffers())
    assert all(v.dtype == torch.float32 for k, v in buffers.items() if k.endswith("inv_freq"))
    expected = vlm.encode(images(vlm), TEXT).features
    likeness = torch.nn.functional.cosine_similarity(output.features.float(), expected, dim=-1)
    assert likeness[output.mask].min() > 0.98


@pytest.mark.parametrize("name", WHOLE)
def test_a_folder_of_transformers_loads(name, tmp_path):
    vlm = get_vlm(name, size="tiny", seed=3).eval()
    vlm.model.save_pretrained(tmp_path)
    loaded = get_vlm(name, pretrained=tmp_path, tokenizer="bytes")
    assert isinstance(loaded, TransformersVLM)
    assert all(module.training for module in loaded.modules())
    loaded.eval()
    expected = vlm.encode(images(vlm), TEXT).features
    torch.testing.assert_close(loaded.encode(images(vlm), TEXT).features, expected)
    rebuilt = vlm_from_config(loaded.get_config())
    assert {k: v.shape for k, v in rebuilt.state_dict().items()} == {
        k: v.shape for k, v in loaded.state_dict().items()
    }


LOADED = [*WHOLE, "florence2"]

DAMAGES = {
    "1 weights are missing: .*": lambda tensors, name: tensors.pop(name),
    r"1 weights are misshapen: .*\[2, 7\] in the file": lambda tensors, name: tensors.update(
        {name: torch.zeros(2, 7)}
    ),
    "1 weights are unknown: stranger.weight": lambda tensors, name: tensors.update(
        {"stranger.weight": torch.zeros(2)}
    ),
}


@pytest.mark.parametrize("message", DAMAGES)
@pytest.mark.parametrize("name", LOADED)
def test_a_folder_with_a_wrong_weight_is_refused_with_its_name(name, message, tmp_path):
    get_vlm(name, size="tiny").model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    weight = sorted(key for key in tensors if ".layers." in key)[0]
    DAMAGES[message](tensors, weight)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=f"does not fit vlm '{name}': {message}"):
        get_vlm(name, pretrained=tmp_path, tokenizer="bytes")


@pytest.mark.parametrize("name", LOADED)
def test_a_truncated_file_of_transformers_is_refused(name, tmp_path):
    get_vlm(name, size="tiny").model.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(CheckpointError, match=f"vlm '{name}': weights .*could not be loaded"):
        get_vlm(name, pretrained=tmp_path, tokenizer="bytes")


@pytest.mark.parametrize("name", LOADED)
def test_a_folder_of_another_architecture_is_refused(name, tmp_path):
    other = "paligemma" if name == "llava" else "llava"
    get_vlm(other, size="tiny").model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=f"a model of type '{other}', but vlm '{name}'"):
        get_vlm(name, pretrained=tmp_path, tokenizer="bytes")


@pytest.mark.parametrize("name", LOADED)
def test_a_folder_without_a_tokenizer_reads_no_text(name, tmp_path):
    get_vlm(name, size="tiny").model.save_pretrained(tmp_path)
    vlm = get_vlm(name, pretrained=tmp_path)
    with pytest.raises(CheckpointError, match=r"tokenizer .* could not be loaded"):
        vlm.encode(images(vlm), TEXT)


def test_a_folder_of_transformers_brings_its_tokenizer(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: index for index, word in enumerate(["<unk>", "<bos>", "lift", "it"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<bos>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    get_vlm("paligemma", size="tiny").model.save_pretrained(tmp_path)
    vlm = get_vlm("paligemma", pretrained=tmp_path)
    assert vlm.tokenizer.encode("<bos>lift it") == [1, 2, 3]
    assert vlm.action_token_ids(2).tolist() == [2, 3]
    mask = vlm.encode(images(vlm), "lift it").mask[0, -vlm.max_text_tokens :]
    assert mask.sum() == 3


def test_embeddings_of_another_precision_can_follow():
    half = get_vlm("paligemma", size="tiny", dtype="bfloat16").eval()
    prefix = half.prefill(images(half), TEXT)
    hidden = half.extend(torch.zeros(1, 2, half.hidden_size), prefix).hidden
    assert hidden.dtype == torch.bfloat16


def test_gradient_checkpointing_serves_adapters(vlm):
    gradients = []
    for checkpointing in (False, True):
        adapted = get_vlm(vlm.name, size="tiny", lora_rank=2).train()
        if checkpointing:
            adapted.gradient_checkpointing_enable()
        torch.manual_seed(0)  # Of dropout.
        prefix = adapted.prefill(images(vlm), TEXT)
        hidden = adapted.predict_hidden(prefix, torch.ones(1, 2, dtype=torch.int64))
        adapted.logits(hidden).square().mean().backward()
        gradients.append([p.grad for p in adapted.parameters() if p.requires_grad])
    assert any(gradient.any() for gradient in gradients[0])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain)


def test_weights_out_of_reach_are_reported_with_what_to_do(monkeypatch, vlm):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=rf"{vlm.published}.*hf download .*HF_TOKEN"):
        get_vlm(vlm.name, pretrained=True)


def test_a_model_without_weights_or_size_is_refused(vlm):
    with pytest.raises(ConfigError, match=f"'{vlm.name}' needs weights.*size='tiny'"):
        get_vlm(vlm.name)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"size": "huge"}, "size must be one of 'tiny', got 'huge'"),
        ({"size": "tiny", "dtype": "int8"}, "dtype must be one of 'float32'.*got 'int8'"),
        ({"size": "tiny", "prompt": "Do it."}, r"prompt must have '\{text\}' in it once"),
        ({"size": "tiny", "lora_rank": -1}, "lora_rank must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(keywords, message):
    with pytest.raises(ConfigError, match=message):
        get_vlm("paligemma", **keywords)


def test_a_prompt_of_ones_own_replaces_the_published_one():
    vlm = get_vlm("paligemma", size="tiny", prompt="<bos>Task: {text};\nAction: ")
    mask = vlm.encode(images(vlm), "lift {it}").mask[0, -vlm.max_text_tokens :]
    assert mask.sum() == 1 + len("Task: lift {it};\nAction: ")
    assert vlm_from_config(vlm.get_config()).prompt == vlm.prompt


def test_same_seed_gives_the_same_weights_and_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    one = get_vlm("paligemma", size="tiny", seed=5, lora_rank=2)
    assert torch.equal(torch.rand(1), expected)
    other = get_vlm("paligemma", size="tiny", seed=5, lora_rank=2)
    for left, right in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(left, right)
