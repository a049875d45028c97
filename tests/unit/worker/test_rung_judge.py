"""Who of a sweep's trials goes on at a rung, by what its folder says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from finesweep.folder import next_attempt
from finesweep.folder.claims import Lease
from finesweep.folder.sweep_folder import SweepFolder, make_folders
from finesweep.spec.sections import SweepSpec
from finesweep.trial import Evaluation, Progress, TrialPruned, TrialRecord, TrialState, TrialWaits
from finesweep.worker.rung_judge import RungJudge
from made_specs import made_spec

ROWS = 1_000


def spec_with(**search) -> SweepSpec:
    pruning = {"rungs": (1, 2), "factor": 3, **search.pop("pruning", {})}
    return made_spec(search={"baseline": False, **search}, pruning=pruning)


def judge_of(folder: Path, trials: int = 6, **search) -> RungJudge:
    return RungJudge(make_folders(folder), spec_with(**search), ROWS, trials)


def seen(*losses: float) -> tuple[Evaluation, ...]:
    """Evaluations after each epoch."""
    return tuple(
        Evaluation(step, float(step), step * ROWS, {"eval_loss": loss}, loss)
        for step, loss in enumerate(losses, start=1)
    )


def ended(sweep_folder: SweepFolder, trial: int, state: TrialState, *losses: float, attempt: int = 1, **facts) -> None:
    lease = next_attempt.claim(sweep_folder, 1, [trial])
    assert lease is not None
    assert lease.claim.attempt == attempt
    record = TrialRecord(trial, attempt, state, {}, 0.0, 1.0, "log", "h", evaluations=seen(*losses), **facts)
    sweep_folder.record(record)
    lease.release()


def running(sweep_folder: SweepFolder, trial: int, *losses: float) -> Lease:
    lease = next_attempt.claim(sweep_folder, 1, [trial])
    assert lease is not None
    sweep_folder.write_progress(Progress(trial, lease.claim.attempt, {}, 0.0, evaluations=seen(*losses)))
    return lease


def test_without_halving_trials_run_in_the_order_of_their_numbers(tmp_path):
    assert list(judge_of(tmp_path, pruner="median").queue()) == [0, 1, 2, 3, 4, 5]


def test_who_waits_is_in_the_queue_only_once_its_turn_has_come(tmp_path):
    rung_judge = judge_of(tmp_path, pruner="halving")
    for trial in range(5):
        ended(rung_judge.sweep_folder, trial, TrialState.WAITING, 1.0 - trial / 10)
    # Of five one goes on, of six it may be two.
    assert list(rung_judge.queue()) == [4, 5]
    ended(rung_judge.sweep_folder, 5, TrialState.WAITING, 0.55)
    assert list(rung_judge.queue()) == [4, 5]
    assert [rung_judge.sweep_folder.is_finished(trial) for trial in range(6)] == [True] * 4 + [False] * 2
    assert rung_judge.sweep_folder.read_record(3).reason == (
        "halving: eval_loss 0.7000 after 1,000 examples; "
        "kept were the best 2 of trials 0, 1, 2, 3, 4, 5 (0.5500 to 0.6000)"
    )


def test_who_has_lost_already_is_ended_before_all_have_come(tmp_path):
    rung_judge = judge_of(tmp_path, pruner="halving")
    for trial, loss in enumerate((0.1, 0.2, 0.3)):
        ended(rung_judge.sweep_folder, trial, TrialState.WAITING, loss)
    assert list(rung_judge.queue()) == [0, 3, 4, 5]
    assert rung_judge.sweep_folder.read_record(2).state is TrialState.PRUNED  # of six, two go on
    with pytest.raises(TrialPruned, match=r"kept were the best 2 of trials 0, 1, 2, 3 \(0\.1000 to 0\.2000\)"):
        rung_judge.judge(3, seen(0.4), {})
    with pytest.raises(TrialWaits, match="waits after 1,000 examples for other trials to get there"):
        rung_judge.judge(3, seen(0.15), {})
    rung_judge.judge(3, seen(0.05), {})  # the best so far goes on at once


def test_who_died_on_the_way_to_the_next_rung_is_still_promoted(tmp_path):
    rung_judge = judge_of(tmp_path, 3, pruner="halving")
    for trial, loss in enumerate((0.1, 0.2, 0.3)):
        ended(rung_judge.sweep_folder, trial, TrialState.WAITING, loss)
    assert list(rung_judge.queue()) == [0]
    lease = running(rung_judge.sweep_folder, 0, 0.1)
    assert lease.claim.attempt == 2
    lease.release()  # without a record
    assert 0 in list(rung_judge.queue())
    again = next_attempt.claim(rung_judge.sweep_folder, 1, rung_judge.queue())
    assert (again.claim.trial, again.claim.attempt) == (0, 3)


def test_who_died_after_going_on_is_asked_again_though_better_ones_have_come(tmp_path):
    rung_judge = judge_of(tmp_path, 4, pruner="halving")
    for trial, loss in enumerate((0.3, 0.4, 0.5)):
        ended(rung_judge.sweep_folder, trial, TrialState.WAITING, loss)
    assert list(rung_judge.queue()) == [0, 3]
    begun, promoted = (next_attempt.claim(rung_judge.sweep_folder, 1, [trial]) for trial in (3, 0))
    promoted.release()  # without a record
    begun.release()
    record = TrialRecord(3, 1, TrialState.WAITING, {}, 0.0, 1.0, "log", "h", evaluations=seen(0.1))
    rung_judge.sweep_folder.record(record)
    assert sorted(rung_judge.queue()) == [0, 3]


def test_what_running_trials_have_shown_counts(tmp_path):
    rung_judge = judge_of(tmp_path, 20, pruner="median")
    held = [running(rung_judge.sweep_folder, trial, 0.1) for trial in range(8)]
    with pytest.raises(TrialPruned, match=r"after 1,000 examples; the median of 8 other trials was 0\.1000"):
        rung_judge.judge(9, seen(0.5), {})
    rung_judge.judge(9, seen(0.05), {})
    for lease in held:
        lease.release()


def test_no_verdict_is_given_between_rungs(tmp_path):
    rung_judge = judge_of(tmp_path, 20, pruner="median")
    for trial in range(8):
        ended(rung_judge.sweep_folder, trial, TrialState.COMPLETE, 0.1, 0.1, 0.1)
    weak, later = seen(0.5, 0.5)
    rung_judge.judge(9, (dataclasses.replace(weak, examples=500),), {})
    rung_judge.judge(9, (weak, dataclasses.replace(later, examples=1_500)), {})
    rung_judge.judge(9, seen(0.05, 0.05, 0.9), {})


def test_the_untuned_default_is_spared(tmp_path):
    rung_judge = judge_of(tmp_path, 20, pruner="median", baseline=True)
    for trial in range(1, 9):
        ended(rung_judge.sweep_folder, trial, TrialState.COMPLETE, 0.1)
    rung_judge.judge(0, seen(0.9), {})
    with pytest.raises(TrialPruned, match="the median of 8 other trials"):  # there it is a point like any other
        judge_of(tmp_path, 20, pruner="median", sampler="grid", baseline=True).judge(0, seen(0.9), {})


def test_the_untuned_default_takes_nobodys_place(tmp_path):
    """It is finished anyway; where it is the best at a rung, one of the others is finished beside it."""
    rung_judge = judge_of(tmp_path, 4, pruner="halving", baseline=True)
    ended(rung_judge.sweep_folder, 0, TrialState.COMPLETE, 0.1, 0.1, 0.1)
    for trial, loss in ((1, 0.4), (2, 0.3), (3, 0.2)):
        ended(rung_judge.sweep_folder, trial, TrialState.WAITING, loss)
    assert list(rung_judge.queue()) == [3]


def test_an_audited_trial_goes_on_and_says_on_what_grounds_it_would_have_ended(tmp_path):
    rung_judge = judge_of(tmp_path, 3, pruner="halving", pruning={"audit": 1.0})
    for trial, loss in enumerate((0.1, 0.2, 0.3)):
        ended(rung_judge.sweep_folder, trial, TrialState.WAITING, loss)
    assert set(rung_judge.queue()) == {0}
    record = rung_judge.sweep_folder.read_record(2)
    assert record.state is TrialState.WAITING
    assert (
        record.audit
        == "halving: eval_loss 0.3000 after 1,000 examples; kept were the best 1 of trials 0, 1, 2 (0.1000)"
    )
    assert set(rung_judge.queue()) == {0, 1, 2}


def test_trials_are_compared_at_the_same_examples_whatever_rungs_the_spec_has(tmp_path):
    rung_judge = judge_of(tmp_path, pruner="halving", pruning={"rungs": (0.5, 3)})
    assert rung_judge.rungs({}) == (500, 3_000)
    assert judge_of(tmp_path, pruner="asha").rungs({}) == ()


SHARES = {"pruning": {"rungs": ("25%", "50%")}}
LENGTHS = (2, 3, 4, 5)


def at_shares(epochs: int, *losses: float) -> tuple[Evaluation, ...]:
    """Evaluations at a quarter and a half of a trial of so many epochs."""
    whole = epochs * ROWS
    return tuple(
        Evaluation(place, place * epochs / 4, place * whole // 4, {}, loss) for place, loss in enumerate(losses, 1)
    )


def of_epochs(trial: int, epochs: int, state: TrialState, *losses: float) -> TrialRecord:
    params = {"num_train_epochs": epochs}
    return TrialRecord(trial, 1, state, params, 0.0, 1.0, "log", "h", evaluations=at_shares(epochs, *losses))


def write(sweep_folder: SweepFolder, record: TrialRecord) -> None:
    lease = next_attempt.claim(sweep_folder, 1, [record.trial])
    assert lease is not None
    sweep_folder.record(record)
    lease.release()


@pytest.mark.parametrize("pruner", ["halving", "median"])
def test_trials_of_different_lengths_are_compared_at_the_same_share(tmp_path, pruner):
    rung_judge = judge_of(tmp_path, 20, pruner=pruner, **SHARES)
    for trial in range(9):
        epochs = LENGTHS[trial % 4]
        write(rung_judge.sweep_folder, of_epochs(trial, epochs, TrialState.COMPLETE, 0.5 + trial / 100, 0.4))
    for epochs in LENGTHS:
        params = {"num_train_epochs": epochs}
        rung_judge.judge(9, at_shares(epochs, 0.1), params)
        stops = TrialPruned if pruner == "median" else (TrialPruned, TrialWaits)
        with pytest.raises(stops, match=r"after 25 % of its examples"):
            rung_judge.judge(9, at_shares(epochs, 0.9), params)
        # As many examples as the first rung of other trials has, but another share of this one.
        other = tuple(dataclasses.replace(one, examples=one.examples + ROWS // 8) for one in at_shares(epochs, 0.9))
        rung_judge.judge(9, other, params)


def test_a_value_counts_at_the_share_at_which_it_was_reached(tmp_path):
    """After half an epoch a trial of two epochs is at its first rung, one of four epochs at none."""
    rung_judge = judge_of(tmp_path, 20, pruner="halving", **SHARES)
    evaluation = Evaluation(1, 0.5, ROWS // 2, {}, 0.5)
    for trial, epochs in enumerate((2, 4)):
        record = dataclasses.replace(of_epochs(trial, epochs, TrialState.WAITING), evaluations=(evaluation,))
        write(rung_judge.sweep_folder, record)
    standings = rung_judge._standings()
    assert [dict(standings[trial].values) for trial in (0, 1)] == [{0: 0.5}, {}]


def test_rung_of_shares_is_named_with_the_trials_that_were_kept(tmp_path):
    rung_judge = judge_of(tmp_path, 3, pruner="halving", **SHARES)
    for trial, epochs in enumerate((2, 5, 3)):
        write(rung_judge.sweep_folder, of_epochs(trial, epochs, TrialState.WAITING, 0.5 + trial / 10))
    assert list(rung_judge.queue()) == [0]
    reason = rung_judge.sweep_folder.read_record(2).reason
    assert reason == (
        "halving: eval_loss 0.7000 after 25 % of its examples; kept were the best 1 of trials 0, 1, 2 (0.5000)"
    )
