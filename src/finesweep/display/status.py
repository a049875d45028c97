"""Writes the lines of ``sweep status``: the state of a sweep, read from its folder alone."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from finesweep.errors import SweepError, printable
from finesweep.folder import Holder, Manifest, Run, SweepFolder, next_attempt, sweep_lock
from finesweep.launch import Profile
from finesweep.launch.submitted_runs import submitted_runs
from finesweep.results import board, ranking
from finesweep.results.choice import Choice
from finesweep.results.confirmation import Confirmation
from finesweep.spec import trials_wanted
from finesweep.text import first_few, metric
from finesweep.trial import Progress, TrialRecord, TrialState

LONGEST_LINE = 1_000
"""Maximum length of a line in characters."""

_MEANS = 4
"""Means over fresh seeds that are named."""


def status_lines(path: Path, given: Profile | None = None) -> Iterator[str]:
    """Yield the lines that describe a sweep's state.

    Args:
        path: The sweep's folder.
        given: The profile that names the cluster of its jobs; None if the environment does.

    Raises:
        FolderError: The folder is no sweep's.
    """
    # Names, owners and reasons come from files that other users may have written.
    return (printable(line, LONGEST_LINE) for line in _lines(path, given))


def _lines(path: Path, given: Profile | None) -> Iterator[str]:
    folder = SweepFolder(path)
    manifest = folder.manifest()
    records, runs = folder.records(), folder.runs()
    owner, jobs = sweep_lock.owner(path), list(_job_lines(folder, given))
    again = folder.confirmation if folder.confirmation.spec_file.is_file() else None
    alive, confirming = _alive(folder), _alive(again) if again is not None else set()
    counts = Counter(record.state for record in ranking.without_running(records, alive))
    finished = sum(count for state, count in counts.items() if state.finished)
    hours = runs[-1].budget.hours if runs else None
    wanted = trials_wanted(manifest.spec_for(runs[-1]), manifest.planned) if runs else "?"
    by = owner or ("on a cluster" if (alive or confirming) and jobs else None)
    yield f"{manifest.name}: {f'running ({by})' if by else 'waiting for a cluster' if jobs else 'not running'}"
    yield f"  trials   {finished} of {wanted} finished" + "".join(
        f", {count} {state}" for state, count in sorted((counts + Counter({TrialState.RUNNING: len(alive)})).items())
    )
    yield f"  hours    {folder.hours_used():.2f}" + (f" of {hours:g}" if hours else "")
    # Comparing the trials takes a second, and what is found changes with each trial that ends.
    seen = board.read_board(folder, manifest, records, runs, compare=not (by or jobs))
    if seen.choice is not None:
        yield f"  best     {_best(seen.choice, manifest.spec.objective.metric)}"
        yield f"  decision {seen.decision.text}"
    if (confirmed := seen.confirmation) is not None:
        yield f"  confirm  {_confirmed(confirmed, len(confirming))}"
    if seen.early_end is not None and (by or jobs):
        yield f"  ending   {seen.early_end.why}"
    if tested := board.test_scores(seen.evidence):
        yield f"  test     {tested}"
    yield from jobs
    yield from _trial_lines(folder)
    if again is not None:
        yield from _trial_lines(again, again.manifest())
    if not owner and not jobs and runs:
        yield f"  ended    {runs[-1].outcome or _unsaid(runs[-1])}"
    for note in (*folder.notes, *set_aside_lines(folder)):
        yield f"  note     {note}"


def _alive(folder: SweepFolder) -> set[int]:
    """Return the trials that run."""
    claimed = (trial for trial, _ in next_attempt.open_claims(folder))
    return {trial for trial in claimed if next_attempt.is_alive(folder, trial)}


def _confirmed(confirmation: Confirmation, running: int) -> str:
    text = f"{confirmation.ended} of at most {confirmation.planned} trainings have ended"
    text += f", {running} RUNNING" if running else ""
    means = [f"trial {one.trial} {metric(one.mean)}" for one in confirmation.candidates if one.mean is not None]
    return f"{text}; means so far: {first_few(means, _MEANS)}" if means and not confirmation.is_complete else text


def _best(choice: Choice, objective: str) -> str:
    if choice.candidate is None:
        return f"trial {choice.trial}, {objective} {metric(choice.record.objective)}"
    over = f"on average over {len(choice.candidate.values)} fresh seeds"
    return f"trial {choice.trial}, {objective} {metric(choice.candidate.mean)} {over}"


def _unsaid(run: Run) -> str:
    """Describe a run that has ended without an outcome."""
    if run.watched:
        return "killed; the same `sweep run` continues from here"
    return "never submitted, or its jobs are gone; the same `sweep submit` continues from here"


def _job_lines(folder: SweepFolder, given: Profile | None) -> Iterator[str]:
    """Yield a line for each cluster job of this sweep, with the cluster's own state."""
    for part, run, submitter in submitted_runs(folder):
        of = "" if part == folder else " of the confirmation"
        try:
            jobs = submitter.jobs(part, run, given)
        except SweepError as error:
            yield f"  jobs     of run {run.number}{of}: {str(error).partition(chr(10))[0]}"
            continue
        for job in jobs:
            yield f"  job      {job.id}, {job.role}{of}: {job.state}" + (f" ({job.detail})" if job.detail else "")


def _trial_lines(folder: SweepFolder, confirmation: Manifest | None = None) -> Iterator[str]:
    """Yield a line for each claimed trial without a final record: it runs, or waits for another attempt.

    Args:
        folder: The folder, of a sweep or of its confirmation.
        confirmation: The confirmation's manifest, None for a sweep.
    """
    progress = {one.trial: one for one in folder.progress()}
    for holder in next_attempt.holders(folder):
        trial, attempt = holder.claim.trial, holder.claim.attempt
        name = f"trial {trial}" if confirmation is None else _repeated(confirmation, trial)
        if next_attempt.is_alive(folder, trial):
            yield _running_line(name, holder, progress.get(trial))
        else:
            record = folder.read_record(trial)
            has_state = bool(folder.states_of(trial))
            yield _waiting_line(name, attempt, record if record and record.attempt == attempt else None, has_state)


def _repeated(confirmation: Manifest, trial: int) -> str:
    """Return which trial of the search a training of the confirmation repeats; a folder may claim unplanned ones."""
    if trial >= len(confirmation.repeats):
        return f"training {trial} of the confirmation"
    repeat = confirmation.repeats[trial]
    return f"trial {repeat.trial} again, with seed {repeat.seed}"


def _waiting_line(name: str, attempt: int, record: TrialRecord | None, has_state: bool) -> str:
    """Describe why a trial does not run: it waits at a rung, or for another attempt."""
    if record is None or record.state is not TrialState.WAITING:
        return f"  retry    {name}, attempt {attempt + 1}: {record.reason if record else 'its worker is gone'}"
    value = f", {metric(record.objective)}" if record.objective is not None else ""
    turn = "to be finished for the audit" if record.audit is not None else "for its turn"
    then = "" if has_state else ", and is then trained again from its first step"
    return f"  waiting  {name}{value} at {record.examples:,} examples, {turn}{then}"


def _running_line(name: str, holder: Holder, progress: Progress | None) -> str:
    where = f"on {holder.host} (worker {holder.pid})"
    if progress is None or progress.attempt != holder.claim.attempt:
        return f"  running  {name}, starting, {where}"
    loss = f", loss {metric(progress.loss)}" if progress.loss is not None else ""
    minutes = (time.time() - progress.started) / 60
    done = f"step {progress.step} of {progress.total_steps}{loss}, {minutes:.1f} min"
    return f"  running  {name}, {done}, {where}"


def set_aside_lines(folder: SweepFolder) -> Iterator[str]:
    """Yield a line for each damaged file that was set aside."""
    for name in folder.set_aside():
        yield f"{name} was damaged and set aside; nothing reads it, and it may be deleted"
