"""Records the full curves of many configurations, which ``replay`` replays pruners on.

    python -m benchmarks.studies.record_curves --data sst2_train.csv --validation sst2_dev.csv

Each seed is one sweep without pruning of the same configurations, drawn once from a space: ``bert`` is that of
``search_spaces/bert.yaml`` with learning rates for a model as small as this one, ``quickstart`` that of
``search_spaces/quickstart.yaml``; ``amazon`` and ``tweets`` are as ``bert`` for a distilled model, drawn otherwise. The
sweeps' own records become the table. Run again, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import csv
import math
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from finesweep.folder.sweep_folder import SweepFolder
from finesweep.trial import TrialRecord, TrialState

TABLE = Path(__file__).parents[1] / "curves" / "curves.csv"
"""The recorded table."""

COLUMNS = (
    "configuration",
    "seed",
    "learning_rate",
    "epochs",
    "batch",
    "examples",
    "eval_loss",
    "eval_accuracy",
    "seconds",
)
"""Its columns; ``seconds`` are those of the whole trial."""


@dataclass(frozen=True)
class Space:
    """What varies.

    Attributes:
        draw: Seed that the configurations are drawn with.
        low: Smallest learning rate.
        high: Largest learning rate.
        batches: Rows per step.
        fixed: Settings equal in all trials, besides those of every space.
    """

    draw: int
    low: float
    high: float
    batches: tuple[int, ...]
    fixed: Mapping[str, float] = field(default_factory=dict)


SPACES = {
    "bert": Space(0, 1e-4, 5e-4, (8, 16, 32)),
    "quickstart": Space(2, 1e-4, 3e-3, (16, 32, 64), {"warmup_steps": 0.1}),
    "amazon": Space(3, 6e-5, 6e-4, (8, 16, 32)),
    "tweets": Space(4, 6e-5, 6e-4, (8, 16, 32)),
}
"""Spaces by name."""

MODEL = {
    "config": "bert",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "max_position_embeddings": 64,
}
"""The model of ``search_spaces/quickstart.yaml``."""


def configurations(count: int, space: Space) -> list[dict[str, float | int]]:
    """Draw the configurations of a space, the same ones each time."""
    source = random.Random(space.draw)
    return [
        {
            "learning_rate": float(f"{math.exp(source.uniform(math.log(space.low), math.log(space.high))):.4g}"),
            "num_train_epochs": source.randint(2, 5),
            "per_device_train_batch_size": source.choice(space.batches),
        }
        for _ in range(count)
    ]


def spec(asked: argparse.Namespace, seed: int) -> dict[str, object]:
    """Return one seed's sweep as its YAML holds it: all curves in full, evaluated four times an epoch."""
    space = SPACES[asked.space]
    return {
        "model": MODEL if asked.model is None else str(asked.model.resolve()),
        "data": {
            "train": str(asked.data.resolve()),
            "validation": str(asked.validation.resolve()),
            "text": asked.text,
            "label": asked.label,
            "max_length": 64,
            "max_train_rows": asked.rows,
        },
        "budget": {"trials": asked.configurations},
        "search": {"sampler": "random", "pruner": "none", "seed": seed, "baseline": False},
        "patience": "none",
        "evaluation": {"per_epoch": 4},
        "start": configurations(asked.configurations, space),
        "space": {
            "learning_rate": {"low": space.low, "high": space.high, "log": True},
            "num_train_epochs": {"low": 2, "high": 5},
            "per_device_train_batch_size": {"choices": list(space.batches)},
        },
        "fixed": {"weight_decay": 0.01, "train_sampling_strategy": "group_by_length", **space.fixed},
    }


def sweep(asked: argparse.Namespace, seed: int) -> SweepFolder:
    """Carry out one seed's sweep, or the rest of it."""
    name = f"curves-seed{seed}"
    asked.results.mkdir(parents=True, exist_ok=True)
    written, profile = asked.results / f"{name}.yaml", asked.results / "profile.yaml"
    written.write_text(yaml.safe_dump(spec(asked, seed), sort_keys=False), encoding="utf-8")
    profile.write_text("{launcher: local, workers: 1, threads_per_worker: 1}\n", encoding="utf-8")
    command = [sys.executable, "-m", "finesweep", "run", str(written), "--on", str(profile)]
    subprocess.run([*command, "--name", name, "--results", str(asked.results)], check=True)
    return SweepFolder(asked.results / name)


def rows_of(seed: int, record: TrialRecord) -> Iterator[Sequence[object]]:
    """Yield a trial's evaluations as rows of the table.

    Raises:
        SystemExit: The trial did not complete.
    """
    if record.state is not TrialState.COMPLETE:
        raise SystemExit(f"seed {seed}: trial {record.trial} is {record.state}: {record.reason}")
    params = record.params
    tried = (params["learning_rate"], params["num_train_epochs"], params["per_device_train_batch_size"])
    for evaluation in record.evaluations:
        metrics = [f"{evaluation.metrics[name]:.6f}" for name in ("eval_loss", "eval_accuracy")]
        yield record.trial, seed, *tried, evaluation.examples, *metrics, f"{record.seconds:.1f}"


def write_table(folders: Sequence[SweepFolder], table: Path) -> None:
    """Turn sweeps into the table.

    Args:
        folders: The sweeps' folders by seed, from 0.
        table: The file to write.
    """
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for seed, folder in enumerate(folders):
            for record in sorted(folder.records(), key=lambda record: record.trial):
                writer.writerows(rows_of(seed, record))


def main() -> None:
    """Record and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="training rows, CSV")
    parser.add_argument("--validation", type=Path, required=True, help="validation rows, CSV")
    parser.add_argument("--model", type=Path, help="folder of a pretrained model; else one is made from scratch")
    parser.add_argument("--text", default="text", help="column with the text")
    parser.add_argument("--label", default="label", help="column with the label")
    parser.add_argument("--space", choices=SPACES, default="bert")
    parser.add_argument("--rows", type=int, default=4000, help="training rows used")
    parser.add_argument("--configurations", type=int, default=48)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=Path("results/curves"), help="where the sweeps are written")
    parser.add_argument("--table", type=Path, default=TABLE, help="the table to write")
    asked = parser.parse_args()
    write_table([sweep(asked, seed) for seed in range(asked.seeds)], asked.table)


if __name__ == "__main__":
    main()
