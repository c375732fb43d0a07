# SPDX-License-Identifier: MIT
import io

from rich.console import Console

from vla_core.training.progress import ProgressDisplay


def _run(console):
    with ProgressDisplay(console, "training", total=3, per_count=4) as display:
        for _ in range(3):
            display.advance(loss=0.25, learning_rate=1e-3)
    return console.file.getvalue()


def test_terminal_sees_a_bar_with_loss_rate_and_time():
    text = _run(Console(file=io.StringIO(), force_terminal=True, width=120))
    assert "loss 0.2500" in text
    assert "lr 1.0e-03" in text
    assert "samples/s" in text
    assert "3/3" in text


def test_more_than_was_estimated_raises_the_total():
    console = Console(file=io.StringIO())
    with ProgressDisplay(console, "importing", total=2) as display:
        for _ in range(3):
            display.advance()
    assert "3/3" in console.file.getvalue()
    assert console.file.getvalue().endswith(" 0 s left\n")


def test_file_gets_plain_lines():
    text = _run(Console(file=io.StringIO()))
    assert "\x1b" not in text
    assert "training 3/3  loss 0.2500" in text
