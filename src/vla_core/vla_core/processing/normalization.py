# SPDX-License-Identifier: MIT
"""Bring states and actions to a common scale, and back.

Every mode is one affine map per dimension, ``(values - offset) / scale``. A dimension that hardly
moves in the data has no scale: it maps to 0 and back to its constant, so that noise is not
blown up and a policy cannot move a joint of which it has seen no movement.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vla_core.errors import ConfigError, ShapeError
from vla_core.processing.value_checks import require_choice, require_count, require_keys

if TYPE_CHECKING:
    import torch

    Values = TypeVar("Values", NDArray[Any], torch.Tensor)
else:
    Values = TypeVar("Values")

NORMALIZATION_MODES = ("mean_std", "min_max", "quantile")
CONSTANT_RANGE = 1e-4
LARGEST_VALUE = 1e18
"""What float32 can still square."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Statistics:
    """What the values of a dataset look like, per dimension, float64 [D].

    Attributes:
        mean: Mean.
        std: Population standard deviation.
        min: Smallest value.
        max: Largest value.
        q01: 1 % quantile.
        q99: 99 % quantile.
        count: Number of values.

    Raises:
        ShapeError: The arrays differ in length, are not finite or exceed ``LARGEST_VALUE``.
        ConfigError: A value is no number, a deviation is negative, an upper bound is below its
            lower one, or the count is not positive.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    min: NDArray[np.float64]
    max: NDArray[np.float64]
    q01: NDArray[np.float64]
    q99: NDArray[np.float64]
    count: int

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit each other."""
        for name in _ARRAYS:
            array = _numbers(name, getattr(self, name))
            object.__setattr__(self, name, array)
            if array.shape != self.mean.shape:
                raise ShapeError(
                    f"statistics '{name}' must be [{len(self.mean)}] like 'mean', "
                    f"got {list(array.shape)}."
                )
        if (self.std < 0.0).any():
            raise ConfigError(
                f"statistics 'std' must not be negative, got {self.std.tolist()}; "
                "compute them again from the training data."
            )
        for low, high in (("min", "max"), ("q01", "q99")):
            lower, upper = getattr(self, low), getattr(self, high)
            if (upper < lower).any():
                raise ConfigError(
                    f"statistics '{high}' must not be below '{low}', got {high} "
                    f"{upper.tolist()} and {low} {lower.tolist()}; compute them again from the "
                    "training data."
                )
        require_count("statistics 'count'", self.count)

    @property
    def dim(self) -> int:
        """Number of dimensions D."""
        return len(self.mean)

    @classmethod
    def from_array(cls, values: NDArray[Any]) -> Statistics:
        """Compute the statistics of recorded values.

        Args:
            values: One row per time step, [T, D].

        Raises:
            ShapeError: There is no row, or a value is not finite.
        """
        array = np.asarray(values, dtype=np.float64)
        if array.ndim != 2 or len(array) == 0:
            raise ShapeError(f"values must be [T, D] with T > 0, got {list(array.shape)}.")
        if not np.isfinite(array).all():
            row, column = np.argwhere(~np.isfinite(array))[0]
            raise ShapeError(
                f"values must be finite, got {array[row, column]} in row {row}, column {column}."
            )
        q01, q99 = np.quantile(array, (0.01, 0.99), axis=0)
        return cls(
            mean=array.mean(axis=0),
            std=array.std(axis=0),
            min=array.min(axis=0),
            max=array.max(axis=0),
            q01=q01,
            q99=q99,
            count=len(array),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values that ``from_dict`` reads back exactly."""
        data: dict[str, Any] = {name: getattr(self, name).tolist() for name in _ARRAYS}
        data["count"] = int(self.count)
        return data

    @classmethod
    def from_dict(cls, data: object) -> Statistics:
        """Build statistics from plain values.

        Raises:
            ConfigError: A key is missing or unknown, or a value is not possible.
            ShapeError: The lists differ in length or hold a value that is not finite.
        """
        return cls(**require_keys("statistics", data, (*_ARRAYS, "count")))


_ARRAYS = ("mean", "std", "min", "max", "q01", "q99")


def _numbers(name: str, given: object) -> NDArray[np.float64]:
    """Return a list of finite numbers as an array, [D]."""
    try:
        array = np.asarray(given)
    except ValueError as error:  # Lists of unequal length within the list.
        raise ShapeError(f"statistics '{name}' must be a list of numbers: {error}.") from error
    if array.ndim != 1 or array.size == 0:
        raise ShapeError(
            f"statistics '{name}' must be a list of numbers, one per dimension, got {given!r}."
        )
    has_flag = isinstance(given, (list, tuple)) and any(isinstance(value, bool) for value in given)
    if array.dtype.kind not in "fiu" or has_flag:
        raise ConfigError(f"statistics '{name}' must be a list of numbers, got {given!r}.")
    array = array.astype(np.float64)
    if not (np.abs(array) <= LARGEST_VALUE).all():
        raise ShapeError(
            f"statistics '{name}' must be finite, at most {LARGEST_VALUE:g} in size, "
            f"got {array.tolist()}."
        )
    return array


class Normalizer:
    """Affine map of recorded values to a common scale, for numpy arrays and torch tensors.

    ``mean_std`` maps to mean 0 and standard deviation 1, ``min_max`` the range to [-1, 1],
    ``quantile`` the range between the 1 % and 99 % quantiles to [-1, 1]. Nothing is clipped:
    values outside the recorded range map outside [-1, 1] and come back unchanged.

    Args:
        mode: One of ``NORMALIZATION_MODES``.
        statistics: Statistics of the values.

    Raises:
        ConfigError: The mode is unknown, or there are no statistics.
    """

    def __init__(self, mode: str, statistics: Statistics) -> None:
        require_choice("normalization", mode, NORMALIZATION_MODES)
        if not isinstance(statistics, Statistics):
            raise ConfigError(
                f"normalization {mode!r} needs the statistics of the training data, "
                f"got {statistics!r}; compute them with Statistics.from_array."
            )
        self.mode = mode
        self.statistics = statistics
        if mode == "mean_std":
            offset, scale = statistics.mean, statistics.std
        else:
            low, high = (
                (statistics.min, statistics.max)
                if mode == "min_max"
                else (statistics.q01, statistics.q99)
            )
            offset, scale = (low + high) / 2.0, (high - low) / 2.0
        self.is_constant = 2.0 * scale < CONSTANT_RANGE
        safe_scale = np.where(self.is_constant, 1.0, scale)
        self._offset = offset
        self._scale = np.where(self.is_constant, 0.0, scale)
        self._inverse_scale = np.where(self.is_constant, 0.0, 1.0 / safe_scale)
        self._converted: dict[Any, tuple[Any, Any, Any]] = {}

    def normalize(self, values: Values) -> Values:
        """Map robot units to the normalised space; dtype and kind of array are kept.

        Args:
            values: Floating point values, [..., D].

        Raises:
            ShapeError: The last dimension is not D, or the values are no floats.
        """
        offset, _, inverse_scale = self._parameters(values)
        return (values - offset) * inverse_scale

    def unnormalize(self, values: Values) -> Values:
        """Map the normalised space back to robot units; dtype and kind of array are kept.

        Args:
            values: Floating point values, [..., D].

        Raises:
            ShapeError: The last dimension is not D, or the values are no floats.
        """
        offset, scale, _ = self._parameters(values)
        return values * scale + offset

    def _parameters(self, values: Any) -> tuple[Any, Any, Any]:
        """Return offset, scale and inverse scale in the kind, dtype and place of the values."""
        if values.ndim == 0 or values.shape[-1] != self.statistics.dim:
            raise ShapeError(
                f"values must be [..., {self.statistics.dim}] like the statistics, "
                f"got {list(values.shape)}."
            )
        is_array = isinstance(values, np.ndarray)
        key = values.dtype if is_array else (values.dtype, values.device)
        if key not in self._converted:
            self._converted[key] = self._convert(values, is_array)
        return self._converted[key]

    def _convert(self, values: Any, is_array: bool) -> tuple[Any, Any, Any]:
        parameters = (self._offset, self._scale, self._inverse_scale)
        floating = values.dtype.kind == "f" if is_array else values.is_floating_point()
        if not floating:
            raise ShapeError(f"values must be floating point, got {values.dtype}.")
        if is_array:
            offset, scale, inverse = (array.astype(values.dtype) for array in parameters)
        else:
            # A tensor is given, so torch is loaded: this module must not load it.
            as_tensor = sys.modules["torch"].as_tensor
            offset, scale, inverse = (
                as_tensor(array, dtype=values.dtype, device=values.device) for array in parameters
            )
        return offset, scale, inverse
