"""Computes how many workers a sweep has on this machine, and gives the reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from finesweep.calibration import Calibration, calibration_file
from finesweep.folder import SweepFolder
from finesweep.folder.disk import STATE_COPIES
from finesweep.host.machine import Machine
from finesweep.launch import Profile, SettledProfile
from finesweep.model import ResolvedModel
from finesweep.spec import SweepSpec

WORKER_GB = 0.6
"""Resident memory of a worker with a small trial, in 1e9 bytes (`benchmarks/RESULTS.md`, M8)."""


def settled(
    profile: Profile, spec: SweepSpec, trials: int, workers: int | None, model: ResolvedModel | None = None
) -> SettledProfile:
    """Return a launch profile settled for this machine.

    Args:
        profile: The profile as it was written.
        spec: The sweep's spec.
        trials: Number of trials left.
        workers: Replaces the profile's own number.
        model: The model to be trained; None while it is unknown.

    Raises:
        SpecError: The machine cannot run it.
    """
    return profile.settled(machine_for(spec), trials, workers, trial_gb(model.files if model else None))


def measured(
    settled: SettledProfile, spec: SweepSpec, folder: SweepFolder, trials: int, rows: int
) -> tuple[SettledProfile, Calibration | None]:
    """Return a profile as measurements in the sweep's folder have it, and what is to be measured; None for nothing.

    Args:
        settled: The profile, settled without measuring.
        spec: The sweep's spec.
        folder: The sweep's folder.
        trials: Number of trials left.
        rows: Training rows.
    """
    return calibration_file.launch(folder, spec, settled, machine_for(spec), trials, rows)


def notes(profile: Profile, spec: SweepSpec, trials: int, workers: int | None, model: ResolvedModel) -> list[str]:
    """Return the reason for the number of workers, and warnings about the profile; arguments as for ``settled``."""
    machine, found = machine_for(spec), settled(profile, spec, trials, workers, model)
    reason = profile.reason(machine, trials, trial_gb(model.files)) if workers is None else ""
    return [*([f"{found}: {reason}."] if reason else []), *found.notes(machine)]


def machine_for(spec: SweepSpec) -> Machine:
    """Return this machine as a sweep uses it: without its GPUs if the spec says so."""
    machine = Machine.probe()
    return dataclasses.replace(machine, gpus=()) if spec.fixed.get("use_cpu") else machine


def trial_gb(files: Iterable[Path] | None) -> float:
    """Return the approximate memory of a worker and its trial in 1e9 bytes; 0 if the model is unknown.

    Args:
        files: The files of the model's folder; None while it is unknown.
    """
    if files is None:
        return 0.0
    weights = sum(file.stat().st_size for file in files if file.suffix == ".safetensors")
    # As many copies of the weights as a saved state has, which are in memory too, and one more for the gradients.
    return WORKER_GB + (STATE_COPIES + 1) * weights / 1e9
