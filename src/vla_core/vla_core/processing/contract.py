# SPDX-License-Identifier: MIT
"""The robot contract: how topics become policy inputs and policy outputs become commands.

One YAML file per robot in ``config/robots``. Every value is checked when it is read. Joint order,
camera order, rates, ages and limits decide how an arm moves and are always explicit; what a robot
need not have, such as further sensors or a workspace, may be left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from vla_core.errors import ConfigError, ContractError
from vla_core.processing.contract_inputs import (
    INPUT_COMPONENTS,
    AlignmentContract,
    CameraContract,
    InputContract,
    StateContract,
)
from vla_core.processing.contract_outputs import (
    ACTION_KINDS,
    COMMAND_OUTPUTS,
    END_EFFECTOR_COMPONENTS,
    ActionContract,
    CommandContract,
    GripperContract,
)
from vla_core.processing.contract_safety import (
    JointLimits,
    KinematicsContract,
    SafetyContract,
    WorkspaceContract,
)
from vla_core.processing.value_checks import UniqueKeyLoader, quoted, require_keys, require_text

__all__ = [
    "ACTION_KINDS",
    "COMMAND_OUTPUTS",
    "ActionContract",
    "AlignmentContract",
    "CameraContract",
    "CommandContract",
    "GripperContract",
    "InputContract",
    "JointLimits",
    "KinematicsContract",
    "RobotContract",
    "SafetyContract",
    "StateContract",
    "WorkspaceContract",
    "available_contracts",
    "load_contract",
]

_PACKAGED_ROBOTS = Path(__file__).parents[1] / "robots"
_SOURCE_TREE_ROBOTS = Path(__file__).resolve().parents[4] / "config" / "robots"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RobotContract:
    """Everything that a policy and a robot have to agree on.

    Attributes:
        robot: Name of the robot.
        cameras: Cameras in the order of the policy; the first is the reference for time.
        state: Measured joints.
        action: Actions of the policy.
        command: Output of the command loop.
        limits: Limits of every action joint, at least.
        inputs: Further sensors, whose values follow the joints in the policy's state.
        alignment: How far apart in time the parts of an observation may be.
        grippers: How the gripper joints are driven, by joint.
        kinematics: Where the robot's geometry is described; None if nothing needs it.
        workspace: Box for the tool; None: only the joints are limited.
        safety: How careful the command loop is.

    Raises:
        ContractError: A value is out of range, or two parts name different joints.
    """

    robot: str
    cameras: Mapping[str, CameraContract]
    state: StateContract
    action: ActionContract
    command: CommandContract
    limits: Mapping[str, JointLimits]
    inputs: Mapping[str, InputContract] = field(default_factory=dict)
    alignment: AlignmentContract = field(default_factory=AlignmentContract)
    grippers: Mapping[str, GripperContract] = field(default_factory=dict)
    kinematics: KinematicsContract | None = None
    workspace: WorkspaceContract | None = None
    safety: SafetyContract = field(default_factory=SafetyContract)

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
        self._require_known("action.joints", self.action.joints, "state", self.state.joints)
        self._require_known("limits", self.limits, "state", self.state.joints)
        self._require_known("grippers", self.grippers, "action", self.action.joints)
        missing = [joint for joint in self.action.joints if joint not in self.limits]
        if missing:
            raise ContractError(
                f"limits lacks {quoted(missing)}; every action joint needs lower, upper, "
                "velocity and acceleration."
            )
        self._require_split_joints()
        self._require_kinematics()

    @staticmethod
    def _require_known(
        where: str, joints: Mapping[str, Any] | tuple[str, ...], part: str, known: tuple[str, ...]
    ) -> None:
        unknown = [joint for joint in joints if joint not in known]
        if unknown:
            raise ContractError(
                f"{where} names {quoted(unknown)}, which {part}.joints does not; "
                f"known joints: {', '.join(known)}."
            )

    def _require_split_joints(self) -> None:
        if not self.command.topics:
            return
        listed = [joint for joints in self.command.topics.values() for joint in joints]
        if sorted(listed) != sorted(self.arm_joints):
            raise ContractError(
                "command.topics must list each joint of the arms exactly once: "
                f"{', '.join(self.arm_joints)}, got {', '.join(listed)}."
            )

    def _require_kinematics(self) -> None:
        if self.kinematics is not None:
            return
        moves_tool = self.action.kind == "end_effector_delta"
        for where, needs in (
            ("workspace", self.workspace is not None),
            ("action.kind 'end_effector_delta'", moves_tool),
            (f"command.output '{self.command.output}'", self.command.output in _TOOL_OUTPUTS),
        ):
            if needs:
                raise ContractError(
                    f"kinematics is missing, which {where} needs: urdf, base_link, tip_link."
                )

    def _require_distinct_topics(self) -> None:
        topics = [(f"cameras.{name}.topic", part.topic) for name, part in self.cameras.items()]
        topics.append(("state.topic", self.state.topic))
        topics += [("state.extra_topics", topic) for topic in self.state.extra_topics]
        topics += [(f"inputs.{name}.topic", part.topic) for name, part in self.inputs.items()]
        if self.command.topic:
            topics.append(("command.topic", self.command.topic))
        topics += [("command.topics", topic) for topic in self.command.topics]
        topics += [
            (f"grippers.{joint}.topic", part.topic)
            for joint, part in self.grippers.items()
            if part.topic
        ]
        first: dict[str, str] = {}
        for where, topic in topics:
            other = first.setdefault(topic, where)
            if other != where:
                raise ContractError(
                    f"{where} '{topic}' is also {other}; every camera, the state and the "
                    "command need a topic of their own."
                )

    @property
    def arm_joints(self) -> tuple[str, ...]:
        """Action joints that go out with the arm's command, in their order."""
        return tuple(
            joint
            for joint in self.action.joints
            if joint not in self.grippers or self.grippers[joint].output == "joint"
        )

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the values of the policy's state, in their order."""
        return self.state.names + tuple(
            f"{name}.{component}"
            for name, part in self.inputs.items()
            for component in INPUT_COMPONENTS[part.type]
        )

    @property
    def action_names(self) -> tuple[str, ...]:
        """Names of the values of one action of the policy, in their order."""
        if self.action.kind != "end_effector_delta":
            return self.action.joints
        return (
            *END_EFFECTOR_COMPONENTS,
            *(joint for joint in self.action.joints if joint in self.grippers),
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
            if camera.depth_range_m is not None:
                view[f"cameras.{name} depth_range_m"] = list(camera.depth_range_m)
        view["state.joints"] = list(self.state.joints)
        if self.state_names != self.state.joints:
            view["state values"] = list(self.state_names)
        view["action.kind"] = self.action.kind
        view["action.joints"] = list(self.action.joints)
        if self.action.kind == "end_effector_delta":
            view["action.delta_frame"] = self.action.delta_frame
        view["action.rate_hz"] = float(self.action.rate_hz)
        return view

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values that ``from_dict`` reads back; defaults are left out."""
        return dict(_plain(self))

    @classmethod
    def from_dict(cls, data: object) -> RobotContract:
        """Build a contract from plain values, as YAML or JSON give them.

        Args:
            data: Mapping with the fields of this class.

        Raises:
            ContractError: A key is unknown or missing, or a value is out of range.
        """
        try:
            values = dict(require_keys("contract", data, *_keys(cls)))
            for name, part in _SECTIONS.items():
                if name in values and not (name in _NULLABLE and values[name] is None):
                    values[name] = _section(part, values[name], name)
            for name, part in _NAMED_SECTIONS.items():
                if name in values:
                    values[name] = _named(part, values[name], name)
            return cls(**values)
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
            data = yaml.load(text, Loader=UniqueKeyLoader)
            return cls.from_dict(_with_absolute_urdf(data, Path(path).resolve().parent))
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
        name_or_path: A name such as ``'sim'``, or the path of a YAML file.

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


_TOOL_OUTPUTS = ("servo_twist", "servo_pose")
_SECTIONS: dict[str, type[Any]] = {
    "state": StateContract,
    "action": ActionContract,
    "command": CommandContract,
    "alignment": AlignmentContract,
    "kinematics": KinematicsContract,
    "workspace": WorkspaceContract,
    "safety": SafetyContract,
}
_NULLABLE = ("kinematics", "workspace")
_NAMED_SECTIONS: dict[str, type[Any]] = {
    "cameras": CameraContract,
    "limits": JointLimits,
    "inputs": InputContract,
    "grippers": GripperContract,
}


def _section(cls: type[_T], data: object, where: str) -> _T:
    values = require_keys(where, data, *_keys(cls))
    try:
        return cls(**values)
    except ConfigError as error:
        raise ContractError(f"{where}.{error}") from None


def _named(cls: type[_T], data: object, where: str) -> dict[str, _T]:
    if not isinstance(data, Mapping):
        raise ContractError(f"{where} must be a mapping by name, got {data!r}.")
    return {str(name): _section(cls, value, f"{where}.{name}") for name, value in data.items()}


def _keys(cls: type[Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return all keys of a section, and those that may be left out."""
    every = fields(cls)
    return tuple(f.name for f in every), tuple(f.name for f in every if _default(f) is not MISSING)


def _default(part: Field[Any]) -> Any:
    return part.default_factory() if part.default_factory is not MISSING else part.default


def _plain(value: Any) -> Any:
    """Return a value of a contract as YAML and JSON know it."""
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if hasattr(value, "__dataclass_fields__"):
        return {
            part.name: _plain(getattr(value, part.name))
            for part in fields(value)
            if getattr(value, part.name) != _default(part)
        }
    return value


def _with_absolute_urdf(data: object, folder: Path) -> object:
    """Resolve a URDF that is named relative to the contract's file."""
    kinematics = data.get("kinematics") if isinstance(data, dict) else None
    urdf = kinematics.get("urdf") if isinstance(kinematics, dict) else None
    if not isinstance(urdf, str) or "://" in urdf or not urdf:
        return data
    return {**data, "kinematics": {**kinematics, "urdf": str(folder / urdf)}}  # type: ignore[dict-item]
