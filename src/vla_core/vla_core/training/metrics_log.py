# SPDX-License-Identifier: MIT
"""A CSV file with the figures of each step."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path


class MetricsLog:
    """A CSV file with one row per step, which a resumed run continues.

    Args:
        path: The file; it is created with the first row.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: io.TextIOWrapper | None = None
        self._writer: csv.DictWriter[str] | None = None

    def append(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the figures of a step."""
        if self._writer is None:
            is_new = not self.path.is_file()
            self._file = self.path.open("a", newline="", encoding="utf-8")
            self._writer = csv.DictWriter(self._file, ["step", *figures])
            if is_new:
                self._writer.writeheader()
        self._writer.writerow({"step": step, **{k: f"{v:.9g}" for k, v in figures.items()}})

    def flush(self) -> None:
        """Bring all rows to the disk."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; a later row opens it again."""
        if self._file is not None:
            self._file.close()
        self._file = self._writer = None

    def keep_until(self, step: int) -> None:
        """Remove the rows after a step, which a resumed run writes again."""
        self.close()
        rows = [row for row in self._rows() if int(row["step"]) <= step]
        if not rows:
            self.path.unlink(missing_ok=True)
            return
        partial = MetricsLog(self.path.with_name(f".{self.path.name}.partial"))
        partial.path.unlink(missing_ok=True)
        for row in rows:
            figures = {key: float(value) for key, value in row.items() if key != "step"}
            partial.append(int(row["step"]), figures)
        partial.flush()
        partial.close()
        os.replace(partial.path, self.path)

    def column(self, name: str) -> tuple[list[int], list[float]]:
        """Return steps and the values of a column."""
        self.flush()
        rows = self._rows()
        return [int(row["step"]) for row in rows], [float(row[name]) for row in rows]

    def _rows(self) -> list[dict[str, str]]:
        """Return the rows without a last one that was cut off when the process was killed."""
        if not self.path.is_file():
            return []
        whole, _, _ = self.path.read_text(encoding="utf-8").rpartition("\n")
        return list(csv.DictReader(io.StringIO(whole)))
