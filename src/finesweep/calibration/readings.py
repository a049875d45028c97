"""Holds what was measured of a search on this machine, for each batch size."""

from __future__ import annotations

from dataclasses import dataclass

from finesweep.calibration.measurement import Measurement

BATCH = "per_device_train_batch_size"


@dataclass(frozen=True)
class Reading:
    """What was measured of one batch size, with the longest inputs of the space.

    Attributes:
        batch: Rows per device and step.
        measurement: How training went; None where it does not fit.
        misfit: Why it does not.
    """

    batch: int
    measurement: Measurement | None = None
    misfit: str | None = None


@dataclass(frozen=True)
class Readings:
    """What was measured of a search on this machine.

    Attributes:
        workers: How many trials run at a time.
        threads: CPU threads of each.
        per_gpu: How many share a GPU, 0 without one.
        note: Why it is so many; empty where it was asked for, or where there is no choice.
        warm_seconds: What it takes a worker to be ready for its first trial.
        worker_mb: Resident memory of a worker beside its trial, in 1e6 bytes.
        each: One for each batch size, ascending.
    """

    workers: int
    threads: int
    per_gpu: int
    note: str
    warm_seconds: float
    worker_mb: float
    each: tuple[Reading, ...]
