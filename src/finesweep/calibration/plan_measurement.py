"""Holds the measurements of a search on this machine, for each batch size."""

from __future__ import annotations

from dataclasses import dataclass

from finesweep.calibration.measurement import Measurement

BATCH = "per_device_train_batch_size"


@dataclass(frozen=True)
class BatchMeasurement:
    """Measurement of one batch size, with the longest inputs of the space.

    Attributes:
        batch: Rows per device and step.
        measurement: The measurement; None if it does not fit.
        misfit: Why it does not fit.
    """

    batch: int
    measurement: Measurement | None = None
    misfit: str | None = None


@dataclass(frozen=True)
class PlanMeasurement:
    """Measurements of a search on this machine.

    Attributes:
        workers: Number of simultaneous trials.
        threads: CPU threads of each.
        per_gpu: Number of trials that share a GPU, 0 without one.
        note: Reason for these numbers; empty if they were given, or there is no choice.
        warm_seconds: Seconds until a worker is ready for its first trial.
        worker_mb: Resident memory of a worker without its trial, in 1e6 bytes.
        each: One for each batch size, ascending.
    """

    workers: int
    threads: int
    per_gpu: int
    note: str
    warm_seconds: float
    worker_mb: float
    each: tuple[BatchMeasurement, ...]
