# SPDX-License-Identifier: MIT
"""A recording of two real episodes: the scripted expert in the simulation, written by rosbags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from vla_core.evaluation.episodes import NORMAL, EpisodeResult, describe_outcome
from vla_core.evaluation.recorded_run import RecordedRun
from vla_core.processing.contract import RobotContract, load_contract
from vla_core.sim.env import TabletopEnv
from vla_core.sim.expert import ScriptedExpert

MESSAGES = Path(__file__).resolve().parents[3] / "src" / "vla_msgs" / "msg"
START_NS = 1_700_000_000_000_000_000
LATENCY_NS = 80_000_000
FRAME_AGE_NS = 30_000_000
JOINT_AGE_NS = 5_000_000
PERIOD_NS = 20_000_000
LATENESS_S = 0.003
ARRIVAL_NS = 4_000_000
CAMERAS = ("front", "wrist")


class BagWriter:
    """Writes messages of ROS and of vla_msgs."""

    def __init__(self, path: Path):
        self.store = get_typestore(Stores.ROS2_JAZZY)
        for definition in sorted(MESSAGES.glob("*.msg")):
            name = f"vla_msgs/msg/{definition.stem}"
            self.store.register(get_types_from_msg(definition.read_text(), name))
        self.bag = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        self.bag.open()
        self.connections = {}

    def message(self, kind, **fields):
        """Build a message; fields that are not given are zero or empty."""
        defaults = {}
        for name, (node, detail) in self.store.fielddefs[kind][1]:
            defaults[name] = self._default(node, detail)
        return self.store.types[kind](**{**defaults, **fields})

    def _default(self, node, detail):
        if node == 2:
            return self.message(detail)
        if node == 1:
            return "" if detail[0] == "string" else 0
        element, size = detail[0], detail[1]
        if element[0] == 1 and element[1][0] != "string":
            return np.zeros(size, dtype=np.dtype(element[1][0].replace("octet", "uint8")))
        return [self._default(*element) for _ in range(size)]

    def time(self, stamp_ns):
        seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
        return self.message("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)

    def header(self, stamp_ns):
        return self.message("std_msgs/msg/Header", stamp=self.time(stamp_ns))

    def write(self, topic, kind, stamp_ns, **fields):
        if topic not in self.connections:
            self.connections[topic] = self.bag.add_connection(topic, kind, typestore=self.store)
        message = self.message(kind, header=self.header(stamp_ns), **fields)
        data = self.store.serialize_cdr(message, kind)
        self.bag.write(self.connections[topic], stamp_ns, data)

    def close(self):
        self.bag.close()


@dataclass(frozen=True)
class ExpertRun:
    bag: Path
    contract: RobotContract
    episodes: list[EpisodeResult]
    recorded: RecordedRun


def write_episode(writer, env, seed, number, start_ns):
    """Let the expert act once and record what the nodes would publish."""
    writer.write("/action_chunk", "vla_msgs/msg/ActionChunk", start_ns - 1, horizon=0)
    observation, info = env.reset(seed=seed)
    expert = ScriptedExpert(env.sim)
    names = list(load_contract("sim").state.joints)
    status = writer.store.types["vla_msgs/msg/CommandStatus"]
    now, step, done = start_ns, 0, False
    while not done:
        for camera in CAMERAS:
            image = observation[camera]
            writer.write(
                f"/{camera}_camera/image_raw",
                "sensor_msgs/msg/Image",
                now,
                height=image.shape[0],
                width=image.shape[1],
                encoding="rgb8",
                step=3 * image.shape[1],
                data=image.reshape(-1),
            )
        if step % 5 == 0:
            begin = now + FRAME_AGE_NS
            writer.write(
                "/action_chunk",
                "vla_msgs/msg/ActionChunk",
                now,
                horizon=1,
                inference_start_stamp=writer.time(begin),
                generation_stamp=writer.time(begin + LATENCY_NS),
                camera_names=list(CAMERAS),
                camera_stamps=[writer.time(now)] * len(CAMERAS),
                joint_state_stamp=writer.time(begin - JOINT_AGE_NS),
            )
        before = env.command
        action = expert.act(before)
        for tick in range(5):
            stamp_ns = now + tick * PERIOD_NS
            writer.write(
                "/joint_states",
                "sensor_msgs/msg/JointState",
                stamp_ns,
                name=names,
                position=env.sim.joint_positions().astype(np.float64),
            )
            writer.write(
                "/command_node/status",
                "vla_msgs/msg/CommandStatus",
                stamp_ns,
                mode=status.EXECUTING if step else status.WAITING,
                chunk_age=0.2,
                tick_lateness=LATENESS_S * (tick % 2),
                switch_jump=0.001 * number if step % 5 == 0 and tick == 0 else 0.0,
                joint_names=names,
                command_positions=before + (action - before) * tick / 5,
            )
            writer.write(
                "/arm_controller/joint_trajectory",
                "trajectory_msgs/msg/JointTrajectory",
                stamp_ns + ARRIVAL_NS * (tick % 2),
            )
        writer.write(
            "/sim_robot_node/status",
            "vla_msgs/msg/SimStatus",
            now,
            accepted_trajectories=step,
            rejected_trajectories=number,
            last_rejection="time is not increasing",
        )
        observation, _, terminated, truncated, info = env.step(action)
        done, step, now = terminated or truncated, step + 1, now + 100_000_000
    return EpisodeResult(
        number=number,
        seed=seed,
        condition=NORMAL,
        instruction=info["instruction"],
        target=info["target"],
        success=info["success"],
        outcome=describe_outcome(success=info["success"], failure=info["failure"]),
        duration_s=info["elapsed_s"],
        lifted_m=info["lifted_m"],
        start_stamp_ns=start_ns,
        end_stamp_ns=now,
    )


@pytest.fixture(scope="session")
def expert_run(tmp_path_factory):
    """Two recorded episodes of the expert; nothing may write into its folder."""
    path = tmp_path_factory.mktemp("expert") / "bag"
    writer = BagWriter(path)
    env = TabletopEnv()
    first = write_episode(writer, env, seed=1, number=1, start_ns=START_NS)
    pause_ns = 2_000_000_000
    second = write_episode(writer, env, seed=2, number=2, start_ns=first.end_stamp_ns + pause_ns)
    env.close()
    writer.close()
    contract = load_contract("sim")
    return ExpertRun(path, contract, [first, second], RecordedRun.from_bag(path, contract))
