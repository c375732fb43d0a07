# SPDX-License-Identifier: MIT
"""Names, paths and schemas of the LeRobotDataset v3.0 format.

Source: https://huggingface.co/docs/lerobot/lerobot-dataset-v3. A dataset is a folder with
``meta/info.json``, ``meta/stats.json``, ``meta/tasks.parquet``, one row per episode below
``meta/episodes`` and one row per frame below ``data``. Many episodes share one file. Images lie as
PNG in the parquet files, in the struct that Hugging Face ``datasets`` calls an Image, or as MP4
below ``videos``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from vla_core.errors import DatasetError
from vla_core.processing.contract import RobotContract

CODEBASE_VERSION = "v3.0"
CHUNKS_SIZE = 1000
DATA_FILE_SIZE_MB = 100
INFO_PATH = Path("meta/info.json")
STATS_PATH = Path("meta/stats.json")
TASKS_PATH = Path("meta/tasks.parquet")
EPISODES_FOLDER = Path("meta/episodes")
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"

STATE = "observation.state"
ACTION = "action"
IMAGE_PREFIX = "observation.images."
EPISODE_COLUMNS = (
    "episode_index",
    "tasks",
    "length",
    "data/chunk_index",
    "data/file_index",
    "dataset_from_index",
    "dataset_to_index",
    "meta/episodes/chunk_index",
    "meta/episodes/file_index",
)


@dataclass(frozen=True)
class Feature:
    """One column of a dataset.

    Attributes:
        dtype: ``'image'`` (PNG), ``'video'``, or a numpy dtype name.
        shape: Shape of one frame's value; ``(1,)`` is stored as a scalar.
        names: Names of the dimensions or of the values, or None.
        info: What else ``info.json`` says, such as the codec of a video.
    """

    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...] | None = None
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def arrow_type(self) -> pa.DataType:
        """Type of the column in parquet."""
        if self.dtype == "image":
            return pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        value = pa.from_numpy_dtype(self.dtype)
        return value if self.shape == (1,) else pa.list_(value, self.shape[0])

    @property
    def hugging_face_type(self) -> dict[str, Any]:
        """Type of the column as Hugging Face ``datasets`` writes it into the schema."""
        if self.dtype == "image":
            return {"_type": "Image"}
        value = {"dtype": self.dtype, "_type": "Value"}
        if self.shape == (1,):
            return value
        # Every release of datasets reads "Sequence"; "List" only those from 4.0.
        return {"feature": value, "length": self.shape[0], "_type": "Sequence"}

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of this feature in ``info.json``."""
        names = None if self.names is None else list(self.names)
        info = {"info": dict(self.info)} if self.info else {}
        return {"dtype": self.dtype, "shape": list(self.shape), "names": names, **info}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Feature:
        """Read the entry of a feature in ``info.json``.

        Other writers give names as a list, as a mapping of lists, or not at all.
        """
        names = data.get("names")
        if isinstance(names, Mapping):
            names = [name for group in names.values() for name in group]
        return cls(
            dtype=str(data["dtype"]),
            shape=tuple(int(size) for size in data["shape"]),
            names=None if names is None else tuple(str(name) for name in names),
            info=data.get("info") or {},
        )


INDEX_FEATURES: dict[str, Feature] = {
    "timestamp": Feature("float32", (1,)),
    "frame_index": Feature("int64", (1,)),
    "episode_index": Feature("int64", (1,)),
    "index": Feature("int64", (1,)),
    "task_index": Feature("int64", (1,)),
}


def features_from_contract(contract: RobotContract, storage: str = "image") -> dict[str, Feature]:
    """Return the columns that an episode of this robot has: images, state and action.

    Args:
        contract: Gives cameras and their sizes, and the values of state and action in order.
        storage: How frames are stored: ``image`` (PNG, without loss) or ``video`` (MP4).
    """
    features = {
        f"{IMAGE_PREFIX}{name}": Feature(
            storage, (camera.height, camera.width, 3), ("height", "width", "channels")
        )
        for name, camera in contract.cameras.items()
    }
    for key, names in ((STATE, contract.state_names), (ACTION, contract.action_names)):
        features[key] = Feature("float32", (len(names),), names)
    return features


def is_camera(feature: Feature) -> bool:
    """Return whether a column holds frames."""
    return feature.dtype in ("image", "video")


def camera_names(features: Mapping[str, Feature]) -> list[str]:
    """Return the names of the cameras among the features, in order."""
    return [key[len(IMAGE_PREFIX) :] for key in features if key.startswith(IMAGE_PREFIX)]


def frame_schema(features: Mapping[str, Feature]) -> pa.Schema:
    """Return the parquet schema of frames, with the metadata that LeRobot's loader reads.

    Videos have no column there.
    """
    stored = {key: feature for key, feature in features.items() if feature.dtype != "video"}
    hugging_face = {key: feature.hugging_face_type for key, feature in stored.items()}
    return pa.schema(
        [pa.field(key, feature.arrow_type) for key, feature in stored.items()],
        metadata={"huggingface": json.dumps({"info": {"features": hugging_face}})},
    )


def tasks_table(tasks: Sequence[str]) -> pa.Table:
    """Return ``meta/tasks.parquet``: the instruction as index, as pandas marks one.

    Args:
        tasks: Instructions; the position of one is its ``task_index``.
    """
    columns = [
        {"name": "task_index", "field_name": "task_index", "pandas_type": "int64"}
        | {"numpy_type": "int64", "metadata": None},
        {"name": "task", "field_name": "task", "pandas_type": "unicode"}
        | {"numpy_type": "object", "metadata": None},
    ]
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": columns,
        "pandas_version": "2.0.0",
    }
    schema = pa.schema(
        [("task_index", pa.int64()), ("task", pa.string())],
        metadata={"pandas": json.dumps(pandas)},
    )
    return pa.table([list(range(len(tasks))), list(tasks)], schema=schema)


def partial_path(root: Path) -> Path:
    """Return the folder in which a dataset lies until it is finished."""
    return root.with_name(root.name + ".partial")


def column_to_numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    """Return a scalar column as [T], a vector column as [T, D]."""
    array = column.combine_chunks()
    if pa.types.is_fixed_size_list(column.type) or pa.types.is_list(column.type):
        return array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), -1)
    return array.to_numpy(zero_copy_only=False)


def next_file(chunk_index: int, file_index: int) -> tuple[int, int]:
    """Return chunk and file index of the file after the given one."""
    if file_index == CHUNKS_SIZE - 1:
        return chunk_index + 1, 0
    return chunk_index, file_index + 1


def check_features(features: Mapping[str, Feature]) -> None:
    """Refuse columns that this format or its writer cannot hold.

    Raises:
        DatasetError: State, action or every camera is missing, or a column cannot be stored.
    """
    for key in (STATE, ACTION):
        if key not in features:
            raise DatasetError(f"features lacks '{key}'; got {', '.join(features) or 'none'}.")
    if not camera_names(features):
        raise DatasetError(f"features lacks a camera; name one '{IMAGE_PREFIX}<camera>'.")
    for key, feature in features.items():
        if "/" in key or key in INDEX_FEATURES:
            raise DatasetError(
                f"feature '{key}' is not allowed: a name has no '/' and is none of "
                f"{', '.join(INDEX_FEATURES)}, which the writer adds."
            )
        is_image = key.startswith(IMAGE_PREFIX)
        fits = is_camera(feature) == is_image
        if not fits or len(feature.shape) != (3 if is_image else 1):
            raise DatasetError(
                f"feature '{key}' has dtype '{feature.dtype}' and shape {feature.shape}; this "
                f"writer stores '{IMAGE_PREFIX}<camera>' as image or video [H, W, 3], vectors [D]."
            )
