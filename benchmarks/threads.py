"""Finds the number of threads at which a peer is fastest here: what its libraries take by themselves, or one."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

from benchmarks.arms import ARMS, Arm, Outcome, carry_out
from benchmarks.workload import Workload

TRIALS = 2
LIMIT_SECONDS = 600


def short(workload: Workload, trials: int = TRIALS, batch: int = 16) -> Workload:
    """Return a workload of a few equal trials of one epoch."""
    fixed = {**workload.fixed, "num_train_epochs": 1.0, "per_device_train_batch_size": batch}
    axis = workload.space["learning_rate"]
    space = {"learning_rate": {**axis, "high": 1.1 * axis["low"]}}
    return dataclasses.replace(workload, trials=trials, space=space, fixed=fixed)


def fastest(keys: Sequence[str], workload: Workload, folder: Path) -> tuple[dict[str, Arm], list[Outcome]]:
    """Try peers with their own number of threads and with one.

    Args:
        keys: Which peers.
        workload: What they will be given; they are tried on ``short`` of it.
        folder: Where they may write.

    Returns:
        The faster variant of each peer by its key, and all that was tried.
    """
    chosen, tried = {}, []
    for key in keys:
        variants = [ARMS[key], ARMS[key].on(1)]
        outcomes = [carry_out(arm, short(workload), folder / arm.key, LIMIT_SECONDS, judge=False) for arm in variants]
        for arm in variants:
            shutil.rmtree(folder / arm.key)
        seconds = [one.training_seconds if one.failure is None and one.trials else float("inf") for one in outcomes]
        chosen[key] = variants[seconds.index(min(seconds))]
        tried += outcomes
    return chosen, tried
