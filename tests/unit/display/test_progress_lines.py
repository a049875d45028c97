from __future__ import annotations

from made_records import COMPLETE, DIVERGED, FAILED, INTERRUPTED, PRUNED, WAITING, record, running

from finesweep.display.progress_lines import Announcer, Subject
from finesweep.trial import Direction, Evaluation, TrialState

SUBJECT = Subject("sst2", Direction.MINIMIZE, "eval_loss", 20, ("learning_rate", "num_train_epochs"), None)
PARAMS = "  learning_rate=3.2e-05 num_train_epochs=3"


def test_each_change_is_told_once() -> None:
    announcer = Announcer(SUBJECT, [])
    assert list(announcer.changes([], [running(0)])) == [f"[0/20] trial 0 RUNNING{PARAMS}"]
    assert list(announcer.changes([], [running(0, step=200)])) == []
    told = f"[1/20] trial 0 COMPLETE eval_loss 0.4312 (best so far) in 42 s{PARAMS}"
    assert list(announcer.changes([record(0, 0.4312)], [])) == [told]
    assert list(announcer.changes([record(0, 0.4312)], [])) == []


def test_a_trial_that_does_not_beat_the_best_names_it() -> None:
    announcer = Announcer(SUBJECT, [record(1, 0.41)])
    lines = list(announcer.changes([record(1, 0.41), record(2, 0.4312)], []))
    assert lines == [f"[2/20] trial 2 COMPLETE eval_loss 0.4312 (best 0.4100, trial 1) in 42 s{PARAMS}"]


def test_larger_is_better_when_maximised() -> None:
    announcer = Announcer(Subject("s", Direction.MAXIMIZE, "eval_accuracy", 5, (), None), [record(0, 0.8)])
    assert "(best so far)" in next(announcer.changes([record(1, 0.9)], []))


def test_several_ends_are_told_in_the_order_of_their_ending() -> None:
    announcer = Announcer(SUBJECT, [])
    records = [record(0, 0.5, seconds=1000.0), record(1, 0.4), record(2, 0.45)]
    lines = [line.split("  ")[0] for line in announcer.changes(records, [])]
    assert lines == [
        "[1/20] trial 1 COMPLETE eval_loss 0.4000 (best so far) in 42 s",
        "[2/20] trial 2 COMPLETE eval_loss 0.4500 (best 0.4000, trial 1) in 42 s",
        "[3/20] trial 0 COMPLETE eval_loss 0.5000 (best 0.4000, trial 1) in 16 min 40 s",
    ]


def test_other_ends_say_why_and_never_are_the_best() -> None:
    announcer = Announcer(SUBJECT, [])
    records = [
        record(0, 0.1, PRUNED, reason="worse than the median"),
        record(1, None, DIVERGED, reason="training loss is NaN"),
        record(2, None, FAILED, reason="RuntimeError: boom\nsecond line"),
        record(3, None, COMPLETE),
    ]
    lines = [line.removesuffix(PARAMS) for line in announcer.changes(records, [])]
    assert lines == [
        "[1/20] trial 0 PRUNED eval_loss 0.1000 in 42 s: worse than the median",
        "[2/20] trial 1 DIVERGED in 42 s: training loss is NaN",
        "[3/20] trial 2 FAILED in 42 s: RuntimeError: boom second line (logs/trial-0002.log)",
        "[4/20] trial 3 COMPLETE in 42 s",
    ]
    assert announcer.best == ""


def test_an_interrupted_trial_counts_when_it_ends_at_last() -> None:
    announcer = Announcer(SUBJECT, [])
    first = list(announcer.changes([record(0, None, INTERRUPTED)], []))
    again = list(announcer.changes([record(0, None, INTERRUPTED)], [running(0, attempt=2)]))
    last = list(announcer.changes([record(0, 0.5, attempt=2)], []))
    assert [line.split(" in ")[0].split("  ")[0] for line in first + again + last] == [
        "[0/20] trial 0 INTERRUPTED",
        "[0/20] trial 0 RUNNING",
        "[1/20] trial 0 COMPLETE eval_loss 0.5000 (best so far)",
    ]


def test_a_trial_that_waits_and_goes_on_looks_like_no_retry() -> None:
    announcer = Announcer(SUBJECT, [])
    at_rung = record(
        7, 0.61, WAITING, reason="waits after 3,460 examples for other trials to get there", examples=3_460
    )
    told = list(announcer.changes([at_rung], []))
    told += list(announcer.changes([at_rung], [running(7, attempt=2)]))
    told += list(announcer.changes([record(7, 0.5, PRUNED, attempt=2, reason="halving: weak")], []))
    assert [line.removesuffix(PARAMS) for line in told] == [
        "[0/20] trial 7 WAITING eval_loss 0.6100 at 3,460 examples",
        "[0/20] trial 7 RUNNING again from 3,460 examples",
        "[1/20] trial 7 PRUNED eval_loss 0.5000 in 42 s: halving: weak",
    ]


def test_a_trial_that_is_trained_again_because_its_state_was_not_kept_says_so() -> None:
    at_rung = Evaluation(step=200, epoch=0.5, examples=3_460, metrics={}, objective=0.61)
    waited = record(7, 0.61, WAITING, examples=3_460, evaluations=(at_rung,))
    for step, start in (
        (199, "from an earlier step, as its state was not kept"),
        (200, "from 3,460 examples"),
        (0, "from an earlier step, as its state was not kept"),
    ):
        told = list(Announcer(SUBJECT, [waited]).changes([waited], [running(7, attempt=2, step=step)]))
        assert [line.removesuffix(PARAMS) for line in told] == [f"[0/20] trial 7 RUNNING again {start}"]


def test_a_trial_that_waits_in_vain_is_told_when_it_is_dropped() -> None:
    announcer = Announcer(SUBJECT, [record(7, 0.61, WAITING)])
    told = list(announcer.changes([record(7, 0.61, PRUNED, reason="halving: not among the best")], []))
    assert [line.split(" in ")[0] for line in told] == ["[1/20] trial 7 PRUNED eval_loss 0.6100"]


def test_a_trial_that_is_finished_for_the_audit_says_so() -> None:
    announcer = Announcer(SUBJECT, [record(7, 0.61, WAITING, examples=3_460)])
    told = list(announcer.changes([record(7, 0.61, WAITING, audit="weak")], [running(7, attempt=2, audit="weak")]))
    assert [line.removesuffix(PARAMS) for line in told] == [
        "[0/20] trial 7 RUNNING again from 3,460 examples, for the audit"
    ]


def test_only_some_states_are_told_but_all_are_counted() -> None:
    announcer = Announcer(SUBJECT, [])
    records = [record(0, 0.5), record(1, None, FAILED)]
    lines = list(announcer.changes(records, [running(2)], only=(TrialState.FAILED,)))
    assert [line.split(" in ")[0] for line in lines] == ["[2/20] trial 1 FAILED"]
    assert announcer.best == "best 0.5000, trial 0"


def test_texts_from_outside_are_cleaned() -> None:
    announcer = Announcer(SUBJECT, [])
    bad = "\x1b[31mred\x1b[0m\x07\u202e"
    line = next(announcer.changes([record(0, None, FAILED, reason=bad, params={"optim": bad})], []))
    assert line == "[1/20] trial 0 FAILED in 42 s: red (logs/trial-0000.log)  optim=red"
