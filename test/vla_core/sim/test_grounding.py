import numpy as np
import pytest

from vla_core.errors import ConfigError
from vla_core.sim.box_scene import BoxSim
from vla_core.sim.grounding import render_grounding_data
from vla_core.sim.scene import COLOURS


@pytest.fixture(scope="module")
def data():
    return render_grounding_data(num_scenes=12, first_seed=100, image_size=96)


def test_labelled_centre_shows_the_colour_of_the_block(data):
    checked = 0
    for scene in range(len(data)):
        for camera in range(2):
            for index in range(len(COLOURS)):
                if not data.visible[scene, camera, index]:
                    continue
                column, row = (data.centre[scene, camera, index] * 96).astype(int).clip(0, 95)
                patch = data.images[
                    scene, camera, max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3
                ]
                others = [c for c in range(3) if c != index]
                is_colour = patch[..., index] > 1.4 * patch[..., others].max(axis=-1)
                checked += 1
                assert is_colour.any()
    assert checked > 30


def test_scene_is_the_same_whichever_part_renders_it(data):
    alone = render_grounding_data(num_scenes=1, first_seed=105, image_size=96)
    np.testing.assert_array_equal(alone.images[0], data.images[5])
    np.testing.assert_array_equal(alone.pose[0], data.pose[5])


def test_pose_label_is_bounded_and_finite(data):
    assert np.isfinite(data.pose).all()
    np.testing.assert_allclose(np.hypot(data.pose[..., 3], data.pose[..., 4]), 1.0, atol=1e-5)


def test_image_size_must_divide_the_render_size():
    with pytest.raises(ConfigError, match="must divide 192, got 100"):
        render_grounding_data(num_scenes=1, first_seed=0, image_size=100)


def test_each_colour_asks_for_its_block(data):
    np.testing.assert_array_equal(data.asked, np.tile(np.arange(len(COLOURS)), (len(data), 1)))


def test_what_two_colours_ask_for_depends_on_the_box():
    scenes = render_grounding_data(24, first_seed=100, image_size=96, task="put_in_box")
    colours = [BoxSim.colours_of(target) for target in BoxSim.targets]
    names = np.array(list(COLOURS))[scenes.asked]
    is_first = names == np.array([first for first, _ in colours])
    is_second = names == np.array([second for _, second in colours])
    assert (is_first ^ is_second).all()
    assert is_first.any()
    assert is_second.any()
