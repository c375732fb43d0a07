# SPDX-License-Identifier: MIT
"""The words that a language model reads around an instruction."""

from __future__ import annotations

from collections.abc import Sequence

from vla_core.errors import ConfigError

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


def fill_prompts(template: str, text: str | Sequence[str] | None) -> str | list[str]:
    """Put instructions into a template.

    Args:
        template: Text with one `{}`.
        text: One instruction for the whole batch, or one per row; None for the empty one.
    """
    if text is None or isinstance(text, str):
        return template.replace("{}", text or "")
    return [template.replace("{}", instruction) for instruction in text]
