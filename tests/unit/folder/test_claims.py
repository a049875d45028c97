"""Claims: one holder at a time, found dead at once, and whoever comes too late writes nothing."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finesweep.errors import FolderError
from finesweep.folder import claims, next_attempt
from finesweep.folder.claims import LEASE_SECONDS, Claim, Claims
from finesweep.folder.sweep_folder import SweepFolder, make_folders
from finesweep.trial import AttemptOutdated, Progress, TrialRecord, TrialState

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    return make_folders(tmp_path / "demo")


def record(trial: int, attempt: int = 1, state: TrialState = TrialState.COMPLETE, **fields: Any) -> TrialRecord:
    return TrialRecord(trial, attempt, state, {"learning_rate": 2e-5}, 1.0, 1.0, "log", "here", **fields)


def in_another_process(body: Callable[[], None]) -> int:
    """Run a body in a fork that then dies without cleaning up, and return its pid."""

    def die() -> None:
        body()
        os.kill(os.getpid(), signal.SIGKILL)

    process = FORK.Process(target=die)
    process.start()
    process.join()
    return process.pid or 0


def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on this process takes itself for another machine."""
    monkeypatch.setattr(claims, "_here", lambda: ("elsewhere", "another boot"))


def test_the_lowest_free_number_is_claimed(folder: SweepFolder) -> None:
    folder.record(record(1))
    leases = [next_attempt.claim(folder, run=1, trials=range(4)) for _ in range(4)]
    assert [(one.claim.trial, one.claim.attempt) if one else None for one in leases] == [(0, 1), (2, 1), (3, 1), None]


@pytest.mark.parametrize("state", [state for state in TrialState if state.finished])
def test_a_finished_trial_is_never_claimed_again(folder: SweepFolder, state: TrialState) -> None:
    folder.record(record(0, state=state))
    assert next_attempt.claim(folder, run=9, trials=range(1)) is None


def test_a_released_claim_without_a_result_is_free_again(folder: SweepFolder) -> None:
    first = next_attempt.claim(folder, run=1, trials=range(1))
    assert first is not None
    assert next_attempt.claim(folder, run=1, trials=range(1)) is None
    first.release()
    second = next_attempt.claim(folder, run=1, trials=range(1))
    assert second is not None
    assert second.claim.attempt == 2


def test_a_fork_keeps_its_claim_alive_and_release_ends_it_for_the_fork_too(folder: SweepFolder) -> None:
    lease = next_attempt.claim(folder, run=1, trials=range(1))
    assert lease is not None
    process = FORK.Process(target=time.sleep, args=(60,))
    process.start()
    try:
        assert next_attempt.is_alive(folder, 0)
        lease.release()
        assert not next_attempt.is_alive(folder, 0)
    finally:
        process.kill()
        process.join()


def test_a_killed_holders_claim_is_dead_at_once_as_long_as_nobody_inherited_it(folder: SweepFolder) -> None:
    in_another_process(lambda: next_attempt.claim(folder, run=1, trials=range(1)) and None)
    assert not next_attempt.is_alive(folder, 0)


def test_a_worker_that_died_in_this_run_is_a_fault_and_one_of_a_run_before_is_none(folder: SweepFolder) -> None:
    pid = in_another_process(lambda: [next_attempt.claim(folder, run=1, trials=range(2)) for _ in range(2)] and None)
    in_this_run = next_attempt.claim(folder, run=1, trials=range(1))
    assert in_this_run is not None
    assert in_this_run.claim.faults == (f"its worker on {os.uname().nodename} (pid {pid}) died",)
    later = next_attempt.claim(folder, run=2, trials=range(2))
    assert later is not None
    assert later.claim == Claim(1, 2, 2)


def test_faults_add_up_over_attempts_that_left_no_record(folder: SweepFolder) -> None:
    for _ in range(3):
        in_another_process(lambda: next_attempt.claim(folder, run=1, trials=range(1)) and None)
    lease = next_attempt.claim(folder, run=1, trials=range(1))
    assert lease is not None
    assert lease.claim.attempt == 4
    assert len(lease.claim.faults) == 3


def test_the_next_attempt_knows_what_the_record_of_the_last_one_says(folder: SweepFolder) -> None:
    lease = next_attempt.claim(folder, run=1, trials=range(1))
    assert lease is not None
    folder.record(record(0, state=TrialState.INTERRUPTED, faults=("killed",), batch_divisor=2))
    lease.release()
    again = next_attempt.claim(folder, run=1, trials=range(1))
    assert again is not None
    assert again.claim == Claim(0, 2, 1, ("killed",), 2)


def test_an_outdated_attempt_writes_neither_record_nor_progress_nor_weights(folder: SweepFolder) -> None:
    from finesweep.results.kept_weights import publish

    first = next_attempt.claim(folder, run=1, trials=range(1))
    assert first is not None
    first.release()
    second = next_attempt.claim(folder, run=1, trials=range(1))
    assert second is not None
    building = folder.path / "checkpoints" / ".new"
    building.mkdir()
    with pytest.raises(AttemptOutdated, match="attempt 1 was given up"):
        folder.record(record(0, attempt=1))
    with pytest.raises(AttemptOutdated, match="attempt 1 was given up"):
        folder.write_progress(Progress(0, 1, {}, 1.0))
    with pytest.raises(AttemptOutdated, match="attempt 1 was given up"):
        publish(folder, 0, 1, building, folder.checkpoint(0))
    assert folder.records() == []
    assert folder.progress() == []
    assert not folder.checkpoint(0).exists()
    assert not list((folder.path / "trials").iterdir()), "no temporary file either"
    folder.record(record(0, attempt=2))
    assert folder.records()[0].attempt == 2


def test_elsewhere_a_claim_lives_as_long_as_its_beat_moves(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch, clock: Callable[[float], None]
) -> None:
    lease = next_attempt.claim(folder, run=1, trials=range(1))
    assert lease is not None
    reader = SweepFolder(folder.path)
    elsewhere(monkeypatch)
    for _ in range(30):
        clock(5.0)
        lease.renew()
        assert next_attempt.is_alive(reader, 0)
    for _ in range(int(LEASE_SECONDS / 5)):
        assert next_attempt.is_alive(reader, 0)
        clock(5.0)
    assert not next_attempt.is_alive(reader, 0)
    lease.renew()
    assert next_attempt.is_alive(reader, 0), (
        "a holder that was only slow is alive again, as long as nobody took its trial"
    )


def test_a_reader_that_was_asleep_itself_takes_nobody_for_dead(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch, clock: Callable[[float], None]
) -> None:
    lease = next_attempt.claim(folder, run=1, trials=range(1))
    assert lease is not None
    elsewhere(monkeypatch)
    assert next_attempt.is_alive(folder, 0)
    clock(3_600.0)
    assert next_attempt.is_alive(folder, 0)


@pytest.mark.parametrize("hour", [-3_600.0, 3_600.0])
def test_a_wall_clock_that_jumps_reaps_nobody_here(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch, hour: float
) -> None:
    lease = next_attempt.claim(folder, run=1, trials=range(1))
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + hour)
    monkeypatch.setattr(time, "monotonic", lambda: wall() + hour)
    assert lease is not None
    assert next_attempt.claim(folder, run=1, trials=range(1)) is None
    os.utime(folder.path / "claims" / "0000.1", (0, 0))
    assert next_attempt.claim(folder, run=1, trials=range(1)) is None


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"run": "x"}', '{"faults": 3}', '{"pid": null}', "\0" * 100, "[" * 5_000],
)
def test_a_claim_that_cannot_be_read_is_dead(folder: SweepFolder, content: str) -> None:
    (folder.path / "claims" / "0000.1").write_text(content)
    lease = next_attempt.claim(folder, run=1, trials=range(1))
    assert lease is not None
    assert (lease.claim.trial, lease.claim.attempt) == (0, 2)


def test_what_else_lies_among_the_claims_does_no_harm(folder: SweepFolder) -> None:
    for name in ("0000.1.bak", ".lock~", "notes", "0000.x", "../trials/x", "9" * 40 + ".1"):
        (folder.path / "claims" / name).write_text("?")
    lease = next_attempt.claim(folder, run=1, trials=range(1))
    assert lease is not None
    assert lease.claim == Claim(0, 1, 1)


def test_a_claim_is_valid_json_at_every_moment(folder: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "RENEW_SECONDS", 0.0)
    lease = next_attempt.claim(folder, run=1, trials=range(1))
    assert lease is not None
    file = folder.path / "claims" / "0000.1"
    size = file.stat().st_size
    for beat in range(1, 1_200):
        lease.renew()
        assert file.stat().st_size == size
        assert json.loads(file.read_text())["beat"] == beat
    assert not list((folder.path / "claims").glob(".*.tmp"))


def test_a_lock_that_is_a_link_is_not_followed(folder: SweepFolder, tmp_path: Path) -> None:
    (folder.path / "claims" / ".lock").symlink_to(tmp_path / "victim")
    with pytest.raises(FolderError, match=r"claims/\.lock"):
        next_attempt.claim(folder, run=1, trials=range(1))
    assert not (tmp_path / "victim").exists()


def test_where_there_are_no_hard_links_a_claim_is_taken_once_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    here = Claims(tmp_path)
    first = here.take(Claim(0, 1, 1))
    assert first is not None
    assert here.take(Claim(0, 1, 1)) is None
    assert here.is_alive(0, 1)


RACERS, TRIALS = 16, 48


def _race(path: Path, seed: int) -> None:
    """Claim and record until nothing is left; every fifth claim ends in a sudden death."""
    rng, folder = random.Random(seed), SweepFolder(path)
    while (lease := next_attempt.claim(folder, run=1, trials=range(TRIALS))) is not None:
        if rng.random() < 0.2:
            os.kill(os.getpid(), signal.SIGKILL)
        folder.record(record(lease.claim.trial, lease.claim.attempt, run=seed))
        lease.release()


def test_sixteen_that_race_and_die_leave_each_trial_finished_once(folder: SweepFolder) -> None:
    seeds = iter(range(1_000))
    racers = [FORK.Process(target=_race, args=(folder.path, next(seeds))) for _ in range(RACERS)]
    for racer in racers:
        racer.start()
    deaths = 0
    while racers:
        racer = racers.pop(0)
        racer.join()
        if racer.exitcode == -signal.SIGKILL:
            deaths += 1
            racers.append(FORK.Process(target=_race, args=(folder.path, next(seeds))))
            racers[-1].start()
    assert deaths > 3, "the test kills somebody"
    records = folder.records()
    assert [one.trial for one in records] == list(range(TRIALS))
    newest = folder.claims.newest()
    assert {one.trial: one.attempt for one in records} == newest
    assert sum(newest.values()) == TRIALS + deaths, "each death costs one attempt, and nothing else does"


def test_only_trials_that_somebody_alive_holds_are_running(folder: SweepFolder) -> None:
    def begin(trial: int, attempt: int = 1) -> None:
        folder.write_progress(Progress(trial, attempt, {}, 1.0))

    in_another_process(lambda: (next_attempt.claim(folder, run=1, trials=range(1)), begin(0)))  # type: ignore[arg-type,return-value]
    assert [one.trial for one in folder.progress()] == [0]
    assert folder.running() == []
    lease = next_attempt.claim(folder, run=1, trials=range(1))
    assert lease is not None
    assert folder.running() == [], "what is there is the dead attempt's"
    begin(0, lease.claim.attempt)
    assert [(one.trial, one.attempt) for one in folder.running()] == [(0, 2)]


def test_claims_that_are_held_here_are_found_also_when_their_trial_has_ended(folder: SweepFolder) -> None:
    leases = [next_attempt.claim(folder, run=1, trials=range(3)) for _ in range(3)]
    folder.record(record(0))
    leases[1].release()  # type: ignore[union-attr]
    assert [(one.claim.trial, one.pid) for one in folder.claims.held_here()] == [(0, os.getpid()), (2, os.getpid())]


def test_who_has_listed_the_claims_before_finds_what_others_have_claimed_since(folder: SweepFolder) -> None:
    reader = SweepFolder(folder.path).claims
    assert reader.newest() == {}
    for trial, attempt in [(0, 1), (1, 1), (1, 2), (1, 3)]:
        assert folder.claims.take(Claim(trial, attempt, 1)) is not None
    assert [reader.newest_of(trial) for trial in range(3)] == [1, 3, 0]
    assert reader.newest() == {0: 1, 1: 3} == SweepFolder(folder.path).claims.newest()


def test_an_attempt_is_found_whose_first_ones_have_been_deleted(folder: SweepFolder) -> None:
    for attempt in (1, 2):
        assert folder.claims.take(Claim(4, attempt, 1)) is not None
    (folder.path / "claims" / "0004.1").unlink()
    assert SweepFolder(folder.path).claims.newest_of(4) == 2


def test_claims_that_somebody_has_deleted_are_gone(folder: SweepFolder) -> None:
    for trial in range(3):
        assert folder.claims.take(Claim(trial, 1, 1)) is not None
    assert folder.claims.newest() == {0: 1, 1: 1, 2: 1}
    (folder.path / "claims" / "0001.1").unlink()
    assert folder.claims.newest() == {0: 1, 2: 1}
    assert folder.claims.take(Claim(1, 1, 1)) is not None
    assert folder.claims.newest() == {0: 1, 1: 1, 2: 1}


def test_ten_thousand_claims_are_not_listed_for_each_new_one(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for trial in range(5):
        folder.record(record(trial))
        (folder.path / "claims" / f"{trial:04d}.1").write_text("{}")
    listed = []
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or real(path))
    leases = [next_attempt.claim(folder, run=1, trials=range(20)) for _ in range(10)]
    assert [lease.claim.trial for lease in leases if lease] == list(range(5, 15))
    assert len(listed) == 1


def test_a_claim_that_was_let_go_of_is_not_looked_at_again(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases = [next_attempt.claim(folder, run=1, trials=range(3)) for _ in range(3)]
    leases[1].release()  # type: ignore[union-attr]
    looked_at = []
    real = folder.claims._is_locked
    monkeypatch.setattr(folder.claims, "_is_locked", lambda *item: looked_at.append(item) or real(*item))
    for _ in range(2):
        assert [one.claim.trial for one in folder.claims.held_here()] == [0, 2]
    assert sorted(looked_at) == [(0, 1), (0, 1), (1, 1), (2, 1), (2, 1)]
