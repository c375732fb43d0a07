# SPDX-License-Identifier: MIT
"""Write serialised messages into a rosbag2 bag in MCAP format, which any MCAP tool opens.

The definitions of the messages go into the bag, read from the ``.msg`` files that the packages
install, so that bags with ``vla_msgs`` can be read where that package is not.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from rclpy.qos import QoSProfile
from rosbags.interfaces import (
    Connection,
    Nodetype,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer, WriterError
from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore

from vla_core.errors import ConfigError, MessageError


class BagWriter:
    """A bag that is open for writing.

    Messages gather in a chunk of about a MiB before they reach the file; `flush` writes what there
    is. A bag whose writer was killed has all chunks but no index: ``mcap recover`` mends it.

    Args:
        path: Folder of the bag; it must not exist yet.
        compress: Whether chunks are compressed, with zstd.

    Raises:
        ConfigError: The folder exists or cannot be created.
    """

    def __init__(self, path: Path, *, compress: bool) -> None:
        try:
            self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
            if compress:
                self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            self._writer.open()
        except WriterError as error:
            raise ConfigError(
                f"path {str(path)!r} exists already; give another one or remove it."
            ) from error
        except OSError as error:
            raise ConfigError(f"path {str(path)!r} cannot be created: {error}.") from error
        self.path = path
        self._typestore = get_typestore(Stores.EMPTY)

    def add_topic(self, topic: str, type_name: str, qos_profiles: Sequence[QoSProfile]) -> Any:
        """Return the handle that `write` needs.

        Args:
            topic: Absolute topic name.
            type_name: ``package/msg/Type``.
            qos_profiles: Profiles of the publishers; ``ros2 bag play`` publishes with them.

        Raises:
            MessageError: The definition of the type, or of one that it contains, is not installed.
        """
        definition = _register(self._typestore, type_name)
        return self._writer.add_connection(
            topic,
            type_name,
            msgdef=definition,
            rihs01=self._typestore.hash_rihs01(type_name),
            offered_qos_profiles=[_bag_qos(profile) for profile in qos_profiles],
        )

    def write(self, handle: Connection, received_ns: int, message: bytes) -> None:
        """Add one serialised message.

        Raises:
            OSError: The disk is full, or gone.
        """
        self._writer.write(handle, received_ns, message)

    def flush(self) -> None:
        """Hand all messages to the operating system, so that they outlive this process.

        Raises:
            OSError: The disk is full, or gone.
        """
        storage: Any = self._writer.storage
        if storage.chunk.bio.tell():
            storage.close_chunk()
        storage.bio.flush()

    def close(self, notes: dict[str, Any]) -> None:
        """Write index and metadata.

        Args:
            notes: What else is to be known about the bag; JSON under ``custom_data: vla_ros``.

        Raises:
            OSError: The disk is full, or gone.
        """
        self._writer.set_custom_data("vla_ros", json.dumps(notes))
        self._writer.close()


def _register(typestore: Any, type_name: str) -> str:
    """Add a type and all that it contains to a rosbags type store; return their definition.

    The definition has the installed texts as they are. One that rosbags makes would begin with all
    constants, while viewers name the values of a field by those just before it.

    Raises:
        MessageError: A definition is not installed or cannot be parsed.
    """
    texts: dict[str, str] = {}
    missing = [type_name]
    new: dict[str, Any] = {}
    while missing:
        name = missing.pop(0)
        if name in texts:
            continue
        texts[name], types = _installed(name)
        if name not in typestore.fielddefs:
            new.update(types)
        for _, fields in types.values():
            for _, field in fields:
                missing += _contained_types(field)
    if new:
        typestore.register(new)
    separator = "\n" + "=" * 80 + "\nMSG: "
    parts = [f"{name.replace('/msg/', '/')}\n{text}" for name, text in texts.items()]
    return texts[type_name] + "".join(separator + part for part in parts[1:])


@functools.cache
def _installed(type_name: str) -> tuple[str, dict[str, Any]]:
    """Return the text of a definition and what rosbags reads in it."""
    try:
        package, _, name = type_name.split("/")
        text = Path(get_package_share_directory(package), "msg", f"{name}.msg").read_text("utf-8")
        return text, get_types_from_msg(text, type_name)
    except (PackageNotFoundError, OSError, ValueError) as error:
        raise MessageError(
            f"definition of {type_name!r} is not installed; install its package and source its "
            "setup.bash, or do not record it."
        ) from error
    except TypesysError as error:
        raise MessageError(f"definition of {type_name!r} cannot be parsed: {error}.") from error


def _contained_types(field: Any) -> list[str]:
    """Return the message types in a field of a rosbags definition, where arrays are nested."""
    kind, details = field
    if kind == Nodetype.NAME:
        return [details]
    if kind in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        return _contained_types(details[0])
    return []


def _bag_qos(profile: QoSProfile) -> Qos:
    def time(duration: Any) -> QosTime:
        return QosTime(*divmod(duration.nanoseconds, 1_000_000_000))

    return Qos(
        history=QosHistory(int(profile.history)),
        depth=profile.depth,
        reliability=QosReliability(int(profile.reliability)),
        durability=QosDurability(int(profile.durability)),
        deadline=time(profile.deadline),
        lifespan=time(profile.lifespan),
        liveliness=QosLiveliness(int(profile.liveliness)),
        liveliness_lease_duration=time(profile.liveliness_lease_duration),
        avoid_ros_namespace_conventions=profile.avoid_ros_namespace_conventions,
    )
