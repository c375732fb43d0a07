# SPDX-License-Identifier: MIT
"""Faults of the policy and of its chunks: docs/faults.md lists them."""

import os
import signal
import subprocess
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.ros

TASK, OTHER_TASK = "pick up the red block", "pick up the blue block"
# The checkpoint of these tests answers it with NaN.
POISONED_TASK = "pick up the cracked block"
OLD_CHUNK = "the observation of the newest chunk is"
INFERENCE, COMMAND = "policy_node: inference", "command_node: command"
NUM_HOGS = 100
NUM_TRIES = 5
STEP_NS = 100_000_000


class SecondPolicy:
    """Publishes chunks beside those of the graph's policy.

    All its chunks are pieces of one slow motion, which begins where the arm is.
    """

    def __init__(self, arm):
        from vla_msgs.msg import ActionChunk

        from vla_ros.conversions import command_qos

        self._arm = arm
        self.begin()
        self._chunks = arm.listener.node.create_publisher(
            ActionChunk, "action_chunk", command_qos()
        )
        # The listener hears it, too.
        arm.wait_for(lambda: self._chunks.get_subscription_count() > 1, "the command loop")

    def begin(self):
        """Have the motion begin where and when the arm is now."""
        self._start = np.array(self._arm.listener.last("joints").position)
        self._start_ns = self._arm.robot.now_ns()

    def send(self, sequence, *, age_s=0.0, **changes):
        """Publish a chunk that answers an observation of some age, with fields changed."""
        from vla_core.types import ActionChunk
        from vla_ros.conversions import action_chunk_message

        now_ns = self._arm.robot.now_ns()
        stamp_ns = now_ns - round(age_s * 1e9)
        times_ns = stamp_ns - self._start_ns + STEP_NS * np.arange(1, 17)
        actions = np.tile(self._start, (16, 1))
        actions[:, 0] += 0.3e-9 * times_ns
        message = action_chunk_message(
            ActionChunk(
                actions=actions,
                policy_actions=np.zeros(actions.shape, dtype=np.float32),
                joints=self._arm.robot.joints,
                dt_s=STEP_NS * 1e-9,
                stamp_ns=stamp_ns,
                checkpoint_id="another",
                instruction="move",
            ),
            sequence=sequence,
            epoch=self._arm.listener.last("chunk").epoch,
            inference_start_ns=now_ns,
            generation_ns=now_ns,
            image_stamps_ns={},
            state_stamp_ns=now_ns,
        )
        for field, value in changes.items():
            setattr(message, field, value)
        self._chunks.publish(message)

    def end(self):
        self._arm.listener.node.destroy_publisher(self._chunks)


@pytest.fixture
def second_policy(arm):
    policy = SecondPolicy(arm)
    yield policy
    policy.end()


@pytest.fixture
def idle_arm(arm):
    """The arm at rest, with a policy that has no instruction."""
    from vla_msgs.msg import CommandStatus

    epoch = arm.say("")
    arm.wait_for(
        lambda: (
            arm.listener.mode() == CommandStatus.HOLDING
            and arm.listener.last("command").reason == "the policy is idle"
            and arm.listener.last("policy").epoch == epoch
        ),
        "an idle policy",
    )
    yield arm
    arm.say(TASK)


@pytest.fixture
def other_checkpoint(checkpoint, with_other_weights):
    """The policy of these tests with other weights."""
    return with_other_weights(checkpoint)


@contextmanager
def starved(pid):
    """Let a process share one core with so many others that hardly anything is left for it.

    Yields:
        What gives it all cores, and what takes them away again.
    """
    cores = os.sched_getaffinity(pid)
    crowded = {min(cores)}
    # Each in a session of its own, which some kernels schedule as one; none outlives the test.
    hogs = [
        subprocess.Popen(
            ["sh", "-c", f"while kill -0 {os.getpid()}; do :; done"], start_new_session=True
        )
        for _ in range(NUM_HOGS)
    ]
    try:
        for hog in hogs:
            os.sched_setaffinity(hog.pid, crowded)
        starve = partial(_set_affinity, pid, crowded)
        starve()
        yield partial(_set_affinity, pid, cores), starve
    finally:
        for hog in hogs:
            hog.kill()
        for hog in hogs:
            hog.wait()
        _set_affinity(pid, cores)


def _set_affinity(pid, cores):
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):  # it has just ended
            os.sched_setaffinity(int(thread.name), cores)


def test_the_policy_predicts_nan(arm):
    poison = partial(arm.say, POISONED_TASK)
    poison()
    arm.assert_stops_in_time(OLD_CHUNK, undo=partial(arm.say, TASK), redo=poison)
    arm.assert_diagnosed(INFERENCE, "predicted a value that is not finite")
    arm.say(TASK)
    arm.assert_goes_on()


def test_the_policy_is_killed(arm):
    arm.say(OTHER_TASK)
    arm.wait_for(lambda: arm.listener.last("chunk").instruction == OTHER_TASK, "the other task")
    arm.wait_for_motion()
    kill = partial(arm.graph.kill, "policy_node", signal.SIGKILL)
    kill()
    restart = partial(arm.graph.restart, "policy_node")
    arm.assert_stops_in_time(OLD_CHUNK, undo=restart, redo=kill)
    arm.assert_diagnosed(COMMAND, OLD_CHUNK)
    arm.wait_for(arm.is_at_rest, "the arm at rest")
    resting, num_states = arm.listener.last("joints").position, len(arm.new("joints"))
    arm.wait_for(lambda: len(arm.new("joints")) > num_states + 25, "a pause")
    rested = [state.position for state in arm.new("joints")[num_states:]]
    assert np.abs(np.subtract(rested, resting)).max() < 0.01
    assert [name for name in arm.graph.names if not arm.graph.is_alive(name)] == ["policy_node"]
    restart()
    arm.assert_goes_on(restarted=("policy_node",))
    # It follows what its predecessor was asked to do, not what its parameter says.
    assert arm.listener.last("chunk").instruction == OTHER_TASK


def test_the_policy_hangs(arm):
    hang = partial(arm.graph.kill, "policy_node", signal.SIGSTOP)
    go_on = partial(arm.graph.kill, "policy_node", signal.SIGCONT)
    hang()
    try:
        arm.assert_stops_in_time(OLD_CHUNK, undo=go_on, redo=hang)
        arm.assert_diagnosed(COMMAND, OLD_CHUNK)
    finally:
        go_on()
    arm.assert_goes_on()


def test_the_policy_is_starved_of_the_processor(arm):
    with starved(arm.graph.pid_of("policy_node")) as (feed, starve):
        arm.assert_stops_in_time(OLD_CHUNK, undo=feed, redo=starve)
        arm.assert_diagnosed(COMMAND, OLD_CHUNK)
    arm.assert_goes_on()


def test_a_chunk_is_late_by_five_periods(idle_arm, second_policy):
    """It is entered where it is due by now, and its age counts from its observation."""
    arm, late_s = idle_arm, 5 * idle_arm.contract.command.dt_s
    sequence = arm.listener.last("policy").sequence

    def move():
        nonlocal sequence
        sequence += 2
        second_policy.begin()
        arm.mark()
        second_policy.send(sequence - 1)
        arm.wait_for(
            lambda: any(tick.chunk_age > 2.0 * late_s for tick in arm.new("command")), "a motion"
        )
        second_policy.send(sequence, age_s=late_s)

    move()
    arm.assert_stops_in_time(OLD_CHUNK, undo=move)
    ticks = [tick for tick in arm.new("command") if tick.chunk_sequence == sequence]
    assert ticks[0].chunk_age >= late_s
    # Were its first step taken for the next one, this would be 0.03 rad.
    assert max(tick.switch_jump for tick in arm.new("command")) < 0.005
    arm.assert_diagnosed(COMMAND, OLD_CHUNK)
    arm.say(TASK)
    arm.assert_goes_on()


def test_chunks_are_malformed_or_too_old(idle_arm, second_policy):
    """They are refused; the arm goes on along the good one before."""
    arm, joints = idle_arm, list(idle_arm.robot.joints)
    sequence = arm.listener.last("policy").sequence
    for changes, reason in (
        ({"actions": [0.0] * 111}, "actions"),
        ({"actions": [np.nan] * 112}, "actions must be finite"),
        ({"joint_names": [joints[1], joints[0], *joints[2:]]}, "joint"),
        ({"dt": 0.0}, "dt"),
        ({"kind": 77}, "kind"),
        ({"age_s": 0.7}, "chunk must answer an observation of the last 0.6 s"),
    ):
        arm.mark()
        good, bad = sequence + 1, sequence + 2
        second_policy.send(good)
        arm.wait_for(lambda good=good: arm.listener.last("command").chunk_sequence == good, "it")
        second_policy.send(bad, **changes)
        text = f"chunk {bad} is refused: "
        refusing = arm.wait_for(
            lambda text=text: [tick for tick in arm.new("command") if text in tick.reason], text
        )
        assert reason in refusing[0].reason
        assert refusing[0].chunk_sequence == good
        sequence = bad
    arm.assert_diagnosed(COMMAND, text)
    arm.say(TASK)
    arm.assert_goes_on()


def test_a_second_policy_publishes_chunks(arm, second_policy):
    because = "chunks of more than one policy arrive on"
    sequences = iter(range(1, 100_000))
    arm.wait_for_motion()

    def disturb():
        second_policy.send(next(sequences))
        return arm.is_diagnosed(COMMAND, because)

    def stop():
        arm.wait_for(disturb, "the rival's diagnostic")

    stop()
    arm.assert_stops(because, redo=stop)
    arm.assert_goes_on()


def test_another_checkpoint_is_loaded_in_the_middle_of_a_chunk(arm, checkpoint, other_checkpoint):
    """No tick is without a chunk to follow; there and back, on a busy machine several times."""
    from vla_msgs.msg import CommandStatus
    from vla_msgs.srv import LoadCheckpoint

    def load(folder):
        """Return the modes from the request until the arm follows the policy of a checkpoint."""
        arm.wait_for_motion()
        before = arm.listener.last("chunk")
        request = LoadCheckpoint.Request(checkpoint=str(folder))
        response = arm.listener.call(LoadCheckpoint, "policy_node/load_checkpoint", request)
        assert response.success, response.message
        assert response.checkpoint_id != before.checkpoint_id

        def is_followed():
            chunks = [c for c in arm.new("chunk") if c.checkpoint_id == response.checkpoint_id]
            newest = arm.listener.last("command").chunk_sequence
            return chunks and newest >= chunks[0].sequence

        arm.wait_for(is_followed, "a motion by the other policy")
        assert {chunk.epoch for chunk in arm.new("chunk")} == {before.epoch}
        return {tick.mode for tick in arm.new("command")}

    for _ in range(NUM_TRIES):
        modes = load(other_checkpoint) | load(checkpoint)
        if modes == {CommandStatus.EXECUTING}:
            break
    assert modes == {CommandStatus.EXECUTING}


def test_the_instruction_is_changed_in_the_middle_of_a_chunk(arm):
    """No step of the old instruction is taken after the first one of the new instruction."""
    epoch = arm.say(OTHER_TASK)
    arm.wait_for(
        lambda: any(chunk.epoch == epoch for chunk in arm.new("chunk")), "the other instruction"
    )
    begin = next(chunk for chunk in arm.new("chunk") if chunk.epoch == epoch)
    assert begin.instruction == OTHER_TASK
    arm.wait_for(
        lambda: any(tick.chunk_sequence > begin.sequence + 2 for tick in arm.new("command")),
        "its execution",
    )
    ticks = arm.new("command")
    first = next(i for i, t in enumerate(ticks) if t.chunk_sequence >= begin.sequence)
    assert all(
        tick.chunk_sequence == 0 or tick.chunk_sequence >= begin.sequence for tick in ticks[first:]
    )
    assert ticks[-1].policy_epoch == epoch
    assert ticks[-1].policy_instruction == OTHER_TASK
    arm.assert_goes_on()


def test_the_instruction_is_withdrawn_in_the_middle_of_a_chunk(arm):
    say, withdraw = partial(arm.say, TASK), partial(arm.say, "")
    withdraw()
    arm.assert_stops("the policy is idle", undo=say, redo=withdraw)
    arm.assert_diagnosed(COMMAND, "the policy is idle")
    arm.say(TASK)
    arm.assert_goes_on()


def test_no_trajectory_of_all_these_tests_leaves_the_limits(arm):
    limits = [arm.contract.limits[joint] for joint in arm.contract.action.joints]
    lower, upper = [x.lower for x in limits], [x.upper for x in limits]
    trajectories = arm.listener.heard["trajectory"]
    assert trajectories
    for trajectory in trajectories:
        positions = np.array([point.positions for point in trajectory.points])
        velocities = np.array([point.velocities for point in trajectory.points])
        # The first command of a motion is the measured position, which may be out a little.
        assert np.all(positions >= np.array(lower) - 1e-3)
        assert np.all(positions <= np.array(upper) + 1e-3)
        assert np.all(np.abs(velocities) <= np.array([x.velocity for x in limits]) + 1e-9)
        accelerations = np.abs(np.diff(velocities, axis=0)) / arm.contract.command.dt_s
        assert np.all(accelerations <= np.array([x.acceleration for x in limits]) + 1e-6)
