# SPDX-License-Identifier: MIT
"""A bag says what its messages are in the words of the packages that define them."""

from pathlib import Path

import pytest
from ament_index_python.packages import get_package_share_directory
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader

from vla_core.errors import MessageError
from vla_ros.bag_writer import BagWriter

COMMAND, EMPTY = "vla_msgs/msg/CommandStatus", "std_msgs/msg/Empty"


@pytest.fixture
def bag(tmp_path):
    """A bag with a message that has fields and one that has none."""
    writer = BagWriter(tmp_path / "bag", compress=False)
    for type_name in (COMMAND, EMPTY):
        writer.write(writer.add_topic(f"/{type_name}", type_name, []), 5, b"\0\1\0\0\0")
    writer.close({})
    return tmp_path / "bag"


def installed(package, name):
    path = Path(get_package_share_directory(package), "msg", f"{name}.msg")
    return path.read_text(encoding="utf-8")


def test_definitions_are_the_installed_texts(bag):
    with (bag / "bag.mcap").open("rb") as stream:
        schemas = make_reader(stream).get_summary().schemas.values()
    own, *contained = {schema.name: schema.data.decode() for schema in schemas}[COMMAND].split(
        "\n" + "=" * 80 + "\nMSG: "
    )
    assert own == installed("vla_msgs", "CommandStatus")
    assert contained == [
        f"{package}/{name}\n{installed(package, name)}"
        for package, name in (("std_msgs", "Header"), ("builtin_interfaces", "Time"))
    ]


def test_a_message_without_fields_is_read(bag):
    with AnyReader([bag]) as reader:
        [connection] = [each for each in reader.connections if each.msgtype == EMPTY]
        [(_, _, data)] = reader.messages([connection])
        assert reader.deserialize(data, EMPTY).__msgtype__ == EMPTY


def test_a_type_that_is_not_installed_is_named(tmp_path):
    writer = BagWriter(tmp_path / "bag", compress=False)
    with pytest.raises(MessageError, match="'nowhere/msg/Thing' is not installed"):
        writer.add_topic("/thing", "nowhere/msg/Thing", [])
    writer.close({})
