"""Decides which trials are promoted, wait or end, and at how many training examples they are compared.

Everything is a function of the trials' evaluations; nothing here reads the folder or knows a Trainer.
``worker.rung_judge`` applies it to a sweep.
"""

from finesweep.pruning.evaluation_schedule import Schedule
from finesweep.pruning.rules import (
    Promotions,
    Rung,
    RungStanding,
    by_chance,
    cohorts,
    is_audited,
    promotions,
    rung_examples,
    values_at,
)

__all__ = [
    "Promotions",
    "Rung",
    "RungStanding",
    "Schedule",
    "by_chance",
    "cohorts",
    "is_audited",
    "promotions",
    "rung_examples",
    "values_at",
]
