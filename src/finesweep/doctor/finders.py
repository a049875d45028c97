"""Lists the findings in the order in which they are shown, problems first."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from finesweep.doctor.case import Case, Finding
from finesweep.doctor.row_findings import cut_texts, few_validation_rows, rare_labels, repeated_texts
from finesweep.doctor.space_findings import at_bound, many_diverged, no_effect
from finesweep.doctor.training_findings import (
    costly_trials,
    never_predicted,
    one_answer,
    still_falling,
    worse_than_reference,
)

FINDERS: tuple[Callable[[Case], Iterable[Finding]], ...] = (
    *(worse_than_reference, one_answer, never_predicted, many_diverged, repeated_texts),
    *(at_bound, still_falling, costly_trials, no_effect, few_validation_rows, cut_texts, rare_labels),
)


def findings(case: Case) -> list[Finding]:
    """Return everything that is wrong with a sweep, problems first; an empty list for a sound one."""
    found = [finding for finder in FINDERS for finding in finder(case)]
    return sorted(found, key=lambda finding: finding.weight != "problem")
