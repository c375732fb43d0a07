# SPDX-License-Identifier: MIT
"""Every framework learns; in a file of its own, as no test of the models takes longer."""

import torch


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_one_batch_is_overfitted(build_new, make_batch, observation):
    model, batch = build_new(), make_batch()
    repeated = {
        key: value * 8 if isinstance(value, list) else value.repeat(8, *[1] * (value.dim() - 1))
        for key, value in batch.items()
    }
    optimizer = torch.optim.Adam(
        [parameter for parameter in model.parameters() if parameter.requires_grad], lr=3e-3
    )
    for step in range(1, 201):
        optimizer.zero_grad()
        model.train()(**repeated)["loss"].backward()
        optimizer.step()
        if step % 20 == 0:
            predicted = model.eval().predict_chunk(**observation(), generator=seeded())
            error = (predicted - batch["actions"]).abs().mean()
            if error < 0.1:
                break
    assert error < 0.1
