# SPDX-License-Identifier: MIT
"""What a recorded run holds besides images, as arrays over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_core.dataset.recording import Recording
from vla_core.processing.contract import RobotContract
from vla_core.processing.messages import joint_positions_from_message, stamp_ns, time_ns


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChunkSeries:
    """The action chunks of a run, int64 stamps in ns.

    observation_ns: Stamp of the observation, [C].
    inference_start_ns: When the policy began to work on it, [C].
    generation_ns: When the chunk was complete, [C].
    camera_ns: Stamp of each camera's frame, by camera, [C].
    joint_state_ns: Stamp of the joint state, [C].
    """

    observation_ns: NDArray[np.int64]
    inference_start_ns: NDArray[np.int64]
    generation_ns: NDArray[np.int64]
    camera_ns: dict[str, NDArray[np.int64]]
    joint_state_ns: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CommandSeries:
    """The ticks of the command loop.

    stamps_ns: Time that the tick was due, int64 [T].
    executing: Whether the tick followed a chunk, bool [T].
    reasons: Why the arm does not follow a chunk, '' while it does, [T].
    lateness_s: Delay of the tick after its deadline, [T].
    chunk_age_s: Age of the executed chunk's observation, NaN without one, [T].
    switch_jumps: Difference of the two chunks at a switch, rad or m, 0 without a switch, [T].
    limited: Whether a limit changed the command, bool [T].
    positions: Command in the order of the contract's action joints, NaN without one, [T, A].
    received_ns: When the recorder received each trajectory that was sent, int64 [M].
    """

    stamps_ns: NDArray[np.int64]
    executing: NDArray[np.bool_]
    reasons: tuple[str, ...]
    lateness_s: NDArray[np.float64]
    chunk_age_s: NDArray[np.float64]
    switch_jumps: NDArray[np.float64]
    limited: NDArray[np.bool_]
    positions: NDArray[np.float64]
    received_ns: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RecordedRun:
    """A run of policy, command loop and simulated robot, read from its recording.

    chunks: Action chunks.
    commands: Ticks of the command loop.
    joint_stamps_ns: Stamps of the joint states, int64 [T].
    joint_positions: Measured positions in the order of the contract's state, rad or m, [T, S].
    published_trajectories: Trajectories that were sent up to the controller's last report.
    accepted_trajectories: Trajectories that the controller accepted.
    rejected_trajectories: Trajectories that it rejected.
    last_rejection: Why it rejected the last one; empty if it rejected none.
    duration_s: Time between the first and the last message.
    message_counts: Number of messages by topic.
    """

    chunks: ChunkSeries
    commands: CommandSeries
    joint_stamps_ns: NDArray[np.int64]
    joint_positions: NDArray[np.float64]
    published_trajectories: int
    accepted_trajectories: int
    rejected_trajectories: int
    last_rejection: str
    duration_s: float
    message_counts: dict[str, int]

    @classmethod
    def from_bag(cls, path: Path, contract: RobotContract) -> RecordedRun:
        """Read a recording.

        Args:
            path: Folder of a rosbag2 recording.
            contract: Contract that the run was made with.

        Raises:
            DatasetError: The recording is incomplete or lacks a topic.
            MessageError: A joint state does not fit the contract.
        """
        with Recording(path) as bag:
            chunk_topic = bag.topic_of_type("vla_msgs/msg/ActionChunk")
            command_topic = bag.topic_of_type("vla_msgs/msg/CommandStatus")
            sim_topic = bag.topic_of_type("vla_msgs/msg/SimStatus")
            joint_topic = bag.topic(contract.state.topic)
            messages: dict[str, list[Any]] = {
                topic: [] for topic in (chunk_topic, command_topic, sim_topic, joint_topic)
            }
            for topic, message in bag.messages(*messages):
                messages[topic].append(message)
            last = messages[sim_topic][-1] if messages[sim_topic] else None
            sent_ns = bag.receive_times_ns(bag.topic(contract.command.topic))
            reported_ns = bag.receive_times_ns(sim_topic)
            return cls(
                # A chunk without actions only revokes earlier ones.
                chunks=_read_chunks(
                    [message for message in messages[chunk_topic] if message.horizon],
                    list(contract.cameras),
                ),
                commands=_read_commands(
                    messages[command_topic],
                    contract.action.joints,
                    sent_ns,
                ),
                joint_stamps_ns=_stamps(messages[joint_topic]),
                joint_positions=np.array(
                    [
                        joint_positions_from_message(message, contract.state.joints)
                        for message in messages[joint_topic]
                    ]
                ).reshape(-1, len(contract.state.joints)),
                published_trajectories=int((sent_ns <= reported_ns.max(initial=0)).sum()),
                accepted_trajectories=int(last.accepted_trajectories) if last else 0,
                rejected_trajectories=int(last.rejected_trajectories) if last else 0,
                last_rejection=str(last.last_rejection) if last else "",
                duration_s=bag.duration_s,
                message_counts=bag.message_counts,
            )


def _stamps(messages: Sequence[Any]) -> NDArray[np.int64]:
    return np.array([stamp_ns(message) for message in messages], dtype=np.int64)


def _read_chunks(messages: Sequence[Any], cameras: Sequence[str]) -> ChunkSeries:
    def times(values: list[int]) -> NDArray[np.int64]:
        return np.array(values, dtype=np.int64)

    def camera_stamp(message: Any, camera: str) -> int:
        return time_ns(message.camera_stamps[list(message.camera_names).index(camera)])

    return ChunkSeries(
        observation_ns=_stamps(messages),
        inference_start_ns=times([time_ns(m.inference_start_stamp) for m in messages]),
        generation_ns=times([time_ns(m.generation_stamp) for m in messages]),
        camera_ns={
            camera: times([camera_stamp(m, camera) for m in messages]) for camera in cameras
        },
        joint_state_ns=times([time_ns(m.joint_state_stamp) for m in messages]),
    )


def _read_commands(
    messages: Sequence[Any], joints: Sequence[str], received_ns: NDArray[np.int64]
) -> CommandSeries:
    positions = np.full((len(messages), len(joints)), np.nan)
    for row, message in zip(positions, messages, strict=True):
        commanded = dict(zip(message.joint_names, message.command_positions, strict=False))
        row[:] = [commanded.get(joint, np.nan) for joint in joints]

    def column(name: str) -> NDArray[np.float64]:
        return np.array([getattr(message, name) for message in messages], dtype=np.float64)

    return CommandSeries(
        stamps_ns=_stamps(messages),
        executing=np.array([m.mode == m.EXECUTING for m in messages], dtype=np.bool_),
        reasons=tuple("" if m.mode == m.EXECUTING else str(m.reason) for m in messages),
        lateness_s=column("tick_lateness"),
        chunk_age_s=column("chunk_age"),
        switch_jumps=column("switch_jump"),
        limited=column("limited").astype(np.bool_),
        positions=positions,
        received_ns=received_ns,
    )
