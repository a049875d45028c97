"""Finds faults of the training: ended too early, one answer for all rows, worse than a reference, time for nothing."""

from __future__ import annotations

from collections.abc import Iterator

from finesweep.doctor.axis import epochs_doubled
from finesweep.doctor.case import Case, Finding, cure
from finesweep.references import best_reference
from finesweep.text import clean, duration, first_few, metric
from finesweep.text.format import finite
from finesweep.trial import TrialRecord, TrialState

BEST = 3
"""Number of best trials that are looked at."""

FALL = 0.02
"""Minimum fall of eval_loss from the evaluation before to the last one, as a share of it."""

FEWEST_ROWS = 3
"""Minimum validation rows of a label that a model should give at least once."""

WASTED = 0.3
"""Share of all trials' time from which on trials without a result are a finding."""

_SHOWN = 5


def worse_than_reference(case: Case) -> Iterator[Finding]:
    """Yield whether the best trial does not beat the best reference."""
    name, direction = case.spec.objective.metric, case.spec.direction
    best = best_reference(case.references, name, direction)
    value = best.value(name) if best is not None else None
    if best is None or value is None or not case.ranked:
        return
    found = case.ranked[0]
    own = case.means.get(found.trial, found.objective or 0.0)
    if not direction.better(own, value):
        over = " on average over fresh seeds" if found.trial in case.means else ""
        evidence = f"{name} {metric(own)}{over} against {metric(value)}, which took {duration(best.seconds)}"
        text = f"The best trial ({found.trial}) is no better than {clean(best.name)}"
        yield Finding("worse-than-reference", text, evidence, _longer(case), weight="problem")


def _longer(case: Case) -> str:
    return cure(**epochs_doubled(case.spec.fixed, case.spec.space.get("num_train_epochs")))


def one_answer(case: Case) -> Iterator[Finding]:
    """Yield whether the winner gives one answer for all validation rows."""
    if case.same_answer is not None:
        evidence = f"{clean(case.same_answer, 60)!r} for each of {case.data.rows.get('validation', 0):,} rows"
        text = "The winner always gives the same answer"
        yield Finding("one-answer", text, evidence, _longer(case), weight="problem")


def never_predicted(case: Case) -> Iterator[Finding]:
    """Yield the labels that the winner never gives although validation rows have them."""
    rows, names = case.rows, case.data.labels
    if not case.answered or rows is None or rows.validation is None or names is None or case.same_answer is not None:
        return
    counts = dict(zip(names, rows.validation, strict=False))
    never = [name for name in names if counts.get(name, 0) >= FEWEST_ROWS and not case.answered.get(name)]
    if never:
        shown = first_few([f"{clean(name, 40)} ({counts[name]:,} rows)" for name in never], _SHOWN)
        text = f"The winner never gives {len(never):,} of {len(names):,} labels"
        yield Finding("never-predicted", text, f"of validation: {shown}", _longer(case), weight="problem")


def still_falling(case: Case) -> Iterator[Finding]:
    """Yield whether eval_loss still falls when the best trials end."""
    best = case.ranked[:BEST]
    falls = [fall for record in best if (fall := _last_fall(record)) is not None and fall >= FALL]
    if best and len(falls) == len(best):
        trials = "the best trial" if len(best) == 1 else f"each of the best {len(best)} trials"
        evidence = f"by {100 * min(falls):.0f} % or more from the evaluation before, in {trials}"
        text = "eval_loss still falls at the last evaluation"
        yield Finding("still-falling", text, evidence, _longer(case))


def _last_fall(record: TrialRecord) -> float | None:
    """Return by which share eval_loss fell at the last evaluation to its lowest value; None if it did not."""
    losses = [loss for one in record.evaluations if (loss := finite(one.metrics.get("eval_loss"))) is not None]
    if len(losses) < 2 or losses[-1] >= min(losses[:-1]):
        return None
    return (losses[-2] - losses[-1]) / abs(losses[-2])


def costly_trials(case: Case) -> Iterator[Finding]:
    """Yield the trials that took much of the time and gave nothing: failed, diverged, or among the last for twice it.

    A trial that ranks gave nothing if it took twice as long as the best one and is in the worst quarter.
    """
    total = sum(record.trained_seconds for record in case.records)
    lost = [*case.of_state(TrialState.FAILED), *case.of_state(TrialState.DIVERGED)]
    if len(case.ranked) >= 4:
        long = 2 * case.ranked[0].trained_seconds
        lost += [record for record in case.ranked[-(len(case.ranked) // 4) :] if record.trained_seconds >= long]
    seconds = sum(record.trained_seconds for record in lost)
    if not lost or total <= 0 or seconds < WASTED * total:
        return
    lost.sort(key=lambda record: -record.trained_seconds)
    shown = first_few([f"{one.trial} ({one.state}, {duration(one.trained_seconds)})" for one in lost], _SHOWN)
    text = f"{len(lost):,} trials took {100 * seconds / total:.0f} % of the time and gave nothing"
    text = text if len(lost) > 1 else f"One trial took {100 * seconds / total:.0f} % of the time and gave nothing"
    has_pruner = case.spec.search.pruner != "none"
    yield Finding("costly-trials", text, f"trials {shown}", None if has_pruner else cure(search={"pruner": "halving"}))
