import numpy as np
import pytest
import torch

from vla_core.errors import ConfigError
from vla_core.models.vlm import get_vlm
from vla_core.sim.grounding import render_grounding_data
from vla_core.sim.scene import TabletopSim
from vla_core.training.vlm_pretraining import (
    GroundingPretrainer,
    PretrainingOptions,
    grounding_losses,
)

WORDINGS = [TabletopSim.wordings(colour) for colour in TabletopSim.targets]


@pytest.fixture(scope="module")
def scenes():
    return render_grounding_data(num_scenes=24, first_seed=0, image_size=96)


def test_perfect_answer_has_the_least_loss():
    visible = torch.tensor([[True, False]])
    centre = torch.tensor([[[0.4, 0.7], [0.0, 0.0]]])
    pose = torch.randn(1, 2, 5)
    cell = torch.full((1, 2, 36), -20.0)
    cell[0, 0, 4 * 6 + 2] = 20.0  # row 4 and column 2 of a 6 x 6 grid
    offset = torch.zeros(1, 2, 36, 2)
    offset[0, 0, 4 * 6 + 2] = torch.tensor([0.4 * 6 - 2.5, 0.7 * 6 - 4.5])
    answer = {"cell": cell, "offset": offset, "pose": pose, "visible": torch.tensor([[20.0, -20]])}
    losses = grounding_losses(answer, visible, centre, pose, (6, 6))
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(0.0, abs=1e-6), name


def test_camera_that_does_not_see_the_block_asks_for_no_position():
    visible = torch.tensor([[True, False]])
    answer = {
        "cell": torch.zeros(1, 2, 36),
        "offset": torch.zeros(1, 2, 36, 2),
        "pose": torch.zeros(1, 2, 5),
        "visible": torch.zeros(1, 2),
    }
    centre, pose = torch.rand(1, 2, 2), torch.randn(1, 2, 5)
    before = grounding_losses(answer, visible, centre, pose, (6, 6))
    other = pose.clone()
    other[0, 1] += 1.0
    after = grounding_losses(answer, visible, centre, other, (6, 6))
    assert before["pose"] == after["pose"]


def test_training_learns_where_the_named_block_is(scenes):
    torch.manual_seed(0)
    vlm = get_vlm("tiny", hidden_size=64, depth=1)
    options = PretrainingOptions(steps=60, batch_size=8, use_bfloat16=False)
    trainer = GroundingPretrainer(vlm, scenes, WORDINGS, options)
    losses = []
    trainer.run(lambda step, components: losses.append(components["cell"]))
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:10])
    assert set(trainer.evaluate(scenes)) >= {"cell_accuracy", "wrong_colour"}


def test_batch_larger_than_the_data_is_refused(scenes):
    with pytest.raises(ConfigError, match="batch_size is 64 but there are only 24 scenes"):
        GroundingPretrainer(get_vlm("tiny"), scenes, WORDINGS, PretrainingOptions(batch_size=64))
