# SPDX-License-Identifier: MIT
"""`vla contract show` and `vla contract check`, run as a user runs them."""

from importlib.resources import files

import pytest
import yaml

from vla_core.cli import main
from vla_core.processing.contract import available_contracts, load_contract

URDF = str(files("vla_core").joinpath("sim/assets/tabletop_arm.urdf"))


@pytest.mark.parametrize("name", available_contracts())
def test_every_shipped_contract_is_shown_with_all_its_joints_and_topics(name, capsys):
    assert main(["contract", "show", name]) == 0
    output = capsys.readouterr().out
    contract = load_contract(name)
    topics = [camera.topic for camera in contract.cameras.values()]
    topics += [*contract.state.topics, *(contract.command.topics or [contract.command.topic])]
    topics += [gripper.topic for gripper in contract.grippers.values()]
    assert [text for text in (*contract.limits, *topics) if text not in output] == []


def test_a_contract_that_fits_ends_with_status_0(capsys):
    assert main(["contract", "check", "sim", "--urdf", URDF]) == 0
    output = capsys.readouterr().out
    (row,) = [line for line in output.splitlines() if line.startswith("joint_1 ")]
    assert " ".join(row.split()) == "joint_1 -2.8 to 2.8 2 -2.8 to 2.8 2.5 contract"
    assert "sim fits the URDF" in output


def test_a_contradiction_is_named_and_ends_with_status_1(tmp_path, capsys):
    data = load_contract("sim").to_dict()
    data["limits"]["joint_4"].update(lower=3.0, upper=4.0)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    assert main(["contract", "check", str(path), "--urdf", URDF]) == 1
    output = capsys.readouterr().out
    assert "contradiction: limits.joint_4 is 3 to 4, but the URDF allows -2.8 to 2.8" in output
    assert "fits" not in output


def test_a_contract_is_checked_against_the_urdf_that_it_names(tmp_path, capsys):
    data = load_contract("sim").to_dict()
    data["kinematics"] = {"urdf": URDF, "base_link": "base_link", "tip_link": "tool0"}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    assert main(["contract", "check", str(path)]) == 0
    assert "tool0" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["sim", "ur5e"])
def test_without_a_urdf_file_it_is_asked_for(name, capsys):
    assert main(["contract", "check", name]) == 2
    assert f"contract '{name}' names no URDF file; give one: --urdf" in capsys.readouterr().err


def test_a_urdf_that_is_not_there_is_named(capsys):
    assert main(["contract", "check", "sim", "--urdf", "absent.urdf"]) == 2
    assert "--urdf 'absent.urdf' cannot be read" in capsys.readouterr().err
