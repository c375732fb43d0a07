# SPDX-License-Identifier: MIT
"""Upload a checkpoint to the Hugging Face hub.

CHECKPOINT is a folder or the name of a shipped one. Wherever a checkpoint is named, hf:owner/name
or hf:owner/name@revision names one on the hub: in `vla rollout`, `vla train --from`, the nodes.
A token that may write comes from HF_TOKEN or `hf auth login`.

  vla push out/train/groot/policy hf:me/groot-sim
  vla rollout --checkpoint hf:me/groot-sim
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="folder, or shipped name")
    parser.add_argument("name", metavar="hf:OWNER/NAME[@BRANCH]", help="where to upload it to")
    parser.add_argument("--private", action="store_true", help="create a private repository")


def run(args: argparse.Namespace) -> int:
    """Upload; return the exit status.

    Raises:
        ConfigError: The name is not valid, or huggingface_hub is not installed.
        CheckpointError: The checkpoint is missing, or cannot be uploaded.
    """
    from vla_core.inference.checkpoint_files import find_checkpoint
    from vla_core.inference.hub import parse_hub_name, push_checkpoint

    parse_hub_name(args.name)
    folder = find_checkpoint(args.checkpoint)
    print(push_checkpoint(folder, args.name, private=args.private))
    return 0
