# SPDX-License-Identifier: MIT
"""A recording by a tool that is not this project's: Foxglove's writer of MCAP files."""

from dataclasses import fields, is_dataclass

import numpy as np
from mcap_ros2.writer import Writer


def write_foreign(bags, path):
    """Write the messages of a robot with `mcap_ros2`, which knows no rosbag2 metadata."""
    with path.open("wb") as stream:
        writer = Writer(stream)
        schemas = {}
        for sent in sorted(bags.robot_messages(), key=lambda each: each.at_ms):
            if sent.kind not in schemas:
                text, _ = bags.STORE.generate_msgdef(sent.kind, ros_version=2)
                schemas[sent.kind] = writer.register_msgdef(sent.kind, text)
            at_ns = bags.START_NS + round(sent.at_ms * bags.MS)
            message = as_plain(sent.message)
            writer.write_message(sent.topic, schemas[sent.kind], message, at_ns, at_ns)
        writer.finish()
    return path


def as_plain(value):
    """Return a message as `mcap_ros2` takes it: mappings and lists."""
    if is_dataclass(value):
        return {
            part.name: as_plain(getattr(value, part.name))
            for part in fields(value)
            if not part.name.startswith("__")
        }
    if isinstance(value, list):
        return [as_plain(part) for part in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def test_it_is_replayed_like_a_recording_of_rosbag2(bags, replay, result, tmp_path):
    found = replay(write_foreign(bags, tmp_path / "foreign.mcap"))
    np.testing.assert_array_equal(found.ticks["predicted"], result.ticks["predicted"])
    np.testing.assert_allclose(found.ticks["recorded"], result.ticks["recorded"])
