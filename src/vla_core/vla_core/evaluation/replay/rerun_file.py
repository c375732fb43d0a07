# SPDX-License-Identifier: MIT
"""Predictions and recording side by side in a file for the Rerun viewer."""

from __future__ import annotations

from pathlib import Path

from vla_core.errors import ConfigError
from vla_core.evaluation.replay.tick_log import AnsweredTick
from vla_core.processing.contract import RobotContract


class RerunFile:
    """Writes an `.rrd` file, which `rerun FILE` opens.

    Args:
        path: File to write.
        contract: The robot.

    Raises:
        ConfigError: Rerun is not installed.
    """

    def __init__(self, path: Path, contract: RobotContract) -> None:
        try:
            import rerun
        except ModuleNotFoundError as error:
            raise ConfigError("--rerun needs it; run pip install 'vla_core[rerun]'.") from error
        path.parent.mkdir(parents=True, exist_ok=True)
        self._rerun = rerun
        self._contract = contract
        self._stream = rerun.RecordingStream("vla_replay")
        self._stream.save(str(path))

    def add(self, tick: AnsweredTick) -> None:
        """Write an answered control tick."""
        rerun, stream = self._rerun, self._stream
        stream.set_time("time", timestamp=tick.time_ns * 1e-9)
        for column, name in enumerate(self._contract.action_names):
            predicted = float(tick.chunk.actions[0, column])
            stream.log(f"{name}/predicted", rerun.Scalars(predicted))
            if tick.recorded is not None:
                recorded = float(tick.recorded[column])
                stream.log(f"{name}/recorded", rerun.Scalars(recorded))
                stream.log(f"{name}/error", rerun.Scalars(predicted - recorded))
        for name, image in tick.observation.images.items():
            stream.log(f"cameras/{name}", rerun.Image(image).compress(85))
        stream.log("instruction", rerun.TextDocument(tick.observation.instruction))
