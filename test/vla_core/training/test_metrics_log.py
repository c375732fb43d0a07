# SPDX-License-Identifier: MIT
from vla_core.training.metrics_log import MetricsLog


def _log(path, steps):
    log = MetricsLog(path)
    for step in steps:
        log.append(step, {"loss": step / 4})
    log.close()
    return log


def test_rows_after_the_resumed_step_are_removed(tmp_path):
    log = _log(tmp_path / "loss.csv", range(1, 8))
    log.keep_until(5)
    assert log.column("loss") == ([1, 2, 3, 4, 5], [0.25, 0.5, 0.75, 1.0, 1.25])


def test_row_that_a_killed_process_left_half_written_is_dropped(tmp_path):
    path = tmp_path / "loss.csv"
    _log(path, range(8, 12))
    with path.open("a") as file:
        file.write("1")  # of "12,3"
    log = MetricsLog(path)
    log.keep_until(11)
    assert log.column("loss")[0] == [8, 9, 10, 11]


def test_rows_go_on_after_those_that_were_kept(tmp_path):
    log = _log(tmp_path / "loss.csv", range(1, 5))
    log.keep_until(2)
    log.append(3, {"loss": 9.0})
    log.close()
    assert log.column("loss") == ([1, 2, 3], [0.25, 0.5, 9.0])


def test_log_without_a_row_to_keep_begins_anew(tmp_path):
    log = _log(tmp_path / "loss.csv", range(3, 5))
    log.keep_until(2)
    log.append(1, {"loss": 1.0})
    log.close()
    assert log.column("loss") == ([1], [1.0])
