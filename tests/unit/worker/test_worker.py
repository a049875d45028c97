"""What a worker claims, gives up, keeps alive and records; no trial is trained."""

from __future__ import annotations

import dataclasses
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import made_records
import pytest
from made_records import FAILED, INTERRUPTED, WAITING, record

from finesweep.errors import FolderError
from finesweep.files import owned_folder
from finesweep.folder import next_attempt, state_memory, waiting_states
from finesweep.folder.early_end import EarlyEnd, write_early_end
from finesweep.folder.sweep_folder import make_folders
from finesweep.host import process_memory
from finesweep.launch import deadlines
from finesweep.launch.profile import Profile, SettledProfile
from finesweep.pruning.prospects import Prospects
from finesweep.spec.sections import SweepSpec
from finesweep.worker import poor_prospects
from finesweep.worker.retry_rule import Ending
from finesweep.worker.state_cache import StateCache
from made_specs import made_spec

if TYPE_CHECKING:
    from finesweep.worker.worker import Worker

pytestmark = pytest.mark.torch

TRIALS = 4
KILLED = Ending(-signal.SIGKILL, seconds=3.0)


def spec_with(**sections: Any) -> SweepSpec:
    return made_spec(**{"budget": {"trials": TRIALS}, "search": {"pruner": "none", "baseline": False}, **sections})


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Worker]:
    from finesweep.worker.worker import Worker

    folder = make_folders(tmp_path / "s")

    def made(parent: int | None = None, token: str = "", **sections: Any) -> Worker:
        profile = SettledProfile(Profile(retries=1), 1, 0, 1, 1)
        run = made_records.run(budget={"trials": TRIALS, "hours": None}, ended=None, token=token)
        return Worker(folder, made_records.manifest(), run, spec_with(**sections), profile, parent or os.getppid())

    return made


@pytest.fixture
def worker(make: Callable[..., Worker]) -> Worker:
    return make()


def test_trials_are_claimed_in_order_until_all_have_finished(worker: Worker) -> None:
    claims = [worker.claim() for _ in range(TRIALS)]
    assert [claim and claim.trial for claim in claims] == [0, 1, 2, 3]
    assert worker.claim(wait=False) is None, "others may give one back"
    assert not worker.over
    for trial in range(TRIALS):
        worker.sweep_folder.record(record(trial, 0.5))
    assert worker.claim() is None
    assert worker.over


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_worker_that_was_told_to_stop_claims_nothing(worker: Worker, number: int) -> None:
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)}
    try:
        worker._listen()
        assert not worker.stopping
        signal.raise_signal(number)
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    assert worker.stopping
    assert worker.over
    assert worker.claim() is None


def test_worker_obeys_signals_that_were_ignored_at_its_start(worker: Worker) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    worker._listen()
    signal.raise_signal(signal.SIGTERM)
    assert worker.stopping


def test_a_worker_whose_parent_is_gone_stops(make: Callable[..., Worker]) -> None:
    assert make(parent=1 if os.getppid() != 1 else 2).stopping


def test_a_trial_with_too_many_faults_is_given_up_and_the_next_one_is_claimed(worker: Worker) -> None:
    first = next_attempt.claim(worker.sweep_folder, 1, [0])
    assert first is not None
    worker.sweep_folder.record(record(0, state=INTERRUPTED, faults=("killed", "killed again")))
    first.release()
    claim = worker.claim()
    assert claim is not None
    assert claim.trial == 1
    given_up = worker.sweep_folder.read_record(0)
    assert given_up is not None
    assert (given_up.state, given_up.attempt, given_up.faults) == (FAILED, 2, ("killed", "killed again"))


@pytest.mark.parametrize(
    ("ending", "state", "reason"),
    [
        (KILLED, INTERRUPTED, "killed by SIGKILL"),
        (Ending(-signal.SIGSEGV), FAILED, "SIGSEGV"),
        (Ending(-signal.SIGKILL, asked=True), INTERRUPTED, "stopped before it could save its state"),
    ],
)
def test_an_attempt_that_left_no_record_gets_one(worker: Worker, ending: Ending, state: Any, reason: str) -> None:
    claim = worker.claim()
    assert claim is not None
    worker._conclude(claim, ending)
    made = worker.sweep_folder.read_record(0)
    assert made is not None
    assert (made.attempt, made.state) == (1, state)
    assert reason in (made.reason or "")


def test_a_killed_attempt_is_still_audited(worker: Worker) -> None:
    first = next_attempt.claim(worker.sweep_folder, 1, [0])
    assert first is not None
    worker.sweep_folder.record(record(0, 0.5, WAITING, audit="halving: it was weak"))
    first.release()
    claim = worker.claim()
    assert claim is not None
    worker._conclude(claim, KILLED)
    made = worker.sweep_folder.read_record(0)
    assert made is not None
    assert (made.attempt, made.state, made.audit) == (2, INTERRUPTED, "halving: it was weak")


def test_the_record_of_an_attempt_stands_however_its_process_ended(worker: Worker) -> None:
    claim = worker.claim()
    assert claim is not None
    own = record(0, 0.5, attempt=claim.attempt, reason="eval_loss rises")
    worker.sweep_folder.record(own)
    worker._conclude(claim, KILLED)
    assert worker.sweep_folder.read_record(0) == own


def test_what_is_wrong_with_the_folder_ends_the_worker(worker: Worker) -> None:
    claim = worker.claim()
    assert claim is not None
    with pytest.raises(FolderError, match="the disk is full"):
        worker._conclude(claim, Ending(2, complaint="the disk is full"))


def test_a_body_that_dies_in_its_fork_leaves_a_record_and_frees_its_claim(worker: Worker) -> None:
    claim = worker.claim()
    assert claim is not None
    worker.isolated(claim, lambda: os._exit(7))
    made = worker.sweep_folder.read_record(0)
    assert made is not None
    assert (made.state, made.attempt) == (FAILED, 1)
    assert next_attempt.holders(worker.sweep_folder) == []


def test_killed_trial_says_so_if_memory_ran_out_meanwhile(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = tmp_path / "memory.events"
    count.write_text("oom_kill 3\n")
    monkeypatch.setattr(process_memory, "_cgroup_files", lambda: [count])

    def killed_for_lack_of_memory() -> None:
        count.write_text("oom_kill 4\n")
        os.kill(os.getpid(), signal.SIGKILL)

    for body in (killed_for_lack_of_memory, lambda: os.kill(os.getpid(), signal.SIGKILL)):
        claim = worker.claim()
        assert claim is not None
        worker.isolated(claim, body)
    made = worker.sweep_folder.read_record(0)
    assert made is not None
    first, second = made.faults
    assert first.endswith("SIGKILL: the machine ran out of memory")
    assert second.endswith("which finesweep did not send (out of memory?)")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_worker_asked_to_stop_exits_with_the_signals_code(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(worker, "warm_up", lambda: signal.raise_signal(number))
    with pytest.raises(SystemExit) as ended:
        worker.work()
    assert ended.value.code == 128 + number


def test_a_trial_that_was_lost_elsewhere_is_tried_again_and_its_late_record_is_a_fault(worker: Worker) -> None:
    first, second = worker.claim(), worker.claim()
    assert first is not None
    assert second is not None
    worker.sweep_folder.record(record(1, state=INTERRUPTED, attempt=second.attempt, examples=64, reason="stopped"))
    for claim in (first, second):
        worker.lost(claim, "its actor is gone", 2.0)
    found = [worker.sweep_folder.read_record(trial) for trial in (0, 1)]
    assert [one and (one.state, one.faults) for one in found] == [(INTERRUPTED, ("its actor is gone",))] * 2
    assert found[1] is not None
    assert found[1].examples == 64, "its saved state is gone on from"
    assert not any(next_attempt.is_alive(worker.sweep_folder, trial) for trial in (0, 1))


def test_a_result_that_comes_from_a_lost_process_is_kept(worker: Worker) -> None:
    claim = worker.claim()
    assert claim is not None
    done = record(0, 0.5, attempt=claim.attempt)
    worker.sweep_folder.record(done)
    worker.lost(claim, "its actor is gone", 2.0)
    assert worker.sweep_folder.read_record(0) == done


def test_borrower_is_sent_a_path_and_not_the_worker(worker: Worker) -> None:
    assert len(pickle.dumps(worker.borrower())) < 1_000


def test_borrowers_must_stop_once_the_worker_is_to_stop(make: Callable[..., Worker]) -> None:
    worker = make()
    claim = worker.claim()
    assert claim is not None
    worker.renew()
    assert not worker.sweep_folder.is_stop_requested(worker.run.number)
    worker._request_stop(signal.SIGTERM, None)
    worker.renew()
    assert worker.sweep_folder.is_stop_requested(worker.run.number)
    borrower = dataclasses.replace(make(), borrows_claims=True)
    assert borrower._must_stop(claim)


def test_a_borrower_continues_while_its_claim_is_held(
    make: Callable[..., Worker], clock: Callable[[float], None]
) -> None:
    holder = make()
    claim = holder.claim()
    assert claim is not None
    borrower = dataclasses.replace(make(), borrows_claims=True)
    assert not borrower._must_stop(claim)
    holder.release(claim)
    assert not borrower._must_stop(claim), "it has looked a moment ago"
    clock(1.0)
    assert borrower._must_stop(claim)


def test_a_search_ends_when_its_first_trials_fail_alike(worker: Worker) -> None:
    for trial in range(3):
        worker.sweep_folder.record(record(trial, state=FAILED, reason="ValueError: the same", run=1))
    assert worker.over
    assert worker.claim() is None


def test_a_search_ends_when_little_is_expected_of_it(make: Callable[..., Worker]) -> None:
    worker = make(stop={"auto": True})
    worker.sweep_folder.record(record(0, 0.5, run=1))
    assert not worker.over
    end = EarlyEnd(begun=1, left=3, wanted=TRIALS, best=0.5, gain=0.0, seeds=0.1)
    write_early_end(worker.sweep_folder, end)
    assert worker.over
    assert worker.claim() is None
    assert not make(stop={"auto": False}).over


def test_a_worker_finishes_a_broken_off_trial_and_begins_no_other(make: Callable[..., Worker]) -> None:
    worker = make(stop={"auto": True})
    write_early_end(worker.sweep_folder, EarlyEnd(begun=1, left=2, wanted=TRIALS, best=0.5, gain=0.0, seeds=0.1))
    stopped = next_attempt.claim(worker.sweep_folder, 1, [1])
    assert stopped is not None
    worker.sweep_folder.record(record(1, state=INTERRUPTED))
    stopped.release()
    assert not worker.over
    claim = worker.claim(wait=False)
    assert claim is not None
    assert (claim.trial, claim.attempt) == (1, 2)
    assert worker.claim(wait=False) is None
    assert not worker.over, "it runs"
    worker.sweep_folder.record(record(1, 0.5, attempt=2))
    assert worker.over


def test_a_worker_waits_while_a_trial_of_another_run_trains(
    make: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make(stop={"auto": True})
    joined = next_attempt.claim(worker.sweep_folder, 2, [1])
    assert joined is not None
    write_early_end(worker.sweep_folder, EarlyEnd(begun=1, left=2, wanted=TRIALS, best=0.5, gain=0.0, seeds=0.1))
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            worker.sweep_folder.record(record(1, 0.5, WAITING))

    monkeypatch.setattr(time, "sleep", nap)
    assert worker.claim() is None
    assert len(naps) == 3


def test_a_worker_that_waits_for_a_trial_of_another_run_stops_when_it_is_told_to(
    make: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make(stop={"auto": True})
    joined = next_attempt.claim(worker.sweep_folder, 2, [1])
    assert joined is not None
    write_early_end(worker.sweep_folder, EarlyEnd(begun=1, left=2, wanted=TRIALS, best=0.5, gain=0.0, seeds=0.1))
    monkeypatch.setattr(time, "sleep", lambda _: worker._request_stop(signal.SIGTERM, None))
    assert worker.claim() is None
    assert worker.stopping


def test_a_worker_claims_what_is_to_be_finished_for_the_audit_when_the_sweep_has_ended(
    make: Callable[..., Worker],
) -> None:
    worker = make(stop={"auto": True})
    for trial, audit in ((1, None), (2, "weak")):
        lease = next_attempt.claim(worker.sweep_folder, 1, [trial])
        assert lease is not None
        worker.sweep_folder.record(record(trial, 0.5, WAITING, audit=audit))
        lease.release()
    write_early_end(worker.sweep_folder, EarlyEnd(begun=1, left=1, wanted=TRIALS, best=0.5, gain=0.0, seeds=0.1))
    claim = worker.claim(wait=False)
    assert claim is not None
    assert (claim.trial, claim.attempt) == (2, 2)


def test_a_worker_asks_what_is_expected_of_the_rest(
    make: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    poor = Prospects(begun=3, left=1, best=0.5, since=9, gain=0.0, seeds=0.1, sure=0.7)
    monkeypatch.setattr(poor_prospects, "prospects", lambda records, *_: poor if len(records) == 3 else None)
    worker = make(stop={"auto": True})
    for trial in range(3):
        assert not worker.over
        worker.sweep_folder.record(record(trial, 0.5, run=1))
    assert worker.over


def test_a_search_ends_when_its_target_is_reached(make: Callable[..., Worker]) -> None:
    worker = make(stop={"target": 0.4})
    worker.sweep_folder.record(record(0, 0.5, run=1))
    assert not worker.over
    worker.sweep_folder.record(record(1, 0.3, run=1))
    assert worker.over


@pytest.fixture
def halving(make: Callable[..., Worker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """A worker of a sweep with halving in which trial 0 waits, its state in this machine's memory."""
    (tmp_path / "shm").mkdir()
    monkeypatch.setattr(owned_folder, "MEMORY", tmp_path / "shm")
    monkeypatch.setattr(state_memory, "is_there", lambda: True)
    token = "0123456789abcdef"
    worker = make(token=token, search={"pruner": "halving", "baseline": False})
    worker.sweep_folder.write_run(made_records.run(token=token))
    with state_memory.made(token):
        lease = next_attempt.claim(worker.sweep_folder, 1, [0])
        assert lease is not None
        save_in_memory(worker, 0)
        worker.sweep_folder.record(record(0, 0.5, WAITING))
        lease.release()
        yield worker


def save_in_memory(worker: Worker, trial: int) -> None:
    state = worker.sweep_folder.state_places()[1] / worker.sweep_folder.state(trial).name
    state.mkdir()
    (state / "model.safetensors").write_bytes(b"1")


def in_memory(worker: Worker) -> set[int]:
    return set(waiting_states.sizes(worker.sweep_folder, worker.sweep_folder.state_places()[1:]))


def on_disk(worker: Worker) -> set[int]:
    return set(waiting_states.sizes(worker.sweep_folder, worker.sweep_folder.state_places()[:1]))


def fail(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the worker end with an error of its search."""

    def refuse(*_: object) -> None:
        raise FolderError("the disk is full")

    monkeypatch.setattr(worker, "warm_up", lambda: None)
    monkeypatch.setattr(worker, "claim", refuse)
    with pytest.raises(FolderError, match="the disk is full"):
        worker.work()


def test_a_worker_that_fails_moves_the_states_in_memory_to_disk(
    halving: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it was the only one, the command removes the folder in memory."""
    fail(halving, monkeypatch)
    assert (in_memory(halving), on_disk(halving)) == (set(), {0})


@pytest.mark.parametrize("error", [FolderError("no room"), OSError("no such folder"), KeyError("a fault of ours")])
def test_what_fails_at_the_end_does_not_hide_why_a_worker_has_failed(
    halving: Worker, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(StateCache, "save_from_memory", refuse)
    fail(halving, monkeypatch)


def test_a_worker_that_fails_after_it_was_asked_to_stop_takes_no_longer_for_it(
    halving: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    monkeypatch.setattr(StateCache, "save_from_memory", lambda _, deadline: asked.append(deadline))
    began = time.monotonic()
    halving._request_stop(signal.SIGTERM, None)
    since = halving._stops_since
    assert since is not None
    assert since - began < 5
    fail(halving, monkeypatch)
    assert asked == [since + deadlines.MOVE_SECONDS]


def test_after_a_kill_for_lack_of_memory_states_in_memory_make_way(halving: Worker) -> None:
    claim = halving.claim()
    assert claim is not None
    save_in_memory(halving, claim.trial)
    halving._conclude(claim, Ending(-signal.SIGKILL, out_of_memory=True))
    assert (in_memory(halving), on_disk(halving)) == (set(), {0, claim.trial})


@pytest.mark.parametrize("ending", [KILLED, Ending(-signal.SIGTERM, out_of_memory=True)])
def test_after_another_kill_they_stay(halving: Worker, ending: Ending) -> None:
    claim = halving.claim()
    assert claim is not None
    halving._conclude(claim, ending)
    assert (in_memory(halving), on_disk(halving)) == ({0}, set())
