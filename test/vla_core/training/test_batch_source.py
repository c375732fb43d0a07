# SPDX-License-Identifier: MIT
"""Batches that are changed at random, and are the same whoever computes them."""

import csv
import signal

import pytest
import torch

from vla_core.errors import ConfigError
from vla_core.inference.policy import Policy

_CHANGES = {"crop": 0.2, "shift": 0.1, "brightness": 0.3, "contrast": 0.3, "saturation": 0.3}


@pytest.fixture
def settings():
    """Settings of a run whose images change."""
    return {"cache_features": False, "augmentation": _CHANGES}


def losses_of(trainer):
    with trainer.folder.losses.path.open() as file:
        return [row["loss"] for row in csv.DictReader(file)]


def stopped_and_whole(make_trainer, **settings):
    """Return the losses of a run that was stopped after step 5 and resumed, and of a whole one."""
    settings = {"steps": 8} | settings
    whole = make_trainer("whole", **settings)
    whole.run()
    stopped = make_trainer("stopped", **settings)
    append = stopped.folder.losses.append

    def append_and_stop(step, figures):
        append(step, figures)
        if step == 5:
            signal.raise_signal(signal.SIGINT)

    stopped.folder.losses.append = append_and_stop
    assert not stopped.run().is_complete
    resumed = make_trainer("stopped", **settings)
    assert resumed.resume()
    assert resumed.step == 5
    resumed.run()
    return losses_of(resumed), losses_of(whole)


def test_run_with_changed_images_is_resumed_exactly(make_trainer, settings):
    resumed, whole = stopped_and_whole(make_trainer, **settings)
    assert resumed == whole


def test_rows_change_alike_however_the_batch_is_divided(make_trainer, settings):
    source = make_trainer(**settings)._first
    frames, rows = source.next_frames(3), torch.arange(8)
    whole = source.batch(frames, rows, 3)["images"]
    parts = [source.batch(frames[part], rows[part], 3)["images"] for part in rows.chunk(4)]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(source.batch(frames, rows, 4)["images"], whole)
    assert not torch.equal(source.batch(frames[:1], rows[1:2], 3)["images"], whole[:1])


def test_what_is_validated_is_not_changed(make_trainer, settings):
    source = make_trainer(**settings)._first
    plain = make_trainer("plain", cache_features=False)._first
    frames = torch.arange(3)
    assert torch.equal(
        source.inputs.inputs(frames)["images"], plain.inputs.inputs(frames)["images"]
    )


def test_features_that_are_kept_cannot_change(make_trainer):
    with pytest.raises(ConfigError, match="augmentation changes the images in every step"):
        make_trainer(augmentation=_CHANGES)


def test_streamed_run_is_resumed_exactly(make_trainer, settings):
    stream = {"readers": 2, "buffer_size": 10, "cached_frames": 20}
    settings |= {"stream": stream, "batch_size": 4, "steps": 14}
    resumed, whole = stopped_and_whole(make_trainer, **settings)
    assert resumed == whole


@pytest.mark.parametrize("cached_frames", [0, 20])
def test_streamed_images_are_those_in_memory(make_trainer, cached_frames):
    settings = {"readers": 2, "buffer_size": 8, "cached_frames": cached_frames}
    stream = make_trainer(cache_features=False, stream=settings)._first
    memory = make_trainer("memory", cache_features=False)._first
    rows = torch.arange(8)
    for step in range(20):
        frames = stream.next_frames(step)
        streamed, stored = (source.batch(frames, rows, step) for source in (stream, memory))
        assert torch.equal(streamed["images"], stored["images"])
        assert streamed["text"] == stored["text"]
    assert stream.validate(Shown()) == memory.validate(Shown())


class Shown(torch.nn.Module):
    """A policy that predicts the mean of the images that it is shown."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def predict_chunk(self, images, **inputs):
        return images.mean(dim=(1, 2, 3, 4)).view(-1, 1, 1).expand(-1, 4, 3)


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ({"readers": 2, "cached_frames": -1}, "cached_frames must be a positive whole number"),
        ({"readers": 3}, "batch_size is 8, which stream.readers 3 cannot divide"),
        ({"readers": 8}, "5 training episodes do not give each 1 frames"),
    ],
)
def test_readers_that_do_not_fit_are_refused(make_trainer, settings, cause):
    with pytest.raises(ConfigError, match=cause):
        make_trainer(cache_features=False, stream=settings)


def test_stream_and_cached_features_exclude_each_other(make_trainer):
    with pytest.raises(ConfigError, match="cache_features encodes all frames once"):
        make_trainer(stream={"readers": 2})


@pytest.mark.parametrize("stream", [{}, {"readers": 2, "buffer_size": 16}])
def test_history_is_that_of_the_episode_with_padding_at_its_beginning(
    make_trainer, octo_values, stream
):
    trainer = make_trainer(stream=stream)
    source, images = trainer._first, {}
    for frame in range(11, 15):
        (images[frame],) = source.inputs.inputs(torch.tensor([frame]))["images"]
    batch = source.batch(torch.tensor([12, 13, 14]), torch.arange(3), 0)
    assert batch["history_pad_mask"].tolist() == [[True, True], [True, False], [False, False]]
    assert torch.equal(batch["history_images"][2], torch.stack([images[12], images[13]]))
    assert torch.equal(batch["history_images"][1, 1], images[12])
    states = source.batch(torch.tensor([12, 13]), torch.arange(2), 0)["proprioception"]
    assert torch.equal(batch["history_proprioception"][2], states)


def test_model_is_trained_validated_and_saved_with_its_history(make_trainer, octo_values):
    trainer = make_trainer(augmentation=_CHANGES, steps=3)
    seen = []
    model = trainer._learner.model
    model.register_forward_pre_hook(
        lambda module, args, inputs: seen.append((module.training, inputs)), with_kwargs=True
    )
    trainer.run()
    assert {is_training for is_training, _ in seen} == {True, False}
    for _, inputs in seen:
        assert inputs["history_images"].shape[1:] == (2, 2, 3, 32, 32)
        assert inputs["history_pad_mask"].shape[1:] == (2,)
    policy = Policy.from_checkpoint(trainer.folder.policy_path)
    assert policy.history_length == 2


def test_history_is_changed_as_the_frame_that_it_leads_to(make_trainer, octo_values):
    source = make_trainer(augmentation={"brightness": 0.5})._first
    plain = make_trainer("plain")._first
    frames, rows = torch.tensor([5, 30]), torch.arange(2)
    changed, given = (each.batch(frames, rows, 0) for each in (source, plain))
    for row in range(2):
        factor = changed["images"][row].mean((1, 2, 3)) / given["images"][row].mean((1, 2, 3))
        earlier = given["history_images"][row] * factor[:, None, None, None]
        difference = changed["history_images"][row] - earlier.clamp(max=1.0)
        assert difference.abs().mean() < 0.02
        assert abs(factor - 1.0).min() > 0.0
