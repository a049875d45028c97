"""Says in two sentences which trial to take and how sure that is, with a light; it stands at the top of every face."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from finesweep.confidence import Interval
from finesweep.doctor import Finding
from finesweep.references import Reference
from finesweep.results.confirmation import Candidate, Confirmation
from finesweep.results.ranking import SweepSummary, ranks
from finesweep.results.reference_rows import against_reference
from finesweep.results.standing import Standing
from finesweep.text import clean, first_few, metric
from finesweep.trial import TrialRecord

_NAMED = 4
"""Tied trials that are named."""


class Light(StrEnum):
    """Whether to ship the model: yes, look first, no."""

    GREEN = "green"
    YELLOW = "yellow"
    RED = "red"


@dataclass(frozen=True)
class Decision:
    """What stands at the top of every face.

    Attributes:
        light: Whether to ship.
        sentences: One or two: what to take, and what that is compared with.
    """

    light: Light
    sentences: tuple[str, ...]

    @property
    def text(self) -> str:
        """The light and the sentences on one line: ``GREEN. Take trial 3 ...``."""
        return " ".join([f"{self.light.upper()}.", *self.sentences])


def decide(
    summary: SweepSummary,
    take: TrialRecord | None,
    standing: Standing | None,
    references: Sequence[Reference] = (),
    findings: Sequence[Finding] = (),
    test: str | None = None,
    doubts: Sequence[str] = (),
    confirmation: Confirmation | None = None,
    *,
    is_compared: bool = True,
) -> Decision:
    """Decide from everything that is known about a sweep.

    Args:
        summary: State of the sweep.
        take: The trial that becomes the winner, None if none ranks.
        standing: How sure the ranks are, None if no rows are known.
        references: Scores of models without a transformer; the best of them is compared with.
        findings: What the doctor finds; its problems are reasons to look first.
        test: The winner's scores on the test rows, None without them.
        doubts: Further reasons to look first, each half a sentence.
        confirmation: The best trials, trained again on fresh seeds; None if they were not.
        is_compared: Whether the trials were compared; while a run lasts they are not.
    """
    if take is None or summary.best is None:
        return Decision(Light.RED, ("No trial ranks yet, so there is nothing to take.",))
    name = clean(summary.metric)
    doubts = [*(_half_sentence(finding) for finding in findings if finding.weight == "problem"), *doubts]
    if confirmation is not None:
        doubts += _open_questions(confirmation)
        if confirmation.best is not None:
            return _confirmed(summary, confirmation, references, test, doubts)
    found = f"trial {take.trial}: {name} {metric(take.objective)}{_range(standing, take)}"
    if summary.verdict is not None:
        return Decision(Light.RED, (f"Do not ship {found}; it is {summary.verdict}.",))
    against, is_beaten = against_reference(summary, take.objective, references)
    if is_beaten:
        return Decision(Light.RED, (f"Do not ship {found}; it is {against}.",))
    compared, is_sure = _against_default(summary, take, standing)
    parts = [part for part in (compared, against, f"test: {test}" if test else None, *doubts) if part]
    second = "; ".join(parts)
    light = Light.GREEN if is_sure and not doubts else Light.YELLOW
    return Decision(
        light, (f"Take {found}; {_company(take, standing, is_compared)}.", f"{second[:1].upper()}{second[1:]}.")
    )


def left_to_search(sweep: str, ended: int, planned: int) -> Decision:
    """Say on the board of a confirmation where the decision stands.

    Args:
        sweep: Name of the sweep that it confirms.
        ended: Number of its trainings that have ended or are not needed.
        planned: Number of those that are planned.
    """
    name = clean(sweep)
    text = f"This confirms the sweep {name}: {ended} of at most {planned} trainings on fresh seeds have ended."
    return Decision(Light.YELLOW, (text, f"Which trial to take stands on the board of {name}, one folder above."))


def _half_sentence(finding: Finding) -> str:
    return f"{finding.text[:1].lower()}{finding.text[1:]}"


def _confirmed(
    summary: SweepSummary,
    confirmation: Confirmation,
    references: Sequence[Reference],
    test: str | None,
    doubts: Sequence[str],
) -> Decision:
    """Decide by the means over fresh seeds, which no value of the search is a part of."""
    first, *others = (one for one in confirmation.candidates if one.mean is not None)
    found = f"trial {first.trial}: {clean(summary.metric)} {metric(first.mean)} on average over {len(first.values)}"
    found += f" fresh seeds{_over_seeds(first)}"
    if summary.verdict is not None:
        return Decision(Light.RED, (f"Do not ship {found}; it is {summary.verdict}.",))
    against, is_beaten = against_reference(summary, first.mean, references)
    if is_beaten:
        return Decision(Light.RED, (f"Do not ship {found}; it is {against}.",))
    rivals = [one.trial for one in others if not one.is_out]
    named = f"still in question: trial{'s' if len(rivals) > 1 else ''} {first_few([*map(str, rivals)], _NAMED)}"
    company = named if rivals else "no other confirmed trial is likely to be better"
    if not others:
        company = "no other trial has a mean over fresh seeds"
    elif rivals and first.chance is None:
        company = "how likely another one is better, is told when the run ends"
    compared, is_sure = _against_confirmed_default(summary, confirmation)
    parts = [part for part in (compared, against, f"test: {test}" if test else None, *doubts) if part]
    light = Light.GREEN if is_sure and not doubts else Light.YELLOW
    second = "; ".join(parts)
    return Decision(light, (f"Take {found}; {company}.", f"{second[:1].upper()}{second[1:]}."))


def _over_seeds(candidate: Candidate) -> str:
    if candidate.interval is None:
        return ""
    return f" (95 % over seeds: {between(candidate.interval)})"


def _against_confirmed_default(summary: SweepSummary, confirmation: Confirmation) -> tuple[str, bool]:
    """Compare with the mean of the untuned default; say also whether that makes the choice sure."""
    first, baseline = confirmation.candidates[0], summary.baseline
    if baseline is not None and baseline.trial == first.trial:
        return "that is the untuned default: no tuning was better", False
    untuned = next((one for one in confirmation.candidates if baseline and one.trial == baseline.trial), None)
    if untuned is None or untuned.mean is None or first.mean is None:
        return "no mean of an untuned default to compare with", False
    side = "below" if first.mean < untuned.mean else "above"
    doubt = "" if untuned.is_out else ", which may be chance"
    return f"it is {metric(abs(first.mean - untuned.mean))} {side} the untuned default{doubt}", untuned.is_out


def _open_questions(confirmation: Confirmation) -> list[str]:
    if confirmation.is_complete:
        return []
    done = f"{confirmation.ended} of at most {confirmation.planned} trainings"
    return [f"the confirmation is not complete: {done} (sweep confirm continues it)"]


def _range(standing: Standing | None, take: TrialRecord) -> str:
    interval = standing.intervals.get(take.trial) if standing else None
    return f" (95 % over rows, not over seeds: {between(interval)})" if interval else ""


def between(interval: Interval) -> str:
    """Return an interval's bounds: ``0.2911 to 0.3302``."""
    return f"{metric(interval.low)} to {metric(interval.high)}"


def _company(take: TrialRecord, standing: Standing | None, is_compared: bool) -> str:
    """Say which trials are as good on these rows."""
    if not is_compared:
        return "how sure its rank is, is told when the run ends"
    if standing is None:
        return "how sure its rank is, is not known: no rows are kept of these trials"
    if not standing.tied:
        return f"how sure its rank is, is not known: {standing.why}"
    others = [trial for trial in standing.tied if trial != take.trial]
    if not others:
        return f"no other is as good on these {standing.rows:,} rows"
    named = f"trial{'s' if len(others) > 1 else ''} {first_few([str(trial) for trial in others], _NAMED)}"
    cheap = "of these it is the cheapest" if standing.cheapest == take.trial else f"the cheapest is {standing.cheapest}"
    return f"as good on these {standing.rows:,} rows: {named}; {cheap}"


def _against_default(summary: SweepSummary, take: TrialRecord, standing: Standing | None) -> tuple[str, bool]:
    """Compare with the untuned default; say also whether that makes the choice sure."""
    baseline = summary.baseline
    if baseline is None:
        return "the sweep has no untuned default to compare with", False
    if not ranks(baseline):
        return f"the untuned default (trial {baseline.trial}) does not rank: {baseline.state}", False
    if baseline.trial == take.trial:
        return "that is the untuned default: no tuning was better", False
    assert take.objective is not None
    assert baseline.objective is not None
    side = "below" if take.objective < baseline.objective else "above"
    text = f"it is {metric(abs(take.objective - baseline.objective))} {side} the untuned default"
    lead = standing.leads.get(take.trial) if standing else None
    if lead is None:
        return text, False
    is_sure, doubt = lead.low > 0, "" if lead.low > 0 or lead.high < 0 else ", which may be chance"
    # The interval has the sign of the difference that it stands beside, which is then positive.
    is_better = summary.direction.better(take.objective, baseline.objective)
    around = lead if is_better else dataclasses.replace(lead, low=-lead.high, high=-lead.low)
    return f"{text} (95 %: {between(around)}{doubt})", is_sure
