"""Fits the references of a sweep on the rows that its trials train on, and scores them on those that rank trials."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from finesweep.references import linear_models
from finesweep.references.reference import Reference
from finesweep.references.tf_idf import Features, tf_idf
from finesweep.tasks import Task, scores_of
from finesweep.text.format import finite

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

MOST_ROWS = 10_000
"""Maximum number of training rows that TF-IDF is fitted on; of more a seeded sample is taken."""

MOST_DECISIONS = 500_000
"""Maximum of training rows times labels, where yes or no is fitted for each label."""


def fitted(
    task: Task, frames: Mapping[str, pd.DataFrame], names: Sequence[str] | None, seed: int
) -> Iterator[Reference]:
    """Fit and score the references that suit a task.

    Args:
        task: Scores predictions.
        frames: The sweep's rows by split, with encoded labels.
        names: Label names in the order of their ids; None if labels are numbers.
        seed: The sweep's seed, which draws the sample of many rows.
    """
    methods = linear_models.METHODS.get(task.head(names)["problem_type"])
    if methods is None:
        return
    _import()
    kept = {split: frames[split]["label"].tolist() for split in ("train", "validation")}

    def reference(name: str, scores: Mapping[str, float], began: float, rows: int) -> Reference:
        metrics = {key: value for key, value in scores.items() if finite(value) is not None}
        return Reference(name, metrics, time.monotonic() - began, rows)

    began = time.monotonic()
    naive = task.naive(kept["train"], kept["validation"], names)
    yield reference(methods.constant_name, naive.scores, began, len(kept["train"]))
    began, outputs = time.monotonic(), len(names or ())
    labels = task.collate(kept["train"], names)
    rows = _sample(labels, seed)
    features = _features(frames["train"].iloc[rows], frames["validation"], outputs if methods.is_joint else 1)
    logits = methods.fit(features, labels[rows], outputs) if features is not None else None
    if logits is not None:
        yield reference(
            methods.name, scores_of(task, logits, task.collate(kept["validation"], names)), began, len(rows)
        )


def _import() -> None:
    """Import scikit-learn before the clock starts."""
    importlib.import_module("sklearn.feature_extraction.text")
    importlib.import_module("sklearn.linear_model")
    importlib.import_module("sklearn.metrics")


def _sample(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return the numbers of the training rows to fit on, ascending."""
    import numpy as np

    decisions = labels.shape[1] if labels.ndim > 1 else 1
    most = min(MOST_ROWS, max(MOST_DECISIONS // decisions, 1))
    if len(labels) <= most:
        return np.arange(len(labels))
    return np.sort(np.random.default_rng([seed, 17]).permutation(len(labels))[:most])


def _features(train: pd.DataFrame, validation: pd.DataFrame, outputs: int) -> Features | None:
    columns = [name for name in ("text", "text_pair") if name in train]
    first, second = ([frame[name].tolist() for name in columns] for frame in (train, validation))
    return tf_idf(first, second, outputs)
