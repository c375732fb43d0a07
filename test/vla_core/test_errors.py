# SPDX-License-Identifier: MIT
import inspect

import pytest

from vla_core import errors

ALL = [cls for _, cls in inspect.getmembers(errors, inspect.isclass)]


@pytest.mark.parametrize("error", ALL)
def test_every_error_is_caught_as_vla_error(error):
    with pytest.raises(errors.VLAError):
        raise error("joint 'elbow' is unknown.")


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.ConfigError, ValueError),
        (errors.ContractError, ValueError),
        (errors.ShapeError, ValueError),
        (errors.MessageError, ValueError),
        (errors.UnknownNameError, LookupError),
    ],
)
def test_an_error_is_also_the_builtin_that_a_caller_expects(error, builtin):
    with pytest.raises(builtin, match="elbow"):
        raise error("joint 'elbow' is unknown.")


def test_a_contract_error_is_a_config_error():
    with pytest.raises(errors.ConfigError):
        raise errors.ContractError("limits lacks 'joint_1'.")
