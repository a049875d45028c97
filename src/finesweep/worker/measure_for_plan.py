"""Measures a sweep for `sweep plan`, in a warm process that finishes no trial."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from finesweep import activity
from finesweep.calibration import BATCH, BatchMeasurement, Load, Misfit, PlanMeasurement, calibration_file
from finesweep.files import write_json
from finesweep.launch import SettledProfile
from finesweep.spec import TRAINING_FIELDS, Parameter, SweepSpec

if TYPE_CHECKING:
    from finesweep.calibration.bench import Bench

LENGTH = "data.max_length"
MOST_SECONDS = 30.0
"""Maximum seconds of training for the measurement of one batch size."""


def batch_sizes(spec: SweepSpec) -> tuple[int, ...]:
    """Return the batch sizes that represent a space: its choices, or both ends and the middle of its range."""
    parameter = spec.space.get(BATCH)
    if parameter is None:
        return (_integer(spec.fixed.get(BATCH, TRAINING_FIELDS[BATCH].default)),)
    return tuple(sorted({_integer(value) for value in (*parameter.ends().values(), parameter.middle())}))


def loads(spec: SweepSpec) -> list[Load]:
    """Return the trainings to measure: each batch size with the longest inputs and the middle of everything else."""
    params = spec.search_space.untuned({})
    if (parameter := spec.space.get(LENGTH)) is not None:
        params[LENGTH] = _longest(parameter)
    searched = BATCH in spec.space
    return [
        Load({**params, **({BATCH: batch} if searched else {})}, seconds=MOST_SECONDS) for batch in batch_sizes(spec)
    ]


def _longest(parameter: Parameter) -> int:
    return max(map(_integer, parameter.ends().values()))


def _integer(value: object) -> int:
    assert isinstance(value, int)
    return value


def measure_for_plan(folder: Path, run: int, parent: int, token: str, output: Path) -> None:
    """Measure a prepared sweep and write the results.

    Args:
        folder: The sweep's folder.
        run: Number of the run that was begun there.
        parent: Process id of the command; it stops when that process has ended.
        token: The run's token.
        output: File for the ``PlanMeasurement``.

    Raises:
        SweepError: No trial could be trained.
    """
    from finesweep.calibration.bench import Bench
    from finesweep.worker.worker import Worker

    worker = Worker.open(folder, run, parent, token)
    worker.warm_up()
    process = psutil.Process()
    warm = time.time() - process.create_time()
    bench = Bench(worker.sweep_folder, worker.manifest, worker.spec, stopping=lambda: os.getppid() != parent)
    profile, note = _settled(bench, run, worker.profile)
    resident = process.memory_info().rss / 1e6
    threads, per_gpu = profile.threads_per_worker, profile.trials_per_gpu if profile.gpus_per_trial else 0
    each = _readings(bench, threads, per_gpu or profile.workers)
    readings = PlanMeasurement(profile.workers, threads, per_gpu, note, warm, resident, each)
    write_json(output, dataclasses.asdict(readings))


def _settled(bench: Bench, run: int, profile: SettledProfile) -> tuple[SettledProfile, str]:
    """Settle a run's profile as its workers would."""
    from finesweep.calibration.bench import calibrate

    asked = calibration_file.of_run(bench.sweep_folder, run)
    if asked is None:
        return profile, ""
    calibration_file.write(bench.sweep_folder, calibrate(bench, asked))
    outcome = calibration_file.chosen_profile(bench.sweep_folder, run, profile)
    assert outcome is not None
    return outcome.profile, outcome.note


def _readings(bench: Bench, threads: int, processes: int) -> tuple[BatchMeasurement, ...]:
    """Measure every batch size; a failing process would fail in every trial too."""
    readings = []
    for batch, load in zip(batch_sizes(bench.spec), loads(bench.spec), strict=True):
        activity.tell(f"measuring batches of {batch}")
        found = bench.measure(load, threads, processes)
        if isinstance(found, Misfit) and processes > 1:
            found = bench.measure(load, threads, 1)  # it may fit alone
        readings.append(
            BatchMeasurement(batch, misfit=found.reason)
            if isinstance(found, Misfit)
            else BatchMeasurement(batch, found)
        )
    return tuple(readings)
