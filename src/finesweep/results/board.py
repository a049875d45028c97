"""Reads everything that the faces of a sweep show: leaderboard, terminal and page are made from one value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from finesweep.doctor import Finding, findings
from finesweep.folder import Manifest, Run, SweepFolder
from finesweep.folder.openings import Opening, openings
from finesweep.references import Reference, read_references
from finesweep.results.decision import Decision, decide
from finesweep.results.examination import case
from finesweep.results.ranking import Row, SweepSummary, rank, ranked, summarize, winner
from finesweep.results.reference_rows import in_order
from finesweep.results.standing import Standing, read_standing, to_take
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
        decision: What to take, and how sure that is.
        take: The trial that becomes the winner: rank 1, or what the spec prefers; None if no trial ranks.
        evidence: Evidence of the exported winner; None if there is none, or if it is of another trial than ``take``.
        weights: Path of the kept weights of ``take`` below ``folder``, None if there are none.
        standing: How sure the ranks are; None if that was not computed, or if no trial keeps its rows.
        openings: Each time that the test rows were opened, oldest first.
        references: Scores of models without a transformer on the same rows, best first.
        findings: What the doctor finds, problems first.
    """

    folder: Path
    manifest: Manifest
    records: Sequence[TrialRecord]
    runs: Sequence[Run]
    summary: SweepSummary
    rows: Sequence[Row]
    decision: Decision
    take: TrialRecord | None = None
    evidence: Evidence | None = None
    weights: Path | None = None
    standing: Standing | None = None
    openings: Sequence[Opening] = ()
    references: Sequence[Reference] = ()
    findings: Sequence[Finding] = ()

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
    *,
    compare: bool = True,
) -> Board:
    """Read a sweep's board from its folder.

    Args:
        sweep_folder: The sweep's folder.
        manifest: The sweep's manifest, None to read it.
        records: The records of all ended trials, None to read them.
        runs: Every ``sweep run``, oldest first; None to read them.
        compare: Whether to compute how sure the ranks are, which takes a second and loads numpy and scipy.

    Raises:
        FolderError: The folder is no sweep's.
    """
    manifest = sweep_folder.manifest() if manifest is None else manifest
    records = sweep_folder.records() if records is None else records
    runs = sweep_folder.runs() if runs is None else runs
    summary, ranks = summarize(manifest, records, runs), ranked(records, manifest.spec.direction)
    standing = read_standing(sweep_folder, manifest, ranks, summary.baseline) if compare else None
    take = summary.best
    if runs and runs[-1].prefer == "cheapest-tied":
        take = to_take(sweep_folder, take, ranks, standing)
    evidence = evidence_of(sweep_folder, take)
    references = in_order(read_references(sweep_folder), summary)
    found = findings(case(sweep_folder, manifest, records, ranks, standing, evidence, references))
    return Board(
        folder=sweep_folder.path,
        manifest=manifest,
        records=records,
        runs=runs,
        summary=summary,
        rows=rank(records, summary.direction),
        decision=decide(summary, take, standing, references, found, scores(evidence.test) if evidence else None),
        take=take,
        evidence=evidence,
        weights=_weights_of(sweep_folder, take),
        standing=standing,
        openings=openings(sweep_folder),
        references=references,
        findings=found,
    )


def chosen(
    sweep_folder: SweepFolder, manifest: Manifest, records: Sequence[TrialRecord], prefer: str
) -> TrialRecord | None:
    """Return the trial that becomes the winner, None if none ranks.

    Args:
        sweep_folder: The sweep's folder.
        manifest: The sweep's manifest.
        records: The records of all ended trials.
        prefer: ``best``, or ``cheapest-tied``, which compares the trials; see ``SweepSpec.prefer``.
    """
    best = winner(records, manifest.spec.direction)
    if prefer == "best":
        return best
    ranks = ranked(records, manifest.spec.direction)
    return to_take(sweep_folder, best, ranks, read_standing(sweep_folder, manifest, ranks, None))


def evidence_of(sweep_folder: SweepFolder, record: TrialRecord | None) -> Evidence | None:
    """Return the evidence of the exported winner, None if it is of another trial than this one."""
    evidence = read_evidence(sweep_folder)
    is_same = evidence and record and (evidence.trial, evidence.ranked) == (record.trial, record.objective)
    return evidence if is_same else None


def test_scores(evidence: Evidence | None) -> str | None:
    """Return the winner's scores on the test rows as one line, None if there are none."""
    return f"{scores(evidence.test)} (trial {evidence.trial})" if evidence and evidence.test else None


def scores(values: Mapping[str, float]) -> str:
    """Return scores as one line."""
    return ", ".join(f"{clean(name)} {metric(value)}" for name, value in values.items())


def _weights_of(sweep_folder: SweepFolder, record: TrialRecord | None) -> Path | None:
    checkpoint = sweep_folder.checkpoint(record.trial) if record else None
    return checkpoint.relative_to(sweep_folder.path) if checkpoint and checkpoint.is_dir() else None
