# SPDX-License-Identifier: MIT
"""The observation buffer makes an aligned observation of what has come."""

import io
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_core.processing.gaps import GapCause
from vla_core.processing.observation_buffer import ObservationBuffer

NOW_NS = 1_000_000_000_000
MS = 1_000_000


def test_complete_data_make_an_observation(observed):
    observation = observed.observation_of(
        observed.make_buffer(
            front=observed.image(30, colour=7), wrist=observed.image(20, colour=9)
        )
    )
    assert (observation.images["front"] == 7).all()
    assert (observation.images["wrist"] == 9).all()
    assert observation.instruction == "pick"
    assert observation.history == ()


def test_cleared_buffer_has_received_nothing(observed):
    buffer = observed.make_buffer()
    buffer.clear()
    assert observed.gap_of(buffer).cause is GapCause.NOTHING_RECEIVED
    assert np.isinf(buffer.state_age_s(NOW_NS))


def test_joints_come_in_the_order_of_the_contract(observed):
    np.testing.assert_array_equal(
        observed.observation_of(observed.make_buffer()).state, [1.0, 2.0]
    )


def test_stamps_and_skews_are_those_of_the_messages(observed):
    observation = observed.observation_of(
        observed.make_buffer(observed.image(30), observed.image(20), observed.joint_state(5))
    )
    assert observation.stamp_ns == NOW_NS - 30 * MS
    assert observation.image_stamps_ns == {"front": NOW_NS - 30 * MS, "wrist": NOW_NS - 20 * MS}
    assert observation.state_stamp_ns == NOW_NS - 5 * MS
    assert observation.skews_s == pytest.approx({"front": 0.0, "wrist": 0.010, "state": 0.025})


def test_newest_frame_of_the_first_camera_fixes_the_time(observed):
    buffer = observed.make_buffer(front=observed.image(60, colour=1))
    buffer.put_image("front", observed.image(10, colour=2), NOW_NS)
    assert (observed.observation_of(buffer).images["front"] == 2).all()
    assert observed.observation_of(buffer).stamp_ns == NOW_NS - 10 * MS


@given(st.lists(st.integers(0, 150), min_size=1, max_size=8, unique=True), st.integers(0, 150))
def test_other_cameras_give_their_nearest_frame(observed, wrist_ages, front_age):
    buffer = observed.make_buffer(
        front=observed.image(front_age), wrist=observed.image(wrist_ages[0])
    )
    buffer.put_joint_state(observed.joint_state(80), NOW_NS)
    for age in wrist_ages[1:]:
        buffer.put_image("wrist", observed.image(age), NOW_NS)
    skew = abs(observed.observation_of(buffer).skews_s["wrist"])
    assert skew == pytest.approx(min(abs(age - front_age) for age in wrist_ages) * 1e-3)


def test_frame_that_is_too_old_is_not_the_nearest(observed):
    buffer = observed.make_buffer(
        front=observed.image(190),
        wrist=observed.image(210, colour=1),
        state=observed.joint_state(100),
    )
    buffer.put_image("wrist", observed.image(5, colour=2), NOW_NS)
    assert (observed.observation_of(buffer).images["wrist"] == 2).all()


def test_state_is_interpolated_to_the_frame(observed):
    buffer = observed.make_buffer(
        front=observed.image(30), state=observed.joint_state(40, position=(0.0, 0.0))
    )
    buffer.put_joint_state(observed.joint_state(20, position=(1.0, 4.0)), NOW_NS)
    observation = observed.observation_of(buffer)
    np.testing.assert_allclose(observation.state, [2.0, 0.5])
    assert observation.state_stamp_ns == observation.stamp_ns


@pytest.mark.parametrize(
    ("skew_ms", "is_used"), [(15, True), (-15, True), (25, False), (-25, False)]
)
def test_largest_skew_of_the_contract_bounds_the_frames(observed, skew_ms, is_used):
    buffer = observed.make_buffer(
        front=observed.image(50),
        wrist=observed.image(50 - skew_ms),
        alignment={"max_skew_s": 0.02},
    )
    buffer.put_joint_state(observed.joint_state(60), NOW_NS)
    if is_used:
        assert observed.observation_of(buffer).skews_s["wrist"] == pytest.approx(skew_ms * 1e-3)
    else:
        gap = observed.gap_of(buffer)
        assert (gap.source, gap.cause) == ("camera 'wrist'", GapCause.SKEWED)
        assert f"{skew_ms * 1e-3:+.3f} s from that of the reference camera" in gap.reason


def test_largest_skew_bounds_the_state_too(observed):
    gap = observed.gap_of(
        observed.make_buffer(state=observed.joint_state(-40), alignment={"max_skew_s": 0.02})
    )
    assert (gap.source, gap.cause) == ("joint states", GapCause.SKEWED)
    assert "'shoulder' was measured +0.050 s from the frame" in gap.reason


def test_only_frames_that_are_used_are_decoded(observed):
    buffer = observed.make_buffer(
        front=observed.image(60, encoding="nonsense"), wrist=observed.image(60, width=6)
    )
    buffer.put_image("front", observed.image(10), NOW_NS)
    buffer.put_image("wrist", observed.image(12), NOW_NS)
    observed.observation_of(buffer)


def test_compressed_camera_gives_its_pixels(observed):
    contract = observed.camera_contract(transport="compressed")
    buffer = ObservationBuffer(contract, lambda topic: 1)
    file = io.BytesIO()
    PIL.Image.new("RGB", (4, 2), (10, 20, 30)).save(file, "PNG")
    message = SimpleNamespace(header=observed.header(10), format="png", data=file.getvalue())
    buffer.put_image("front", message, NOW_NS)
    buffer.put_joint_state(observed.joint_state(), NOW_NS)
    assert observed.observation_of(buffer).images["front"][0, 0].tolist() == [10, 20, 30]


class TestHistory:
    """Frames one action step, 0.1 s, apart, from a camera at 20 Hz."""

    @pytest.fixture(autouse=True)
    def _observed(self, observed):
        self.observed = observed

    def buffer(self, ages_ms, length=2):
        buffer = ObservationBuffer(
            self.observed.make_contract(), lambda topic: 1, history_length=length
        )
        for age in range(600, -1, -10):
            buffer.put_joint_state(
                self.observed.joint_state(age, position=(0.0, -float(age))), NOW_NS
            )
        for age in ages_ms:
            buffer.put_image("front", self.observed.image(age, colour=age // 2), NOW_NS)
            buffer.put_image("wrist", self.observed.image(age + 4, colour=age // 2), NOW_NS)
        return buffer

    def test_steps_are_evenly_spaced_and_oldest_first(self):
        observation = self.observed.observation_of(self.buffer(range(410, 9, -50)))
        ages = [(NOW_NS - step.stamp_ns) // MS for step in observation.history]
        assert ages == [210, 110]
        assert [step.images["wrist"][0, 0, 0] for step in observation.history] == [105, 55]
        np.testing.assert_allclose([step.state[0] for step in observation.history], [-210, -110])

    def test_camera_off_the_grid_gives_the_nearest_frames(self):
        observation = self.observed.observation_of(self.buffer((217, 184, 150, 117, 84, 50, 17)))
        ages = [(NOW_NS - step.stamp_ns) // MS for step in observation.history]
        assert ages == [217, 117]

    def test_history_is_short_after_the_start(self):
        observation = self.observed.observation_of(self.buffer((110, 60, 10), length=5))
        assert [(NOW_NS - step.stamp_ns) // MS for step in observation.history] == [110]

    def test_history_ends_at_a_hole(self):
        observation = self.observed.observation_of(self.buffer((310, 210, 10), length=3))
        assert observation.history == ()

    def test_buffer_without_history_gives_none(self):
        assert (
            self.observed.observation_of(self.buffer(range(410, 9, -50), length=0)).history == ()
        )


def test_clock_that_is_set_back_makes_a_fresh_start(observed):
    buffer = observed.make_buffer()
    earlier_ns = NOW_NS - 5_000 * MS
    assert observed.gap_of(buffer, earlier_ns).cause is GapCause.NOTHING_RECEIVED
    for camera in ("front", "wrist"):
        buffer.put_image(camera, observed.image(5_010), earlier_ns)
    buffer.put_joint_state(observed.joint_state(5_005), earlier_ns)
    assert observed.observation_of(buffer, earlier_ns).stamp_ns == earlier_ns - 10 * MS


def test_ages_are_infinite_before_the_first_message(observed):
    buffer = ObservationBuffer(observed.make_contract(), lambda topic: 1)
    assert buffer.camera_ages_s(NOW_NS) == {"front": float("inf"), "wrist": float("inf")}
    assert buffer.state_age_s(NOW_NS) == float("inf")


def test_ages_count_from_the_stamps(observed):
    buffer = observed.make_buffer(observed.image(30), observed.image(20), observed.joint_state(5))
    assert buffer.camera_ages_s(NOW_NS) == pytest.approx({"front": 0.03, "wrist": 0.02})
    assert buffer.state_age_s(NOW_NS) == pytest.approx(0.005)


def test_cameras_are_aligned_when_none_is_behind_the_first(observed):
    assert observed.make_buffer(observed.image(20), observed.image(20)).is_aligned(0.0)
    assert observed.make_buffer(observed.image(20), observed.image(10)).is_aligned(0.0)
    assert not observed.make_buffer(observed.image(20), observed.image(30)).is_aligned(0.005)
    assert observed.make_buffer(observed.image(20), observed.image(30)).is_aligned(0.015)


def test_cleared_buffer_has_nothing(observed):
    buffer = observed.make_buffer()
    buffer.clear()
    assert observed.gap_of(buffer).cause is GapCause.NOTHING_RECEIVED
