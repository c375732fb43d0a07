# SPDX-License-Identifier: MIT
"""One trainer for the frameworks, and a policy from each."""

import re

import numpy as np
import pytest

from vla_core.errors import ConfigError
from vla_core.inference.policy import Policy
from vla_core.types import Observation

MODELS = {
    "custom": {"hidden_dim": 16, "chunk_size": 4},
    "helix": {"hidden_dim": 16, "depth": 1, "plan_horizon": 4, "plan_dim": 16},
    "openvla": {"hidden_dim": 16, "chunk_size": 4, "action_token_pattern": "oft"},
    "pi0": {"hidden_dim": 16, "chunk_size": 4, "num_state_tokens": 8, "flow_steps": 3},
    "act": {"hidden_dim": 16, "num_heads": 2, "feedforward_dim": 16, "chunk_size": 4},
    "octo": {"hidden_dim": 16, "num_heads": 2, "num_layers": 1, "chunk_size": 4},
    "rt2": {"num_bins": 16, "chunk_size": 4},
}
WITHOUT_VLM = ("act", "octo")


@pytest.mark.parametrize("framework", sorted(MODELS))
def test_framework_trains_by_recipe_and_acts(framework, recipe_values, make_trainer, contract):
    recipe_values["model"] = dict(MODELS[framework])
    if framework in WITHOUT_VLM:
        recipe_values["vlm"] = {}
        recipe_values["model"]["vision_encoder"] = {"name": "patch", "output_dim": 16}
    else:
        recipe_values["vlm"]["num_action_tokens"] = 16
    trainer = make_trainer(framework=framework, cache_features=False)
    trainer.run()
    policy = Policy.from_checkpoint(trainer.folder.policy_path, contract=contract)
    stamps = dict.fromkeys(contract.cameras, 1)
    frames = {name: np.zeros((32, 32, 3), np.uint8) for name in contract.cameras}
    observation = Observation(
        images=frames,
        state=np.zeros(3),
        instruction="pick up the red block",
        stamp_ns=1,
        image_stamps_ns=stamps,
        state_stamp_ns=1,
    )
    chunk, again = (policy.predict_chunk(observation, seed=0) for _ in range(2))
    assert chunk.actions.shape == (4, 3)
    np.testing.assert_array_equal(chunk.actions, again.actions)


@pytest.mark.parametrize(
    ("framework", "vlm", "message"),
    [
        ("act", {"name": "tiny"}, "'act' has no VLM; give vlm: {}, got vlm {'name': 'tiny'}"),
        ("rt2", {}, "'rt2' needs a vlm; give its 'name', got vlm {}"),
    ],
)
def test_vlm_where_none_belongs_and_none_where_one_does_are_refused(
    framework, vlm, message, recipe_values, make_trainer
):
    recipe_values["model"] = {}
    recipe_values["vlm"] = vlm
    with pytest.raises(ConfigError, match=re.escape(message)):
        make_trainer(framework=framework, cache_features=False)
