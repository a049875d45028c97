"""Reads everything that the faces of a sweep show: leaderboard, terminal and page are made from one value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from finesweep.folder import Manifest, Run, SweepFolder
from finesweep.folder.openings import Opening, openings
from finesweep.results.ranking import Row, SweepSummary, rank, summarize
from finesweep.results.winner import Evidence, read_evidence
from finesweep.text import clean, metric
from finesweep.trial import TrialRecord


@dataclass(frozen=True)
class Board:
    """Everything that a person sees about a sweep.

    Attributes:
        folder: Path of the sweep's folder.
        manifest: The sweep's manifest.
        records: The records of all ended trials.
        runs: Every ``sweep run``, oldest first.
        summary: State of the sweep.
        rows: The ranked trials, best first, then the others.
        evidence: Evidence of the exported winner; None if there is none, or if it is of another trial than the best.
        weights: Path of the best trial's kept weights below ``folder``, None if there are none.
        openings: Each time that the test rows were opened, oldest first.
    """

    folder: Path
    manifest: Manifest
    records: Sequence[TrialRecord]
    runs: Sequence[Run]
    summary: SweepSummary
    rows: Sequence[Row]
    evidence: Evidence | None = None
    weights: Path | None = None
    openings: Sequence[Opening] = ()

    @property
    def ranked(self) -> list[Row]:
        """The rows that rank, best first."""
        return [row for row in self.rows if row.rank]

    @property
    def unranked(self) -> list[Row]:
        """The rows that do not rank."""
        return [row for row in self.rows if not row.rank]


def read_board(
    sweep_folder: SweepFolder,
    manifest: Manifest | None = None,
    records: Sequence[TrialRecord] | None = None,
    runs: Sequence[Run] | None = None,
) -> Board:
    """Read a sweep's board from its folder.

    Args:
        sweep_folder: The sweep's folder.
        manifest: The sweep's manifest, None to read it.
        records: The records of all ended trials, None to read them.
        runs: Every ``sweep run``, oldest first; None to read them.

    Raises:
        FolderError: The folder is no sweep's.
    """
    manifest = sweep_folder.manifest() if manifest is None else manifest
    records = sweep_folder.records() if records is None else records
    runs = sweep_folder.runs() if runs is None else runs
    summary = summarize(manifest, records, runs)
    return Board(
        folder=sweep_folder.path,
        manifest=manifest,
        records=records,
        runs=runs,
        summary=summary,
        rows=rank(records, summary.direction),
        evidence=evidence_of_best(sweep_folder, summary.best),
        weights=_weights_of_best(sweep_folder, summary.best),
        openings=openings(sweep_folder),
    )


def evidence_of_best(sweep_folder: SweepFolder, best: TrialRecord | None) -> Evidence | None:
    """Return the evidence of the exported winner, None if it is of another trial than the best one."""
    evidence = read_evidence(sweep_folder)
    is_best = evidence and best and (evidence.trial, evidence.ranked) == (best.trial, best.objective)
    return evidence if is_best else None


def test_scores(evidence: Evidence | None) -> str | None:
    """Return the winner's scores on the test rows as one line, None if there are none."""
    return f"{scores(evidence.test)} (trial {evidence.trial})" if evidence and evidence.test else None


def scores(values: Mapping[str, float]) -> str:
    """Return scores as one line."""
    return ", ".join(f"{clean(name)} {metric(value)}" for name, value in values.items())


def _weights_of_best(sweep_folder: SweepFolder, best: TrialRecord | None) -> Path | None:
    checkpoint = sweep_folder.checkpoint(best.trial) if best else None
    return checkpoint.relative_to(sweep_folder.path) if checkpoint and checkpoint.is_dir() else None
