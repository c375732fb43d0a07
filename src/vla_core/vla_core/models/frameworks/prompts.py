# SPDX-License-Identifier: MIT
"""The words that a language model reads around an instruction."""

from __future__ import annotations

from collections.abc import Sequence

from vla_core.errors import ConfigError
from vla_core.models.vlm.base import as_text_list

# What stands around a question ("In: ...\nOut: ") is the VLM's own and comes from it.
OPENVLA_PROMPT = "What action should the robot take to {}?"


def check_prompt_template(template: str) -> str:
    """Return a template if it has exactly one place for the instruction.

    Raises:
        ConfigError: If `{}` is not in it once.
    """
    if template.count("{}") != 1:
        raise ConfigError(
            f"prompt_template must have '{{}}' once, where the instruction goes, got {template!r}."
        )
    return template


def fill_prompts(template: str, text: str | Sequence[str] | None, batch_size: int) -> list[str]:
    """Put the instruction of each row into a template.

    Args:
        template: Text with one `{}`.
        text: One instruction for the whole batch, or one per row; None for the empty one.
        batch_size: Number of rows.

    Raises:
        ShapeError: If the texts are no strings or not as many.
    """
    texts = as_text_list(text, batch_size)
    return [template.replace("{}", instruction) for instruction in texts]
