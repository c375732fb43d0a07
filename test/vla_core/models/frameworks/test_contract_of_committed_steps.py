# SPDX-License-Identifier: MIT
"""What every framework promises of a chunk whose first steps are known already."""

import pytest
import torch

from vla_core.errors import ShapeError

ACTION_DIM, CHUNK_SIZE, BATCH = 3, 4, 3


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def predict_chunk(observation):
    """Predict a chunk for the same observation and noise."""

    def predict(model, **overrides):
        return model.predict_chunk(**observation(), generator=seeded(), **overrides)

    return predict


def old_chunk(seed=2):
    return torch.rand(BATCH, CHUNK_SIZE, ACTION_DIM, generator=seeded(seed)) - 0.5


def test_committed_steps_are_the_first_of_the_chunk_exactly(build, predict_chunk):
    model, old = build(), old_chunk()
    for num_steps in range(CHUNK_SIZE):
        committed = old[:, :num_steps]
        chunk = predict_chunk(model, committed=committed)
        assert torch.equal(chunk[:, :num_steps], committed)
        guided = predict_chunk(model, committed=committed, overlap=old[:, num_steps:])
        assert torch.equal(guided[:, :num_steps], committed)


def test_no_committed_steps_change_nothing(build, predict_chunk):
    model = build()
    plain = predict_chunk(model)
    assert torch.equal(predict_chunk(model, committed=None), plain)
    torch.testing.assert_close(predict_chunk(model, committed=old_chunk()[:, :0]), plain)


def test_chunk_after_committed_steps_is_reproducible(build, predict_chunk):
    model, old = build(), old_chunk()
    for steps in ({"committed": old[:, :2]}, {"committed": old[:, :1], "overlap": old[:, 1:]}):
        assert torch.equal(predict_chunk(model, **steps), predict_chunk(model, **steps))


def test_guidance_keeps_the_chunk_closer_to_the_old_one(build_sampler, predict_chunk):
    torch.manual_seed(0)
    model, old = build_sampler().eval(), old_chunk()
    frozen = predict_chunk(model, committed=old[:, :1])
    guided = predict_chunk(model, committed=old[:, :1], overlap=old[:, 1:])
    distances = [(chunk - old)[:, 1:].norm(dim=(1, 2)) for chunk in (guided, frozen)]
    assert (distances[0] < distances[1]).all()


def test_every_framework_with_a_sampler_is_under_this_law(builders, samplers):
    sampling = {name.split()[0] for name, build in builders.items() if build().inpaints}
    assert sampling == {name.split()[0] for name in samplers}


def test_committed_steps_shape_the_rest_of_a_sampled_chunk(build, predict_chunk):
    model, old = build(), old_chunk()
    rest = [predict_chunk(model, committed=steps)[:, 2:] for steps in (old[:, :2], -old[:, :2])]
    assert torch.equal(*rest) != model.inpaints


@pytest.mark.parametrize(
    ("num_committed", "num_overlapping", "width"),
    [(CHUNK_SIZE, 0, ACTION_DIM), (2, CHUNK_SIZE - 1, ACTION_DIM), (1, 1, ACTION_DIM + 1)],
)
def test_committed_steps_that_do_not_fit_are_refused(
    build, num_committed, num_overlapping, width, predict_chunk
):
    with pytest.raises(ShapeError, match="committed"):
        predict_chunk(
            build(),
            committed=torch.zeros(BATCH, num_committed, width),
            overlap=torch.zeros(BATCH, num_overlapping, width),
        )
