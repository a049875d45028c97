"""Begins a run in a prepared folder."""

from __future__ import annotations

import dataclasses
import os
import socket
import time
from dataclasses import dataclass

from finesweep.calibration import Calibration, calibration_file
from finesweep.folder import Manifest, Run, SweepFolder, new_token
from finesweep.folder.early_end import forget_early_end
from finesweep.host.python_process import versions
from finesweep.launch import SettledProfile
from finesweep.spec import SweepSpec
from finesweep.sweep.open_sweep import OpenSweep


@dataclass(frozen=True)
class Terms:
    """Terms of a run that do not depend on its number.

    Attributes:
        spec: The spec, with this run's budget.
        profile: Its launch profile.
        model_path: Folder of the model.
        trusts_code: Whether code that comes with the model may run.
        watched: Whether a command will watch the run's workers.
        question: What its workers measure before they begin; None for nothing.
    """

    spec: SweepSpec
    profile: SettledProfile
    model_path: str
    trusts_code: bool
    watched: bool = True
    question: Calibration | None = None


def begin_run(folder: SweepFolder, manifest: Manifest, terms: Terms) -> OpenSweep:
    """Write a run's file under the next free number, and open the sweep for it.

    Args:
        folder: The sweep's folder, prepared.
        manifest: The sweep's manifest.
        terms: The terms of the run.
    """
    spec, profile = terms.spec, terms.profile
    if spec.stop.auto is not True:
        forget_early_end(folder)
    run = folder.begin_run(
        lambda number: Run(
            number=number,
            budget=spec.budget,
            stop=spec.stop,
            prefer=spec.prefer,
            confirm=spec.confirm,
            profile=profile.record(),
            environment=versions(),
            host=socket.gethostname(),
            pid=os.getpid(),
            started=time.time(),
            model_path=terms.model_path,
            trust_remote_code=terms.trusts_code,
            token=new_token(profile.record()),
            watched=terms.watched,
            measures=terms.question is not None,
        )
    )
    if terms.question is not None:
        calibration_file.write(folder, dataclasses.replace(terms.question, run=run.number))
    return OpenSweep(folder, manifest.of_run(run), spec, profile, run)
