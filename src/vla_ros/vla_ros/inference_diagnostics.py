# SPDX-License-Identifier: MIT
"""The diagnostics of a node that infers: how fast, and from what."""

from __future__ import annotations

from typing import Any, Protocol

from vla_msgs.msg import PolicyStatus

from vla_ros.diagnostics import DiagnosticLevel, DiagnosticReport, Measurements
from vla_ros.inference_report import InferenceReport
from vla_ros.observation_receiver import ObservationReceiver

_LEVELS = {
    PolicyStatus.UNCONFIGURED: DiagnosticLevel.OK,
    PolicyStatus.IDLE: DiagnosticLevel.OK,
    PolicyStatus.WAITING: DiagnosticLevel.WARN,
    PolicyStatus.RUNNING: DiagnosticLevel.OK,
    PolicyStatus.ERROR: DiagnosticLevel.ERROR,
}


class _Model(Protocol):
    checkpoint_id: str
    device: Any  # a torch.device


def report_inference(
    report: InferenceReport, latencies_s: Measurements, model: _Model | None
) -> DiagnosticReport:
    """Return rate and latency since the last call, checkpoint, device and GPU memory.

    Args:
        report: What the node is doing.
        latencies_s: Durations of its inferences.
        model: What infers; None while there is none.
    """
    summary = latencies_s.summarize()
    values: dict[str, object] = {
        "rate [Hz]": summary.rate_hz,
        "latency, median [s]": summary.median,
        "latency, 99 % [s]": summary.p99,
        "latency, largest [s]": summary.maximum,
        "sequence": report.sequence,
    }
    if model is not None:
        values["checkpoint"] = model.checkpoint_id
        values["device"] = model.device
        if model.device.type == "cuda":
            values.update(_gpu_memory())
    return DiagnosticReport(_LEVELS[report.state], report.reason or "running", values)


def report_observations(
    report: InferenceReport, receiver: ObservationReceiver | None, now_ns: int
) -> DiagnosticReport:
    """Return the ages of what is observed, and what is missing.

    Args:
        report: What the node is doing.
        receiver: Receives the observations; None while nothing is received.
        now_ns: Time on the node's clock.
    """
    if receiver is None:
        return DiagnosticReport(DiagnosticLevel.OK, "not configured")
    ages = receiver.buffer.camera_ages_s(now_ns)
    values: dict[str, object] = {f"age of {name} [s]": age for name, age in ages.items()}
    values["age of joint states [s]"] = receiver.buffer.state_age_s(now_ns)
    values["camera skew [s]"] = report.camera_skew_s
    if report.state == PolicyStatus.WAITING:
        return DiagnosticReport(DiagnosticLevel.WARN, report.reason, values)
    if crowds := receiver.describe_crowds():
        return DiagnosticReport(DiagnosticLevel.WARN, crowds, values)
    return DiagnosticReport(DiagnosticLevel.OK, "no gap", values)


def _gpu_memory() -> dict[str, object]:
    import torch

    return {
        "GPU memory, allocated [MiB]": torch.cuda.memory_allocated() / 2**20,
        "GPU memory, reserved [MiB]": torch.cuda.memory_reserved() / 2**20,
    }
