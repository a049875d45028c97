"""Finds faults of the rows: too few to tell trials apart, repeated, cut off, or with hardly any row of a label."""

from __future__ import annotations

import math
from collections.abc import Iterator

from finesweep.doctor.case import Case, Finding, cure
from finesweep.text import clean, first_few, metric
from finesweep.text.format import finite
from finesweep.trial import TrialRecord

REPEATED = 0.01
"""Share of validation rows that stand in train too, from which on that is a finding."""

CUT = 0.1
"""Share of cut texts from which on that is a finding."""

RARE = 8
"""Training rows of a label below which it is rare."""

FEWEST_RANKED = 4
"""Minimum ranked trials whose differences are looked at."""

MOST_TIMES = 10.0
"""Ratio of chance to a difference above which the values are as good as equal: 100 times the rows would be needed."""

_SHARES = ("eval_accuracy", "eval_subset_accuracy")
_SURE = 1.96
_SHOWN = 5


def few_validation_rows(case: Case) -> Iterator[Finding]:
    """Yield whether the validation rows are too few to tell the best trial from the middle one.

    Where trials keep their rows, the tie set decides; else their accuracy. The number of rows that would do takes both
    trials as independent, so it is an upper limit.
    """
    rows = case.data.rows.get("validation", 0)
    if len(case.ranked) < FEWEST_RANKED or not rows:
        return
    by_value = case.searched
    best, middle = by_value[0], by_value[len(by_value) // 2]
    found = _by_tie_set(case, best, middle) if case.tied is not None else _by_accuracy(best, middle, rows)
    if found is None:
        return
    name, first, other, chance = found
    if chance > abs(first - other) > chance / MOST_TIMES:
        wanted = _two_digits(math.ceil(rows * (chance / (first - other)) ** 2))
        of = "in the search, " if case.means else ""
        evidence = (
            f"{of}{name} of the best trial and of the middle one is {metric(first)} and {metric(other)}; with {rows:,} "
            f"rows chance alone makes {metric(chance)}; {wanted:,} rows would do"
        )
        yield Finding("few-validation-rows", "The validation rows are few", evidence, _more_rows(case, wanted))


_Difference = tuple[str, float, float, float]
"""Metric, its two values, and the difference that chance makes with 95 % confidence."""


def _by_tie_set(case: Case, best: TrialRecord, middle: TrialRecord) -> _Difference | None:
    widths = [case.half_widths.get(record.trial) for record in (best, middle)]
    if middle.trial not in (case.tied or ()) or widths[0] is None or widths[1] is None:
        return None
    first, other = best.objective or 0.0, middle.objective or 0.0
    return case.spec.objective.metric, first, other, math.hypot(widths[0], widths[1])


def _by_accuracy(best: TrialRecord, middle: TrialRecord, rows: int) -> _Difference | None:
    for name in _SHARES:
        first, other = finite(best.metrics.get(name)), finite(middle.metrics.get(name))
        if first is not None and other is not None and first > other:
            spread = max(first * (1 - first) + other * (1 - other), 0.0)
            return name, first, other, _SURE * math.sqrt(spread / rows)
    return None


def _two_digits(count: int) -> int:
    unit = int(10 ** max(len(str(count)) - 2, 0))
    return -(-count // unit) * unit


def _more_rows(case: Case, wanted: int) -> str | None:
    """Return sections that give more validation rows, None if the files have no more."""
    data, rows = case.spec.data, case.data.rows
    if data.max_eval_rows is not None:
        return cure(data={"max_eval_rows": wanted})
    if "validation" in case.data.sources:
        return None
    share = wanted / (rows["train"] + rows.get("validation", 0))
    fraction = math.ceil(100 * min(share, 0.3)) / 100
    return cure(data={"validation_fraction": fraction}) if fraction > data.validation_fraction else None


def repeated_texts(case: Case) -> Iterator[Finding]:
    """Yield whether validation rows have the texts of training rows."""
    rows, count = case.rows, case.data.rows.get("validation", 0)
    if rows is not None and count and rows.repeated >= REPEATED * count:
        evidence = f"{rows.repeated:,} of {count:,} validation rows, so all values are too good; remove them from train"
        yield Finding("repeated-texts", "Texts of validation stand in train too", evidence, weight="problem")


def cut_texts(case: Case) -> Iterator[Finding]:
    """Yield whether the model reads many texts only in part."""
    cut = case.cut
    if cut is None or cut.cut < CUT * cut.rows:
        return
    longer = min(2 * cut.max_length, case.most_tokens)
    evidence = f"{cut.cut:,} of {cut.rows:,} training texts are longer than {cut.max_length:,} tokens"
    remedy = cure(data={"max_length": longer}) if longer > cut.max_length else None
    yield Finding("cut-texts", "Texts are cut off", evidence, remedy)


def rare_labels(case: Case) -> Iterator[Finding]:
    """Yield the labels with hardly any training row, and those that no validation row has."""
    rows, names = case.rows, case.data.labels
    if rows is None or names is None or rows.train is None or rows.validation is None:
        return
    rare = [f"{clean(name, 40)} ({count:,})" for name, count in zip(names, rows.train, strict=False) if count < RARE]
    if rare:
        evidence = f"{first_few(rare, _SHOWN)}; collect more rows of them, or join them with others"
        yield Finding(
            "rare-labels", f"{len(rare):,} of {len(names):,} labels have fewer than {RARE} training rows", evidence
        )
    unseen = [clean(name, 40) for name, count in zip(names, rows.validation, strict=False) if not count]
    if unseen:
        text = f"{len(unseen):,} of {len(names):,} labels have no validation row"
        yield Finding("unseen-labels", text, f"{first_few(unseen, _SHOWN)}; no metric judges them")
