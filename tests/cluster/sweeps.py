"""The sweep that runs on every cluster, and what must be equal wherever it ran."""

from __future__ import annotations

import json
from typing import Any

from e2e.conftest import SPEC, Project

TRIALS = 8
BUDGET = ("--set", f"budget.trials={TRIALS}")
EPOCHS = "num_train_epochs: {low: 2, high: 3}"
SHORT = SPEC.replace("sampler: tpe", "sampler: random")
RANDOM = SHORT.replace(EPOCHS, "num_train_epochs: {low: 16, high: 20}")
"""Trials of seconds: a sweep of them is not over before a cluster has noticed what died."""

NUMBERS = ("trial", "state", "params", "objective")


def numbers(project: Project) -> list[dict[str, Any]]:
    """Return what each trial has found, whatever happened on the way."""
    return [{key: record[key] for key in NUMBERS} for record in project.records()]


def finished(project: Project) -> int:
    """Return the number of trials that have a result."""
    return sum(record["state"] != "INTERRUPTED" for record in project.records())


def winner(project: Project) -> dict[str, Any]:
    """Return the evidence for the winner."""
    evidence: dict[str, Any] = json.loads((project.results() / "winner/evidence.json").read_text())
    return evidence


def check_same(project: Project, undisturbed: Project) -> None:
    """Fail if a sweep has other results than one that nothing disturbed."""
    assert numbers(project) == numbers(undisturbed)
    for key in ("trial", "ranked"):
        assert winner(project)[key] == winner(undisturbed)[key]
