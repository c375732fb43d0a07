# SPDX-License-Identifier: MIT
"""Every error that this library raises on purpose.

A message starts with the name of what was given and its value, goes on with what is expected or
available, and says what to do where that is not obvious.
"""


class VLAError(Exception):
    """Base of all errors of this library; catch it to catch them all."""


class ConfigError(VLAError, ValueError):
    """A setting is unknown, missing, out of range or contradicts another one."""


class ContractError(ConfigError):
    """A robot contract is invalid, or two contracts do not fit each other."""


class ShapeError(VLAError, ValueError):
    """An array or tensor has another shape or dtype than its reader documents."""


class CheckpointError(VLAError):
    """A checkpoint is missing, damaged, or does not fit the model or the robot."""


class DatasetError(VLAError):
    """A dataset is missing, damaged, or lacks something that its reader needs."""


class TrainingError(VLAError):
    """A training run cannot go on."""


class MessageError(VLAError, ValueError):
    """A ROS message carries data that cannot be used as it is."""


class SafetyError(VLAError):
    """A command must not reach the robot; stop the arm."""


class ChunkError(VLAError, ValueError):
    """An action chunk must not be executed: it is stale, damaged or for another robot."""


class PlanError(VLAError, ValueError):
    """A latent plan must not be followed: it is stale, damaged or of another checkpoint."""


class UnknownNameError(VLAError, LookupError):
    """A name is not registered; the message lists the names that are."""
