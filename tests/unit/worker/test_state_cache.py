"""The saved states of waiting trials stay within a limit, whatever waits, and no result depends on it."""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import record

from finesweep.folder import next_attempt, waiting_states
from finesweep.folder.claims import Lease
from finesweep.folder.sweep_folder import SweepFolder, make_folders
from finesweep.trial import Evaluation, TrialPruned, TrialRecord, TrialState, TrialWaits
from finesweep.worker.rung_judge import RungJudge
from finesweep.worker.state_cache import StateCache, too_many
from made_specs import made_spec

ROWS, TRIALS = 1_000, 20
RUNGS = (1, 2, 3)
STATE = 1_300_000_000
"""Bytes of BERT-base's weights and the optimizer's two averages, as it waits at its best evaluation."""

WAITING = TrialState.WAITING


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
        trained: Epochs trained by all trials.
        known: All evaluations of each trial so far.
    """

    judge: RungJudge
    cache: StateCache
    seed: int
    peak: int = 0
    written: int = 0
    trained: int = 0
    known: dict[int, tuple[Evaluation, ...]] = field(default_factory=dict)

    @classmethod
    def run(cls, path: Path, states_gb: float | None, seed: int) -> Sweep:
        judge = judge_of(path)
        sweep = cls(judge, StateCache(judge.sweep_folder, judge, states_gb), seed)
        while (lease := next_attempt.claim(judge.sweep_folder, 1, judge.queue())) is not None:
            sweep.train(lease)
            lease.release()
        return sweep

    def losses(self, trial: int) -> list[float]:
        source = random.Random(self.seed * 1_000 + trial)
        floor = source.uniform(0.2, 0.6)
        return [floor + source.uniform(0.1, 0.3) / epoch for epoch in range(1, 5)]

    def train(self, lease: Lease) -> None:
        folder, trial = self.judge.sweep_folder, lease.claim.trial
        losses, known = self.losses(trial), len(self.known.get(trial, ()))
        start = known if folder.state(trial).is_dir() else 0
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
        if self.cache.make_room(trial, evaluations, {}, STATE):
            before = waiting_states.sizes(folder)
            save(folder, trial, STATE)
            self.written += STATE
            # An old state of the trial is there until the new one is complete.
            self.peak = max(self.peak, sum(before.values()) + STATE)

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
    folder, cache = judge.sweep_folder, StateCache(judge.sweep_folder, judge, 3e-9)
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
    folder, cache = judge.sweep_folder, StateCache(judge.sweep_folder, judge, 4e-9)
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
    folder, cache = judge.sweep_folder, StateCache(judge.sweep_folder, judge, 2e-9)
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
    folder, cache = judge.sweep_folder, StateCache(judge.sweep_folder, judge, 2e-9)
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
    assert StateCache(folder, judge, 2e-9).make_room(1, seen(0.6), {}, 1)
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
    folder, cache = judge.sweep_folder, StateCache(judge.sweep_folder, judge, 0.0)
    lease = next_attempt.claim(folder, 1, [0])
    assert lease is not None
    folder.record(record(0, None, WAITING))
    lease.release()
    save(folder, 0, 1)
    save(folder, 7, 1)
    folder.record(TrialRecord(7, 1, WAITING, {}, 0.0, 1.0, "l", "h", evaluations=seen(0.5)))
    assert not cache.make_room(1, seen(0.6), {}, 1)
    assert waiting_states.sizes(folder).keys() == {7}, "nobody has claimed it, so nobody knows that it waits"
