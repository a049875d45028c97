"""Records full curves with the stock ``Trainer``, one trial after the other in one process.

    python -m benchmarks.studies.record_stock --space amazon --rows-in rows --model student

The held-out tables are made by this, without the product's own training. The table is written after each trial. Run
again, it skips the trials that the table has. ``rated_texts`` makes the rows and ``distil`` the model.
"""

from __future__ import annotations

import argparse
import csv
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from benchmarks.curves.recorded import FOLDER
from benchmarks.studies.record_curves import SPACES, configurations
from benchmarks.studies.recorded_table import EVALUATIONS_PER_EPOCH, lines, missing, read_table, write_table

MAX_LENGTH = 64

Encoded = list[dict[str, Any]]
"""Rows as token numbers and the number of their label."""


@dataclass(frozen=True)
class Rows:
    """What is trained on and evaluated with.

    Attributes:
        train: All training rows, of which each seed draws some.
        validation: The validation rows, short ones first, so that batches need little padding.
        labels: The labels, by number.
    """

    train: Encoded
    validation: Encoded
    labels: Sequence[str]


def read_rows(folder: Path, name: str, tokenizer: Any) -> Rows:
    """Read ``NAME_train.csv`` and ``NAME_dev.csv``, which have the columns ``text`` and ``label``."""
    parts = []
    for part in ("train", "dev"):
        with (folder / f"{name}_{part}.csv").open(encoding="utf-8", newline="") as file:
            parts.append([(row["text"], row["label"]) for row in csv.DictReader(file)])
    labels = sorted({label for _, label in parts[0]})
    train, validation = (
        [
            {**tokenizer(text, truncation=True, max_length=MAX_LENGTH), "labels": labels.index(label)}
            for text, label in part
        ]
        for part in parts
    )
    return Rows(train, sorted(validation, key=lambda row: len(row["input_ids"])), labels)


def train(
    model: Path, tokenizer: Any, rows: Rows, count: int, seed: int, params: Mapping[str, float | int]
) -> tuple[list[dict[str, float]], float]:
    """Train one configuration to its end.

    Args:
        model: Folder of the pretrained model.
        tokenizer: Its tokenizer.
        rows: All rows.
        count: Training rows, a multiple of four times each batch, so that evaluations fall on steps.
        seed: Of the sample of rows, the head's weights and the order.
        params: Learning rate, epochs and batch, as arguments of the ``Trainer``.

    Returns:
        Its evaluations in order, and the CPU seconds that it took.
    """
    started = time.process_time()
    transformers.set_seed(seed)
    batch = int(params["per_device_train_batch_size"])
    if count % (EVALUATIONS_PER_EPOCH * batch):
        raise ValueError(f"{count} rows are not a multiple of {EVALUATIONS_PER_EPOCH} times {batch}")
    with tempfile.TemporaryDirectory() as folder:
        settings = transformers.TrainingArguments(
            output_dir=folder,
            **params,
            weight_decay=0.01,
            train_sampling_strategy="group_by_length",
            per_device_eval_batch_size=100,
            eval_strategy="steps",
            eval_steps=count // batch // EVALUATIONS_PER_EPOCH,
            save_strategy="no",
            logging_strategy="no",
            seed=seed,
            use_cpu=True,
            disable_tqdm=True,
            report_to="none",
        )
        trainer = transformers.Trainer(
            model=transformers.AutoModelForSequenceClassification.from_pretrained(model, num_labels=len(rows.labels)),
            args=settings,
            train_dataset=random.Random(seed).sample(rows.train, count),
            eval_dataset=rows.validation,
            data_collator=transformers.DataCollatorWithPadding(tokenizer),
            compute_metrics=lambda found: {"accuracy": float((found[0].argmax(-1) == found[1]).mean())},
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    evaluations = [one for one in trainer.state.log_history if "eval_loss" in one]
    return evaluations, time.process_time() - started


def main() -> None:
    """Record what is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--space", choices=SPACES, required=True, help="what varies; also names rows and table")
    parser.add_argument("--rows-in", type=Path, required=True, help="folder with SPACE_train.csv and SPACE_dev.csv")
    parser.add_argument("--model", type=Path, required=True, help="folder of a pretrained model")
    parser.add_argument("--rows", type=int, default=640, help="training rows of a seed")
    parser.add_argument("--configurations", type=int, default=24)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--table", type=Path, help="the table to write; else that of the space")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    tokenizer = transformers.AutoTokenizer.from_pretrained(asked.model)
    rows = read_rows(asked.rows_in, asked.space, tokenizer)
    table = asked.table or FOLDER / f"{asked.space}.csv"
    trials, drawn = read_table(table), configurations(asked.configurations, SPACES[asked.space])
    for trial in list(missing(asked.configurations, asked.seeds, trials)):
        seed, number = trial
        trials[trial] = lines(
            trial, drawn[number], train(asked.model, tokenizer, rows, asked.rows, seed, drawn[number])
        )
        write_table(trials, table)
        print(*trials[trial][-1].values(), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
