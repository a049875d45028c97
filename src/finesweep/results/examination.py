"""Gathers from a sweep's folder what the doctor looks at."""

from __future__ import annotations

from collections.abc import Sequence

from finesweep.doctor import Case, CutTexts, RowFacts
from finesweep.files.atomic import read_json
from finesweep.folder import Manifest, SweepFolder
from finesweep.references import Reference
from finesweep.results.ranking import FreshSeeds
from finesweep.results.standing import Standing
from finesweep.results.winner import Evidence
from finesweep.trial import TrialRecord


def case(
    sweep_folder: SweepFolder,
    manifest: Manifest,
    records: Sequence[TrialRecord],
    best_first: Sequence[TrialRecord],
    standing: Standing | None,
    evidence: Evidence | None,
    references: Sequence[Reference],
    fresh: FreshSeeds | None = None,
) -> Case:
    """Return the doctor's view of a sweep.

    Args:
        sweep_folder: The sweep's folder.
        manifest: The sweep's manifest.
        records: The records of all ended trials.
        best_first: Those that rank, by their value in the search, best first.
        standing: How sure the ranks are, None if that is unknown.
        evidence: Evidence of the best trial's export, None without one.
        references: Scores of the references.
        fresh: What the confirmation says, None without one.
    """
    means = fresh.means if fresh is not None else {}
    first = next(iter(means), None)
    # The untuned default is confirmed too, so the board's order does not tell which trials are the next best.
    best_first = sorted(best_first, key=lambda record: record.trial != first)
    intervals = standing.intervals if standing is not None else {}
    return Case(
        spec=manifest.spec,
        data=manifest.data,
        records=records,
        ranked=best_first,
        references=references,
        tied=standing.tied if standing is not None and standing.tied else None,
        half_widths={trial: (one.high - one.low) / 2 for trial, one in intervals.items()},
        rows=RowFacts.read(sweep_folder),
        cut=_cut(sweep_folder, best_first[0]) if best_first else None,
        most_tokens=manifest.model.max_tokens,
        same_answer=evidence.same_answer if evidence else None,
        answered=evidence.answers.by_label if evidence else {},
        means=means,
    )


def _cut(sweep_folder: SweepFolder, best: TrialRecord) -> CutTexts | None:
    """Return how many training texts a trial read in part; None if its tokens are not there."""
    length = best.effective.get("data.max_length")
    counts = read_json(sweep_folder.tokens(length) / "counts.json") if isinstance(length, int) else None
    train = counts.get("train") if isinstance(counts, dict) else None
    if not isinstance(train, dict) or not isinstance(length, int):
        return None
    cut, rows = train.get("cut"), train.get("rows")
    return CutTexts(cut, rows, length) if isinstance(cut, int) and isinstance(rows, int) else None
