"""Reads everything that the faces of a sweep show: leaderboard, terminal and page are made from one value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from finesweep.doctor import Finding, findings
from finesweep.folder import Manifest, Run, SweepFolder
from finesweep.folder.early_end import EarlyEnd, read_early_end
from finesweep.folder.openings import Opening, openings
from finesweep.references import Reference, read_references
from finesweep.results.choice import Choice, choose
from finesweep.results.confirmation import Confirmation, read_confirmation
from finesweep.results.decision import Decision, decide, left_to_search
from finesweep.results.examination import case
from finesweep.results.ranking import Row, SweepSummary, rank, ranked, summarize, winner
from finesweep.results.reference_rows import in_order
from finesweep.results.standing import Standing, read_standing, to_take
from finesweep.results.winner import Evidence, read_evidence
from finesweep.spec import trials_wanted
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
        evidence: Evidence of the exported winner; None if there is none, or if it is of another model than ``choice``.
        weights: Path of the kept weights of ``choice`` below ``folder``, None if there are none.
        standing: How sure the ranks are; None if that was not computed, or if no trial keeps its rows.
        confirmation: The best trials, trained again on fresh seeds; None if they were not.
        choice: The model that becomes the winner: that of ``take``, or of its best fresh seed.
        openings: Each time that the test rows were opened, oldest first.
        references: Scores of models without a transformer on the same rows, best first.
        findings: What the doctor finds, problems first.
        early_end: Why the sweep ends before its budget by ``stop.auto``; None if it does not.
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
    confirmation: Confirmation | None = None
    choice: Choice | None = None
    openings: Sequence[Opening] = ()
    references: Sequence[Reference] = ()
    findings: Sequence[Finding] = ()
    early_end: EarlyEnd | None = None

    @property
    def headline(self) -> str:
        """The result on one line; a confirmation's trials have other numbers than those of its sweep."""
        if not self.manifest.repeats:
            return self.summary.headline()
        return f"confirmation of {clean(self.folder.parent.name)}, its trainings on fresh seeds"

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
    if manifest.repeats:
        return _of_confirmation(sweep_folder, manifest, records, runs)
    return _of_search(sweep_folder, manifest, records, runs, compare)


def _of_search(
    sweep_folder: SweepFolder,
    manifest: Manifest,
    records: Sequence[TrialRecord],
    runs: Sequence[Run],
    compare: bool,
) -> Board:
    confirmation = read_confirmation(sweep_folder, records, compare=compare)
    fresh = None if confirmation is None else confirmation.fresh
    summary, ranks = summarize(manifest, records, runs, fresh), ranked(records, manifest.spec.direction)
    standing = read_standing(sweep_folder, manifest, ranks, summary.baseline) if compare else None
    take = summary.best
    if fresh is None and runs and runs[-1].prefer == "cheapest-tied":
        take = to_take(sweep_folder, take, ranks, standing)
    choice = choose(sweep_folder, take, confirmation)
    evidence = evidence_of(sweep_folder, choice)
    test = scores(evidence.test) if evidence and evidence.test else None
    references = in_order(read_references(sweep_folder), summary)
    found = findings(case(sweep_folder, manifest, records, ranks, standing, evidence, references, fresh))
    doubts = _doubts(runs, confirmation)
    decision = decide(summary, take, standing, references, found, test, doubts, confirmation, is_compared=compare)
    return Board(
        folder=sweep_folder.path,
        manifest=manifest,
        records=records,
        runs=runs,
        summary=summary,
        rows=rank(records, summary.direction, [] if fresh is None else list(fresh.means)),
        decision=decision,
        take=take,
        evidence=evidence,
        weights=_weights_of(sweep_folder, choice),
        standing=standing,
        confirmation=confirmation,
        choice=choice,
        openings=openings(sweep_folder),
        references=references,
        findings=found,
        early_end=early_end_of(sweep_folder, manifest, records, runs),
    )


def early_end_of(
    sweep_folder: SweepFolder, manifest: Manifest, records: Sequence[TrialRecord], runs: Sequence[Run]
) -> EarlyEnd | None:
    """Return why the last run ends before its budget by ``stop.auto``, None if it does not."""
    if not runs:
        return None
    wanted = trials_wanted(manifest.spec_for(runs[-1]), manifest.planned)
    finished = sum(record.state.finished and record.trial < wanted for record in records)
    is_whole = finished >= wanted  # it went on without the rule
    return None if is_whole else read_early_end(sweep_folder, runs[-1].stop, wanted)


def _doubts(runs: Sequence[Run], confirmation: Confirmation | None) -> Sequence[str]:
    """Say that the spec's confirmation has not begun."""
    is_to_come = confirmation is None and runs and runs[-1].confirm is not None
    return ["it is not confirmed on fresh seeds yet (sweep confirm does that)"] if is_to_come else []


def _of_confirmation(
    sweep_folder: SweepFolder, manifest: Manifest, records: Sequence[TrialRecord], runs: Sequence[Run]
) -> Board:
    """Return the board of a confirmation: its trainings, best first. What follows from them is on that of its sweep."""
    summary = summarize(manifest, records, runs)
    ended = sum(record.state.finished for record in records)
    return Board(
        folder=sweep_folder.path,
        manifest=manifest,
        records=records,
        runs=runs,
        summary=summary,
        rows=rank(records, summary.direction),
        decision=left_to_search(sweep_folder.path.parent.name, ended, len(manifest.planned)),
    )


def chosen(
    sweep_folder: SweepFolder,
    manifest: Manifest,
    records: Sequence[TrialRecord],
    prefer: str,
    confirmation: Confirmation | None,
) -> Choice | None:
    """Return the model that becomes the winner, None if no trial ranks.

    Args:
        sweep_folder: The sweep's folder.
        manifest: The sweep's manifest.
        records: The records of all ended trials.
        prefer: ``best``, or ``cheapest-tied``, which compares the trials; see ``SweepSpec.prefer``.
        confirmation: The sweep's confirmation, None if it has none.
    """
    best = winner(records, manifest.spec.direction)
    if prefer != "best" and (confirmation is None or confirmation.best is None):
        ranks = ranked(records, manifest.spec.direction)
        best = to_take(sweep_folder, best, ranks, read_standing(sweep_folder, manifest, ranks, None))
    return choose(sweep_folder, best, confirmation)


def evidence_of(sweep_folder: SweepFolder, choice: Choice | None) -> Evidence | None:
    """Return the evidence of the exported winner, None if it is of another model than this one."""
    evidence = read_evidence(sweep_folder)
    return evidence if evidence and choice and evidence.is_about(choice) else None


def test_scores(evidence: Evidence | None) -> str | None:
    """Return the winner's scores on the test rows as one line, None if there are none."""
    return f"{scores(evidence.test)} (trial {evidence.trial})" if evidence and evidence.test else None


def scores(values: Mapping[str, float]) -> str:
    """Return scores as one line."""
    return ", ".join(f"{clean(name)} {metric(value)}" for name, value in values.items())


def _weights_of(sweep_folder: SweepFolder, choice: Choice | None) -> Path | None:
    checkpoint = choice.folder.checkpoint(choice.record.trial) if choice else None
    return checkpoint.relative_to(sweep_folder.path) if checkpoint and checkpoint.is_dir() else None
