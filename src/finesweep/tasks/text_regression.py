"""Learns one number for each text, by the mean squared error."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from finesweep.errors import DataProblem
from finesweep.tasks.label_column import LabelKind, could_be_thousands, decimal_comma, is_infinite, look
from finesweep.tasks.naive_answer import Naive
from finesweep.tasks.protocol import EncodedLabels, scores_of
from finesweep.trial import Direction

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch

_SHOWN = 3
_FOR_CLASSES = "for classes: `task: text-classification`"
_LARGEST = 1e15
"""Largest absolute value of a label. A larger one is a typing error, and the square of its error leaves single
precision."""

_LEAST_SPREAD = 1e-5
"""Minimum standard deviation of the labels, as a share of the largest; below it single precision cannot separate them.
"""

SAME = 1e-3
"""Standard deviation of predictions, as a share of that of the labels, below which they are one answer."""

_FAR = 20.0
"""Standard deviations from the mean beyond which a label dominates the squared error."""


class TextRegression:
    """One finite number for each text."""

    metrics: ClassVar[Mapping[str, Direction]] = {
        "eval_loss": Direction.MINIMIZE,
        "eval_mse": Direction.MINIMIZE,
        "eval_mae": Direction.MINIMIZE,
        "eval_pearson": Direction.MAXIMIZE,
        "eval_spearman": Direction.MAXIMIZE,
    }
    standardizes: ClassVar[bool] = True
    unusable: ClassVar[Mapping[str, str]] = {"label_smoothing_factor": "numbers have no classes to smooth between"}
    takes_several: ClassVar[bool] = False
    split_by: ClassVar[str] = ""
    model_class: ClassVar[str] = "AutoModelForSequenceClassification"
    pipeline: ClassVar[str] = "text-classification"
    pipeline_options: ClassVar[Mapping[str, Any]] = {}
    answer: ClassVar[str] = ""

    def encode(
        self, labels: Mapping[str, pd.Series], names: Sequence[str] | None, *, as_written: bool = False
    ) -> EncodedLabels:
        """Encode labels as floats.

        Args:
            labels: Label column by split, without missing values; indexed by the place of each row.
            names: Class names that come with the data set; must be None.
            as_written: Whether a comma is never a decimal comma.

        Raises:
            DataProblem: A label is no finite number, all labels of train are equal, or they are classes.
        """
        if names is not None:
            raise DataProblem("train", "the labels are classes", "write `task: text-classification`")
        commas = not as_written and _has_decimal_commas(labels)
        splits = {split: _numbers(split, series, commas=commas) for split, series in labels.items()}
        if len(set(splits["train"])) == 1:
            raise DataProblem("train", f"every label is {splits['train'][0]:g}", "is this the right column?")
        _check_sizes(splits)
        far = _far_notes(labels["train"], splits["train"])
        return EncodedLabels(splits, None, (*far, *_notes(labels["train"], commas=commas)))

    def strata(self, labels: Sequence[float]) -> None:
        """Return None: the split is random."""

    def absent(self, labels: Sequence[float], names: Sequence[str] | None) -> list[str]:
        """Return an empty list: numbers have no names."""
        return []

    def explained(self, lengths: np.ndarray, labels: Sequence[float]) -> float:
        """Return the square of Spearman's correlation."""
        import numpy as np

        ranks = np.stack([np.unique(values, return_inverse=True)[1] for values in (lengths, labels)])
        return float(np.asarray(np.corrcoef(ranks))[0, 1] ** 2) if np.ptp(ranks[1]) else 0.0

    def head(self, names: Sequence[str] | None) -> dict[str, Any]:
        """Return the config fields of a head with one output."""
        return {"num_labels": 1, "problem_type": "regression"}

    def collate(self, labels: Sequence[float], names: Sequence[str] | None) -> np.ndarray:
        """Return the numbers, as (rows,) of float32."""
        import numpy as np

        return np.asarray(labels, np.float32)

    def score(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Score predicted numbers.

        Returns:
            ``mse``, ``mae``, and the correlations ``pearson`` (of values) and ``spearman`` (of ranks), which are 0 if
            either side is constant, and NaN if a prediction is not finite.
        """
        import numpy as np
        from scipy.stats import rankdata

        predicted, truth = logits.ravel().astype(np.float64), labels.ravel().astype(np.float64)
        with np.errstate(all="ignore"):
            error = predicted - truth
            return {
                "mse": float(np.mean(error**2)),
                "mae": float(np.mean(np.abs(error))),
                "pearson": _correlation(predicted, truth),
                "spearman": _correlation(rankdata(predicted, nan_policy="propagate"), rankdata(truth)),
            }

    def loss(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """Return the mean squared error."""
        return self.score(logits, labels)["mse"]

    def row_scores(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Return each row's squared and absolute error, and its part in Pearson's correlation; Spearman's has none."""
        import numpy as np

        predicted, truth = logits.ravel().astype(np.float64), labels.ravel().astype(np.float64)
        with np.errstate(all="ignore"):
            error = predicted - truth
            return {
                "eval_loss": error**2,
                "eval_mse": error**2,
                "eval_mae": np.abs(error),
                "eval_pearson": _correlation_parts(predicted, truth),
            }

    def naive(self, train: Sequence[float], validation: Sequence[float], names: Sequence[str] | None) -> Naive:
        """Return the scores of always answering the mean of train; the median may have a smaller ``eval_mae``."""
        import numpy as np

        mean, truth = float(np.mean(train, dtype=np.float64)), self.collate(validation, names)
        scores = scores_of(self, np.full((len(truth), 1), mean), truth)
        median = {"eval_mae": float(np.mean(np.abs(truth - np.median(train)), dtype=np.float64))}
        return Naive.of(f"{mean:.6g}", scores, median, self.metrics, len(truth))

    def naive_loss(self, labels: Sequence[float], names: Sequence[str] | None) -> float:
        """Return the mean square of the labels: a new head predicts about 0."""
        import numpy as np

        return float(np.mean(np.square(labels, dtype=np.float64)))

    def recompute_metrics(self, logits: torch.Tensor, labels: Sequence[float]) -> dict[str, float]:
        """Compute every metric a second time, by torch and pandas."""
        import pandas as pd
        import torch

        given, truth = logits.flatten(), torch.as_tensor(labels).double()
        error = given - truth
        ranks = [torch.tensor(pd.Series(side.numpy()).rank().to_numpy()) for side in (given, truth)]
        return {
            "eval_loss": float(error.square().mean()),
            "eval_mse": float(error.square().mean()),
            "eval_mae": float(error.abs().mean()),
            "eval_pearson": _correlation_again(given, truth),
            "eval_spearman": _correlation_again(*ranks),
        }

    def given(self, logits: np.ndarray) -> list[float]:
        """Return the number for each row."""
        return [float(number) for number in logits.ravel()]

    def same_answer(self, logits: np.ndarray, labels: Sequence[float], names: Sequence[str] | None) -> str | None:
        """Return the predicted number if it is the same for all rows apart from rounding, else None."""
        import numpy as np

        given = logits.ravel()
        return f"{float(given.mean()):.6g}" if given.std() <= SAME * np.std(labels) else None


def _has_decimal_commas(labels: Mapping[str, pd.Series]) -> bool:
    """Return whether labels have a decimal comma; refuse commas that could also separate thousands."""
    texts = {str(value).strip() for series in labels.values() for value in series}
    if decimal_comma(texts):
        return True
    if thousands := sorted(text for text in texts if could_be_thousands(text)):
        message = f"the comma of {thousands[0]!r} may part thousands, or the fraction"
        raise DataProblem("train", message, "write the labels without commas, and a fraction with a point")
    return False


def _notes(train: pd.Series, *, commas: bool) -> Iterator[str]:
    found = look(train)
    if commas:
        yield f"The labels are {found.reason}, read as with a point."
    elif found.kind is LabelKind.IDS and found.values > 2:
        yield f"The labels are {found.reason}, taken as numbers; for classes: `task: text-classification`."


def _numbers(split: str, series: pd.Series, *, commas: bool) -> list[float]:
    numbers = [_number(value, commas=commas) for value in series]
    wrong = [position for position, number in enumerate(numbers) if not math.isfinite(number)]
    if wrong:
        unit = series.index.name or "row"
        found = ", ".join(f"{series.iloc[at]!r} in {unit} {series.index[at]}" for at in wrong[:_SHOWN])
        message = f"{len(wrong):,} of {len(numbers):,} labels are no finite numbers: {found}"
        infinite = all(is_infinite(str(series.iloc[at])) for at in wrong)
        raise DataProblem(split, message, "remove these rows" if infinite else _FOR_CLASSES)
    return numbers


def _number(value: object, *, commas: bool) -> float:
    """Read one label; NaN for a value that is no number, such as a boolean or ``1_000``."""
    # float() would accept both.
    if isinstance(value, bool) or (isinstance(value, str) and "_" in value):
        return math.nan
    try:
        return float(value.replace(",", ".") if commas and isinstance(value, str) else value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _check_sizes(splits: Mapping[str, Sequence[float]]) -> None:
    for split, numbers in splits.items():
        if (largest := max(map(abs, numbers))) > _LARGEST:
            raise DataProblem(split, f"a label is {largest:.3g}; at most {_LARGEST:g} is allowed", "divide them all")
    middle, spread = _middle(splits["train"])
    if spread < _LEAST_SPREAD * max(map(abs, splits["train"])):
        message = (
            f"the labels lie within {spread:.3g} of {middle:.10g}, closer than single precision can tell them apart"
        )
        raise DataProblem("train", message, f"subtract {middle:.10g} from them all")


def _middle(numbers: Sequence[float]) -> tuple[float, float]:
    """Return mean and standard deviation."""
    import numpy as np

    return float(np.mean(numbers)), float(np.std(numbers))


def _far_notes(series: pd.Series, numbers: Sequence[float]) -> Iterator[str]:
    """Yield a remark on labels so far from the mean that they dominate the training."""
    middle, spread = _middle(numbers)
    far = [at for at, number in enumerate(numbers) if abs(number - middle) > _FAR * spread]
    if far:
        unit = series.index.name or "row"
        found = ", ".join(f"{numbers[at]:g} in {unit} {series.index[at]}" for at in far[:_SHOWN])
        yield (
            f"{len(far):,} of {len(numbers):,} labels lie more than {_FAR:g} standard deviations from the mean "
            f"({found}); they dominate the squared error. Are they right?"
        )


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return Pearson's correlation; 0 for a constant side, checked before rounding can make it look varied."""
    import numpy as np

    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    first, second = first - first.mean(), second - second.mean()
    # Rounding can carry a perfect correlation beyond 1.
    return float(np.clip(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)), -1, 1))


def _correlation_parts(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the linearised correlation of each row."""
    import numpy as np

    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return np.zeros(len(first))
    first, second = ((side - side.mean()) / side.std() for side in (first, second))
    value = np.mean(first * second)
    return np.asarray(value + first * second - value * (first**2 + second**2) / 2)


def _correlation_again(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return Pearson's correlation, with no code of the scores; 0 for a constant side."""
    import torch

    is_constant = any(bool((side == side[0]).all()) for side in (one, other))
    return 0.0 if is_constant else float(torch.corrcoef(torch.stack([one, other]))[0, 1])
