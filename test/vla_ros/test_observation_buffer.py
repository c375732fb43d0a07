# SPDX-License-Identifier: MIT
"""The observation buffer: an observation, or the one named reason why there is none."""

from types import SimpleNamespace

import numpy as np
import pytest

from vla_core.processing.contract import RobotContract
from vla_core.types import Observation
from vla_ros.observation_buffer import Gap, GapCause, ObservationBuffer

NOW_NS = 1_000_000_000_000
MS = 1_000_000
JOINTS = ["shoulder", "elbow"]


def make_contract() -> RobotContract:
    limits = {"lower": -2.0, "upper": 2.0, "velocity": 1.0, "acceleration": 5.0}
    size = {"width": 4, "height": 2, "max_age_s": 0.2}
    return RobotContract.from_dict(
        {
            "robot": "two_joints",
            "cameras": {
                "front": {"topic": "front/image", **size},
                "wrist": {"topic": "wrist/image", **size},
            },
            "state": {"topic": "joint_states", "joints": JOINTS, "max_age_s": 0.1},
            "action": {
                "kind": "joint_position",
                "joints": JOINTS,
                "rate_hz": 10.0,
                "max_age_s": 0.6,
            },
            "command": {"rate_hz": 50.0, "output": "joint_trajectory", "topic": "trajectory"},
            "limits": {joint: dict(limits) for joint in JOINTS},
        }
    )


def header(age_ms: int) -> SimpleNamespace:
    seconds, nanoseconds = divmod(NOW_NS - age_ms * MS, 1_000_000_000)
    return SimpleNamespace(stamp=SimpleNamespace(sec=seconds, nanosec=nanoseconds))


def image(age_ms=10, colour=0, width=4, encoding="rgb8") -> SimpleNamespace:
    return SimpleNamespace(
        header=header(age_ms),
        height=2,
        width=width,
        step=width * 3,
        encoding=encoding,
        data=bytes([colour]) * (2 * width * 3),
    )


def joint_state(age_ms=5, name=("elbow", "shoulder"), position=(2.0, 1.0)) -> SimpleNamespace:
    return SimpleNamespace(header=header(age_ms), name=list(name), position=list(position))


def make_buffer(front=None, wrist=None, state=None, publishers=1) -> ObservationBuffer:
    buffer = ObservationBuffer(make_contract(), lambda topic: publishers)
    buffer.put_image("front", front or image())
    buffer.put_image("wrist", wrist or image())
    buffer.put_joint_state(state or joint_state())
    return buffer


def gap_of(buffer: ObservationBuffer) -> Gap:
    gap = buffer.observe("pick", NOW_NS)
    assert isinstance(gap, Gap)
    return gap


def test_complete_data_make_an_observation():
    buffer = make_buffer(front=image(30, colour=7), wrist=image(20, colour=9))
    observation = buffer.observe("pick", NOW_NS)
    assert isinstance(observation, Observation)
    assert (observation.images["front"] == 7).all()
    assert (observation.images["wrist"] == 9).all()
    assert observation.instruction == "pick"


def test_joints_come_in_the_order_of_the_contract():
    observation = make_buffer().observe("pick", NOW_NS)
    np.testing.assert_array_equal(observation.state, [1.0, 2.0])


def test_stamps_are_those_of_the_messages():
    observation = make_buffer(image(30), image(20), joint_state(5)).observe("pick", NOW_NS)
    assert observation.stamp_ns == NOW_NS - 30 * MS
    assert observation.image_stamps_ns == {"front": NOW_NS - 30 * MS, "wrist": NOW_NS - 20 * MS}
    assert observation.state_stamp_ns == NOW_NS - 5 * MS


def test_newest_message_counts():
    buffer = make_buffer(front=image(60, colour=1))
    buffer.put_image("front", image(10, colour=2))
    assert (buffer.observe("pick", NOW_NS).images["front"] == 2).all()


@pytest.mark.parametrize(
    ("publishers", "cause"), [(0, GapCause.NO_PUBLISHER), (1, GapCause.NOTHING_RECEIVED)]
)
def test_source_that_never_delivered_is_told_from_one_without_publisher(publishers, cause):
    buffer = ObservationBuffer(make_contract(), lambda topic: publishers)
    gap = gap_of(buffer)
    assert (gap.source, gap.cause) == ("camera 'front'", cause)
    assert "front/image" in gap.reason


def test_lacking_joint_states_are_a_gap():
    buffer = ObservationBuffer(make_contract(), lambda topic: 1)
    buffer.put_image("front", image())
    buffer.put_image("wrist", image())
    assert (gap_of(buffer).source, gap_of(buffer).cause) == (
        "joint states",
        GapCause.NOTHING_RECEIVED,
    )


@pytest.mark.parametrize(
    ("sources", "name"),
    [
        ({"front": image(201)}, "camera 'front'"),
        ({"wrist": image(201)}, "camera 'wrist'"),
        ({"state": joint_state(101)}, "joint states"),
    ],
)
def test_stale_source_is_named(sources, name):
    gap = gap_of(make_buffer(**sources))
    assert (gap.source, gap.cause) == (name, GapCause.STALE)
    assert "s is allowed" in gap.reason


def test_data_of_exactly_the_allowed_age_are_used():
    buffer = make_buffer(image(200), image(200), joint_state(100))
    assert isinstance(buffer.observe("pick", NOW_NS), Observation)


def test_stale_source_without_publisher_says_so():
    gap = gap_of(make_buffer(front=image(500), publishers=0))
    assert gap.cause is GapCause.NO_PUBLISHER
    assert gap.reason.endswith("the topic has no publisher any more.")


def test_future_stamp_is_a_gap_beyond_the_tolerance():
    assert gap_of(make_buffer(front=image(-60))).cause is GapCause.FUTURE
    assert isinstance(make_buffer(front=image(-40)).observe("pick", NOW_NS), Observation)


def test_unstamped_message_is_named():
    frame = image()
    frame.header.stamp.sec = frame.header.stamp.nanosec = 0
    gap = gap_of(make_buffer(front=frame))
    assert gap.cause is GapCause.BROKEN
    assert "stamp is zero" in gap.reason


@pytest.mark.parametrize(
    ("sources", "what"),
    [
        ({"wrist": image(encoding="yuv420")}, "yuv420"),
        ({"front": image(width=6)}, "frames are 6x2, the contract says 4x2"),
        ({"state": joint_state(name=("elbow", "wrist"))}, "lacks 'shoulder'"),
        ({"state": joint_state(position=(float("nan"), 1.0))}, "elbow = nan"),
        ({"state": joint_state(position=(1.0,))}, "1 positions for 2 names"),
    ],
)
def test_broken_message_is_a_gap_that_says_what_is_broken(sources, what):
    gap = gap_of(make_buffer(**sources))
    assert gap.cause is GapCause.BROKEN
    assert what in gap.reason


def test_ages_are_infinite_before_the_first_message():
    buffer = ObservationBuffer(make_contract(), lambda topic: 1)
    assert buffer.camera_ages_s(NOW_NS) == {"front": float("inf"), "wrist": float("inf")}
    assert buffer.state_age_s(NOW_NS) == float("inf")


def test_ages_count_from_the_stamps():
    buffer = make_buffer(image(30), image(20), joint_state(5))
    assert buffer.camera_ages_s(NOW_NS) == pytest.approx({"front": 0.03, "wrist": 0.02})
    assert buffer.state_age_s(NOW_NS) == pytest.approx(0.005)


def test_cameras_are_aligned_when_none_is_behind_the_first():
    assert make_buffer(image(20), image(20)).is_aligned(0.0)
    assert make_buffer(image(20), image(10)).is_aligned(0.0)
    assert not make_buffer(image(20), image(30)).is_aligned(0.005)
    assert make_buffer(image(20), image(30)).is_aligned(0.015)


def test_cleared_buffer_has_nothing():
    buffer = make_buffer()
    buffer.clear()
    assert gap_of(buffer).cause is GapCause.NOTHING_RECEIVED
