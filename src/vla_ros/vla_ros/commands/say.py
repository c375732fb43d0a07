# SPDX-License-Identifier: MIT
"""Tell a running policy what to do.

  vla say "pick up the blue block"
  vla say ""                                # stop and hold

Start the graph first, for example with `vla up groot`. The shipped policy has learned to pick up,
lift, grab, take or grasp the red, green or blue block; other words move it somewhere.
"""

from __future__ import annotations

import argparse
import time

from vla_core.errors import VLAError

# Ctrl-C is heeded between two waits.
_LONGEST_WAIT_S = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("instruction", help="what to do; '' stops the arm")
    parser.add_argument("--namespace", default="", help="namespace of the policy node")
    parser.add_argument(
        "--timeout", type=float, default=5.0, help="how long to wait for the node, s (default 5)"
    )


def run(args: argparse.Namespace) -> int:
    """Send the instruction.

    Returns:
        0 when the policy has taken it, else 1.

    Raises:
        VLAError: No policy answers.
    """
    import rclpy
    from rclpy.signals import SignalHandlerOptions
    from vla_msgs.srv import SetInstruction

    # With rclpy's handlers Ctrl-C would break what happens to be going on.
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = rclpy.create_node("vla_say", namespace=args.namespace)
        client = node.create_client(SetInstruction, "policy_node/set_instruction")
        if not client.wait_for_service(timeout_sec=args.timeout):
            raise VLAError(
                f"no node serves {client.srv_name!r} within {args.timeout:g} s; start one with "
                "'vla up groot', in the same ROS_DOMAIN_ID."
            )
        future = client.call_async(SetInstruction.Request(instruction=args.instruction))
        deadline_s = time.monotonic() + args.timeout
        while not future.done() and time.monotonic() < deadline_s:
            rclpy.spin_once(node, timeout_sec=_LONGEST_WAIT_S)
        answer = future.result()
        if answer is None:
            raise VLAError(f"{client.srv_name!r} did not answer within {args.timeout:g} s.")
        print(answer.message)
        return 0 if answer.success else 1
    finally:
        rclpy.shutdown()
