# SPDX-License-Identifier: MIT
import pytest
import torch

from vla_core.errors import ConfigError
from vla_core.models.frameworks import HelixVLA
from vla_core.models.vlm import TinyVLM
from vla_core.training.frame_inputs import CachedFeatures, StoredImages
from vla_core.training.plan_ages import PlanAges, plan_ages_of

LENGTHS = [5, 1, 9]
STARTS = torch.tensor([0] * 5 + [5] + [6] * 9)


@pytest.fixture
def numbered_images():
    """Images whose pixels all are the number of their frame."""
    numbers = torch.arange(sum(LENGTHS), dtype=torch.uint8)
    return StoredImages(numbers.view(-1, 1, 1, 1, 1).expand(-1, 2, 3, 4, 4), [""] * sum(LENGTHS))


def frames_of(images):
    return (images[:, 0, 0, 0, 0] * 255.0).round().long()


def test_the_image_is_as_old_as_the_age_says(numbered_images):
    frames = torch.arange(sum(LENGTHS))
    inputs = PlanAges(numbered_images, LENGTHS, max_age=3).inputs(frames)
    assert torch.equal(frames_of(inputs["plan_images"]), frames - inputs["plan_age"])


def test_a_plan_is_never_of_another_episode(numbered_images):
    torch.manual_seed(0)
    ages = PlanAges(numbered_images, LENGTHS, max_age=20)
    frames = torch.arange(sum(LENGTHS))
    for _ in range(20):
        inputs = ages.inputs(frames)
        assert torch.equal(STARTS[frames_of(inputs["plan_images"])], STARTS)


def test_every_age_up_to_the_largest_is_drawn(numbered_images):
    torch.manual_seed(0)
    inputs = PlanAges(numbered_images, LENGTHS, max_age=3).inputs(torch.full((200,), 14))
    assert set(inputs["plan_age"].tolist()) == {0, 1, 2, 3}


def test_helix_trains_with_plans_of_its_largest_age(recipe_values, make_trainer):
    model = {"hidden_dim": 16, "depth": 1, "plan_horizon": 4, "plan_dim": 16, "plan_max_age": 2}
    recipe_values["model"] = model
    trainer = make_trainer(framework="helix", cache_features=False)
    ages = []
    policy = trainer._learner.model.policy
    policy.register_forward_pre_hook(
        lambda module, inputs: ages.extend(inputs[3].tolist()) if module.training else None
    )
    trainer.run()
    assert set(ages) == {0, 1, 2}


def test_old_plans_need_the_images():
    policy = HelixVLA(TinyVLM(32, 16, 1, 2), hidden_dim=16, depth=1, plan_max_age=2)
    features = CachedFeatures(policy.vlm.encode(torch.rand(1, 3, 32, 32), "lift"))
    with pytest.raises(ConfigError, match=r"plan_max_age is 2.*cache_features=false"):
        plan_ages_of(policy, features, LENGTHS)


def test_a_policy_without_old_plans_has_no_ages(numbered_images):
    policy = HelixVLA(TinyVLM(32, 16, 1, 2), hidden_dim=16, depth=1)
    assert plan_ages_of(policy, numbered_images, LENGTHS) is None
