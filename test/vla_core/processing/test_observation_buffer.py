# SPDX-License-Identifier: MIT
"""The observation buffer: an aligned observation, or the one named reason why there is none."""

import io
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_core.processing.contract import RobotContract
from vla_core.processing.gaps import Gap, GapCause
from vla_core.processing.observation_buffer import ObservationBuffer
from vla_core.types import Observation

NOW_NS = 1_000_000_000_000
MS = 1_000_000
JOINTS = ["shoulder", "elbow"]


def make_contract(**changes) -> RobotContract:
    limits = {"lower": -2.0, "upper": 2.0, "velocity": 1.0, "acceleration": 5.0}
    size = {"width": 4, "height": 2, "max_age_s": 0.2}
    values = {
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
    for section, part in changes.items():
        values[section] = part if section == "cameras" else {**values.get(section, {}), **part}
    return RobotContract.from_dict(values)


def camera_contract(**changes) -> RobotContract:
    camera = {"topic": "front/image", "width": 4, "height": 2, "max_age_s": 0.2, **changes}
    return make_contract(cameras={"front": camera})


def header(age_ms: float) -> SimpleNamespace:
    seconds, nanoseconds = divmod(NOW_NS - round(age_ms * MS), 1_000_000_000)
    return SimpleNamespace(stamp=SimpleNamespace(sec=seconds, nanosec=nanoseconds))


def image(age_ms=10, colour=0, width=4, encoding="rgb8") -> SimpleNamespace:
    return SimpleNamespace(
        header=header(age_ms),
        height=2,
        width=width,
        step=width * 3,
        encoding=encoding,
        is_bigendian=0,
        data=bytes([colour]) * (2 * width * 3),
    )


def joint_state(age_ms=5, name=("elbow", "shoulder"), position=(2.0, 1.0)) -> SimpleNamespace:
    return SimpleNamespace(header=header(age_ms), name=list(name), position=list(position))


def make_buffer(front=None, wrist=None, state=None, publishers=1, **contract):
    buffer = ObservationBuffer(make_contract(**contract), lambda topic: publishers)
    buffer.put_image("front", front or image(), NOW_NS)
    buffer.put_image("wrist", wrist or image(), NOW_NS)
    buffer.put_joint_state(state or joint_state(), NOW_NS)
    return buffer


def gap_of(buffer: ObservationBuffer, now_ns=NOW_NS) -> Gap:
    gap = buffer.observe("pick", now_ns)
    assert isinstance(gap, Gap)
    return gap


def observation_of(buffer: ObservationBuffer, now_ns=NOW_NS) -> Observation:
    observation = buffer.observe("pick", now_ns)
    assert isinstance(observation, Observation), observation
    return observation


def test_complete_data_make_an_observation():
    observation = observation_of(make_buffer(front=image(30, colour=7), wrist=image(20, colour=9)))
    assert (observation.images["front"] == 7).all()
    assert (observation.images["wrist"] == 9).all()
    assert observation.instruction == "pick"
    assert observation.history == ()


def test_cleared_buffer_has_received_nothing():
    buffer = make_buffer()
    buffer.clear()
    assert gap_of(buffer).cause is GapCause.NOTHING_RECEIVED
    assert np.isinf(buffer.state_age_s(NOW_NS))


def test_joints_come_in_the_order_of_the_contract():
    np.testing.assert_array_equal(observation_of(make_buffer()).state, [1.0, 2.0])


def test_stamps_and_skews_are_those_of_the_messages():
    observation = observation_of(make_buffer(image(30), image(20), joint_state(5)))
    assert observation.stamp_ns == NOW_NS - 30 * MS
    assert observation.image_stamps_ns == {"front": NOW_NS - 30 * MS, "wrist": NOW_NS - 20 * MS}
    assert observation.state_stamp_ns == NOW_NS - 5 * MS
    assert observation.skews_s == pytest.approx({"front": 0.0, "wrist": 0.010, "state": 0.025})


def test_newest_frame_of_the_first_camera_fixes_the_time():
    buffer = make_buffer(front=image(60, colour=1))
    buffer.put_image("front", image(10, colour=2), NOW_NS)
    assert (observation_of(buffer).images["front"] == 2).all()
    assert observation_of(buffer).stamp_ns == NOW_NS - 10 * MS


@given(st.lists(st.integers(0, 150), min_size=1, max_size=8, unique=True), st.integers(0, 150))
def test_other_cameras_give_their_nearest_frame(wrist_ages, front_age):
    buffer = make_buffer(front=image(front_age), wrist=image(wrist_ages[0]))
    buffer.put_joint_state(joint_state(80), NOW_NS)
    for age in wrist_ages[1:]:
        buffer.put_image("wrist", image(age), NOW_NS)
    skew = abs(observation_of(buffer).skews_s["wrist"])
    assert skew == pytest.approx(min(abs(age - front_age) for age in wrist_ages) * 1e-3)


def test_frame_that_is_too_old_is_not_the_nearest():
    buffer = make_buffer(front=image(190), wrist=image(210, colour=1), state=joint_state(100))
    buffer.put_image("wrist", image(5, colour=2), NOW_NS)
    assert (observation_of(buffer).images["wrist"] == 2).all()


def test_state_is_interpolated_to_the_frame():
    buffer = make_buffer(front=image(30), state=joint_state(40, position=(0.0, 0.0)))
    buffer.put_joint_state(joint_state(20, position=(1.0, 4.0)), NOW_NS)
    observation = observation_of(buffer)
    np.testing.assert_allclose(observation.state, [2.0, 0.5])
    assert observation.state_stamp_ns == observation.stamp_ns


@pytest.mark.parametrize(
    ("skew_ms", "is_used"), [(15, True), (-15, True), (25, False), (-25, False)]
)
def test_largest_skew_of_the_contract_bounds_the_frames(skew_ms, is_used):
    buffer = make_buffer(
        front=image(50), wrist=image(50 - skew_ms), alignment={"max_skew_s": 0.02}
    )
    buffer.put_joint_state(joint_state(60), NOW_NS)
    if is_used:
        assert observation_of(buffer).skews_s["wrist"] == pytest.approx(skew_ms * 1e-3)
    else:
        gap = gap_of(buffer)
        assert (gap.source, gap.cause) == ("camera 'wrist'", GapCause.SKEWED)
        assert f"{skew_ms * 1e-3:+.3f} s from that of the reference camera" in gap.reason


def test_largest_skew_bounds_the_state_too():
    gap = gap_of(make_buffer(state=joint_state(-40), alignment={"max_skew_s": 0.02}))
    assert (gap.source, gap.cause) == ("joint states", GapCause.SKEWED)
    assert "'shoulder' was measured +0.050 s from the frame" in gap.reason


class TestSeveralPublishers:
    """Arm and gripper with drivers of their own."""

    STATE = {"extra_topics": ["gripper/joint_states"]}  # noqa: RUF012

    def buffer(self, *messages, publishers=lambda topic: 1):
        buffer = ObservationBuffer(make_contract(state=self.STATE), publishers)
        for camera in ("front", "wrist"):
            buffer.put_image(camera, image(), NOW_NS)
        for message in messages:
            buffer.put_joint_state(message, NOW_NS)
        return buffer

    def test_their_joints_are_merged_each_with_its_age(self):
        buffer = self.buffer(
            joint_state(5, ["shoulder"], [1.0]), joint_state(30, ["elbow"], [2.0])
        )
        np.testing.assert_array_equal(observation_of(buffer).state, [1.0, 2.0])
        assert buffer.joint_ages_s(NOW_NS) == pytest.approx({"shoulder": 0.005, "elbow": 0.03})
        assert buffer.state_age_s(NOW_NS) == pytest.approx(0.03)

    def test_joint_that_is_older_than_the_others_is_named(self):
        buffer = self.buffer(
            joint_state(150, ["elbow"], [2.0]), joint_state(5, ["shoulder"], [1.0])
        )
        gap = gap_of(buffer)
        assert (gap.source, gap.cause) == ("joint states", GapCause.SILENT)
        assert "'elbow' is 0.150 s old, at most 0.1 s is allowed" in gap.reason

    def test_missing_joint_is_named_with_the_topic_that_nobody_publishes(self):
        buffer = self.buffer(
            joint_state(5, ["shoulder"], [1.0]),
            publishers=lambda topic: int(topic == "joint_states"),
        )
        gap = gap_of(buffer)
        assert (gap.source, gap.cause) == ("joint states", GapCause.NO_PUBLISHER)
        assert "no message has 'elbow'; gripper/joint_states has no publisher" in gap.reason


class TestInputs:
    """Further sensors follow the joints in the state."""

    INPUTS = {  # noqa: RUF012
        "force": {"type": "wrench", "topic": "wrench", "max_age_s": 0.1},
        "opening": {"type": "float64", "topic": "opening", "max_age_s": 0.1},
    }

    def buffer(self, *ages_ms):
        buffer = ObservationBuffer(make_contract(inputs=self.INPUTS), lambda topic: 1)
        xyz = SimpleNamespace(x=1.0, y=2.0, z=3.0)
        for age_ms in ages_ms:
            now_ns = NOW_NS - age_ms * MS
            body = SimpleNamespace(force=xyz, torque=xyz)
            message = SimpleNamespace(header=header(age_ms), wrench=body)
            buffer.put_input("force", message, now_ns)
            buffer.put_input("opening", SimpleNamespace(data=9.0), now_ns)
        for camera in ("front", "wrist"):
            buffer.put_image(camera, image(), NOW_NS)
        buffer.put_joint_state(joint_state(), NOW_NS)
        return buffer

    def test_their_values_are_appended_in_the_order_of_the_contract(self):
        observation = observation_of(self.buffer(20, 8))
        assert observation.state.tolist() == [1.0, 2.0, 1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 9.0]
        assert len(observation.state) == len(make_contract(inputs=self.INPUTS).state_names)

    def test_missing_input_is_named(self):
        gap = gap_of(self.buffer())
        assert (gap.source, gap.cause) == ("input 'force'", GapCause.NOTHING_RECEIVED)
        assert self.buffer().input_ages_s(NOW_NS) == {"force": np.inf, "opening": np.inf}

    def test_old_input_is_named(self):
        gap = gap_of(self.buffer(150))
        assert (gap.source, gap.cause) == ("input 'force'", GapCause.SILENT)


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
    buffer.put_image("front", image(), NOW_NS)
    buffer.put_image("wrist", image(), NOW_NS)
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
def test_source_that_fell_silent_is_named(sources, name):
    gap = gap_of(make_buffer(**sources))
    assert (gap.source, gap.cause) == (name, GapCause.SILENT)
    assert "s is allowed; nothing newer came" in gap.reason


def test_data_of_exactly_the_allowed_age_are_used():
    observation_of(make_buffer(image(200), image(200), joint_state(100)))


def test_messages_that_arrive_too_old_are_late_and_not_missing():
    buffer = make_buffer(front=image(320))
    buffer.put_image("front", image(290), NOW_NS)
    gap = gap_of(buffer)
    assert gap.cause is GapCause.LATE
    assert "messages are 0.290 s old when they arrive" in gap.reason


def test_late_source_whose_messages_stop_has_fallen_silent():
    buffer = make_buffer(front=image(320))
    buffer.put_image("front", image(290), NOW_NS)
    later_ns = NOW_NS + 250 * MS
    buffer.put_image("wrist", image(-240), later_ns)
    assert gap_of(buffer, later_ns).cause is GapCause.SILENT


def test_silent_source_without_publisher_says_so():
    gap = gap_of(make_buffer(front=image(500), publishers=0))
    assert gap.cause is GapCause.NO_PUBLISHER
    assert gap.reason.endswith("the topic has no publisher any more.")


def test_future_stamp_is_a_gap_beyond_the_tolerance():
    assert gap_of(make_buffer(front=image(-60))).cause is GapCause.FUTURE
    observation_of(make_buffer(front=image(-40)))


def test_frame_from_the_future_does_not_fix_the_time_once_later_ones_are_sane():
    buffer = make_buffer(front=image(-150, colour=1))
    buffer.put_image("front", image(10, colour=2), NOW_NS)
    assert (observation_of(buffer).images["front"] == 2).all()


class TestFrozenCamera:
    """A driver that lives and sends the same again and again."""

    def send(self, contract, stamps_ms, colours, now_ms):
        """Return what a camera makes that sends at 10 Hz until now."""
        buffer = ObservationBuffer(contract, lambda topic: 1)
        result = None
        arrivals = range(now_ms - 100 * (len(stamps_ms) - 1), now_ms + 1, 100)
        for arrival, stamp, colour in zip(arrivals, stamps_ms, colours, strict=True):
            now_ns = NOW_NS + arrival * MS
            buffer.put_image("front", image(-stamp, colour), now_ns)
            buffer.put_image("wrist", image(-arrival), now_ns)
            buffer.put_joint_state(joint_state(-arrival), now_ns)
            result = buffer.observe("pick", now_ns)
        return result

    def test_stamp_that_stays_the_same_is_frozen_and_not_silent(self):
        gap = self.send(make_contract(), [0, 0, 0, 0], [1, 2, 3, 4], now_ms=300)
        assert (gap.source, gap.cause) == ("camera 'front'", GapCause.FROZEN)
        assert "messages keep coming with a stamp 0.300 s old" in gap.reason

    def contract(self, **changes):
        size = {"width": 4, "height": 2, "max_age_s": 0.2}
        return make_contract(
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
        ({"state": joint_state(position=(float("nan"), 1.0))}, "elbow = nan"),
        ({"state": joint_state(position=(1.0,))}, "1 positions for 2 names"),
    ],
)
def test_broken_message_is_a_gap_that_says_what_is_broken(sources, what):
    gap = gap_of(make_buffer(**sources))
    assert gap.cause is GapCause.BROKEN
    assert what in gap.reason


def test_joint_that_no_message_has_is_named():
    gap = gap_of(make_buffer(state=joint_state(name=("elbow", "wrist"))))
    assert gap.cause is GapCause.NOTHING_RECEIVED
    assert "no message has 'shoulder'" in gap.reason


def test_only_frames_that_are_used_are_decoded():
    buffer = make_buffer(front=image(60, encoding="nonsense"), wrist=image(60, width=6))
    buffer.put_image("front", image(10), NOW_NS)
    buffer.put_image("wrist", image(12), NOW_NS)
    observation_of(buffer)


def test_compressed_camera_gives_its_pixels():
    contract = camera_contract(transport="compressed")
    buffer = ObservationBuffer(contract, lambda topic: 1)
    file = io.BytesIO()
    PIL.Image.new("RGB", (4, 2), (10, 20, 30)).save(file, "PNG")
    message = SimpleNamespace(header=header(10), format="png", data=file.getvalue())
    buffer.put_image("front", message, NOW_NS)
    buffer.put_joint_state(joint_state(), NOW_NS)
    assert observation_of(buffer).images["front"][0, 0].tolist() == [10, 20, 30]


class TestHistory:
    """Frames one action step, 0.1 s, apart, from a camera at 20 Hz."""

    def buffer(self, ages_ms, length=2):
        buffer = ObservationBuffer(make_contract(), lambda topic: 1, history_length=length)
        for age in range(600, -1, -10):
            buffer.put_joint_state(joint_state(age, position=(0.0, -float(age))), NOW_NS)
        for age in ages_ms:
            buffer.put_image("front", image(age, colour=age // 2), NOW_NS)
            buffer.put_image("wrist", image(age + 4, colour=age // 2), NOW_NS)
        return buffer

    def test_steps_are_evenly_spaced_and_oldest_first(self):
        observation = observation_of(self.buffer(range(410, 9, -50)))
        ages = [(NOW_NS - step.stamp_ns) // MS for step in observation.history]
        assert ages == [210, 110]
        assert [step.images["wrist"][0, 0, 0] for step in observation.history] == [105, 55]
        np.testing.assert_allclose([step.state[0] for step in observation.history], [-210, -110])

    def test_camera_off_the_grid_gives_the_nearest_frames(self):
        observation = observation_of(self.buffer((217, 184, 150, 117, 84, 50, 17)))
        ages = [(NOW_NS - step.stamp_ns) // MS for step in observation.history]
        assert ages == [217, 117]

    def test_history_is_short_after_the_start(self):
        observation = observation_of(self.buffer((110, 60, 10), length=5))
        assert [(NOW_NS - step.stamp_ns) // MS for step in observation.history] == [110]

    def test_history_ends_at_a_hole(self):
        observation = observation_of(self.buffer((310, 210, 10), length=3))
        assert observation.history == ()

    def test_buffer_without_history_gives_none(self):
        assert observation_of(self.buffer(range(410, 9, -50), length=0)).history == ()


def test_clock_that_is_set_back_makes_a_fresh_start():
    buffer = make_buffer()
    earlier_ns = NOW_NS - 5_000 * MS
    assert gap_of(buffer, earlier_ns).cause is GapCause.NOTHING_RECEIVED
    for camera in ("front", "wrist"):
        buffer.put_image(camera, image(5_010), earlier_ns)
    buffer.put_joint_state(joint_state(5_005), earlier_ns)
    assert observation_of(buffer, earlier_ns).stamp_ns == earlier_ns - 10 * MS


def test_clock_that_jumps_forward_makes_old_what_was_young():
    buffer = make_buffer()
    assert gap_of(buffer, NOW_NS + 5_000 * MS).cause is GapCause.SILENT


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
