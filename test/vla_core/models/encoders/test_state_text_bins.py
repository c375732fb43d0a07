# SPDX-License-Identifier: MIT
import numpy as np
import torch

from vla_core.models.encoders.state_text_bins import state_bins, state_prompts


def test_bins_are_those_of_numpy_digitize():
    state = np.random.default_rng(0).uniform(-1.0, 1.0, 1000).astype(np.float32)
    expected = np.digitize(state, np.linspace(-1.0, 1.0, 257)[:-1]) - 1
    assert state_bins(torch.from_numpy(state)).tolist() == expected.tolist()


def test_an_edge_belongs_to_the_bin_above_it():
    assert state_bins(torch.tensor([-1.0, 0.0]), 4).tolist() == [0, 2]


def test_states_outside_the_bins_are_clipped():
    assert state_bins(torch.tensor([-7.0, 1.0, 7.0])).tolist() == [0, 255, 255]


def test_the_prompt_has_instruction_and_state():
    prompts = state_prompts(["lift", "wave"], torch.tensor([[-1.0, 0.0], [0.5, 2.0]]))
    assert prompts == [
        "Task: lift, State: 0 128;\nAction: ",
        "Task: wave, State: 192 255;\nAction: ",
    ]


def test_the_prompt_of_an_unknown_state_has_the_instruction_alone():
    assert state_prompts(["lift"], None) == ["Task: lift;\nAction: "]
