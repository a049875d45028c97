"""Evaluates a model by itself: the same rows, the same code, whichever arm made it.

    python -m benchmarks.judge WORKLOAD.json MODEL

Prints ``{"eval_loss": ..., "accuracy": ...}``. A model that cannot be loaded ends it with an error.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import torch
import transformers
from benchmarks.workload import Workload

BATCH = 64


def judged(workload: Workload, folder: Path) -> dict[str, float]:
    """Return the mean cross-entropy and the accuracy over all validation rows, in single precision on the CPU."""
    with Path(workload.validation).open(newline="", encoding="utf-8") as stream:
        rows = sorted(csv.DictReader(stream), key=lambda row: len(row["text"]))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    loss = right = 0.0
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        tokens = tokenizer(
            [row["text"] for row in batch],
            padding=True,
            truncation=True,
            max_length=workload.max_length,
            return_tensors="pt",
        )
        labels = torch.tensor([int(row["label"]) for row in batch])
        with torch.no_grad():
            logits = model(**tokens).logits
        loss += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
        right += float((logits.argmax(-1) == labels).sum())
    return {"eval_loss": loss / len(rows), "accuracy": right / len(rows)}


def main() -> None:
    """Judge what the command line names."""
    json.dump(judged(Workload.read(Path(sys.argv[1])), Path(sys.argv[2])), sys.stdout)


if __name__ == "__main__":
    main()
