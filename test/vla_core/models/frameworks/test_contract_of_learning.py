# SPDX-License-Identifier: MIT
"""Every framework learns; in a file of its own, as no test of the models takes longer."""

import torch


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_one_batch_is_overfitted(build_new, make_batch, observation):
    model, batch = build_new().train(), make_batch()
    repeated = {
        key: value * 8 if isinstance(value, list) else value.repeat(8, *[1] * (value.dim() - 1))
        for key, value in batch.items()
    }
    optimizer = torch.optim.Adam(
        [parameter for parameter in model.parameters() if parameter.requires_grad], lr=3e-3
    )
    for _ in range(200):
        optimizer.zero_grad()
        model(**repeated)["loss"].backward()
        optimizer.step()
    predicted = model.eval().predict_chunk(**observation(), generator=seeded())
    assert (predicted - batch["actions"]).abs().mean() < 0.1
