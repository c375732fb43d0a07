# SPDX-License-Identifier: MIT
"""Joints of several publishers and further sensors make one state."""

from types import SimpleNamespace

import numpy as np
import pytest

from vla_core.processing.gaps import GapCause
from vla_core.processing.observation_buffer import ObservationBuffer

NOW_NS = 1_000_000_000_000
MS = 1_000_000


class TestSeveralPublishers:
    """Arm and gripper with drivers of their own."""

    @pytest.fixture(autouse=True)
    def _observed(self, observed):
        self.observed = observed

    STATE = {"extra_topics": ["gripper/joint_states"]}  # noqa: RUF012

    def buffer(self, *messages, publishers=lambda topic: 1):
        buffer = ObservationBuffer(self.observed.make_contract(state=self.STATE), publishers)
        for camera in ("front", "wrist"):
            buffer.put_image(camera, self.observed.image(), NOW_NS)
        for message in messages:
            buffer.put_joint_state(message, NOW_NS)
        return buffer

    def test_their_joints_are_merged_each_with_its_age(self):
        buffer = self.buffer(
            self.observed.joint_state(5, ["shoulder"], [1.0]),
            self.observed.joint_state(30, ["elbow"], [2.0]),
        )
        np.testing.assert_array_equal(self.observed.observation_of(buffer).state, [1.0, 2.0])
        assert buffer.joint_ages_s(NOW_NS) == pytest.approx({"shoulder": 0.005, "elbow": 0.03})
        assert buffer.state_age_s(NOW_NS) == pytest.approx(0.03)

    def test_joint_that_is_older_than_the_others_is_named(self):
        buffer = self.buffer(
            self.observed.joint_state(150, ["elbow"], [2.0]),
            self.observed.joint_state(5, ["shoulder"], [1.0]),
        )
        gap = self.observed.gap_of(buffer)
        assert (gap.source, gap.cause) == ("joint states", GapCause.SILENT)
        assert "'elbow' is 0.150 s old, at most 0.1 s is allowed" in gap.reason

    def test_missing_joint_is_named_with_the_topic_that_nobody_publishes(self):
        buffer = self.buffer(
            self.observed.joint_state(5, ["shoulder"], [1.0]),
            publishers=lambda topic: int(topic == "joint_states"),
        )
        gap = self.observed.gap_of(buffer)
        assert (gap.source, gap.cause) == ("joint states", GapCause.NO_PUBLISHER)
        assert "no message has 'elbow'; gripper/joint_states has no publisher" in gap.reason


class TestInputs:
    """Further sensors follow the joints in the state."""

    @pytest.fixture(autouse=True)
    def _observed(self, observed):
        self.observed = observed

    INPUTS = {  # noqa: RUF012
        "force": {"type": "wrench", "topic": "wrench", "max_age_s": 0.1},
        "opening": {"type": "float64", "topic": "opening", "max_age_s": 0.1},
    }

    def buffer(self, *ages_ms):
        buffer = ObservationBuffer(
            self.observed.make_contract(inputs=self.INPUTS), lambda topic: 1
        )
        xyz = SimpleNamespace(x=1.0, y=2.0, z=3.0)
        for age_ms in ages_ms:
            now_ns = NOW_NS - age_ms * MS
            body = SimpleNamespace(force=xyz, torque=xyz)
            message = SimpleNamespace(header=self.observed.header(age_ms), wrench=body)
            buffer.put_input("force", message, now_ns)
            buffer.put_input("opening", SimpleNamespace(data=9.0), now_ns)
        for camera in ("front", "wrist"):
            buffer.put_image(camera, self.observed.image(), NOW_NS)
        buffer.put_joint_state(self.observed.joint_state(), NOW_NS)
        return buffer

    def test_their_values_are_appended_in_the_order_of_the_contract(self):
        observation = self.observed.observation_of(self.buffer(20, 8))
        assert observation.state.tolist() == [1.0, 2.0, 1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 9.0]
        assert len(observation.state) == len(
            self.observed.make_contract(inputs=self.INPUTS).state_names
        )

    def test_missing_input_is_named(self):
        gap = self.observed.gap_of(self.buffer())
        assert (gap.source, gap.cause) == ("input 'force'", GapCause.NOTHING_RECEIVED)
        assert self.buffer().input_ages_s(NOW_NS) == {"force": np.inf, "opening": np.inf}

    def test_old_input_is_named(self):
        gap = self.observed.gap_of(self.buffer(150))
        assert (gap.source, gap.cause) == ("input 'force'", GapCause.SILENT)
