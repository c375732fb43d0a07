# SPDX-License-Identifier: MIT
import dataclasses
from typing import ClassVar

import pytest
import rclpy
from rcl_interfaces.msg import ParameterType
from rclpy.parameter import Parameter

from vla_core.errors import ConfigError
from vla_ros import parameters
from vla_ros.graph import find_config
from vla_ros.parameters import RecorderParameters, SimRobotParameters
from vla_ros.parameters.declaration import (
    NodeParameters,
    declare_parameters,
    follow_changes,
    load_parameter_file,
    parameter,
)

pytestmark = pytest.mark.ros

NODE_PARAMETERS = [vars(parameters)[name] for name in parameters.__all__]


@pytest.fixture
def make_node(ros_domain):
    """Create a node with overrides as on a command line."""
    contexts = []

    def make(*overrides):
        context = rclpy.Context()
        words = [word for override in overrides for word in ("-p", override)]
        rclpy.init(args=["--ros-args", *words], context=context, domain_id=ros_domain)
        contexts.append(context)
        return rclpy.create_node("test_node", context=context)

    yield make
    for context in contexts:
        context.try_shutdown()


@pytest.mark.parametrize("cls", NODE_PARAMETERS, ids=lambda cls: cls.NODE)
def test_file_has_exactly_the_declared_parameters_with_their_types(cls, make_node):
    values = declare_parameters(make_node(), cls)
    file = load_parameter_file(find_config(f"{cls.NODE}.param.yaml"))
    in_force = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(values).items()
    }
    assert in_force == file


@pytest.mark.parametrize("cls", NODE_PARAMETERS, ids=lambda cls: cls.NODE)
def test_every_parameter_is_described_and_every_number_has_a_range(cls, make_node):
    node = make_node()
    declare_parameters(node, cls)
    for field in dataclasses.fields(cls):
        descriptor = node.describe_parameter(field.name)
        assert descriptor.description
        assert descriptor.type != ParameterType.PARAMETER_NOT_SET
        if descriptor.type == ParameterType.PARAMETER_INTEGER:
            assert descriptor.integer_range, field.name
        if descriptor.type == ParameterType.PARAMETER_DOUBLE:
            assert descriptor.floating_point_range, field.name


def test_override_wins_over_the_file(make_node):
    assert declare_parameters(make_node("seed:=7"), SimRobotParameters).seed == 7


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed:=7.0", "'seed' must be int"),
        ("camera_rate_hz:=20", "'camera_rate_hz' must be float"),
        ("camera_rate_hz:=1000.0", "between 0.0 and 60.0"),
        ("seed:=-1", "between 0 and"),
        ("controller_distro:=kinetic", "'kinetic'; available: humble, jazzy"),
    ],
)
def test_wrong_value_is_refused_with_what_is_expected(override, expected, make_node):
    with pytest.raises(ConfigError, match=expected):
        declare_parameters(make_node(override), SimRobotParameters)


def test_parameter_of_the_start_alone_is_read_only(make_node):
    node = make_node()
    declare_parameters(node, SimRobotParameters)
    (result,) = node.set_parameters([Parameter("autostart", value=False)])
    assert "read-only" in result.reason


def test_parameters_that_the_file_does_not_have_are_refused_by_name(make_node):
    @dataclasses.dataclass(frozen=True)
    class Wrong(NodeParameters):
        NODE: ClassVar[str] = "sim_robot_node"
        gravity: float = parameter("Gravity [m/s^2].")

    with pytest.raises(ConfigError, match=r"lacks \['gravity'\].*unknown \['autostart'"):
        declare_parameters(make_node(), Wrong)


def test_file_of_another_form_is_refused(tmp_path):
    path = tmp_path / "x.param.yaml"
    path.write_text("my_node: {ros__parameters: {a: 1}}")
    with pytest.raises(ConfigError, match="ros__parameters"):
        load_parameter_file(path)


@pytest.fixture
def recorder(make_node):
    """A node with the recorder's parameters, which refuses 13 MiB."""
    node = make_node()
    node.in_force = declare_parameters(node, RecorderParameters)
    node.is_configured = True

    def apply(new):
        if new.min_free_mib == 13:
            raise ConfigError("min_free_mib must not be 13.")
        node.in_force = new

    follow_changes(node, lambda: node.in_force, apply, lambda: node.is_configured)
    return node


def test_change_that_the_node_refuses_says_why_and_changes_nothing(recorder):
    before = recorder.in_force
    (result,) = recorder.set_parameters([Parameter("min_free_mib", value=13)])
    assert (result.successful, result.reason) == (False, "min_free_mib must not be 13.")
    assert recorder.in_force == before
    (result,) = recorder.set_parameters([Parameter("min_free_mib", value=14)])
    assert result.successful
    assert recorder.in_force == dataclasses.replace(before, min_free_mib=14)


def test_parameter_of_the_configuration_is_fixed_until_it_is_cleaned_up(recorder):
    other = Parameter("topics", value=["text"])
    (result,) = recorder.set_parameters([other])
    assert "'topics' is fixed to ('joint_states sensor_msgs" in result.reason
    assert "clean it up first" in result.reason
    recorder.is_configured = False
    (result,) = recorder.set_parameters([other])
    assert result.successful
    assert recorder.in_force.topics == ("text",)
