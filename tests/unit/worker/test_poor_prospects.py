"""How a worker ends a sweep of which little is expected, and how all others then end it too."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_records
import numpy as np
import pytest
from made_records import INTERRUPTED, WAITING, record
from rich.console import Console

from finesweep.folder import Repeat, RowScores, SweepFolder, claims, next_attempt
from finesweep.folder.claims import LEASE_SECONDS, RENEW_SECONDS
from finesweep.folder.early_end import EarlyEnd, read_early_end, write_early_end
from finesweep.folder.sweep_folder import make_folders
from finesweep.launch.profile import Profile, SettledProfile
from finesweep.pruning.prospects import Prospects
from finesweep.report.page import page
from finesweep.results import leaderboard
from finesweep.results.board import read_board
from finesweep.spec import BudgetSpec, StopSpec
from finesweep.sweep.begin_run import Terms, begin_run
from finesweep.sweep.open_sweep import OpenSweep
from finesweep.trial import TrialRecord, TrialState
from finesweep.worker import poor_prospects
from finesweep.worker.poor_prospects import PoorProspects

POOR = Prospects(begun=12, left=18, best=0.4, since=6, gain=0.0004, seeds=0.008, sure=0.7)
RECORDS = [record(trial, 0.5 - 0.001 * trial) for trial in range(12)]


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    return make_folders(tmp_path / "sst2")


def rule(folder: SweepFolder, auto: Any = True, repeats: tuple[Repeat, ...] = ()) -> PoorProspects:
    manifest = dataclasses.replace(made_records.manifest(), repeats=repeats)
    spec = manifest.spec.model_copy(update={"stop": StopSpec(auto=auto)})
    return PoorProspects(folder, manifest, spec, 30)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Answers that prospects are poor from 12 trials on; returns how many trials were known each time."""
    counts: list[int] = []

    def prospects(records: list[TrialRecord], *_: Any) -> Prospects:
        counts.append(len(records))
        return POOR if len(records) >= 12 else dataclasses.replace(POOR, gain=0.1)

    monkeypatch.setattr(poor_prospects, "prospects", prospects)
    return counts


def test_the_end_is_written_and_then_holds_for_all_workers(folder: SweepFolder, asked: list[int]) -> None:
    assert not rule(folder).end(RECORDS[:11])
    assert read_early_end(folder, StopSpec(auto=True), 30) is None
    assert rule(folder).end(RECORDS)
    assert asked == [11, 12]
    assert rule(folder).end(RECORDS[:3]), "another worker, which has not read all records yet"
    assert asked == [11, 12]


def test_trials_that_run_are_not_left(folder: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr(poor_prospects, "prospects", lambda *asked: left.append(asked[3]))
    for one in RECORDS[:10]:
        folder.record(one)
    assert next_attempt.claim(folder, 1, range(10, 30)) is not None
    rule(folder).end(RECORDS[:10])
    assert left == [19]


def test_trials_above_the_budget_count_as_knowledge_only(folder: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that has joined with a larger budget trains them."""
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(poor_prospects, "prospects", lambda *given: asked.append((len(given[0]), given[3])))
    assert next_attempt.claim(folder, 2, [36]) is not None
    rule(folder).end([*RECORDS, record(35, 0.5)])
    assert asked == [(13, 18)]


def test_without_news_nothing_is_computed_again(folder: SweepFolder, asked: list[int]) -> None:
    made = rule(folder)
    for count in (10, 10, 11, 11):
        made.end(RECORDS[:count])
    assert asked == [10, 11]
    made.end([*RECORDS[:10], dataclasses.replace(RECORDS[10], attempt=2)])
    assert asked == [10, 11, 11]


def test_of_a_large_sweep_no_validation_rows_are_read(folder: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    monkeypatch.setattr(SweepFolder, "read_row_scores", lambda _, one: read.append(one.trial))
    many = [record(trial, 0.5) for trial in range(150)]
    for count in (133, 134, 150):
        made = rule(folder)
        made.wanted = 1_000
        assert not made.end(many[:count])
        assert bool(read) is (count == 133)
        read.clear()


def break_off(folder: SweepFolder, trial: int, state: TrialState | None) -> None:
    lease = next_attempt.claim(folder, 1, [trial])
    assert lease is not None
    if state is not None:
        folder.record(record(trial, 0.5, state))
    lease.release()


@pytest.mark.parametrize("state", [INTERRUPTED, None], ids=["stopped, or its weights are damaged", "killed"])
def test_a_trial_that_was_broken_off_is_finished(
    folder: SweepFolder, asked: list[int], state: TrialState | None
) -> None:
    assert rule(folder).only() is None
    break_off(folder, 3, state)
    assert not rule(folder).end(RECORDS)
    assert read_early_end(folder, StopSpec(auto=True), 30) is not None
    assert not rule(folder).end(RECORDS)
    assert rule(folder).only() == [3]
    assert rule(folder, auto=False).only() is None
    folder.record(record(3, 0.5, attempt=2))
    assert rule(folder).end(RECORDS)
    assert rule(folder).only() == []


@pytest.fixture(params=["here", "elsewhere"])
def running(folder: SweepFolder, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> next_attempt.Lease:
    """The claim on trial 12, which a joined run has begun, on this machine or on another one."""
    with monkeypatch.context() as there:
        if request.param == "elsewhere":
            there.setattr(claims, "_here", lambda: ("elsewhere", "another boot"))
        lease = next_attempt.claim(folder, 2, [12])
    assert lease is not None
    return lease


@pytest.mark.parametrize(("state", "audit"), [(TrialState.COMPLETE, None), (WAITING, None), (WAITING, "weak")])
def test_the_sweep_is_over_once_no_trial_runs(
    folder: SweepFolder, asked: list[int], running: next_attempt.Lease, state: TrialState, audit: str | None
) -> None:
    """Otherwise the winner would be exported, and the test rows opened, while a trial trains."""
    assert not rule(folder).end(RECORDS)
    fresh = SweepFolder(folder.path)
    assert rule(fresh).only() == [12]
    assert not rule(fresh).end(RECORDS)
    assert begun(fresh, auto=True).has_work()
    assert begun(fresh, auto=True).nothing_left() is None
    folder.record(record(12, 0.5, state, audit=audit))
    is_over = audit is None
    assert rule(fresh).end(RECORDS) is is_over
    assert begun(fresh, auto=True).has_work() is not is_over
    assert (begun(fresh, auto=True).nothing_left() is not None) is is_over


def test_a_trial_whose_machine_is_gone_is_finished(
    folder: SweepFolder, asked: list[int], monkeypatch: pytest.MonkeyPatch, clock: Callable[[float], None]
) -> None:
    with monkeypatch.context() as there:
        there.setattr(claims, "_here", lambda: ("elsewhere", "another boot"))
        break_off(folder, 12, None)
    rule(folder).end(RECORDS)
    later = SweepFolder(folder.path)
    made = rule(later)
    looks = 0
    while (lease := next_attempt.claim(later, 2, made.only() or ())) is None:
        assert not made.end(RECORDS)
        assert begun(later, auto=True).nothing_left() is None
        clock(RENEW_SECONDS)
        looks += 1
        assert looks * RENEW_SECONDS <= LEASE_SECONDS
    assert (lease.claim.trial, lease.claim.attempt) == (12, 2)
    assert not made.end(RECORDS), "now it runs here"
    later.record(record(12, 0.5, attempt=2))
    assert made.end(RECORDS)


@pytest.mark.parametrize(("sampler", "ends"), [("gp", False), ("grid", True)])
def test_configurations_that_the_user_asked_for_are_tried_first(
    folder: SweepFolder, asked: list[int], sampler: str, ends: bool
) -> None:
    made = rule(folder)
    search = made.spec.search.model_copy(update={"sampler": sampler})
    made.spec = made.spec.model_copy(update={"search": search})
    made.manifest = dataclasses.replace(made.manifest, planned=[one.params for one in RECORDS] + [{}])
    assert made.end(RECORDS) is ends
    folder.record(record(12, 0.5))
    assert made.end([*RECORDS, record(12, 0.5)])


def test_the_validation_rows_of_the_best_trials_tell_the_seed_noise(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []
    monkeypatch.setattr(poor_prospects, "prospects", lambda *given: told.append(given[-1]))
    rng, labels = np.random.default_rng(0), np.zeros(400)
    for one in RECORDS:
        rows = one.objective + 0.2 * rng.standard_normal(400)
        # The rows of trial 9 are others: its worker read another file.
        scores = RowScores.of(one.trial, 1, {"eval_loss": rows}, labels + (one.trial == 9))
        folder.record(one, scores if one.trial > 3 else None)
    for known in (RECORDS, RECORDS[:3], [record(12, 0.1), *RECORDS]):
        rule(folder).end(known)
    assert told == [pytest.approx(0.01, rel=0.2), 0.0, 0.0]


@pytest.mark.parametrize("auto", [False, "auto"])
def test_a_rule_that_is_off_ends_nothing(folder: SweepFolder, asked: list[int], auto: Any) -> None:
    rule(folder).end(RECORDS)
    assert not rule(folder, auto).end(RECORDS)


def test_a_confirmation_is_not_ended(folder: SweepFolder, asked: list[int]) -> None:
    assert not rule(folder, repeats=(Repeat(0, 1),)).end(RECORDS)
    assert asked == []


def begun(folder: SweepFolder, auto: bool, trials: int = 30) -> OpenSweep:
    run = made_records.run(budget=BudgetSpec(trials=trials), stop=StopSpec(auto=auto), ended=None)
    manifest, profile = made_records.manifest(), SettledProfile(Profile(), 1, 0, 1, 1)
    return OpenSweep(folder, manifest, manifest.spec_for(run), profile, run)


END = EarlyEnd(begun=12, left=18, wanted=30, best=0.4, gain=0.0004, seeds=0.008)
WHY = "after 12 of 30 trials: the other 18 were expected to gain 0.1 %, the seed noise is an estimated 2 %"


def test_the_command_has_no_work_left_and_says_why(folder: SweepFolder) -> None:
    for one in RECORDS:
        folder.record(one)
    assert begun(folder, auto=True).has_work()
    write_early_end(folder, END)
    ended = begun(folder, auto=True)
    assert not ended.has_work()
    assert WHY in (ended.nothing_left() or "")
    assert "to continue: --set stop.auto=false" in (ended.nothing_left() or "")


def test_the_command_finishes_the_trials_that_were_broken_off(folder: SweepFolder) -> None:
    write_early_end(folder, END)
    break_off(folder, 0, INTERRUPTED)
    assert begun(folder, auto=True).has_work()
    assert begun(folder, auto=True).nothing_left() is None
    folder.record(record(0, 0.5, attempt=2))
    assert not begun(folder, auto=True).has_work()


@pytest.mark.torch
@pytest.mark.parametrize("auto", [True, False])
def test_after_a_run_without_the_rule_the_folder_is_judged_anew(folder: SweepFolder, auto: bool) -> None:
    """The old reason would speak of fewer trials than there are."""
    write_early_end(folder, END)
    made = begun(folder, auto)
    begin_run(folder, made.manifest, Terms(made.spec, made.profile, "model", trusts_code=False))
    assert begun(folder, auto=True).has_work() is not auto


def test_the_same_folder_goes_on_without_the_rule_or_with_a_larger_budget(folder: SweepFolder) -> None:
    for one in RECORDS:
        folder.record(one)
    write_early_end(folder, END)
    for sweep in (begun(folder, auto=False), begun(folder, auto=True, trials=40)):
        assert sweep.has_work()
        assert sweep.nothing_left() is None


@pytest.mark.parametrize("auto", [True, False])
def test_time_left_knows_that_no_trial_begins(folder: SweepFolder, auto: bool) -> None:
    assert not begun(folder, auto).begins_no_more()
    write_early_end(folder, END)
    assert begun(folder, auto).begins_no_more() is auto


def test_the_command_says_nothing_of_an_end_when_all_trials_have_finished(folder: SweepFolder) -> None:
    write_early_end(folder, dataclasses.replace(END, wanted=12, left=1))
    for one in RECORDS:
        folder.record(one)
    assert begun(folder, auto=True, trials=12).ends_early() is None


@pytest.mark.parametrize("auto", [True, False])
def test_every_face_of_the_board_says_it(folder: SweepFolder, auto: bool) -> None:
    for one in RECORDS:
        folder.record(one)
    write_early_end(folder, END)
    board = read_board(folder, made_records.manifest(), RECORDS, [begun(folder, auto).run], compare=False)
    console = Console(width=400, record=True, file=io.StringIO())
    console.print(leaderboard.console_table(board))
    faces = [leaderboard.to_markdown(board), console.export_text(), page(board)]
    assert [WHY in face for face in faces] == [auto] * 3


def test_a_board_whose_trials_have_all_finished_says_nothing_of_an_end(folder: SweepFolder) -> None:
    write_early_end(folder, dataclasses.replace(END, wanted=12, left=1))
    run = begun(folder, auto=True, trials=12).run
    assert read_board(folder, made_records.manifest(), RECORDS, [run], compare=False).early_end is None
    assert read_board(folder, made_records.manifest(), RECORDS[:11], [run], compare=False).early_end is not None
    joined = [*RECORDS[:11], record(12, 0.5)]  # one of them was trained by a run with a larger budget
    assert read_board(folder, made_records.manifest(), joined, [run], compare=False).early_end is not None
