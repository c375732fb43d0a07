# SPDX-License-Identifier: MIT
import signal

import numpy as np
import pytest
import yaml
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image, JointState
from trajectory_msgs.msg import JointTrajectory
from vla_msgs.msg import SimStatus
from vla_msgs.srv import ResetEpisode

from vla_core.processing.contract import load_contract
from vla_core.processing.image_encodings import image_from_message
from vla_core.processing.messages import joint_positions_from_message, stamp_ns
from vla_core.sim.arm_model import HOME, JOINTS
from vla_ros.conversions import (
    command_qos,
    joint_trajectory_message,
    sensor_subscription_qos,
    status_qos,
)
from vla_ros.graph import EXIT_CONFIGURATION
from vla_ros.polled_subscription import PolledSubscription

pytestmark = pytest.mark.ros


@pytest.fixture
def subscribe(node):
    def subscribe(message_type, topic):
        return PolledSubscription(node, message_type, topic, sensor_subscription_qos())

    return subscribe


@pytest.fixture
def sim_status(subscribe, wait_until):
    subscription = subscribe(SimStatus, "sim_robot_node/status")
    return lambda: wait_until(subscription.take, "sim_robot_node/status")


@pytest.fixture
def send(node, sim_status, wait_until):
    """Send a trajectory until the node's status counts it, and return that status.

    Like that of the real controller, the node's subscription is best effort: what is sent before
    both sides have found each other is lost.
    """
    publisher = node.create_publisher(
        JointTrajectory, "arm_controller/joint_trajectory", command_qos()
    )

    def count(status):
        return status.accepted_trajectories + status.rejected_trajectories

    def send(trajectory):
        before = count(sim_status())

        def counted():
            publisher.publish(trajectory)
            status = sim_status()
            return status if count(status) > before else None

        return wait_until(counted, "the trajectory in the status")

    return send


def make_trajectory(target, *, joints=JOINTS, end_velocity=0.0):
    return joint_trajectory_message(joints, [target], [np.full(len(target), end_velocity)], [0.2])


def test_joint_states_start_at_home_with_rising_stamps(start_node, subscribe, wait_until):
    start_node("sim_robot_node", "-p", "camera_rate_hz:=0.0")
    joint_states = subscribe(JointState, "joint_states")
    first = wait_until(joint_states.take, "joint_states")
    second = wait_until(joint_states.take, "joint_states")
    np.testing.assert_allclose(joint_positions_from_message(first, JOINTS), HOME, atol=0.01)
    assert stamp_ns(second) > stamp_ns(first)


def test_stamps_are_those_of_the_physics_at_the_rates_of_the_topics(start_node, node, wait_until):
    start_node("sim_robot_node")
    queues = [
        PolledSubscription(node, kind, topic, QoSProfile(depth=200))
        for kind, topic in ((JointState, "joint_states"), (Image, "front_camera/image_raw"))
    ]
    stamps = [[], []]

    def received():
        for queue, received in zip(queues, stamps, strict=True):
            while (message := queue.take_next()) is not None:
                received.append(stamp_ns(message))
        return len(stamps[0]) > 100 and len(stamps[1]) > 20

    wait_until(received, "joint states and frames")
    for received, period_ns in zip(stamps, (10_000_000, 50_000_000), strict=True):
        spacings = np.diff(received)
        assert not np.any(spacings % 2_000_000)
        assert np.median(spacings) == pytest.approx(period_ns, abs=4_000_000)


def test_both_cameras_show_the_scene_with_the_same_stamps(start_node, subscribe, wait_until):
    start_node("sim_robot_node")
    images = [subscribe(Image, f"{name}_camera/image_raw") for name in ("front", "wrist")]
    frames = [{}, {}]

    def common_stamps():
        for frame, subscription in zip(frames, images, strict=True):
            message = subscription.take()
            if message is not None:
                frame[stamp_ns(message)] = image_from_message(message)
        return frames[0].keys() & frames[1].keys()

    stamp = wait_until(common_stamps, "frames of both cameras with one stamp").pop()
    for frame in frames:
        assert frame[stamp].shape == (192, 192, 3)
        assert frame[stamp].std() > 10.0


def test_camera_info_has_the_image_size_and_a_centred_pinhole(start_node, subscribe, wait_until):
    start_node("sim_robot_node")
    info = wait_until(subscribe(CameraInfo, "front_camera/camera_info").take, "camera_info")
    assert (info.width, info.height) == (192, 192)
    assert info.k[2] == info.k[5] == pytest.approx(95.5)


def test_arm_follows_an_accepted_trajectory(start_node, subscribe, send, wait_until):
    start_node("sim_robot_node", "-p", "camera_rate_hz:=0.0")
    joint_states = subscribe(JointState, "joint_states")
    target = HOME + np.array([0.2, 0.0, 0.0, 0.1, 0.0, 0.0, -0.02])
    status = send(make_trajectory(target))

    def arrived():
        message = joint_states.take()
        if message is None:
            return False
        return np.allclose(joint_positions_from_message(message, JOINTS), target, atol=0.01)

    wait_until(arrived, "the arm at its target")
    assert status.rejected_trajectories == 0


def test_controller_with_its_own_default_enters_a_trajectory_where_the_arm_is(
    start_node, subscribe, send, wait_until
):
    arguments = ("-p", "camera_rate_hz:=0.0", "-p", "interpolate_from_desired_state:=false")
    start_node("sim_robot_node", *arguments)
    joint_states = subscribe(JointState, "joint_states")
    limit = load_contract("sim").limits["joint_1"].upper

    def joint_1():
        message = wait_until(joint_states.take, "joint_states")
        return joint_positions_from_message(message, JOINTS)[0]

    # The joint stops at its limit; the desired state, which has none, stays beyond.
    send(make_trajectory([limit + 7.0, *HOME[1:]]))
    wait_until(lambda: joint_1() > limit - 0.001, "the joint at its limit")
    # From there the desired state would come back within the limit after 70 s.
    send(joint_trajectory_message(JOINTS, [HOME], None, [100.0]))
    wait_until(lambda: joint_1() < limit - 0.01, "the joint leaving its limit")


def test_rejected_trajectories_are_counted_and_logged_once_with_their_reason(start_node, send):
    process = start_node("sim_robot_node", "-p", "camera_rate_hz:=0.0")
    send(make_trajectory(HOME, end_velocity=0.5))
    status = send(make_trajectory(HOME, end_velocity=0.5))
    assert status.rejected_trajectories >= 2
    assert status.accepted_trajectories == 0
    assert "velocities of the last point must be 0" in status.last_rejection
    assert process.output().count("trajectory rejected") == 1


def test_humble_controller_accepts_a_trajectory_that_ends_moving(start_node, send):
    start_node("sim_robot_node", "-p", "camera_rate_hz:=0.0", "-p", "controller_distro:=humble")
    status = send(make_trajectory(HOME, end_velocity=0.5))
    assert (status.rejected_trajectories, status.last_rejection) == (0, "")


def test_reset_starts_a_new_episode_at_home(
    start_node, subscribe, send, sim_status, call_service, wait_until
):
    start_node("sim_robot_node", "-p", "camera_rate_hz:=0.0")
    joint_states = subscribe(JointState, "joint_states")
    send(make_trajectory(HOME + 0.03))
    request = ResetEpisode.Request(seed=42, target="blue")
    response = call_service(ResetEpisode, "sim_robot_node/reset", request)
    assert response.success
    assert response.target == "blue"
    assert "blue" in response.instruction
    status = wait_until(lambda: (s := sim_status()).episode == 2 and s, "the new episode")
    assert (status.seed, status.target, status.success) == (42, "blue", False)
    joint_states.take()
    message = wait_until(joint_states.take, "joint_states")
    np.testing.assert_allclose(joint_positions_from_message(message, JOINTS), HOME, atol=0.01)


def test_reset_to_an_unknown_block_is_refused_with_the_available_ones(start_node, call_service):
    start_node("sim_robot_node", "-p", "camera_rate_hz:=0.0")
    request = ResetEpisode.Request(seed=1, target="purple")
    response = call_service(ResetEpisode, "sim_robot_node/reset", request)
    assert not response.success
    assert "'purple'" in response.message
    assert "blue" in response.message


def test_task_decides_what_can_be_asked_for(start_node, sim_status, call_service):
    start_node("sim_robot_node", "-p", "camera_rate_hz:=0.0", "-p", "task:=put_in_box")
    request = ResetEpisode.Request(seed=1, target="red, then blue")
    response = call_service(ResetEpisode, "sim_robot_node/reset", request)
    assert response.instruction == "put the red block in the box, then the blue one"
    status = sim_status()
    assert ", then " in status.target
    assert status.target in status.targets
    assert len(status.targets) == 6
    assert (status.failure, status.time_limit) == ("", 40.0)


def test_same_seed_gives_the_same_target(start_node, call_service):
    start_node("sim_robot_node", "-p", "camera_rate_hz:=0.0")
    targets = [
        call_service(ResetEpisode, "sim_robot_node/reset", ResetEpisode.Request(seed=seed)).target
        for seed in (3, 4, 5, 3, 4, 5)
    ]
    assert targets[:3] == targets[3:]


@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGTERM"])
def test_signal_ends_the_node_without_a_traceback(start_node, sim_status, signal_name):
    process = start_node("sim_robot_node", "-p", "camera_rate_hz:=0.0")
    sim_status()
    process.send(getattr(signal, signal_name))
    assert process.wait() == 0
    assert "Traceback" not in process.output()


def rename_camera(contract):
    contract["cameras"]["ceiling"] = contract["cameras"].pop("wrist")


def rename_joint(contract):
    for joints in (contract["state"]["joints"], contract["action"]["joints"]):
        joints[joints.index("joint_6")] = "tail_joint"
    contract["limits"]["tail_joint"] = contract["limits"].pop("joint_6")


def leave_out_joint(contract):
    for joints in (contract["state"]["joints"], contract["action"]["joints"]):
        joints.remove("gripper_joint")
    del contract["limits"]["gripper_joint"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (rename_camera, "cameras ['ceiling'] do not exist, available: ['front', 'wrist']"),
        (
            rename_joint,
            f"state.joints must be {list(JOINTS)}, got {[*JOINTS[:5], 'tail_joint', JOINTS[6]]}",
        ),
        (leave_out_joint, f"state.joints must be {list(JOINTS)}, got {list(JOINTS[:6])}"),
    ],
)
def test_contract_of_another_robot_is_refused_with_what_differs(
    start_node, tmp_path, change, reason
):
    contract = load_contract("sim").to_dict()
    change(contract)
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump(contract, sort_keys=False))
    process = start_node("sim_robot_node", "-p", f"contract:={path}")
    assert process.wait() == EXIT_CONFIGURATION
    assert "contract 'sim' does not fit the simulation" in process.output()
    assert reason in process.output()
    assert "Traceback" not in process.output()


@pytest.mark.parametrize("renderer", ["bogus", "glfw"])
def test_missing_renderer_is_refused_with_what_to_do(start_node, monkeypatch, renderer):
    monkeypatch.setenv("MUJOCO_GL", renderer)
    monkeypatch.delenv("DISPLAY", raising=False)
    process = start_node("sim_robot_node")
    assert process.wait() == EXIT_CONFIGURATION
    assert f"MUJOCO_GL='{renderer}'" in process.output()
    assert "libegl1" in process.output()
    assert "Traceback" not in process.output()


def test_status_topic_is_reliable(start_node, node, sim_status):
    start_node("sim_robot_node", "-p", "camera_rate_hz:=0.0")
    sim_status()
    (info,) = node.get_publishers_info_by_topic("sim_robot_node/status")
    assert info.qos_profile.reliability == status_qos().reliability
