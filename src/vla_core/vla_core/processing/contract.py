# SPDX-License-Identifier: MIT
"""The robot contract: how topics become policy inputs and policy outputs become commands.

One YAML file per robot in ``config/robots``. Every value is explicit and checked when it is read:
joint order, camera order and limits decide how an arm moves, so nothing has a hidden default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from vla_core.errors import ConfigError, ContractError
from vla_core.processing.value_checks import (
    UniqueKeyLoader,
    quoted,
    require_choice,
    require_count,
    require_keys,
    require_number,
    require_positive,
    require_rate,
    require_text,
    require_unique_names,
)

ACTION_KINDS = ("joint_position", "joint_delta", "end_effector_delta")
COMMAND_OUTPUTS = ("joint_trajectory",)

_PACKAGED_ROBOTS = Path(__file__).parents[1] / "robots"
_SOURCE_TREE_ROBOTS = Path(__file__).resolve().parents[4] / "config" / "robots"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraContract:
    """One camera: its relative topic, image size in pixels, and oldest usable frame."""

    topic: str
    width: int
    height: int
    max_age_s: float

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require_text("topic", self.topic)
        require_count("width", self.width)
        require_count("height", self.height)
        require_positive("max_age_s", self.max_age_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateContract:
    """The measured state: topic, joints in the order of the policy, and oldest usable message."""

    topic: str
    joints: tuple[str, ...]
    max_age_s: float

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require_text("topic", self.topic)
        object.__setattr__(self, "joints", require_unique_names("joints", self.joints))
        require_positive("max_age_s", self.max_age_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionContract:
    """What the policy returns: kind, joints in order, rate of the steps of a chunk.

    ``max_age_s`` is the age of a chunk's observation after which the arm stops.
    """

    kind: str
    joints: tuple[str, ...]
    rate_hz: float
    max_age_s: float

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require_choice("kind", self.kind, ACTION_KINDS)
        object.__setattr__(self, "joints", require_unique_names("joints", self.joints))
        require_rate("rate_hz", self.rate_hz)
        require_positive("max_age_s", self.max_age_s)

    @property
    def dt_s(self) -> float:
        """Time between two steps of a chunk."""
        return 1.0 / self.rate_hz


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandContract:
    """How commands leave: rate of the command loop, output type and relative topic."""

    rate_hz: float
    output: str
    topic: str

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require_rate("rate_hz", self.rate_hz)
        require_choice("output", self.output, COMMAND_OUTPUTS)
        require_text("topic", self.topic)

    @property
    def dt_s(self) -> float:
        """Time between two commands."""
        return 1.0 / self.rate_hz


@dataclass(frozen=True, slots=True, kw_only=True)
class JointLimits:
    """Limits of one joint in rad or m: position range, largest velocity and acceleration."""

    lower: float
    upper: float
    velocity: float
    acceleration: float

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require_number("lower", self.lower)
        require_number("upper", self.upper)
        if self.lower >= self.upper:
            raise ConfigError(
                f"lower must be below upper, got lower {self.lower} and upper {self.upper}."
            )
        require_positive("velocity", self.velocity)
        require_positive("acceleration", self.acceleration)


@dataclass(frozen=True, slots=True, kw_only=True)
class RobotContract:
    """Everything that a policy and a robot have to agree on.

    Attributes:
        robot: Name of the robot.
        cameras: Cameras in the order of the policy; the first is the reference for time.
        state: Measured state.
        action: Actions of the policy.
        command: Output of the command loop.
        limits: Limits of every action joint, at least.

    Raises:
        ContractError: A value is out of range, or two parts name different joints.
    """

    robot: str
    cameras: Mapping[str, CameraContract]
    state: StateContract
    action: ActionContract
    command: CommandContract
    limits: Mapping[str, JointLimits]

    def __post_init__(self) -> None:
        """Refuse parts that do not fit each other."""
        require_text("robot", self.robot)
        if not self.cameras:
            raise ContractError("cameras must name at least one camera, got none.")
        self._require_distinct_topics()
        if self.command.rate_hz < self.action.rate_hz:
            raise ContractError(
                f"command.rate_hz must be at least action.rate_hz ({self.action.rate_hz}), "
                f"got {self.command.rate_hz}."
            )
        known = ", ".join(self.state.joints)
        for where, joints in (("action.joints", self.action.joints), ("limits", self.limits)):
            unknown = [joint for joint in joints if joint not in self.state.joints]
            if unknown:
                raise ContractError(
                    f"{where} names {quoted(unknown)}, which state.joints does not; "
                    f"known joints: {known}."
                )
        missing = [joint for joint in self.action.joints if joint not in self.limits]
        if missing:
            raise ContractError(
                f"limits lacks {quoted(missing)}; every action joint needs lower, upper, "
                "velocity and acceleration."
            )

    def _require_distinct_topics(self) -> None:
        topics = {f"cameras.{name}.topic": camera.topic for name, camera in self.cameras.items()}
        topics["state.topic"] = self.state.topic
        topics["command.topic"] = self.command.topic
        first: dict[str, str] = {}
        for where, topic in topics.items():
            other = first.setdefault(topic, where)
            if other != where:
                raise ContractError(
                    f"{where} '{topic}' is also {other}; every camera, the state and the "
                    "command need a topic of their own."
                )

    @property
    def reference_camera(self) -> str:
        """The camera whose stamp is the stamp of the observation."""
        return next(iter(self.cameras))

    @property
    def action_limits(self) -> dict[str, JointLimits]:
        """Limits of the action joints, in their order."""
        return {joint: self.limits[joint] for joint in self.action.joints}

    def differences(self, other: RobotContract) -> list[str]:
        """Say where another contract does not fit a policy made for this one.

        Topics, ages and limits may differ: they do not change what a policy sees or returns.

        Args:
            other: The contract to compare with.

        Returns:
            One readable line per difference, with both values; empty if the contracts fit.
        """
        mine, theirs = self._policy_view(), other._policy_view()
        return [
            f"{key}: {mine.get(key, 'absent')} != {theirs.get(key, 'absent')}"
            for key in dict.fromkeys((*mine, *theirs))
            if mine.get(key) != theirs.get(key)
        ]

    def _policy_view(self) -> dict[str, object]:
        view: dict[str, object] = {"cameras": list(self.cameras)}
        for name, camera in self.cameras.items():
            view[f"cameras.{name} size"] = f"{camera.width}x{camera.height}"
        view["state.joints"] = list(self.state.joints)
        view["action.kind"] = self.action.kind
        view["action.joints"] = list(self.action.joints)
        view["action.rate_hz"] = float(self.action.rate_hz)
        return view

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values that ``from_dict`` reads back."""
        data = asdict(self)
        data["state"]["joints"] = list(self.state.joints)
        data["action"]["joints"] = list(self.action.joints)
        return data

    @classmethod
    def from_dict(cls, data: object) -> RobotContract:
        """Build a contract from plain values, as YAML or JSON give them.

        Args:
            data: Mapping with the fields of this class.

        Raises:
            ContractError: A key is unknown or missing, or a value is out of range.
        """
        try:
            top = require_keys("contract", data, _names(cls))
            return cls(
                robot=top["robot"],
                cameras=_named(CameraContract, top["cameras"], "cameras"),
                state=_section(StateContract, top["state"], "state"),
                action=_section(ActionContract, top["action"], "action"),
                command=_section(CommandContract, top["command"], "command"),
                limits=_named(JointLimits, top["limits"], "limits"),
            )
        except ContractError:
            raise
        except ConfigError as error:
            raise ContractError(str(error)) from None

    @classmethod
    def from_yaml(cls, path: str | Path) -> RobotContract:
        """Read a contract file.

        Args:
            path: YAML file.

        Raises:
            ContractError: The file is missing, is no YAML, or is not a valid contract.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise ContractError(
                f"contract '{path}' cannot be read: {error.strerror or error}."
            ) from error
        except UnicodeDecodeError as error:
            raise ContractError(
                f"contract '{path}' is not UTF-8 text ({error}); save it as UTF-8."
            ) from error
        try:
            return cls.from_dict(yaml.load(text, Loader=UniqueKeyLoader))
        except (yaml.YAMLError, RecursionError) as error:
            raise ContractError(f"contract '{path}' is not valid YAML: {error}.") from error
        except ConfigError as error:
            raise ContractError(f"contract '{path}': {error}") from error


def available_contracts() -> dict[str, Path]:
    """Return the contracts that ship with the project, by name."""
    files: dict[str, Path] = {}
    for folder in (_SOURCE_TREE_ROBOTS, _PACKAGED_ROBOTS):
        files.update({path.stem: path for path in sorted(folder.glob("*.yaml"))})
    return files


def load_contract(name_or_path: str | Path) -> RobotContract:
    """Load a shipped contract by name, or any contract file by path.

    Args:
        name_or_path: A name such as ``'tabletop'``, or the path of a YAML file.

    Raises:
        ContractError: There is no such contract, or it is not valid.
    """
    shipped = available_contracts()
    if str(name_or_path) in shipped:
        return RobotContract.from_yaml(shipped[str(name_or_path)])
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1 or path.is_file():
        return RobotContract.from_yaml(path)
    raise ContractError(
        f"contract '{name_or_path}' is not shipped; available: {quoted(shipped)}; "
        "or give the path of a YAML file."
    )


def _section(cls: type[_T], data: object, where: str) -> _T:
    values = require_keys(where, data, _names(cls))
    try:
        return cls(**values)
    except ConfigError as error:
        raise ContractError(f"{where}.{error}") from None


def _named(cls: type[_T], data: object, where: str) -> dict[str, _T]:
    if not isinstance(data, Mapping):
        raise ContractError(f"{where} must be a mapping by name, got {data!r}.")
    return {str(name): _section(cls, value, f"{where}.{name}") for name, value in data.items()}


def _names(cls: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(cls))
