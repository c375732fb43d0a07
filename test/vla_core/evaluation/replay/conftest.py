# SPDX-License-Identifier: MIT
"""A small untrained policy for the robot of two joints, and its replays of small bags."""

import numpy as np
import pytest
import torch

from vla_core.evaluation.replay.bag_replay import BagReplay
from vla_core.evaluation.replay.inference import LocalInference
from vla_core.evaluation.replay.settings import ReplaySettings
from vla_core.inference.policy import Policy
from vla_core.models.frameworks import GR00TVLA
from vla_core.models.vlm import get_vlm
from vla_core.processing.normalization import Statistics
from vla_core.processing.pipeline import ProcessingPipeline

CHUNK_SIZE = 4


@pytest.fixture(scope="session")
def checkpoint(bags, tmp_path_factory):
    """A checkpoint for the robot of ``bags.py``."""
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    vlm = get_vlm("tiny", image_size=32, hidden_size=32, depth=1)
    GR00TVLA(
        vlm=vlm,
        action_dim=2,
        state_dim=2,
        num_cameras=2,
        chunk_size=CHUNK_SIZE,
        hidden_dim=32,
        sampler="ddim",
        inference_steps=2,
    ).save_pretrained(folder)
    statistics = Statistics.from_array(np.random.default_rng(0).uniform(-0.5, 1.5, (50, 2)))
    ProcessingPipeline(
        contract=bags.make_contract(),
        state_statistics=statistics,
        action_statistics=statistics,
        image_size=32,
        chunk_size=CHUNK_SIZE,
    ).save(folder)
    return folder


@pytest.fixture(scope="session")
def policy(checkpoint):
    threads = torch.get_num_threads()
    yield Policy.from_checkpoint(checkpoint)
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def robot_bag(bags, tmp_path_factory):
    """A good recording of 1.5 s; nothing may write into its folder."""
    return bags.write_bag(tmp_path_factory.mktemp("robot") / "good", bags.robot_messages())


@pytest.fixture(scope="session")
def replay(policy):
    """Return the function that replays a bag with the small policy."""

    def run(bag, **settings):
        chosen = {"instruction": "pick", "num_worst": 0, "probe_every": 0, **settings}
        return BagReplay(LocalInference(policy), bag, ReplaySettings(**chosen)).run()

    return run


@pytest.fixture(scope="session")
def result(replay, robot_bag):
    """The replay of the good recording, with everything that a replay can find."""
    return replay(robot_bag, num_worst=2, probe_every=5)
