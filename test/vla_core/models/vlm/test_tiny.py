# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.errors import ConfigError, ShapeError
from vla_core.models.vlm import TinyVLM


@pytest.fixture(scope="module")
def vlm():
    return TinyVLM(image_size=32, hidden_size=16, depth=2, num_heads=2).eval()


def images(batch=2, cameras=2, size=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, cameras, 3, size, size, generator=generator)


def test_default_model_has_at_most_about_a_million_parameters():
    assert sum(parameter.numel() for parameter in TinyVLM().parameters()) < 1.1e6


def test_default_model_gives_36_image_tokens_and_12_text_tokens_per_camera():
    output = TinyVLM().encode(images(batch=1, cameras=2, size=96), "pick up the red block")
    assert output.features.shape == (1, 2 * (36 + 12), 128)
    assert output.image_tokens().shape == (1, 2, 36, 128)
    assert output.text_tokens().shape == (1, 2, 12, 128)
    assert output.image_grid == (6, 6)


def test_views_by_camera_lie_where_the_flat_features_have_them(vlm):
    output = vlm.encode(images(), "lift it")
    length = output.features.shape[1] // 2
    second_camera = output.features[:, length:]
    assert torch.equal(output.blocks()[:, 1], second_camera)
    assert torch.equal(output.text_tokens()[:, 1], second_camera[:, output.text_span])


def test_mask_is_true_for_image_tokens_and_words_only(vlm):
    mask = vlm.encode(images(cameras=1), ["pick up the block", ""]).mask
    assert mask[:, :4].all()
    assert mask[:, 4:].sum(dim=1).tolist() == [4, 0]


def test_case_and_punctuation_make_no_difference(vlm):
    plain = vlm.hash_words(["pick up the red block"])
    assert torch.equal(plain, vlm.hash_words(["  Pick up, the RED block!"]))


def test_a_text_beyond_the_limit_is_refused(vlm):
    assert vlm.hash_words([" ".join(["word"] * 12)]).all()
    with pytest.raises(
        ConfigError, match=r"text has 13 words .*max_text_tokens is 12: 'word word"
    ):
        vlm.hash_words([" ".join(["word"] * 13)])


def test_no_word_has_the_row_of_padding(vlm):
    ids = vlm.hash_words([f"word{i}" for i in range(5000)])[:, 0]
    assert ids.min() >= 1
    assert ids.max() < 512


def test_words_of_the_shipped_task_have_rows_of_their_own(vlm):
    phrases = ["pick up the red block", "lift a green cube", "grasp and place", "blue box in on"]
    ids = vlm.hash_words(phrases)
    assert len(set(ids[ids != 0].tolist())) == 16


def test_a_single_string_stands_for_every_row(vlm):
    one = vlm.encode(images(), "lift the block")
    listed = vlm.encode(images(), ["lift the block"] * 2)
    assert torch.equal(one.features, listed.features)


def test_text_changes_the_image_tokens(vlm):
    red = vlm.encode(images(), "red").image_tokens()
    blue = vlm.encode(images(), "blue").image_tokens()
    assert not torch.allclose(red, blue, atol=1e-3)


def test_order_of_words_matters(vlm):
    one = vlm.encode(images(), "red above blue").image_tokens()
    other = vlm.encode(images(), "blue above red").image_tokens()
    assert not torch.allclose(one, other, atol=1e-5)


def test_padding_of_other_rows_does_not_leak(vlm):
    pair = vlm.encode(images(), ["red", "a much longer instruction than the other one"])
    alone = vlm.encode(images()[:1], "red")
    torch.testing.assert_close(pair.features[:1], alone.features)


def test_cameras_are_encoded_apart(vlm):
    first = images()
    second = first.clone()
    second[:, 1] = 0.0
    one, other = vlm.encode(first, "red").blocks(), vlm.encode(second, "red").blocks()
    torch.testing.assert_close(one[:, 0], other[:, 0])
    assert not torch.allclose(one[:, 1], other[:, 1], atol=1e-3)


def test_the_same_picture_from_another_camera_has_other_features(vlm):
    same = images(cameras=1).expand(-1, 2, -1, -1, -1)
    blocks = vlm.encode(same, "red").blocks()
    assert not torch.allclose(blocks[:, 0], blocks[:, 1], atol=1e-4)


def test_images_without_a_camera_axis_are_one_camera(vlm):
    batch = images(cameras=1)
    flat = vlm.encode(batch[:, 0], "red")
    assert flat.num_blocks == 1
    assert torch.equal(flat.features, vlm.encode(batch, "red").features)


def test_larger_images_are_resized(vlm):
    batch = images(size=32)
    doubled = batch.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)
    small, large = vlm.encode(batch, "red"), vlm.encode(doubled, "red")
    assert large.features.shape == small.features.shape
    # Resizing filters, so the features are close and not equal.
    assert torch.nn.functional.cosine_similarity(small.features, large.features, -1).mean() > 0.9


def test_same_seed_gives_the_same_weights_and_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    one = TinyVLM(image_size=32, hidden_size=16, depth=1, num_heads=2, seed=5)
    assert torch.equal(torch.rand(1), expected)
    other = TinyVLM(image_size=32, hidden_size=16, depth=1, num_heads=2, seed=5)
    for left, right in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(left, right)


def test_gradient_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        vlm = TinyVLM(image_size=32, hidden_size=16, depth=2, num_heads=2)
        if checkpointing:
            vlm.gradient_checkpointing_enable()
        vlm.train().encode(images(), "red").features.square().sum().backward()
        gradients.append([parameter.grad for parameter in vlm.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_gradient_checkpointing_stores_less():
    stored = []
    for checkpointing in (False, True):
        vlm = TinyVLM(image_size=32, hidden_size=16, depth=2, num_heads=2).train()
        if checkpointing:
            vlm.gradient_checkpointing_enable()
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=saved: s.append(t), lambda t: t):
            vlm.encode(images(), "red")
        stored.append(sum(tensor.numel() for tensor in saved))
    assert stored[1] < stored[0]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 2, 1, 32, 32), r"\[B, 3, H, W\].*got \[2, 2, 1, 32, 32\]"),
        ((3, 32, 32), r"got \[3, 32, 32\]"),
        ((1, 5, 3, 32, 32), "at most 4 cameras"),
    ],
)
def test_images_of_another_shape_are_refused(vlm, shape, message):
    with pytest.raises(ShapeError, match=message):
        vlm.encode(torch.zeros(shape), "red")


def test_uint8_images_are_refused(vlm):
    with pytest.raises(ShapeError, match=r"torch\.uint8.*divide by 255"):
        vlm.encode(torch.zeros(1, 1, 3, 32, 32, dtype=torch.uint8), "red")


def test_a_list_of_another_length_is_refused(vlm):
    with pytest.raises(ShapeError, match=r"list of 2.*got 3"):
        vlm.encode(images(), ["red"] * 3)


def test_an_image_size_that_the_stem_cannot_divide_is_refused():
    with pytest.raises(ConfigError, match="multiple of 16, got 100"):
        TinyVLM(image_size=100)


def test_words_never_have_the_id_of_an_action_token():
    vlm = TinyVLM(image_size=32, hidden_size=16, depth=1, num_heads=2, num_action_tokens=8)
    ids = vlm.hash_words([f"word{i}" for i in range(5000)])
    assert vlm.vocab_size == 520
    assert not torch.isin(ids, vlm.action_token_ids(8)).any()


def test_action_tokens_leave_the_other_weights_as_they_are():
    plain = TinyVLM(image_size=32, hidden_size=16, depth=1, num_heads=2)
    wider = TinyVLM(image_size=32, hidden_size=16, depth=1, num_heads=2, num_action_tokens=8)
    for key, value in plain.state_dict().items():
        assert torch.equal(wider.state_dict()[key], value)


def test_untrained_action_tokens_are_the_more_alike_the_nearer_their_bins_are():
    vlm = TinyVLM(image_size=32, hidden_size=64, depth=1, num_heads=2, num_action_tokens=32)
    rows = vlm.embed_tokens(vlm.action_token_ids(32)[None])[0]
    likeness = rows[0] @ rows.T
    assert likeness[0] > likeness[1] > likeness[2] > likeness[8:].max()


def test_weights_without_action_tokens_serve_a_model_with_them(vlm, tmp_path):
    vlm.save_pretrained(tmp_path)
    wider = TinyVLM.from_pretrained(tmp_path, num_action_tokens=8).eval()
    expected = vlm.encode(images(), "lift it").features
    assert torch.equal(wider.encode(images(), "lift it").features, expected)
    assert wider.action_token_ids(8).max() < wider.vocab_size


def test_action_tokens_that_were_not_asked_for_are_refused():
    with pytest.raises(ConfigError, match=r"has 0 action tokens.*num_action_tokens=256"):
        TinyVLM(image_size=32, hidden_size=16, depth=1, num_heads=2).action_token_ids(256)


def test_position_after_the_prefix_is_the_same_for_one_camera_and_two(vlm):
    one, two = (vlm.prefill(images(cameras=count), "lift it") for count in (1, 2))
    assert torch.equal(one.next_positions(3), two.next_positions(3))


def test_packaged_weights_load():
    packaged = TinyVLM.from_pretrained()
    assert packaged.get_config()["hidden_size"] == packaged.norm.weight.shape[0]
    widest = TinyVLM.from_pretrained(num_action_tokens=256)
    assert torch.equal(widest.word_embedding.weight, packaged.word_embedding.weight)
