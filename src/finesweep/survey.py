"""Owns what `sweep plan` measures of a search, in a warm process that trains nothing to its end."""

from __future__ import annotations

import dataclasses
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from finesweep import activity, calibrating
from finesweep.atomic import write_json
from finesweep.measurement import Load, Measurement, Misfit
from finesweep.profile import Profile
from finesweep.search_space import Parameter, SearchSpace
from finesweep.spec import SweepSpec
from finesweep.training_fields import TRAINING_FIELDS

if TYPE_CHECKING:
    from finesweep.measuring import Bench

BATCH = "per_device_train_batch_size"
LENGTH = "data.max_length"
MOST_SECONDS = 30.0
"""How long the steps of one batch size are measured at most."""


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


def batch_sizes(spec: SweepSpec) -> tuple[int, ...]:
    """Return the batch sizes that stand for all of a space: its choices, or both ends and the middle of its range."""
    parameter = spec.space.get(BATCH)
    if parameter is None:
        return (_integer(spec.fixed.get(BATCH, TRAINING_FIELDS[BATCH].default)),)
    values = parameter.choices or (parameter.low, parameter.middle(), parameter.high)
    return tuple(sorted({_integer(value) for value in values}))


def loads(spec: SweepSpec) -> list[Load]:
    """Return what is trained to be measured: every batch size with the longest inputs, the middle of all else."""
    params = SearchSpace(spec.space).untuned({})
    if (parameter := spec.space.get(LENGTH)) is not None:
        params[LENGTH] = _longest(parameter)
    searched = BATCH in spec.space
    return [
        Load({**params, **({BATCH: batch} if searched else {})}, seconds=MOST_SECONDS) for batch in batch_sizes(spec)
    ]


def _longest(parameter: Parameter) -> int:
    return max(_integer(value) for value in parameter.choices or (parameter.high,))


def _integer(value: object) -> int:
    assert isinstance(value, int)
    return value


def survey(folder: Path, run: int, parent: int, token: str, output: Path) -> None:
    """Measure a prepared sweep and write what was found.

    Args:
        folder: The sweep's folder.
        run: Number of the run that was begun there.
        parent: Process id of whoever wants to know, and without whom it stops.
        token: The run's token.
        output: File that the ``Readings`` are written to.

    Raises:
        SweepError: No trial could be trained.
    """
    from finesweep.measuring import Bench
    from finesweep.worker import Worker

    worker = Worker.open(folder, run, parent, token)
    worker.warm_up()
    process = psutil.Process()
    warm = time.time() - process.create_time()
    bench = Bench(worker.run_dir, worker.manifest, worker.spec, stopping=lambda: os.getppid() != parent)
    profile, note = _settled(bench, run, worker.profile)
    resident = process.memory_info().rss / 1e6
    per_gpu = profile.per_gpu if profile.gpus_per_trial == 1 else 0
    each = _readings(bench, profile.threads, per_gpu or _count(profile))
    readings = Readings(_count(profile), profile.threads, per_gpu, note, warm, resident, each)
    write_json(output, dataclasses.asdict(readings))


def _settled(bench: Bench, run: int, profile: Profile) -> tuple[Profile, str]:
    """Settle a run's profile as its workers would."""
    from finesweep.measuring import calibrate

    asked = calibrating.of_run(bench.run_dir, run)
    if asked is None or not calibrating.is_open(profile):
        return profile, ""
    settled = calibrating.rule(bench.run_dir, run, profile, asked.trials)
    calibrating.write(bench.run_dir, calibrate(bench, asked))
    outcome = calibrating.outcome(bench.run_dir, run, settled)
    assert outcome is not None
    return outcome.profile, outcome.note


def _count(profile: Profile) -> int:
    assert profile.workers != "auto"
    return profile.workers


def _readings(bench: Bench, threads: int, processes: int) -> tuple[Reading, ...]:
    """Measure every batch size; a process that fails would do so in every trial."""
    readings = []
    for batch, load in zip(batch_sizes(bench.spec), loads(bench.spec), strict=True):
        activity.tell(f"measuring batches of {batch}")
        found = bench.measure(load, threads, processes)
        if isinstance(found, Misfit) and processes > 1:
            found = bench.measure(load, threads, 1)  # does it fit alone?
        readings.append(Reading(batch, misfit=found.reason) if isinstance(found, Misfit) else Reading(batch, found))
    return tuple(readings)
