"""The saved states of waiting trials stay within a limit, whatever waits, and no result depends on it."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import record
from made_records import run as made_run

from finesweep.errors import FolderError
from finesweep.files import owned_folder
from finesweep.files.atomic import alone
from finesweep.folder import claims, next_attempt, state_memory, waiting_states
from finesweep.folder.claims import Lease
from finesweep.folder.sweep_folder import SweepFolder, make_folders
from finesweep.launch.profile import Limits
from finesweep.trial import Evaluation, TrialPruned, TrialRecord, TrialState, TrialWaits
from finesweep.worker import state_cache
from finesweep.worker.rung_judge import RungJudge
from finesweep.worker.state_cache import StateCache, too_many
from made_specs import made_spec

ROWS, TRIALS = 1_000, 20
RUNGS = (1, 2, 3)
STATE = 1_300_000_000
"""Bytes of BERT-base's weights and the optimizer's two averages, as it waits at its best evaluation."""

WAITING = TrialState.WAITING
TOKEN = "0123456789abcdef"


def judge_of(folder: Path, trials: int = TRIALS) -> RungJudge:
    search = {"pruner": "halving", "baseline": False}
    spec = made_spec(search=search, pruning={"rungs": RUNGS, "factor": 2})
    return RungJudge(make_folders(folder), spec, ROWS, trials)


def seen(*losses: float) -> tuple[Evaluation, ...]:
    return tuple(Evaluation(n, float(n), n * ROWS, {"eval_loss": loss}, loss) for n, loss in enumerate(losses, start=1))


def save(folder: SweepFolder, trial: int, size: int) -> None:
    """Save a state of a size that takes no space."""
    building = folder.state(trial).with_name(f".trial-{trial:04d}.1.tmp")
    building.mkdir()
    (building / "model.safetensors").touch()
    os.truncate(building / "model.safetensors", size)
    shutil.rmtree(folder.state(trial), ignore_errors=True)
    building.rename(folder.state(trial))


def waits(folder: SweepFolder, trial: int, *losses: float, size: int | None = None, **facts) -> None:
    """Let a trial wait at a rung, with a state if there is a size."""
    lease = next_attempt.claim(folder, 1, [trial])
    assert lease is not None
    if size is not None:
        save(folder, trial, size)
    folder.record(record(trial, losses[-1], WAITING, attempt=lease.claim.attempt, evaluations=seen(*losses), **facts))
    lease.release()


@dataclass
class Sweep:
    """One worker's sweep with halving, in which training takes no time and a state takes its bytes.

    Attributes:
        judge: Decides at the rungs.
        cache: Keeps the states.
        peak: Most bytes that all states ever had.
        written: Bytes of all states that were written.
        peak_on_disk: Most bytes that those on disk ever had.
        written_to_disk: Bytes of those that were written there.
        trained: Epochs trained by all trials.
        known: All evaluations of each trial so far.
    """

    judge: RungJudge
    cache: StateCache
    seed: int
    peak: int = 0
    written: int = 0
    peak_on_disk: int = 0
    written_to_disk: int = 0
    trained: int = 0
    known: dict[int, tuple[Evaluation, ...]] = field(default_factory=dict)

    @classmethod
    def run(cls, path: Path, states_gb: float | None, seed: int) -> Sweep:
        judge = judge_of(path)
        sweep = cls(judge, StateCache(judge.sweep_folder, judge, Limits(states_gb=states_gb)), seed)
        sweep.to_the_end()
        return sweep

    def to_the_end(self) -> None:
        while self.next():
            pass

    def next(self) -> bool:
        """Train the next trial until it waits or ends; return whether there was one."""
        lease = next_attempt.claim(self.judge.sweep_folder, 1, self.judge.queue())
        if lease is None:
            return False
        self.train(lease)
        lease.release()
        return True

    def losses(self, trial: int) -> list[float]:
        source = random.Random(self.seed * 1_000 + trial)
        floor = source.uniform(0.2, 0.6)
        return [floor + source.uniform(0.1, 0.3) / epoch for epoch in range(1, 5)]

    def train(self, lease: Lease) -> None:
        folder, trial = self.judge.sweep_folder, lease.claim.trial
        losses, known = self.losses(trial), len(self.known.get(trial, ()))
        start = known if folder.states_of(trial) else 0
        for epoch in range(start + 1, 5):
            self.trained += 1
            evaluations = seen(*losses[:epoch])
            if epoch in RUNGS and epoch > known:
                try:
                    self.judge.judge(trial, evaluations, {})
                except TrialWaits:
                    self.save(trial, evaluations)
                    self.record(lease, WAITING, evaluations)
                    self.cache.trim(trial, evaluations, {})
                    return
                except TrialPruned:
                    self.record(lease, TrialState.PRUNED, evaluations)
                    return
        self.record(lease, TrialState.COMPLETE, seen(*losses))

    def save(self, trial: int, evaluations: tuple[Evaluation, ...]) -> None:
        folder = self.judge.sweep_folder
        if (place := self.cache.make_room(trial, evaluations, {}, STATE)) is not None:
            on_disk = [folder.path / "states"]
            before = waiting_states.sizes(folder)
            before_on_disk = waiting_states.sizes(folder, on_disk)
            for old in folder.states_of(trial):
                shutil.rmtree(old)
            save(folder, trial, STATE)
            folder.state(trial).rename(place / folder.state(trial).name)
            self.written += STATE
            # An old state of the trial is there until the new one is complete.
            self.peak = max(self.peak, sum(before.values()) + STATE)
            if place in on_disk:
                self.written_to_disk += STATE
                self.peak_on_disk = max(self.peak_on_disk, sum(before_on_disk.values()) + STATE)

    def record(self, lease: Lease, state: TrialState, evaluations: tuple[Evaluation, ...]) -> None:
        claim = lease.claim
        self.known[claim.trial] = evaluations
        facts = {"attempt": claim.attempt, "evaluations": evaluations}
        self.judge.sweep_folder.record(record(claim.trial, evaluations[-1].objective, state, **facts))

    @property
    def results(self) -> list[tuple[int, TrialState, tuple[Evaluation, ...]]]:
        return [(one.trial, one.state, one.evaluations) for one in self.judge.sweep_folder.records()]


@pytest.mark.parametrize("seed", range(3))
def test_a_sweep_of_bert_base_stays_below_its_limit_and_ends_the_same(tmp_path: Path, seed: int) -> None:
    whole = Sweep.run(tmp_path / "whole", 1_000.0, seed)
    assert whole.peak > 10e9, "what the limit is there for"
    assert len(whole.results) == TRIALS
    for states_gb in (4.0, 2.0, 0.0):
        some = Sweep.run(tmp_path / f"{states_gb}", states_gb, seed)
        assert some.peak <= states_gb * 1e9 + STATE * (states_gb > 0)
        assert some.results == whole.results
        assert some.trained >= whole.trained
        assert some.written <= whole.written
    assert (some.peak, some.written) == (0, 0)


def test_by_default_a_tenth_of_the_free_disk_is_used_and_ten_gigabytes_at_most(tmp_path: Path, monkeypatch) -> None:
    free = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free._replace(free=40_000_000_000))
    sweep = Sweep.run(tmp_path / "few", None, 0)
    assert 1.5 * STATE < sweep.peak <= 0.1 * (40e9 + sweep.peak) + STATE
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free._replace(free=10**15))
    assert 10e9 - STATE < Sweep.run(tmp_path / "much", None, 1).peak <= 10e9 + STATE


def test_states_make_way_for_that_of_a_trial_that_is_more_likely_to_be_promoted(tmp_path: Path) -> None:
    judge = judge_of(tmp_path / "s")
    folder, cache = judge.sweep_folder, StateCache(judge.sweep_folder, judge, Limits(states_gb=3e-9))
    for trial, loss in enumerate((0.5, 0.3, 0.4)):
        waits(folder, trial, loss, size=1)
    assert cache.make_room(3, seen(0.35), {}, 1)
    assert waiting_states.sizes(folder).keys() == {1, 2}
    waits(folder, 3, 0.35, size=1)
    assert not cache.make_room(4, seen(0.6), {}, 1)
    assert waiting_states.sizes(folder).keys() == {1, 2, 3}
    assert not cache.make_room(4, seen(0.1), {}, 4), "it is larger than the limit"
    assert waiting_states.sizes(folder).keys() == {1, 2, 3}


def test_states_of_trials_that_do_not_wait_count_and_stay(tmp_path: Path) -> None:
    judge = judge_of(tmp_path / "s")
    folder, cache = judge.sweep_folder, StateCache(judge.sweep_folder, judge, Limits(states_gb=4e-9))
    for trial, loss in enumerate((0.5, 0.4, 0.3)):
        waits(folder, trial, loss, size=1)
    running = next_attempt.claim(folder, 1, [0])
    interrupted = next_attempt.claim(folder, 1, [3])
    assert running is not None
    assert interrupted is not None
    save(folder, 3, 1)
    folder.record(record(3, None, TrialState.INTERRUPTED))
    interrupted.release()
    waits(folder, 4, 0.9, size=1, audit="weak")
    assert cache.make_room(5, seen(0.2), {}, 1)
    # 0 runs, 3 was interrupted, 4 is finished for the audit; of those that wait there is room for one.
    assert waiting_states.sizes(folder).keys() == {0, 3, 4}
    running.release()


def test_trials_that_are_saved_at_the_same_time_are_trimmed_afterwards(tmp_path: Path) -> None:
    judge = judge_of(tmp_path / "s")
    folder, cache = judge.sweep_folder, StateCache(judge.sweep_folder, judge, Limits(states_gb=2e-9))
    leases = [next_attempt.claim(folder, 1, [trial]) for trial in range(3)]
    losses = (0.4, 0.2, 0.3)
    assert all(cache.make_room(trial, seen(loss), {}, 1) for trial, loss in enumerate(losses))
    for trial, loss in enumerate(losses):
        save(folder, trial, 1)
        folder.record(record(trial, loss, WAITING, evaluations=seen(loss)))
        cache.trim(trial, seen(loss), {})
    for lease in leases:
        assert lease is not None
        lease.release()
    assert waiting_states.sizes(folder).keys() == {1, 2}


def test_a_new_state_takes_the_place_of_the_trials_old_one(tmp_path: Path) -> None:
    judge = judge_of(tmp_path / "s")
    folder, cache = judge.sweep_folder, StateCache(judge.sweep_folder, judge, Limits(states_gb=2e-9))
    waits(folder, 0, 0.5, size=1)
    waits(folder, 1, 0.6, size=1)
    again = next_attempt.claim(folder, 1, [0])
    assert again is not None
    assert cache.make_room(0, seen(0.5, 0.4), {}, 1)
    assert waiting_states.sizes(folder).keys() == {0, 1}
    again.release()


def test_a_trial_beyond_a_lowered_budget_makes_way_first(tmp_path: Path) -> None:
    folder = judge_of(tmp_path / "s").sweep_folder
    for trial, loss in ((0, 0.5), (19, 0.1)):
        waits(folder, trial, loss, size=1)
    judge = judge_of(tmp_path / "s", trials=10)
    assert StateCache(folder, judge, Limits(states_gb=2e-9)).make_room(1, seen(0.6), {}, 1)
    assert waiting_states.sizes(folder).keys() == {0}


def test_all_states_of_waiting_trials_make_way_for_a_result(tmp_path: Path) -> None:
    judge = judge_of(tmp_path / "s")
    folder, cache = judge.sweep_folder, StateCache(judge.sweep_folder, judge)
    assert not cache.drop_all()
    waits(folder, 0, 0.5, size=1)
    waits(folder, 1, 0.6, size=1)
    running = next_attempt.claim(folder, 1, [0])
    assert running is not None
    assert cache.drop_all()
    assert waiting_states.sizes(folder).keys() == {0}
    assert not cache.drop_all()
    running.release()


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    """This machine's memory, which run 1 of ``tmp_path/s`` uses."""
    (tmp_path / "shm").mkdir()
    monkeypatch.setattr(owned_folder, "MEMORY", tmp_path / "shm")
    monkeypatch.setattr(state_memory, "is_there", lambda: True)
    memory = Memory(judge_of(tmp_path / "s"))
    monkeypatch.setattr(state_memory, "limit", lambda *_: memory.room)
    memory.folder.write_run(made_run(1, token=TOKEN))
    with state_memory.made(TOKEN):
        yield memory


@dataclass
class Memory:
    """What a run has in memory.

    Attributes:
        judge: The sweep's.
        room: Bytes that states may take there.
    """

    judge: RungJudge
    room: float = 2.0

    @property
    def folder(self) -> SweepFolder:
        return self.judge.sweep_folder

    @property
    def place(self) -> Path:
        found = state_memory.folder_of(TOKEN)
        assert found is not None
        return found

    def cache(self, states_gb: float | None = None, run: int = 1, **limits: Any) -> StateCache:
        return StateCache(self.folder, self.judge, Limits(states_gb=states_gb, **limits), run)

    def waits(self, trial: int, *losses: float, in_memory: bool = True, **facts: Any) -> None:
        """Let a trial wait with a state of one byte."""
        waits(self.folder, trial, *losses, size=1, **facts)
        if in_memory:
            self.folder.state(trial).rename(self.place / self.folder.state(trial).name)

    @property
    def there(self) -> set[int]:
        return set(waiting_states.sizes(self.folder, [self.place]))

    @property
    def on_disk(self) -> set[int]:
        return set(waiting_states.sizes(self.folder, [self.folder.path / "states"]))


def test_memory_takes_states_first_and_the_disk_those_that_do_not_fit(memory: Memory) -> None:
    disk_place = memory.folder.path / "states"
    assert memory.cache().make_room(0, seen(0.5), {}, 1) == memory.place
    assert memory.cache().make_room(0, seen(0.5), {}, 1, in_memory=False) == disk_place
    assert memory.cache().make_room(0, seen(0.5), {}, 3) == disk_place
    for trial in range(2):
        memory.waits(trial, 0.5)
    assert memory.cache().make_room(2, seen(0.4), {}, 1) == disk_place
    assert memory.there == {0, 1}, "nothing has to go while there is room on disk"
    assert memory.cache().make_room(1, seen(0.5, 0.4), {}, 1) == memory.place, "it takes the place of its old one"


@pytest.mark.parametrize("fields", [{"run": 0}, {"run": 2}])
def test_a_run_without_a_folder_in_memory_uses_the_disk(memory: Memory, fields) -> None:
    assert memory.cache(**fields).make_room(0, seen(0.5), {}, 1) == memory.folder.path / "states"


def test_a_limit_counts_what_lies_in_memory_and_on_disk(memory: Memory) -> None:
    memory.waits(0, 0.5)
    memory.waits(1, 0.4)
    memory.waits(2, 0.3, in_memory=False)
    cache = memory.cache(3e-9)
    assert cache.make_room(3, seen(0.6), {}, 1) is None
    assert (memory.there, memory.on_disk) == ({0, 1}, {2})
    assert cache.make_room(3, seen(0.35), {}, 1) == memory.place, "the worst one lies there"
    assert (memory.there, memory.on_disk) == ({1}, {2})
    memory.waits(3, 0.35)
    assert cache.make_room(4, seen(0.1), {}, 1) == memory.place
    assert (memory.there, memory.on_disk) == ({3}, {2})
    assert memory.cache(0.0).make_room(4, seen(0.1), {}, 1) is None


def test_where_the_worst_state_is_on_disk_it_goes_from_there(memory: Memory) -> None:
    memory.waits(0, 0.2)
    memory.waits(1, 0.4)
    memory.waits(2, 0.6, in_memory=False)
    assert memory.cache(3e-9).make_room(3, seen(0.3), {}, 1) == memory.folder.path / "states"
    assert (memory.there, memory.on_disk) == ({0, 1}, set())


def test_when_memory_gets_short_states_move_to_disk_while_there_is_room(memory: Memory) -> None:
    for trial, loss in enumerate((0.5, 0.3, 0.4)):
        memory.waits(trial, loss)
    memory.room = 1.0
    memory.cache().trim(2, seen(0.4), {})
    assert (memory.there, memory.on_disk) == ({1}, {0, 2})
    memory.room = 0.0
    memory.cache(2e-9).trim(2, seen(0.4), {})
    assert (memory.there, memory.on_disk) == (set(), {1, 2})


def test_while_another_run_trains_too_states_go_to_disk(memory: Memory) -> None:
    """Its machine may not see this memory."""
    lease = next_attempt.claim(memory.folder, 2, [5])
    assert lease is not None
    assert memory.cache().make_room(0, seen(0.5), {}, 1) == memory.folder.path / "states"
    assert memory.cache(states="memory").make_room(0, seen(0.5), {}, 1) == memory.place
    lease.release()
    assert memory.cache().make_room(0, seen(0.5), {}, 1) == memory.place


def test_when_another_run_comes_states_in_memory_move_to_disk_and_none_stands_in_the_way_of_a_likelier_one(
    memory: Memory,
) -> None:
    for trial, loss in enumerate((0.5, 0.3, 0.4)):
        memory.waits(trial, loss)
    lease = next_attempt.claim(memory.folder, 2, [5])
    assert lease is not None
    assert memory.cache(3e-9).make_room(3, seen(0.35), {}, 1) == memory.folder.path / "states"
    assert (memory.there, memory.on_disk) == (set(), {1, 2})
    lease.release()


def test_when_another_run_comes_the_likeliest_get_the_room_that_there_is_on_disk(memory: Memory, monkeypatch) -> None:
    for trial, loss in enumerate((0.5, 0.3, 0.4)):
        memory.waits(trial, loss)
    memory.waits(4, 0.2, in_memory=False)
    running = next_attempt.claim(memory.folder, 1, [0])
    lease = next_attempt.claim(memory.folder, 2, [5])
    assert running is not None
    assert lease is not None
    usage = shutil.disk_usage(memory.folder.path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=29))
    memory.cache().trim(2, seen(0.4), {})
    # A tenth of 30 bytes holds three. One is kept for 0, which is trained: its process finds its state where it was.
    assert (memory.there, memory.on_disk) == ({0}, {1, 4})
    running.release()
    lease.release()


def test_when_another_run_comes_states_beyond_what_the_folder_may_take_are_dropped(memory: Memory) -> None:
    memory.waits(0, 0.5)
    lease = next_attempt.claim(memory.folder, 2, [5])
    assert lease is not None
    memory.cache(disk_gb=1e-9).trim(0, seen(0.5), {})
    assert (memory.there, memory.on_disk) == (set(), set())
    lease.release()


def test_a_worker_does_not_wait_for_long_while_another_one_moves_states(memory: Memory, monkeypatch) -> None:
    memory.waits(0, 0.5)
    lease = next_attempt.claim(memory.folder, 2, [5])
    assert lease is not None
    monkeypatch.setattr(state_cache, "LEAVE_SECONDS", 0.2)
    with alone(memory.place / ".moving") as is_alone:
        assert is_alone
        assert memory.cache().make_room(1, seen(0.4), {}, 1) == memory.folder.path / "states"
    assert (memory.there, memory.on_disk) == ({0}, set())
    assert memory.cache().make_room(1, seen(0.4), {}, 1) == memory.folder.path / "states"
    assert (memory.there, memory.on_disk) == (set(), {0})
    lease.release()


def test_a_trial_that_another_machine_has_ended_counts_no_more(memory: Memory, tmp_path: Path, monkeypatch) -> None:
    memory.waits(0, 0.5)
    memory.waits(1, 0.4)
    assert memory.cache(2e-9).make_room(2, seen(0.9), {}, 1) is None
    ended_elsewhere(memory, 0, tmp_path, monkeypatch)
    assert memory.there == {0, 1}, "the other machine does not see this memory"
    assert memory.cache(2e-9).make_room(2, seen(0.9), {}, 1) == memory.place
    assert memory.there == {1}


def ended_elsewhere(memory: Memory, trial: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as there:
        there.setattr(owned_folder, "MEMORY", tmp_path / "memory of the other machine")
        lease = next_attempt.claim(memory.folder, 2, [trial])
        assert lease is not None
        memory.folder.record(record(trial, 0.5, TrialState.COMPLETE, attempt=lease.claim.attempt))
        lease.release()


def test_a_run_that_stops_moves_no_state_of_a_trial_that_has_ended(memory: Memory, tmp_path: Path, monkeypatch) -> None:
    memory.waits(0, 0.5)
    ended_elsewhere(memory, 0, tmp_path, monkeypatch)
    memory.cache().save_from_memory(soon())
    assert (memory.there, memory.on_disk) == (set(), set())


def test_a_trial_of_an_earlier_run_that_waits_is_no_company(memory: Memory, monkeypatch) -> None:
    """After a reboot, or on another machine, the locks on its claims tell nothing."""
    here = claims._here()
    monkeypatch.setattr(claims, "_here", lambda: ("elsewhere", "another boot"))
    waits(memory.folder, 5, 0.4)
    monkeypatch.setattr(claims, "_here", lambda: here)
    assert memory.cache(run=1).make_room(0, seen(0.5), {}, 1) == memory.place
    memory.folder.write_run(made_run(2, token="another"))
    with state_memory.made("another"):
        assert memory.cache(run=2).make_room(0, seen(0.5), {}, 1) == state_memory.folder_of("another")


def test_states_do_not_move_to_disk_beyond_what_the_folder_may_take(memory: Memory) -> None:
    for trial, loss in enumerate((0.5, 0.3)):
        memory.waits(trial, loss)
    with pytest.raises(FolderError, match=r"limits\.disk_gb"):
        memory.cache(disk_gb=1e-9).save_from_memory(soon())
    memory.room = 1.0
    memory.cache(disk_gb=1e-9).trim(1, seen(0.3), {})
    assert (memory.there, memory.on_disk) == ({1}, set())


def test_results_take_no_room_from_states_in_memory(memory: Memory) -> None:
    memory.waits(0, 0.5)
    memory.waits(1, 0.5, in_memory=False)
    assert memory.cache().drop_all()
    assert (memory.there, memory.on_disk) == ({0}, set())


def soon() -> float:
    return time.monotonic() + 30


def test_a_run_that_stops_moves_its_states_to_disk(memory: Memory) -> None:
    for trial, loss in enumerate((0.5, 0.3, 0.4)):
        memory.waits(trial, loss)
    memory.cache().save_from_memory(soon())
    assert (memory.there, memory.on_disk) == (set(), {0, 1, 2})


def test_a_run_that_stops_saves_the_states_that_are_needed_for_certain_and_then_the_likeliest(memory: Memory) -> None:
    for trial, loss in enumerate((0.5, 0.3, 0.4)):
        memory.waits(trial, loss)
    memory.waits(3, 0.9, audit="weak")
    memory.waits(4, 0.8, in_memory=False)
    running = next_attempt.claim(memory.folder, 1, [1])
    assert running is not None
    memory.cache(3e-9).save_from_memory(soon())
    # 3 is to be finished for the audit; 1 runs, and its process saves it or has failed.
    assert (memory.there, memory.on_disk) == ({0, 1}, {2, 3})
    running.release()


def test_a_run_that_is_short_of_memory_moves_its_states_to_disk_or_drops_them(memory: Memory, monkeypatch) -> None:
    for trial, loss in enumerate((0.5, 0.3, 0.4)):
        memory.waits(trial, loss)
    running = next_attempt.claim(memory.folder, 1, [0])
    assert running is not None
    memory.cache(2e-9).give_up_memory()
    assert (memory.there, memory.on_disk) == ({0}, {1}), "0 is trained, and there is room for one more"
    memory.waits(3, 0.2)
    monkeypatch.setattr(state_cache, "LEAVE_SECONDS", -1.0)
    memory.cache().give_up_memory()
    assert (memory.there, memory.on_disk) == ({0}, {1}), "nothing can be moved in no time"
    running.release()
    memory.cache(run=2).give_up_memory()


def test_a_run_that_stops_late_saves_nothing_and_does_not_wait(memory: Memory) -> None:
    memory.waits(0, 0.5)
    memory.cache().save_from_memory(time.monotonic() - 1)
    with alone(memory.place / ".moving") as is_alone:
        assert is_alone
        memory.cache().save_from_memory(time.monotonic() + 0.3)
    assert (memory.there, memory.on_disk) == ({0}, set())


def test_a_sweep_of_bert_base_in_memory_takes_no_disk_and_ends_the_same(tmp_path: Path, memory: Memory) -> None:
    whole = Sweep.run(tmp_path / "whole", 1_000.0, 0)
    memory.room = 11e9
    sweep = Sweep(memory.judge, memory.cache(), 0)
    sweep.to_the_end()
    assert sweep.results == whole.results
    assert sweep.trained <= 1.1 * whole.trained
    assert (sweep.peak_on_disk, sweep.written_to_disk) == (0, 0)
    assert 9e9 - STATE < sweep.peak <= 10e9 + STATE


def test_with_less_memory_the_rest_goes_to_disk(tmp_path: Path, memory: Memory) -> None:
    memory.room = 6e9
    whole, sweep = Sweep.run(tmp_path / "whole", 1_000.0, 1), Sweep(memory.judge, memory.cache(), 1)
    sweep.to_the_end()
    assert sweep.results == whole.results
    assert 0 < sweep.peak_on_disk <= 5e9


def test_if_all_states_are_lost_now_and_then_a_sweep_ends_the_same(tmp_path: Path, memory: Memory) -> None:
    memory.room = 100e9
    whole = Sweep.run(tmp_path / "whole", 1_000.0, 2)
    sweep = Sweep(memory.judge, memory.cache(1_000.0), 2)
    while sweep.next():
        if len(sweep.known) % 4 == 0:
            for state in memory.place.glob("trial-*"):
                shutil.rmtree(state)
    assert sweep.results == whole.results
    assert sweep.trained > whole.trained


sized = st.dictionaries(st.integers(0, 9), st.integers(0, 5))


@given(sizes=sized, waiting=st.permutations(range(10)), count=st.integers(0, 10), limit=st.integers(0, 20))
def test_what_is_kept_is_within_the_limit_and_nothing_goes_that_has_room(
    sizes: dict[int, int], waiting: list[int], count: int, limit: int
) -> None:
    waiting = waiting[:count]
    beyond = too_many(sizes, waiting, limit)
    assert set(beyond) <= sizes.keys() & set(waiting)
    kept = {trial: size for trial, size in sizes.items() if trial not in beyond}
    fixed = sum(size for trial, size in sizes.items() if trial not in waiting)
    assert sum(kept.values()) <= max(limit, fixed)
    for trial in beyond:
        better = sum(kept[one] for one in waiting[: waiting.index(trial)] if one in kept)
        assert fixed + better + sizes[trial] > limit


def test_odd_records_take_no_part(tmp_path: Path) -> None:
    """A waiting trial without an evaluation, and a record without a claim."""
    judge = judge_of(tmp_path / "s")
    folder, cache = judge.sweep_folder, StateCache(judge.sweep_folder, judge, Limits(states_gb=0.0))
    lease = next_attempt.claim(folder, 1, [0])
    assert lease is not None
    folder.record(record(0, None, WAITING))
    lease.release()
    save(folder, 0, 1)
    save(folder, 7, 1)
    folder.record(TrialRecord(7, 1, WAITING, {}, 0.0, 1.0, "l", "h", evaluations=seen(0.5)))
    assert not cache.make_room(1, seen(0.6), {}, 1)
    assert waiting_states.sizes(folder).keys() == {7}, "nobody has claimed it, so nobody knows that it waits"
