# SPDX-License-Identifier: MIT
"""The instructions that a checkpoint was trained with, and what to say of another one.

A policy may understand words that it was not trained with, so another instruction is never
refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vla_core.errors import CheckpointError
from vla_core.inference.checkpoint_files import read_json
from vla_core.processing.value_checks import nearest, quoted

_NUM_EXAMPLES = 3


def read_trained_instructions(directory: Path) -> tuple[str, ...]:
    """Return the instructions that a checkpoint was trained with; none where it lists none.

    Of a dataset's instructions those that no stage of a curriculum is about are left out.

    Args:
        directory: Folder of the checkpoint. Only hints come of its training.json: one that is
            missing or damaged lists none.
    """
    try:
        report = read_json(directory / "training.json")
    except CheckpointError:
        return ()
    match report:
        case {"dataset": {"instruction_texts": [*listed]}}:
            texts = tuple(text for text in listed if isinstance(text, str))
        case _:
            return ()
    match report:
        case {"recipe": {"curriculum": [_, *_] as stages}}:
            words = [stage.get("instruction") for stage in stages if isinstance(stage, dict)]
            if words and all(words):
                known = [str(each).lower() for each in words]
                texts = tuple(t for t in texts if any(each in t.lower() for each in known))
    return texts


def hint_at_instructions(instruction: str, trained: Sequence[str]) -> str:
    """Return one line about an instruction that a policy was not trained with.

    Case, spaces and a final stop make no other instruction.

    Args:
        instruction: What the policy is asked to do; empty for nothing.
        trained: What it was trained with; empty if that is not known.

    Returns:
        The line, which names the nearest ones; empty where there is nothing to say.
    """
    words = _normalize(instruction)
    known = {_normalize(text): text for text in trained}
    if not words or not known or words in known:
        return ""
    near = [known[each] for each in nearest(words, known, _NUM_EXAMPLES)]
    examples = near or list(known.values())[:_NUM_EXAMPLES]
    return (
        f"no demonstration that the policy was trained on says '{' '.join(instruction.split())}', "
        f"so it may do something else; {'the nearest' if near else 'some'} of them say: "
        f"{quoted(examples)}"
    )


def _normalize(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(" .")
