"""Defines a finding, and the value that all findings are made from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from finesweep.data import DataFacts
from finesweep.doctor.row_facts import RowFacts
from finesweep.references import Reference
from finesweep.spec import SweepSpec
from finesweep.trial import Direction, TrialRecord, TrialState


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a sweep.

    Attributes:
        name: What it is, in kebab-case.
        text: What was found, on one line, without a full stop.
        evidence: The numbers that show it, on one line.
        cure: YAML that would cure it, on one line: a section of a spec; None if no key of a spec cures it.
        weight: A problem makes the result useless or wrong; an advice may make it better.
    """

    name: str
    text: str
    evidence: str
    cure: str | None = None
    weight: Literal["problem", "advice"] = "advice"

    def line(self) -> str:
        """Return the finding on one line, as the leaderboard shows it."""
        return f"{self.text}: {self.evidence}." + (f" Try `{self.cure}`." if self.cure else "")


@dataclass(frozen=True)
class CutTexts:
    """Number of training texts that the best trial read only in part.

    Attributes:
        cut: Texts that are longer than the limit.
        rows: All training rows.
        max_length: The limit in tokens.
    """

    cut: int
    rows: int
    max_length: int


@dataclass(frozen=True)
class Case:
    """A sweep as the doctor sees it.

    Attributes:
        spec: The sweep's spec.
        data: Facts about its data.
        records: The records of all ended trials.
        ranked: Those that rank: the trial of rank 1, then the others by their value in the search, best first.
        references: Scores of the references.
        tied: Trials that cannot be told from the first on the validation rows; None if that is unknown.
        half_widths: Half the width of the objective's interval over the validation rows, by trial.
        rows: Counts of the rows; None in a folder of an older version.
        cut: Texts that the best trial read in part; None if that is unknown.
        most_tokens: Longest input of the model in tokens.
        same_answer: The winner's answer, if it is the same for all validation rows.
        answered: Validation rows for which the winner gave each label, by label; empty if that is unknown.
        means: Mean over fresh seeds by confirmed trial; empty without a confirmation.
    """

    spec: SweepSpec
    data: DataFacts
    records: Sequence[TrialRecord]
    ranked: Sequence[TrialRecord]
    references: Sequence[Reference] = ()
    tied: tuple[int, ...] | None = None
    half_widths: Mapping[int, float] = field(default_factory=dict)
    rows: RowFacts | None = None
    cut: CutTexts | None = None
    most_tokens: int = 512
    same_answer: str | None = None
    answered: Mapping[str, int] = field(default_factory=dict)
    means: Mapping[int, float] = field(default_factory=dict)

    @property
    def searched(self) -> list[TrialRecord]:
        """The trials that rank, by their value in the search, best first."""
        sign = -1 if self.spec.direction is Direction.MAXIMIZE else 1
        return sorted(self.ranked, key=lambda record: (sign * (record.objective or 0.0), record.trial))

    @property
    def finished(self) -> list[TrialRecord]:
        """The trials that count against the budget."""
        return [record for record in self.records if record.state.finished]

    def of_state(self, state: TrialState) -> list[TrialRecord]:
        """Return the trials of one state."""
        return [record for record in self.records if record.state is state]


def rounded(value: float) -> float:
    """Return a number with three digits."""
    return float(f"{value:.3g}")


def cure(**section: Mapping[str, Any]) -> str:
    """Return one section of a spec as YAML on one line."""
    ((name, value),) = section.items()
    return f"{name}: {_flow(value)}"


def _flow(value: Any) -> str:
    """Return a value in YAML's flow style; JSON is YAML, and bare names read better than quoted ones."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_flow(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    text = json.dumps(value)
    # YAML 1.1 reads 1e-05 as text.
    return text.replace("e", ".0e") if isinstance(value, float) and "e" in text and "." not in text else text
