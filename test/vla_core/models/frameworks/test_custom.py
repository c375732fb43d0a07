# SPDX-License-Identifier: MIT
import pytest
import torch
from torch import nn

from vla_core.errors import CheckpointError, ConfigError, ShapeError, UnknownNameError
from vla_core.models import action_heads
from vla_core.models import fusion as fusion_modules
from vla_core.models.action_heads import (
    CVAEActionHead,
    DDPMActionHead,
    DiscreteActionHead,
    DiTActionHead,
    FlowMatchingActionHead,
    MLPActionHead,
)
from vla_core.models.action_heads.discrete import ActionTokenHead
from vla_core.models.encoders import MLPStateEncoder
from vla_core.models.frameworks import load, registry
from vla_core.models.frameworks.custom import CustomVLA
from vla_core.models.frameworks.registry import register_framework
from vla_core.models.fusion import (
    ConcatenationFusion,
    CrossAttentionFusion,
    FiLMFusion,
    GatedFusion,
)
from vla_core.models.vlm import TinyVLM

FUSIONS = [ConcatenationFusion, CrossAttentionFusion, FiLMFusion, GatedFusion]
HIDDEN_DIM, STATE_WIDTH, FEATURE_DIM = 32, 12, 24


def make_vlm():
    return TinyVLM(image_size=32, hidden_size=16, depth=1, num_heads=2)


def make_parts(**overrides):
    return {
        "action_dim": 3,
        "vlm": make_vlm(),
        "action_head": MLPActionHead(FEATURE_DIM, 3, chunk_size=4, hidden_dim=16),
        "state_encoder": MLPStateEncoder(5, STATE_WIDTH),
        "fusion_module": GatedFusion(HIDDEN_DIM, HIDDEN_DIM, STATE_WIDTH, FEATURE_DIM),
        "hidden_dim": HIDDEN_DIM,
        **overrides,
    }


def make_images(batch=2, cameras=1):
    return torch.rand(batch, cameras, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def seeded():
    return torch.Generator().manual_seed(0)


class Bottleneck(CustomVLA):
    def __init__(self, width=FEATURE_DIM, **keywords):
        super().__init__(**keywords)
        self.width = width
        self.my_layer = nn.Linear(self.fusion_module.output_dim, width)

    def _process_features(self, vision, text, state):
        return self.my_layer(super()._process_features(vision, text, state))

    def get_config(self):
        return {**super().get_config(), "width": self.width}


HEADS = {
    "cvae": lambda: CVAEActionHead(FEATURE_DIM, 3, chunk_size=4, hidden_dim=16),
    "ddpm": lambda: DDPMActionHead(FEATURE_DIM, 3, chunk_size=4, hidden_dim=16, diffusion_steps=4),
    "discrete": lambda: DiscreteActionHead(
        FEATURE_DIM, 3, chunk_size=4, hidden_dim=16, num_bins=8
    ),
    "dit": lambda: DiTActionHead(FEATURE_DIM, 3, chunk_size=4, hidden_dim=16, num_blocks=2),
    "flow": lambda: FlowMatchingActionHead(FEATURE_DIM, 3, chunk_size=4, hidden_dim=16),
    "mlp": lambda: MLPActionHead(FEATURE_DIM, 3, chunk_size=4, hidden_dim=16),
}


def public_subclasses(module, base):
    members = (getattr(module, name) for name in module.__all__)
    return {m for m in members if isinstance(m, type) and issubclass(m, base) and m is not base}


def test_every_head_and_fusion_of_the_library_is_composed_here():
    heads = {type(make()) for make in HEADS.values()}
    assert heads == public_subclasses(action_heads, action_heads.AbstractActionHead)
    assert set(FUSIONS) == public_subclasses(fusion_modules, fusion_modules.AbstractFusion)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("head", sorted(HEADS))
def test_every_fusion_and_head_train_predict_and_survive_saving(fusion, head, tmp_path):
    torch.manual_seed(0)
    parts = make_parts(
        fusion_module=fusion(HIDDEN_DIM, HIDDEN_DIM, STATE_WIDTH, FEATURE_DIM),
        action_head=HEADS[head](),
    )
    model = CustomVLA(**parts)
    images, text, state = make_images(), ["red", "blue"], torch.rand(2, 5)
    model(images, text, state, torch.rand(2, 4, 3))["loss"].backward()
    model.eval().save_pretrained(tmp_path)
    expected = model.predict_action(images, text, state, generator=seeded())
    assert expected.shape == (2, 4, 3)
    loaded = load(tmp_path)
    assert isinstance(loaded.fusion_module, fusion)
    assert torch.equal(loaded.predict_action(images, text, state, generator=seeded()), expected)


def test_defaults_are_a_policy_without_state():
    model = CustomVLA(action_dim=7, vlm=make_vlm(), hidden_dim=HIDDEN_DIM)
    assert model.predict_action(make_images(), "red").shape == (2, 7)
    with pytest.raises(ConfigError, match="has no state_encoder"):
        model.predict_action(make_images(), "red", torch.rand(2, 14))


def test_a_state_width_alone_makes_an_encoder():
    model = CustomVLA(3, make_vlm(), state_dim=5, chunk_size=4, hidden_dim=HIDDEN_DIM)
    assert model.predict_action(make_images(), "red", torch.rand(2, 5)).shape == (2, 4, 3)


def test_parts_can_be_given_as_configurations():
    given = make_parts()
    for name in ("action_head", "state_encoder", "fusion_module"):
        given[name] = given[name].get_config()
    model = CustomVLA(**given)
    assert isinstance(model.fusion_module, GatedFusion)
    assert model.action_head.chunk_size == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"action_head": MLPActionHead(20, 3, hidden_dim=16)},
            r"action_head\.feature_dim is 20, but fusion_module\.output_dim is 24",
        ),
        (
            {"action_head": MLPActionHead(24, 6, hidden_dim=16)},
            r"action_head\.action_dim is 6, but action_dim is 3",
        ),
        (
            {"fusion_module": GatedFusion(16, 32, 12, 24)},
            r"fusion_module\.vision_dim is 16, but hidden_dim is 32",
        ),
        (
            {"fusion_module": GatedFusion(32, 16, 12, 24)},
            r"fusion_module\.text_dim is 16, but hidden_dim is 32",
        ),
        (
            {"state_encoder": MLPStateEncoder(5, 8)},
            r"fusion_module\.state_dim is 12, but state_encoder\.output_dim is 8",
        ),
        ({"state_encoder": None}, "state_dim is 12, but the width without state_encoder is 0"),
        ({"state_dim": 6}, r"state_encoder\.state_dim is 5, but state_dim is 6"),
        ({"chunk_size": 2}, r"action_head\.chunk_size is 4, but chunk_size is 2"),
    ],
)
def test_parts_that_do_not_fit_are_refused_with_both_dimensions(change, message):
    with pytest.raises(ConfigError, match=message):
        CustomVLA(**make_parts(**change))


@pytest.mark.parametrize(
    "head", [MLPActionHead(24, 3, 4, hidden_dim=16, per_step=True), ActionTokenHead(3, 4)]
)
def test_a_head_that_reads_several_vectors_is_refused(head):
    with pytest.raises(ConfigError, match=f"{type(head).__name__} reads several vectors"):
        CustomVLA(**make_parts(action_head=head))


def test_all_misfits_are_named_at_once():
    with pytest.raises(ConfigError, match=r"vision_dim is 16.*; action_head\.action_dim is 6"):
        CustomVLA(
            **make_parts(
                fusion_module=GatedFusion(16, 32, 12, 24),
                action_head=MLPActionHead(24, 6, hidden_dim=16),
            )
        )


def test_a_part_of_another_kind_is_refused():
    with pytest.raises(ConfigError, match=r"must be of type AbstractFusion.*Linear"):
        CustomVLA(**make_parts(fusion_module=nn.Linear(2, 2)))


def test_a_head_in_the_place_of_a_fusion_is_refused():
    head = MLPActionHead(24, 3, hidden_dim=16).get_config()
    with pytest.raises(UnknownNameError, match="AbstractFusion 'MLPActionHead' is not known"):
        CustomVLA(**make_parts(fusion_module=head))


def test_a_subclass_changes_what_the_head_reads():
    model = Bottleneck(**make_parts()).eval()
    with torch.no_grad():
        model.my_layer.weight.zero_()
    images = make_images()
    features = model(images, "red", torch.rand(2, 5), torch.rand(2, 4, 3))["features"]
    assert torch.equal(features, model.my_layer.bias.expand(2, -1))


def test_a_subclass_may_change_the_width():
    parts = make_parts(action_head=MLPActionHead(10, 3, hidden_dim=16))
    assert Bottleneck(width=10, **parts).predict_action(make_images(), "red").shape == (2, 3)


def test_a_subclass_that_returns_another_width_is_refused():
    model = Bottleneck(width=10, **make_parts())
    with pytest.raises(ConfigError, match=r"returned width 10, but action_head.feature_dim is 24"):
        model.predict_action(make_images(), "red")


def test_a_subclass_without_a_name_is_not_saved(tmp_path):
    with pytest.raises(ConfigError, match="decorate the class with @register_framework"):
        Bottleneck(**make_parts()).save_pretrained(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_registered_subclass_survives_saving(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_FRAMEWORKS", dict(registry._FRAMEWORKS))

    @register_framework("named_bottleneck")
    class NamedBottleneck(Bottleneck):
        pass

    model = NamedBottleneck(**make_parts()).eval()
    model.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert type(loaded) is NamedBottleneck
    images = make_images()
    assert torch.equal(loaded.predict_action(images, "red"), model.predict_action(images, "red"))


def test_weights_of_another_fusion_are_refused(tmp_path):
    model = CustomVLA(**make_parts())
    model.save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace("GatedFusion", "FiLMFusion"))
    with pytest.raises(CheckpointError, match=r"fusion_module\.gates"):
        load(tmp_path)


def test_an_empty_instruction_gives_zero_text_tokens():
    model = CustomVLA(**make_parts())
    tokens = model.encode_vlm(make_images(), ["", "lift the block"])
    tokens.mask[0, tokens.text_span] = False
    vision, text = model._read_tokens(tokens)
    assert torch.equal(text[0], torch.zeros(4, HIDDEN_DIM))
    assert text[1].abs().sum() > 0
    assert vision.isfinite().all()


def test_cached_vlm_features_give_what_the_images_give():
    model, images, state = CustomVLA(**make_parts()).eval(), make_images(), torch.rand(2, 5)
    expected = model.predict_action(images, ["red", "blue"], state)
    cached = model.encode_vlm(images, ["red", "blue"])
    actual = model.predict_action(None, None, state, vlm_features=cached)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("both", [True, False])
def test_exactly_one_of_images_and_features_is_asked_for(both):
    model = CustomVLA(**make_parts())
    features = model.encode_vlm(make_images(), "red") if both else None
    with pytest.raises(ConfigError, match="either images or vlm_features"):
        model.predict_action(make_images() if both else None, "red", vlm_features=features)


def test_features_of_another_vlm_are_refused():
    other = TinyVLM(image_size=32, hidden_size=8, depth=1, num_heads=2)
    with pytest.raises(ShapeError, match=r"\[B, L, 16\].*got \[2, 16, 8\]"):
        CustomVLA(**make_parts()).predict_action(
            None, vlm_features=other.encode(make_images(), "red")
        )


def test_a_width_that_the_heads_cannot_share_is_refused():
    with pytest.raises(ConfigError, match="multiple of 8, got 20"):
        CustomVLA(**make_parts(hidden_dim=20))
