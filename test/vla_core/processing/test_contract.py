# SPDX-License-Identifier: MIT
import copy
import dataclasses
import json

import pytest
import yaml

from vla_core.errors import ContractError
from vla_core.processing.contract import RobotContract, available_contracts, load_contract


@pytest.fixture
def data():
    return load_contract("sim").to_dict()


def changed(data, path, value):
    """Return a copy of nested plain values with one of them replaced, or removed for None."""
    result = copy.deepcopy(data)
    *folders, last = path.split("/")
    place = result
    for folder in folders:
        place = place[folder]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return result


def test_every_shipped_contract_loads_under_its_own_name():
    assert "sim" in available_contracts()
    for name in available_contracts():
        assert load_contract(name).robot == name


def test_contract_round_trips_through_json(data):
    contract = RobotContract.from_dict(data)
    assert RobotContract.from_dict(json.loads(json.dumps(contract.to_dict()))) == contract


def test_contract_loads_by_path(tmp_path, data):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    assert load_contract(path) == RobotContract.from_dict(data)


def test_order_of_cameras_is_the_order_of_the_file(data):
    front, wrist = data["cameras"]["front"], data["cameras"]["wrist"]
    contract = RobotContract.from_dict({**data, "cameras": {"wrist": wrist, "front": front}})
    assert list(contract.cameras) == ["wrist", "front"]
    assert contract.reference_camera == "wrist"


def test_unknown_name_lists_the_shipped_contracts():
    with pytest.raises(ContractError, match=r"'tabeltop' is not shipped.*'sim'"):
        load_contract("tabeltop")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ContractError, match=r"absent\.yaml' cannot be read"):
        load_contract(tmp_path / "absent.yaml")


def test_an_error_in_a_file_names_the_file(tmp_path, data):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(changed(data, "action/rate_hz", -1.0)))
    with pytest.raises(ContractError, match=r"mine\.yaml': action\.rate_hz must be between"):
        load_contract(path)


def test_broken_yaml_is_a_contract_error(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("robot: [")
    with pytest.raises(ContractError, match="not valid YAML"):
        load_contract(path)


def test_a_file_in_another_encoding_is_refused(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes("robot: caf\u00e9".encode("latin-1"))
    with pytest.raises(ContractError, match=r"latin\.yaml' is not UTF-8 text.*save it as UTF-8"):
        load_contract(path)


@pytest.mark.parametrize(
    ("key", "message"),
    [("[a, b]", "line 1 must be a name, got a sequence"), ("{a: b}", "a name, got a mapping")],
)
@pytest.mark.parametrize("before", ["", "cameras: "])
def test_a_key_that_is_no_name_is_refused(tmp_path, before, key, message):
    path = tmp_path / "keys.yaml"
    path.write_text(f"{before}{{? {key} : 1}}\n")
    with pytest.raises(ContractError, match=rf"keys\.yaml': key in .*{message}"):
        load_contract(path)


@pytest.mark.parametrize(
    "value",
    ["2026-99-99", "!!int x", "!!int ''", "!!bool x", "!!timestamp x", "!!float x", "9" * 10_000],
)
def test_a_value_that_yaml_cannot_read_is_refused(tmp_path, value):
    path = tmp_path / "value.yaml"
    path.write_text(f"robot: {value}\n")
    with pytest.raises(ContractError, match=r"value\.yaml'( is not valid YAML|: )"):
        load_contract(path)


def test_values_nested_without_end_are_refused(tmp_path):
    path = tmp_path / "deep.yaml"
    path.write_text("robot: " + "[" * 5_000)
    with pytest.raises(ContractError, match=r"deep\.yaml' is not valid YAML"):
        load_contract(path)


def test_a_repeated_key_is_refused(tmp_path, data):
    path = tmp_path / "twice.yaml"
    path.write_text(yaml.safe_dump(data) + "robot: other\n")
    with pytest.raises(ContractError, match="'robot' is given twice"):
        load_contract(path)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("speed", 1.0, r"unknown key 'speed'; valid keys: robot, cameras, state"),
        ("cameras/front/fps", 30, r"cameras\.front has unknown key 'fps'; valid keys: topic"),
        ("action/gripper", "x", r"action has unknown key 'gripper'; valid keys: kind, joints"),
        ("command", None, r"contract lacks 'command'"),
        ("state/max_age_s", None, r"state lacks 'max_age_s'"),
        ("cameras", {}, r"at least one camera"),
        ("cameras/front/width", 0, r"cameras\.front\.width must be a positive whole number"),
        ("cameras/front/width", 19.2, r"whole number, got 19\.2"),
        ("cameras/front/topic", "", r"topic must be a non-empty string"),
        ("cameras/front", "front_camera", r"cameras\.front must be a mapping"),
        ("state/joints", "joint_1", r"state\.joints must be a list of names"),
        ("state/joints", ["joint_1", "joint_1"], r"'joint_1' more than once"),
        ("action/joints", ["joint_1", "elbow"], r"'elbow', which state\.joints.*joint_6"),
        ("action/kind", "torque", r"kind 'torque' is unknown; available: 'joint_position', 'joi"),
        ("action/rate_hz", 0.0, r"action\.rate_hz must be between 0\.1 and 1000 Hz, got 0\.0"),
        ("action/rate_hz", 1e-300, r"action\.rate_hz must be between .* Hz, got 1e-300"),
        ("command/rate_hz", 9.9, r"command\.rate_hz must be between 10 and 1000 Hz, got 9\.9"),
        ("command/rate_hz", 9000.0, r"command\.rate_hz must be between 10 and .*, got 9000\.0"),
        ("action/rate_hz", 10**400, r"finite number, got a whole number of 1329 bits"),
        (
            "cameras/wrist/topic",
            "front_camera/image_raw",
            r"cameras\.wrist\.topic 'front_camera/image_raw' is also cameras\.front\.topic; every",
        ),
        ("command/topic", "joint_states", r"command\.topic 'joint_states' is also state\.topic"),
        ("state/topic", "wrist_camera/image_raw", r"state\.topic .* also cameras\.wrist\.topic"),
        ("action/rate_hz", "fast", r"action\.rate_hz must be a finite number, got 'fast'"),
        ("action/rate_hz", True, r"finite number, got True"),
        ("action/rate_hz", 60.0, r"command\.rate_hz must be at least action\.rate_hz"),
        ("command/output", "fax", r"'fax' is unknown; available: 'joint_trajectory'"),
        ("limits/joint_3", None, r"limits lacks 'joint_3'"),
        ("limits/elbow", {"lower": 0, "upper": 1, "velocity": 1, "acceleration": 1}, r"'elbow'"),
        ("limits/joint_1/lower", 2.8, r"limits\.joint_1\.lower must be below upper"),
        ("limits/joint_1/upper", float("nan"), r"upper must be a finite number"),
        ("limits/joint_1/velocity", 0.0, r"joint_1\.velocity must be positive"),
        ("limits/joint_1/acceleration", -8.0, r"acceleration must be positive, got -8\.0"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_valid(data, path, value, message):
    with pytest.raises(ContractError, match=message):
        RobotContract.from_dict(changed(data, path, value))


def test_equal_contracts_do_not_differ(data):
    assert RobotContract.from_dict(data).differences(RobotContract.from_dict(data)) == []


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("cameras/front/width", 640, ["192x192", "640x192"]),
        ("cameras/wrist", None, ["['front', 'wrist'] != ['front']"]),
        ("action/kind", "joint_delta", ["action.kind: joint_position != joint_delta"]),
        ("action/rate_hz", 20.0, ["action.rate_hz: 10.0 != 20.0"]),
    ],
)
def test_a_difference_names_both_values(data, path, value, expected):
    other = RobotContract.from_dict(changed(data, path, value))
    report = "\n".join(RobotContract.from_dict(data).differences(other))
    for part in expected:
        assert part in report


@pytest.mark.parametrize("section", ["state", "action"])
def test_another_joint_order_is_a_difference(data, section):
    joints = data[section]["joints"][::-1]
    other = RobotContract.from_dict(changed(data, f"{section}/joints", joints))
    (line,) = RobotContract.from_dict(data).differences(other)
    assert line.startswith(f"{section}.joints: ['joint_1'")
    assert "!= ['gripper_joint'" in line


def test_another_camera_order_is_a_difference(data):
    cameras = dict(reversed(data["cameras"].items()))
    other = RobotContract.from_dict({**data, "cameras": cameras})
    assert RobotContract.from_dict(data).differences(other) == [
        "cameras: ['front', 'wrist'] != ['wrist', 'front']"
    ]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("cameras/front/topic", "other/image_raw"),
        ("state/topic", "other/joint_states"),
        ("command/topic", "other/joint_trajectory"),
        ("limits/joint_1/velocity", 1.0),
    ],
)
def test_topics_and_limits_may_differ(data, path, value):
    other = RobotContract.from_dict(changed(data, path, value))
    assert other != RobotContract.from_dict(data)
    assert RobotContract.from_dict(data).differences(other) == []


def test_limits_come_in_the_order_of_the_action(data):
    joints = data["action"]["joints"][::-1]
    contract = RobotContract.from_dict(changed(data, "action/joints", joints))
    assert list(contract.action_limits) == joints


def test_contract_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_contract("sim").robot = "other"


@pytest.fixture
def full(data):
    """A contract with every part that may be left out."""
    cameras = {**data["cameras"]}
    cameras["front"] = {**cameras["front"], "transport": "compressed", "max_frozen_s": 1.0}
    cameras["wrist"] = {**cameras["wrist"], "depth_range_m": [0.1, 2.0]}
    return {
        **data,
        "cameras": cameras,
        "state": {
            **data["state"],
            "fields": ["position", "velocity"],
            "extra_topics": ["gripper/joint_states"],
        },
        "action": {**data["action"], "kind": "end_effector_delta", "delta_frame": "tool"},
        "command": {"rate_hz": 100.0, "output": "servo_twist", "topic": "servo_node"},
        "inputs": {"force": {"type": "wrench", "topic": "wrench", "max_age_s": 0.1}},
        "alignment": {"max_skew_s": 0.05},
        "grippers": {
            "gripper_joint": {
                "open": 0.045,
                "closed": 0.0,
                "mode": "binary",
                "output": "gripper_command",
                "topic": "gripper_controller/gripper_cmd",
            }
        },
        "kinematics": {"urdf": "arm.urdf", "base_link": "base", "tip_link": "tool"},
        "workspace": {"lower": [0.1, -0.4, 0.0], "upper": [0.6, 0.4, 0.5]},
        "safety": {"limit_mode": "strict", "max_step": 0.2, "dry_run": True},
    }


def test_a_contract_with_every_part_round_trips(full):
    contract = RobotContract.from_dict(full)
    assert RobotContract.from_dict(json.loads(json.dumps(contract.to_dict()))) == contract


def test_what_is_left_out_of_a_contract_is_not_written(data):
    assert list(RobotContract.from_dict(data).to_dict()) == [
        "robot", "cameras", "state", "action", "command", "limits",
    ]  # fmt: skip


def test_values_of_the_state_are_fields_of_the_joints_then_the_inputs(full, data):
    joints = data["state"]["joints"]
    names = RobotContract.from_dict(full).state_names
    assert names[: len(joints)] == tuple(joints)
    assert names[len(joints)] == f"{joints[0]}.velocity"
    assert names[2 * len(joints) :] == (
        "force.force.x", "force.force.y", "force.force.z",
        "force.torque.x", "force.torque.y", "force.torque.z",
    )  # fmt: skip


def test_an_end_effector_action_is_a_pose_change_and_the_grippers(full):
    contract = RobotContract.from_dict(full)
    assert contract.action_names == (
        "tool.x", "tool.y", "tool.z", "tool.rx", "tool.ry", "tool.rz", "gripper_joint",
    )  # fmt: skip
    assert "gripper_joint" not in contract.arm_joints


def test_a_urdf_is_found_beside_its_contract(tmp_path, full):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(full, sort_keys=False))
    assert load_contract(path).kinematics.urdf == str(tmp_path / "arm.urdf")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("kinematics", None, "kinematics is missing, which workspace needs"),
        ("cameras/front/transport", "theora", r"cameras\.front\.transport 'theora' is unknown"),
        ("cameras/wrist/depth_range_m", [2.0, 1.0], "depth_range_m must rise"),
        ("state/fields", ["torque"], r"state\.fields 'torque' is unknown; available: 'position'"),
        ("state/extra_topics", ["joint_states"], r"'joint_states' is also state\.topic"),
        ("inputs/force/type", "imu", r"inputs\.force\.type 'imu' is unknown"),
        ("grippers/gripper_joint/open", 0.0, "open and closed must differ"),
        ("grippers/gripper_joint/threshold", 0.05, r"must be in \(0, 1\)"),
        ("grippers/gripper_joint/output", "joint", "is unused: output 'joint'"),
        ("workspace/lower", [0.7, 0.0, 0.0], "lower must be below upper in x, y and z"),
        ("safety/dry_run", 1, "dry_run must be true or false, got 1"),
        ("safety/limit_mode", "off", "limit_mode 'off' is unknown; available: 'clamp', 'strict'"),
        ("limits/joint_1/jerk", -1.0, r"limits\.joint_1\.jerk must be positive"),
        ("command/topics", {"arm": ["joint_1"]}, "exclude each other"),
    ],
)
def test_wrong_values_of_optional_parts_are_refused(full, path, value, message):
    with pytest.raises(ContractError, match=message):
        RobotContract.from_dict(changed(full, path, value))


def test_topics_that_split_the_arm_must_name_every_joint_once(data):
    joints = data["action"]["joints"]
    split = {"left/joint_trajectory": joints[:3], "right/joint_trajectory": joints[3:]}
    command = {"rate_hz": 50.0, "output": "joint_trajectory", "topics": split}
    contract = RobotContract.from_dict({**data, "command": command})
    assert contract.command.topics["left/joint_trajectory"] == tuple(joints[:3])
    command["topics"] = {"left/joint_trajectory": joints[:3]}
    with pytest.raises(ContractError, match="each joint of the arms exactly once"):
        RobotContract.from_dict({**data, "command": command})


def test_two_equal_arms_are_told_apart_by_a_prefix_per_topic(data):
    joints = [f"left/{joint}" for joint in data["state"]["joints"]]
    data["state"].update(joints=joints, prefixes={"joint_states": "left/"})
    data["action"]["joints"] = joints
    data["limits"] = {f"left/{joint}": limit for joint, limit in data["limits"].items()}
    topic = "left/arm_controller/joint_trajectory"
    data["command"] = {
        "rate_hz": 50.0,
        "output": "joint_trajectory",
        "topics": {topic: joints},
        "prefixes": {topic: "left/"},
    }
    contract = RobotContract.from_dict(data)
    assert contract.state.prefixes == {"joint_states": "left/"}
    assert contract.command.prefixes == {topic: "left/"}
    assert RobotContract.from_dict(json.loads(json.dumps(contract.to_dict()))) == contract
    data["command"]["prefixes"] = {topic: "right/"}
    with pytest.raises(ContractError, match="is 'right/', but topics lists 'left/joint_1'"):
        RobotContract.from_dict(data)


@pytest.mark.parametrize(
    ("section", "prefixes", "message"),
    [
        ("state", {"states": "left/"}, "names topic 'states'; the topics here: 'joint_states'"),
        ("state", {"joint_states": ""}, r"prefixes\.joint_states must be a non-empty string"),
        ("state", ["left/"], "must give a prefix by topic"),
        (
            "command",
            {"joint_states": "left/"},
            "names topic 'joint_states'; .*: 'arm",
        ),
    ],
)
def test_a_prefix_for_a_topic_that_is_not_there_is_refused(data, section, prefixes, message):
    with pytest.raises(ContractError, match=message):
        RobotContract.from_dict(changed(data, f"{section}/prefixes", prefixes))


def test_policies_of_other_values_do_not_fit(full):
    contract = RobotContract.from_dict(full)
    other = RobotContract.from_dict(changed(full, "state/fields", ["position"]))
    assert any("state values" in line for line in contract.differences(other))
    other = RobotContract.from_dict(changed(full, "action/delta_frame", "base"))
    assert contract.differences(other) == ["action.delta_frame: tool != base"]
