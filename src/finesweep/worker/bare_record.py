"""The record of an attempt that could not write its own."""

from __future__ import annotations

import socket
import time
from typing import Any

from finesweep.folder import Claim, SweepFolder
from finesweep.trial import TrialRecord, TrialState


def bare_record(claim: Claim, sweep_folder: SweepFolder, seconds: float) -> TrialRecord:
    """Return a record for an attempt that could not write its own.

    It has the trial's parameters and no result. Evaluations, costs and the reason of an audit are those of earlier
    attempts: the trial is not judged again where it has been judged.

    Args:
        claim: The attempt.
        sweep_folder: The sweep's folder.
        seconds: Duration of the attempt.
    """
    before = sweep_folder.read_record(claim.trial)
    return TrialRecord(
        **identity(claim, sweep_folder),
        state=TrialState.INTERRUPTED,
        params=next(filter(None, sweep_folder.params_of(claim.trial)), {}),
        started=time.time() - seconds,
        seconds=round(seconds, 3),
        earlier_seconds=before.trained_seconds if before else 0.0,
        evaluations=before.evaluations if before else (),
        audit=before.audit if before else None,
        # Those of a state that is still there count again once it is resumed.
        repeated_examples=before.trained_examples if before and before.has_waited else 0,
    )


def identity(claim: Claim, sweep_folder: SweepFolder) -> dict[str, Any]:
    """Return the fields of a record that say which attempt it is of."""
    return {
        "trial": claim.trial,
        "attempt": claim.attempt,
        "run": claim.run,
        "faults": claim.faults,
        "batch_divisor": claim.batch_divisor,
        "log": str(sweep_folder.trial_log(claim.trial).relative_to(sweep_folder.path)),
        "host": socket.gethostname(),
    }
