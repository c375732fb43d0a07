# SPDX-License-Identifier: MIT
"""Action heads: from features to a loss, or to actions."""

from vla_core.models.action_heads.base import AbstractActionHead
from vla_core.models.action_heads.cvae import CVAEActionHead
from vla_core.models.action_heads.ddpm import DDPMActionHead
from vla_core.models.action_heads.discrete import (
    ActionBins,
    DiscreteActionHead,
    quantile_bounds,
)
from vla_core.models.action_heads.dit import DiTActionHead
from vla_core.models.action_heads.flow_matching import FlowMatchingActionHead
from vla_core.models.action_heads.mlp import MLPActionHead

__all__ = [
    "AbstractActionHead",
    "ActionBins",
    "CVAEActionHead",
    "DDPMActionHead",
    "DiTActionHead",
    "DiscreteActionHead",
    "FlowMatchingActionHead",
    "MLPActionHead",
    "quantile_bounds",
]
