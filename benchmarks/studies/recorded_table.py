"""Reads and writes the table of curves that ``record_stock`` records."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.studies.record_curves import COLUMNS

EVALUATIONS_PER_EPOCH = 4

Row = Mapping[str, str]
"""A line of the table, by column."""

Trial = tuple[int, int]
"""A seed and a configuration."""


def read_table(table: Path) -> dict[Trial, list[Row]]:
    """Return the trials that a table has; none if there is no table yet."""
    found: dict[Trial, list[Row]] = {}
    if table.exists():
        with table.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                found.setdefault((int(row["seed"]), int(row["configuration"])), []).append(row)
    return found


def write_table(trials: Mapping[Trial, Sequence[Row]], table: Path) -> None:
    """Write a table, by seed and configuration; a stop in between leaves the one before."""
    written = table.with_suffix(".part")
    with written.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for trial in sorted(trials):
            writer.writerows(trials[trial])
    os.replace(written, table)  # noqa: PTH105


def lines(trial: Trial, params: Mapping[str, float | int], trained: tuple[list[dict[str, float]], float]) -> list[Row]:
    """Return the table's lines of a trial."""
    evaluations, seconds = trained
    batch = int(params["per_device_train_batch_size"])
    shared = {
        "configuration": str(trial[1]),
        "seed": str(trial[0]),
        "learning_rate": str(params["learning_rate"]),
        "epochs": str(params["num_train_epochs"]),
        "batch": str(batch),
        "seconds": f"{seconds:.1f}",
    }
    return [
        {
            **shared,
            "examples": str(int(one["step"]) * batch),
            "eval_loss": f"{one['eval_loss']:.6f}",
            "eval_accuracy": f"{one['eval_accuracy']:.6f}",
        }
        for one in evaluations
    ]


def missing(wanted: int, seeds: Sequence[int], trials: Mapping[Trial, Sequence[Row]]) -> Iterator[Trial]:
    """Yield the trials that are still to be recorded, one seed after the other."""
    yield from ((seed, number) for seed in seeds for number in range(wanted) if (seed, number) not in trials)
