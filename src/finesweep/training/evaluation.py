"""Evaluates a model by a plain loop over rows, which no training argument can change."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from finesweep.training.batching import Numbers, TokenRows, evaluation_order


@dataclass(frozen=True, eq=False)
class ByRow:
    """An evaluation row by row, in the rows' own order.

    Attributes:
        values: By full name of a metric, (rows,); see ``Task.row_scores``.
        labels: The true labels, first dimension rows.
    """

    values: Mapping[str, Numbers]
    labels: Numbers


def by_row(values: Mapping[str, Numbers], labels: Numbers, lengths: Numbers) -> ByRow:
    """Bring what was computed from ``predictions`` back into the rows' own order.

    Args:
        values: By full name of a metric, (rows,), in the order of the evaluation.
        labels: The labels in the same order.
        lengths: Tokens of each row, in the rows' own order.
    """
    place = np.argsort(evaluation_order(lengths))
    return ByRow({name: one[place] for name, one in values.items()}, labels[place])


def predictions(
    model: Any, rows: TokenRows, collate: Callable[..., Any], batch: int, after_batch: Callable[[], None]
) -> tuple[Numbers, Numbers]:
    """Take every row through a model once.

    The labels are not given to the model: its own loss may be scaled or averaged differently.

    Args:
        model: A model with a head; only its ``logits`` are used.
        rows: Tokenised rows with ``labels``.
        collate: Makes a batch of rows.
        batch: Rows in a batch; the last one may have fewer.
        after_batch: Called after each batch; may raise.

    Returns:
        Logits and labels of all rows, in the same order.
    """
    order = evaluation_order(rows.lengths)
    logits, labels = [], []
    with torch.no_grad(), _in_evaluation_mode(model):
        for start in range(0, len(order), batch):
            inputs = collate([rows[row] for row in order[start : start + batch]])
            labels.append(inputs.pop("labels"))
            outputs = model(**{name: tensor.to(model.device) for name, tensor in inputs.items()})
            logits.append(outputs.logits)  # stays on the GPU: copying each batch would wait for it
            after_batch()
    # numpy has no bfloat16.
    return torch.cat(logits).float().cpu().numpy(), torch.cat(labels).numpy()


@contextlib.contextmanager
def _in_evaluation_mode(model: Any) -> Iterator[None]:
    """Switch dropout off; then restore the mode, which the wrapper of a compiled model relies on."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
