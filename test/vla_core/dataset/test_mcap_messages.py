# SPDX-License-Identifier: MIT
"""Messages of indexed MCAP files, written here by the library of the format's authors."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.writer import CompressionType, IndexType, Writer

from vla_core.dataset.mcap_messages import McapFile, read_messages

TOPICS = ("/left", "/right")


def write(path, times_ns, chunk_size=100, **options):
    """Write a message of each topic in turn, which holds its number, some to a chunk."""
    with path.open("wb") as stream:
        writer = Writer(stream, chunk_size=chunk_size, **options)
        writer.start(profile="ros2")
        schema = writer.register_schema("std_msgs/msg/String", "ros2msg", b"string data")
        channels = [writer.register_channel(topic, "cdr", schema) for topic in TOPICS]
        for number, at_ns in enumerate(times_ns):
            channel = channels[number % 2]
            writer.add_message(channel, at_ns, b"%06d" % number, publish_time=0)
        writer.finish()
    return path


def numbers(messages):
    return [int(bytes(message.data)) for message in messages]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=60),
    st.sampled_from(list(CompressionType)),
)
def test_messages_come_in_the_order_of_receipt_and_else_as_written(
    tmp_path_factory, times_ns, compression
):
    path = write(tmp_path_factory.mktemp("mcap") / "a.mcap", times_ns, compression=compression)
    found = list(read_messages([McapFile(path)], TOPICS))
    assert [message.received_ns for message in found] == sorted(times_ns)
    assert sorted(numbers(found)) == list(range(len(times_ns)))
    assert all(message.topic == TOPICS[int(bytes(message.data)) % 2] for message in found)
    assert {message.kind for message in found} == {"std_msgs/msg/String"}


def test_several_files_are_one_recording(tmp_path):
    files = [McapFile(write(tmp_path / f"{k}.mcap", range(k, 100, 2))) for k in range(2)]
    assert [message.received_ns for message in read_messages(files, TOPICS)] == list(range(100))


def test_other_topics_and_times_are_left_out(tmp_path):
    file = McapFile(write(tmp_path / "a.mcap", range(100)))
    assert numbers(read_messages([file], ["/right"], 10, 20)) == [11, 13, 15, 17, 19]
    assert numbers(read_messages([file], ["/elsewhere"])) == []


@pytest.mark.parametrize("compression", list(CompressionType))
def test_messages_that_are_kept_stay_as_they_are(tmp_path, compression):
    file = McapFile(write(tmp_path / "a.mcap", range(2000), compression=compression))
    assert len(file.chunks) > 300
    assert numbers(list(read_messages([file], TOPICS))) == list(range(2000))


def test_a_damaged_chunk_is_noticed_before_something_of_it_is_believed(tmp_path):
    path = write(tmp_path / "a.mcap", range(100), compression=CompressionType.NONE)
    path.write_bytes(path.read_bytes().replace(b"000050", b"0x0050"))
    found = list(read_messages([McapFile(path)], TOPICS))
    found[10].check()
    with pytest.raises(ValueError, match="checksum of its MCAP chunk does not fit"):
        found[50].check()


@pytest.mark.parametrize(
    "options", [{"use_chunking": False}, {"index_types": IndexType.NONE}], ids=["chunks", "index"]
)
def test_a_file_without_chunks_or_index_has_to_be_scanned(tmp_path, options):
    assert McapFile(write(tmp_path / "a.mcap", range(10), **options)).chunks == []


def test_what_is_cut_off_is_no_mcap_file(tmp_path):
    path = write(tmp_path / "a.mcap", range(10))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="does not begin and end as an MCAP file"):
        McapFile(path)
