# SPDX-License-Identifier: MIT
"""Opening the ACT policies of LeRobot, without LeRobot.

A policy directory holds config.json and model.safetensors, and, since LeRobot 0.4, the pre- and
post-processor (policy_preprocessor.json and policy_postprocessor.json, each step with its own
safetensors file), from which the statistics for the normalisation are read. Older policies have
the statistics among their weights. Every weight is accounted for, and what is not understood is
refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vla_core.errors import CheckpointError, ConfigError
from vla_core.models.layers.positional import interleaved_embedding
from vla_core.models.weights import CONFIG_NAME, WEIGHTS_NAME, read_config, read_tensors

_STATE = "observation.state"
_ACTION = "action"
_EPS = 1e-8
_BACKBONES = {"resnet18": 18, "resnet34": 34}
_LEGACY_PREFIXES = ("normalize_inputs.", "normalize_targets.", "unnormalize_outputs.")
_STEPS = {
    "rename_observations_processor",
    "to_batch_processor",
    "device_processor",
    "normalizer_processor",
    "unnormalizer_processor",
}
# Lower and upper end, mapped to -1 and 1, of every mode but MEAN_STD.
_RANGES = {"MIN_MAX": ("min", "max"), "QUANTILES": ("q01", "q99"), "QUANTILE10": ("q10", "q90")}

# LeRobot's name of a module, and ours; what follows it is the same in both.
_MODULES = {
    "backbone": "vision_encoder",
    "encoder_img_feat_input_proj": "image_projection",
    "encoder_latent_input_proj": "latent_projection",
    "encoder_robot_state_input_proj": "state_projection",
    "encoder_1d_feature_pos_embed.weight": "token_positions",
    "encoder.layers": "transformer.encoder",
    "encoder.norm": "transformer.encoder_norm",
    "decoder.layers": "transformer.decoder",
    "decoder.norm": "transformer.decoder_norm",
    "decoder_pos_embed.weight": "transformer.queries",
    "action_head": "action_output",
    "vae_encoder.layers": "posterior.layers",
    "vae_encoder.norm": "posterior.norm",
    "vae_encoder_cls_embed.weight": "posterior.cls",
    "vae_encoder_robot_state_input_proj": "posterior.condition_projection",
    "vae_encoder_action_input_proj": "posterior.action_projection",
    "vae_encoder_latent_output_proj": "posterior.output",
}
_PARTS = {
    "linear1": "feedforward.linear1",
    "linear2": "feedforward.linear2",
    "multihead_attn": "cross_attn",
}


@dataclass(frozen=True)
class LeRobotACT:
    """What a policy directory says, in the terms of `ACTVLA`.

    Attributes:
        keywords: Constructor keywords.
        tensors: Weights by our names.
        weights_path: Where they were read.
    """

    keywords: dict[str, Any]
    tensors: dict[str, Tensor]
    weights_path: Path


def is_lerobot_policy(path: Path) -> bool:
    """Tell whether a folder holds a policy of LeRobot: its config.json has a `type`."""
    config_path = path / CONFIG_NAME
    if not config_path.is_file():
        return False
    config = read_config(config_path)
    return "framework" not in config and "type" in config


def read_lerobot_act(folder: Path) -> LeRobotACT:
    """Read a policy directory.

    Raises:
        CheckpointError: If a file is missing or damaged, if it holds another kind of policy, or
            if a weight or a statistic is missing or unknown.
        ConfigError: If the policy has a setting that is not supported here.
    """
    config = read_config(folder / CONFIG_NAME)
    if config["type"] != "act":
        raise CheckpointError(f"{folder} holds a policy of type {config['type']!r}, not 'act'.")
    cameras, state_dim, action_dim = _read_features(config)
    keywords = _read_keywords(config, len(cameras), state_dim, action_dim)

    weights_path = folder / WEIGHTS_NAME
    stored = read_tensors(weights_path)
    weights = {k: v for k, v in stored.items() if not k.startswith(_LEGACY_PREFIXES)}
    legacy = {k: v for k, v in stored.items() if k.startswith(_LEGACY_PREFIXES)}
    tensors = _rename(weights, weights_path)
    _check_positions(tensors, keywords, weights_path)

    names = [*cameras, *([_STATE] if state_dim else [])]
    if legacy:
        statistics = _legacy_statistics(legacy, [*names, _ACTION], weights_path)
        modes = config.get("normalization_mapping", {})
        inputs = outputs = (statistics, modes, weights_path)
    else:
        inputs = _processor_statistics(folder, "policy_preprocessor", "normalizer_processor")
        outputs = _processor_statistics(folder, "policy_postprocessor", "unnormalizer_processor")

    constants = [_constants(name, "VISUAL", *inputs, (3, 1, 1)) for name in cameras]
    tensors["image_units.offset"] = torch.stack([offset for offset, _ in constants])
    tensors["image_units.scale"] = torch.stack([scale for _, scale in constants])
    if state_dim:
        offset, scale = _constants(_STATE, "STATE", *inputs, (state_dim,))
        tensors["state_units.offset"], tensors["state_units.scale"] = offset, scale
        # LeRobot's policies always get a state.
        tensors["missing_state"] = torch.zeros(keywords["hidden_dim"])
    offset, scale = _constants(_ACTION, "ACTION", *outputs, (action_dim,))
    tensors["action_units.offset"], tensors["action_units.scale"] = offset, scale
    return LeRobotACT(keywords, tensors, weights_path)


def _read_features(config: Mapping[str, Any]) -> tuple[list[str], int, int]:
    """Return the names of the cameras and the widths of state and action."""
    inputs = config.get("input_features") or {}
    kinds = {name: feature["type"] for name, feature in inputs.items()}
    unknown = {n: k for n, k in kinds.items() if k != "VISUAL" and (n, k) != (_STATE, "STATE")}
    if unknown:
        raise ConfigError(
            f"input_features {unknown} are not supported; only cameras (VISUAL) and {_STATE!r}."
        )
    cameras = [name for name, kind in kinds.items() if kind == "VISUAL"]
    if not cameras:
        raise ConfigError("input_features have no camera (type VISUAL); the policy needs one.")
    state_dim = inputs[_STATE]["shape"][0] if _STATE in inputs else 0
    return cameras, state_dim, config["output_features"][_ACTION]["shape"][0]


def _read_keywords(
    config: Mapping[str, Any], num_cameras: int, state_dim: int, action_dim: int
) -> dict[str, Any]:
    backbone = config["vision_backbone"]
    if backbone not in _BACKBONES:
        raise ConfigError(
            f"vision_backbone {backbone!r} is not supported; supported: {sorted(_BACKBONES)}."
        )
    if config.get("replace_final_stride_with_dilation"):
        raise ConfigError("replace_final_stride_with_dilation is not supported.")
    return {
        "vision_encoder": {"name": "resnet", "depth": _BACKBONES[backbone], "mean": None},
        "action_dim": action_dim,
        "state_dim": state_dim,
        "chunk_size": config["chunk_size"],
        "latent_dim": config["latent_dim"],
        "kl_weight": config["kl_weight"],
        "hidden_dim": config["dim_model"],
        "num_heads": config["n_heads"],
        "feedforward_dim": config["dim_feedforward"],
        "num_encoder_layers": config["n_encoder_layers"],
        "num_decoder_layers": config["n_decoder_layers"],
        "num_posterior_layers": config["n_vae_encoder_layers"] if config["use_vae"] else 0,
        "dropout": config["dropout"],
        "pre_norm": config["pre_norm"],
        "activation": config["feedforward_activation"],
        "num_cameras": num_cameras,
        "robot_units": True,
    }


def _rename(weights: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the weights by our names."""
    tensors: dict[str, Tensor] = {}
    unknown = []
    for key, value in weights.items():
        name = _our_name(key.removeprefix("model."))
        if name is None or not key.startswith("model."):
            unknown.append(key)
        else:
            tensors[name] = value.squeeze(0) if name == "posterior.cls" else value
    if unknown:
        raise CheckpointError(f"{path} has weights that ACT does not have: {sorted(unknown)}.")
    return tensors


def _our_name(key: str) -> str | None:
    if key == "vae_encoder_pos_enc":
        return key
    for theirs, ours in _MODULES.items():
        if key == theirs or key.startswith(theirs + "."):
            parts = key.removeprefix(theirs).split(".")
            return ours + ".".join(_PARTS.get(part, part) for part in parts)
    return None


def _check_positions(tensors: dict[str, Tensor], keywords: Mapping[str, Any], path: Path) -> None:
    """Take out the table of positions, which is computed here, having checked that it agrees."""
    stored = tensors.pop("vae_encoder_pos_enc", None)
    if stored is None:
        return
    length = 1 + bool(keywords["state_dim"]) + keywords["chunk_size"]
    table = interleaved_embedding(torch.arange(length), keywords["hidden_dim"]).unsqueeze(0)
    if stored.shape != table.shape or not torch.allclose(stored, table, atol=1e-4):
        raise CheckpointError(
            f"{path} has other positions for the demonstrated actions (vae_encoder_pos_enc, "
            f"{list(stored.shape)}) than ACT, {list(table.shape)}."
        )


def _legacy_statistics(
    legacy: Mapping[str, Tensor], names: list[str], path: Path
) -> dict[str, Tensor]:
    """Return the statistics that older policies have among their weights, by `name.statistic`.

    Their names have underscores for dots, so they are found by the names of the features: of
    `observation_images_cam_high` alone one could not tell which underscore is a dot.
    """
    buffers = {f"buffer_{name.replace('.', '_')}": name for name in names}
    statistics = {}
    for key, value in legacy.items():
        _, buffer, statistic = key.split(".")
        if buffer not in buffers:
            raise CheckpointError(
                f"{path} has statistics {key!r} of no feature; features: {', '.join(names)}."
            )
        statistics[f"{buffers[buffer]}.{statistic}"] = value
    return statistics


def _processor_statistics(
    folder: Path, name: str, step_name: str
) -> tuple[dict[str, Tensor], Mapping[str, str], Path]:
    """Return statistics and modes of a processor's normalising step, and where they were read."""
    path = folder / f"{name}.json"
    steps = read_config(path).get("steps", [])
    names = [step.get("registry_name") for step in steps]
    unknown = [step for step in names if step not in _STEPS]
    if unknown:
        raise ConfigError(
            f"{path} has steps {unknown} that are not supported; supported: {sorted(_STEPS)}."
        )
    if names.count(step_name) != 1:
        raise CheckpointError(f"{path} must have one step {step_name!r}, got {names}.")
    for step in steps:
        if step.get("config", {}).get("rename_map"):
            raise ConfigError(
                f"{path} renames observations {step['config']['rename_map']}, which is not "
                "supported; save the policy with the names that it was trained with."
            )
    step = steps[names.index(step_name)]
    if "state_file" not in step:
        raise CheckpointError(f"{path} has no statistics: its {step_name!r} has no state_file.")
    state_path = folder / step["state_file"]
    return read_tensors(state_path), step["config"]["norm_map"], state_path


def _constants(
    name: str,
    kind: str,
    statistics: Mapping[str, Tensor],
    modes: Mapping[str, str],
    path: Path,
    shape: tuple[int, ...],
) -> tuple[Tensor, Tensor]:
    """Return offset and scale of a feature: normalised = (value - offset) / scale."""
    mode = modes.get(kind, "IDENTITY")
    if mode == "IDENTITY":
        return torch.zeros(shape), torch.ones(shape)
    if mode != "MEAN_STD" and mode not in _RANGES:
        raise ConfigError(
            f"normalisation {mode!r} of {name!r} is not supported; supported: IDENTITY, "
            f"MEAN_STD, {', '.join(_RANGES)}."
        )
    needed = ("mean", "std") if mode == "MEAN_STD" else _RANGES[mode]
    missing = [f"{name}.{needs}" for needs in needed if f"{name}.{needs}" not in statistics]
    if missing:
        raise CheckpointError(
            f"{path} lacks {missing}, which {mode} needs; without them the policy would get "
            "values that it was not trained with."
        )
    first, second = (statistics[f"{name}.{needs}"].float().reshape(shape) for needs in needed)
    if not (first.isfinite().all() and second.isfinite().all()):
        raise CheckpointError(f"{path} has statistics of {name!r} that are not finite.")
    if mode == "MEAN_STD":
        return first, second + _EPS
    width = second - first
    width = torch.where(width == 0, torch.full_like(width, _EPS), width)
    return first + 0.5 * width, 0.5 * width
