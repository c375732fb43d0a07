# SPDX-License-Identifier: MIT
"""The observation buffer names the one reason why there is no observation."""

import pytest

from vla_core.processing.gaps import GapCause
from vla_core.processing.observation_buffer import ObservationBuffer
from vla_core.types import Observation

NOW_NS = 1_000_000_000_000
MS = 1_000_000


@pytest.mark.parametrize(
    ("publishers", "cause"), [(0, GapCause.NO_PUBLISHER), (1, GapCause.NOTHING_RECEIVED)]
)
def test_source_that_never_delivered_is_told_from_one_without_publisher(
    observed, publishers, cause
):
    buffer = ObservationBuffer(observed.make_contract(), lambda topic: publishers)
    gap = observed.gap_of(buffer)
    assert (gap.source, gap.cause) == ("camera 'front'", cause)
    assert "front/image" in gap.reason


def test_lacking_joint_states_are_a_gap(observed):
    buffer = ObservationBuffer(observed.make_contract(), lambda topic: 1)
    buffer.put_image("front", observed.image(), NOW_NS)
    buffer.put_image("wrist", observed.image(), NOW_NS)
    assert (observed.gap_of(buffer).source, observed.gap_of(buffer).cause) == (
        "joint states",
        GapCause.NOTHING_RECEIVED,
    )


@pytest.mark.parametrize(
    ("sources", "name"),
    [
        ({"front": {"age_ms": 201}}, "camera 'front'"),
        ({"wrist": {"age_ms": 201}}, "camera 'wrist'"),
        ({"state": {"age_ms": 101}}, "joint states"),
    ],
)
def test_source_that_fell_silent_is_named(observed, sources, name):
    gap = observed.gap_of(observed.make_buffer(**sources))
    assert (gap.source, gap.cause) == (name, GapCause.SILENT)
    assert "s is allowed; nothing newer came" in gap.reason


def test_data_of_exactly_the_allowed_age_are_used(observed):
    observed.observation_of(
        observed.make_buffer(observed.image(200), observed.image(200), observed.joint_state(100))
    )


def test_messages_that_arrive_too_old_are_late_and_not_missing(observed):
    buffer = observed.make_buffer(front=observed.image(320))
    buffer.put_image("front", observed.image(290), NOW_NS)
    gap = observed.gap_of(buffer)
    assert gap.cause is GapCause.LATE
    assert "messages are 0.290 s old when they arrive" in gap.reason


def test_late_source_whose_messages_stop_has_fallen_silent(observed):
    buffer = observed.make_buffer(front=observed.image(320))
    buffer.put_image("front", observed.image(290), NOW_NS)
    later_ns = NOW_NS + 250 * MS
    buffer.put_image("wrist", observed.image(-240), later_ns)
    assert observed.gap_of(buffer, later_ns).cause is GapCause.SILENT


def test_silent_source_without_publisher_says_so(observed):
    gap = observed.gap_of(observed.make_buffer(front=observed.image(500), publishers=0))
    assert gap.cause is GapCause.NO_PUBLISHER
    assert gap.reason.endswith("the topic has no publisher any more.")


def test_future_stamp_is_a_gap_beyond_the_tolerance(observed):
    assert (
        observed.gap_of(observed.make_buffer(front=observed.image(-60))).cause is GapCause.FUTURE
    )
    observed.observation_of(observed.make_buffer(front=observed.image(-40)))


def test_frame_from_the_future_does_not_fix_the_time_once_later_ones_are_sane(observed):
    buffer = observed.make_buffer(front=observed.image(-150, colour=1))
    buffer.put_image("front", observed.image(10, colour=2), NOW_NS)
    assert (observed.observation_of(buffer).images["front"] == 2).all()


class TestFrozenCamera:
    """A driver that lives and sends the same again and again."""

    @pytest.fixture(autouse=True)
    def _observed(self, observed):
        self.observed = observed

    def send(self, contract, stamps_ms, colours, now_ms):
        """Return what a camera makes that sends at 10 Hz until now."""
        buffer = ObservationBuffer(contract, lambda topic: 1)
        result = None
        arrivals = range(now_ms - 100 * (len(stamps_ms) - 1), now_ms + 1, 100)
        for arrival, stamp, colour in zip(arrivals, stamps_ms, colours, strict=True):
            now_ns = NOW_NS + arrival * MS
            buffer.put_image("front", self.observed.image(-stamp, colour), now_ns)
            buffer.put_image("wrist", self.observed.image(-arrival), now_ns)
            buffer.put_joint_state(self.observed.joint_state(-arrival), now_ns)
            result = buffer.observe("pick", now_ns)
        return result

    def test_stamp_that_stays_the_same_is_frozen_and_not_silent(self):
        gap = self.send(self.observed.make_contract(), [0, 0, 0, 0], [1, 2, 3, 4], now_ms=300)
        assert (gap.source, gap.cause) == ("camera 'front'", GapCause.FROZEN)
        assert "messages keep coming with a stamp 0.300 s old" in gap.reason

    def contract(self, **changes):
        size = {"width": 4, "height": 2, "max_age_s": 0.2}
        return self.observed.make_contract(
            cameras={
                "front": {"topic": "front/image", **size, **changes},
                "wrist": {"topic": "wrist/image", **size},
            }
        )

    def test_contract_may_ask_for_a_new_stamp_sooner_than_for_young_frames(self):
        contract = self.contract(max_age_s=10.0, max_frozen_s=0.25)
        gap = self.send(contract, [0, 0, 0, 0], [1, 2, 3, 4], now_ms=300)
        assert gap.cause is GapCause.FROZEN
        assert "the stamp has been the same for 0.300 s, at most 0.25 s" in gap.reason

    def test_pixels_that_stay_the_same_are_frozen_whatever_the_stamps(self):
        gap = self.send(
            self.contract(max_frozen_s=0.25), [0, 100, 200, 300], [7, 7, 7, 7], now_ms=300
        )
        assert (gap.source, gap.cause) == ("camera 'front'", GapCause.FROZEN)
        assert "the pixels have been the same for 0.300 s, at most 0.25 s" in gap.reason

    def test_camera_that_moves_again_recovers(self):
        stamps = [0, 100, 200, 300, 400]
        contract = self.contract(max_frozen_s=0.25)
        assert isinstance(self.send(contract, stamps, [7, 7, 7, 7, 8], 400), Observation)

    def test_simulation_at_rest_is_no_fault_where_the_contract_does_not_say_so(self):
        stamps = [0, 100, 200, 300]
        assert isinstance(self.send(self.contract(), stamps, [7] * 4, 300), Observation)


def test_unstamped_message_is_named(observed):
    frame = observed.image()
    frame.header.stamp.sec = frame.header.stamp.nanosec = 0
    gap = observed.gap_of(observed.make_buffer(front=frame))
    assert gap.cause is GapCause.BROKEN
    assert "stamp is zero" in gap.reason


@pytest.mark.parametrize(
    ("sources", "what"),
    [
        ({"wrist": {"encoding": "yuv420"}}, "yuv420"),
        ({"front": {"width": 6}}, "frames are 6x2, the contract says 4x2"),
        ({"state": {"position": (float("nan"), 1.0)}}, "elbow = nan"),
        ({"state": {"position": (1.0,)}}, "1 positions for 2 names"),
    ],
)
def test_broken_message_is_a_gap_that_says_what_is_broken(observed, sources, what):
    gap = observed.gap_of(observed.make_buffer(**sources))
    assert gap.cause is GapCause.BROKEN
    assert what in gap.reason


def test_joint_that_no_message_has_is_named(observed):
    gap = observed.gap_of(
        observed.make_buffer(state=observed.joint_state(name=("elbow", "wrist")))
    )
    assert gap.cause is GapCause.NOTHING_RECEIVED
    assert "no message has 'shoulder'" in gap.reason


def test_clock_that_jumps_forward_makes_old_what_was_young(observed):
    buffer = observed.make_buffer()
    assert observed.gap_of(buffer, NOW_NS + 5_000 * MS).cause is GapCause.SILENT
