"""Fits linear models, and gives their predictions as logits that a task scores."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finesweep.references.tf_idf import Features

if TYPE_CHECKING:
    import numpy as np

STRENGTH = 10.0
"""Inverse of the penalty of a logistic regression. Texts of a few words need more than scikit-learn's 1."""

_STEPS = 200
"""Maximum number of steps of the solver."""


@dataclass(frozen=True)
class Methods:
    """The references of one kind of labels.

    Attributes:
        constant_name: Name of the task's naive answer.
        name: Name of the linear model.
        fit: Takes features, training labels and the number of label names; returns the logits of the validation rows,
            None if the labels are all equal.
        is_joint: Whether all classes are fitted together.
    """

    constant_name: str
    name: str
    fit: Callable[[Features, np.ndarray, int], np.ndarray | None]
    is_joint: bool = False


def _classes(features: Features, labels: np.ndarray, classes: int) -> np.ndarray | None:
    import numpy as np

    if len(np.unique(labels)) < 2:
        return None
    model = _logistic(features, labels)
    # A sample of the rows may lack a class.
    logits = np.full((features.validation.shape[0], classes), np.log(0.5 / len(labels)))
    logits[:, model.classes_] = model.predict_log_proba(features.validation)
    return logits


def _labels(features: Features, labels: np.ndarray, _: int) -> np.ndarray | None:
    import numpy as np

    # A label that all rows have, or none, cannot be fitted: its share is its probability.
    shares = np.clip(labels.mean(axis=0, dtype=np.float64), 0.5 / len(labels), 1 - 0.5 / len(labels))
    logits = np.tile(np.log(shares) - np.log1p(-shares), (features.validation.shape[0], 1))
    varied = np.flatnonzero(np.ptp(labels, axis=0))
    for label in varied:
        logits[:, label] = _logistic(features, labels[:, label].astype(int)).decision_function(features.validation)
    return logits if len(varied) else None


def _numbers(features: Features, labels: np.ndarray, _: int) -> np.ndarray:
    import numpy as np
    from sklearn.linear_model import Ridge

    truth = labels.ravel().astype(np.float64)
    middle, spread = truth.mean(), truth.std() or 1.0
    model = Ridge(alpha=1.0, solver="sparse_cg").fit(features.train, (truth - middle) / spread)
    found: np.ndarray = model.predict(features.validation)[:, None] * spread + middle
    return found


def _logistic(features: Features, labels: np.ndarray) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        # A solution that is nearly reached is as good a reference.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=STRENGTH, max_iter=_STEPS, tol=1e-3).fit(features.train, labels)


MAJORITY, LOGISTIC = "majority class", "TF-IDF + logistic regression"

METHODS = {
    "single_label_classification": Methods(MAJORITY, LOGISTIC, _classes, is_joint=True),
    "multi_label_classification": Methods(MAJORITY, LOGISTIC, _labels),
    "regression": Methods("mean", "TF-IDF + ridge", _numbers),
}
"""References by the kind of labels, as the model's config names it (``problem_type``)."""
