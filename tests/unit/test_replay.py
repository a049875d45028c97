"""The replay of pruners on recorded curves: what it counts is what a sweep would have trained."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import optuna
import pytest
from benchmarks import replay
from benchmarks.curves import record as recorder
from benchmarks.recorded import Curve, read_curves
from benchmarks.replay_rules import Fewer, Halving, Median, Optuna, Unpruned, carry_out, examples_axis
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import record

from finesweep.folder.sweep_folder import make_folders
from finesweep.trial import Evaluation, TrialState

ROWS = 100


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def curve(values: Sequence[float], number: int = 0, seed: int = 0, batch: int = 10) -> Curve:
    """A curve with one value an epoch, at one example a second."""
    evaluations = tuple(
        Evaluation(epoch * ROWS // batch, epoch, epoch * ROWS, {}, value) for epoch, value in enumerate(values, 1)
    )
    return Curve(number, seed, len(values), ROWS, batch, ROWS * len(values), evaluations)


FOUR = [curve(values) for values in ([0.5, 0.1], [0.4, 0.2], [0.3, 0.3], [0.6, 0.0])]


def test_without_pruning_everything_is_trained() -> None:
    outcome = carry_out(Unpruned(FOUR), 1)
    assert outcome.reached == [200] * 4
    assert outcome.seconds == 800
    assert outcome.complete == {0, 1, 2, 3}


def test_workers_share_the_time_and_not_the_cost() -> None:
    outcome = carry_out(Unpruned([*FOUR, curve([0.1])]), 2)
    assert sum(outcome.reached) == 900
    assert outcome.seconds == 500  # 200 + 200 + 100 on one of them


def test_halving_sends_on_the_best_half_of_those_that_have_come() -> None:
    outcome = carry_out(Halving(FOUR, rungs=(1,), factor=2), 1)
    assert outcome.reached == [100, 200, 200, 100]
    assert outcome.complete == {1, 2}
    # The first of them goes on as the better one of two, before a third has come.
    worse_and_worse = carry_out(Halving(FOUR[2::-1], rungs=(1,), factor=2), 1)
    assert worse_and_worse.complete == {0}
    better_and_better = carry_out(Halving(FOUR[:3], rungs=(1,), factor=2), 1)
    assert better_and_better.complete == {1, 2}


def test_nobody_waits_for_a_trial_that_is_late() -> None:
    slow = dataclasses.replace(FOUR[3], seconds=10_000)
    done = carry_out(Halving([slow, *FOUR[:3]], rungs=(1,), factor=2), 2)
    # Two of the three others have their places before trial 0 has come.
    assert done.complete == {2, 3}
    assert done.seconds == 5_000


def test_the_median_stops_whoever_is_worse_than_those_before() -> None:
    outcome = carry_out(Median(FOUR, rungs=(1,), fewest=2), 1)
    assert outcome.reached == [200, 200, 200, 100]
    assert carry_out(Median(FOUR, rungs=(1,), fewest=4), 1).complete == {0, 1, 2, 3}  # who has but three others


def test_at_steps_trials_of_another_batch_size_are_never_compared() -> None:
    good = [curve([0.1, 0.1], batch=10)] * 6
    weak = curve([0.9, 0.9], batch=20)
    assert 6 in carry_out(Optuna([*good, weak]), 1).complete
    assert 6 not in carry_out(Optuna([*good, weak], axis=examples_axis), 1).complete


def test_patience_completes_a_trial_that_gets_worse() -> None:
    outcome = carry_out(replay.patient(Unpruned, 1)([curve([0.5, 0.4, 0.6, 0.1]), curve([0.5, 0.4])]), 1)
    assert outcome.reached == [300, 200]
    assert outcome.seconds == 500
    assert outcome.complete == {0, 1}


def test_a_trial_whose_loss_rises_completes_and_one_on_a_plateau_goes_on() -> None:
    curves = [curve([0.5, 0.4, 0.41, 0.1]), curve([0.69, 0.6905, 0.6908, 0.1])]
    assert carry_out(replay.patient(Unpruned)(curves), 1).reached == [300, 400]


def test_fewer_trials_run_to_their_ends() -> None:
    assert carry_out(Fewer(FOUR, share=0.5), 1).reached == [200, 200, 0, 0]


@st.composite
def sweeps(draw: st.DrawFn) -> list[Curve]:
    value = st.floats(0.1, 0.9, allow_nan=False)
    drawn = draw(st.lists(st.lists(value, min_size=2, max_size=4), min_size=1, max_size=12))
    best = draw(st.integers(0, len(drawn)))
    return [curve(values) for values in [*drawn[:best], [0.05, 0.04, 0.03], *drawn[best:]]]


@settings(deadline=None)
@given(sweeps(), st.integers(1, 5), st.sampled_from([(1,), (1, 2), (1, 2, 3)]), st.integers(2, 4))
def test_whoever_is_always_the_best_is_lost_by_no_rule_of_ours(
    curves: list[Curve], workers: int, rungs: tuple[int, ...], factor: int
) -> None:
    best = min(range(len(curves)), key=lambda trial: curves[trial].best)
    for rule in (Halving(curves, rungs=rungs, factor=factor), Median(curves, rungs=rungs)):
        outcome = carry_out(rule, workers)
        assert best in outcome.complete
        whole = [one.examples for one in curves]
        assert all(0 < reached <= of for reached, of in zip(outcome.reached, whole, strict=True))
        assert {trial for trial, of in enumerate(whole) if outcome.reached[trial] == of} == outcome.complete


def test_regret_is_that_of_the_winner_and_elsewhere_that_of_its_parameters() -> None:
    # With seed 0 the last trial wins in the end and is stopped at the first epoch; with seed 1 it is bad.
    curves = {
        0: [curve(values, number) for number, values in enumerate([[0.4, 0.4], [0.5, 0.5], [0.9, 0.2]])],
        1: [curve(values, number, 1) for number, values in enumerate([[0.4, 0.4], [0.5, 0.5], [0.9, 0.8]])],
    }
    drawn = [(0, [0, 1, 2]), (1, [0, 1, 2])]
    unpruned = replay.replay(curves, Unpruned, drawn, 1)
    halved = replay.replay(curves, lambda of: Halving(of, rungs=(1,), factor=3), drawn, 1)
    truth = replay.Truth(curves)
    found = replay.measured(truth, halved, unpruned)
    assert found.cost == pytest.approx(4 / 6)
    assert found.done == 1
    assert found.regrets == [pytest.approx(100.0), 0]  # 0.4 instead of 0.2
    assert found.regret == pytest.approx(50.0)
    assert found.elsewhere == pytest.approx(-25.0)  # 0.4 instead of 0.8, and no difference
    assert found.lost == 0.5
    assert found.lost_by_mean == 0
    assert found.survive == {2: pytest.approx(1 / 3)}
    assert found.lost_by == {2: 0.5}
    assert replay.measured(truth, unpruned, unpruned).regret == 0


def test_a_rung_that_favours_short_trials_says_so() -> None:
    short, long = curve([0.3, 0.29]), curve([0.9, 0.9, 0.1])
    text = replay.rung_table({0: [short, long], 1: [short, long]})
    assert text[0].endswith("| 2 epochs | 3 epochs |")
    assert next(line for line in text if line.startswith("| 1 |")) == "| 1 | -1.00, -1.00 | +50 | -50 |"


def test_records_become_the_table_that_is_replayed(tmp_path: Path) -> None:
    folder = make_folders(tmp_path / "sweep")
    params = {"learning_rate": 3e-4, "num_train_epochs": 2, "per_device_train_batch_size": 8}
    metrics = {"eval_loss": 0.5, "eval_accuracy": 0.75}
    seen = tuple(Evaluation(epoch * 13, epoch, epoch * 100, metrics, 0.5) for epoch in (1, 2))
    folder.record(record(0, 0.5, params=params, evaluations=seen, seconds=12.0))
    recorder.write_table([folder], tmp_path / "curves.csv")
    (read,) = read_curves(tmp_path / "curves.csv")[0]
    assert (read.epochs, read.batch, read.seconds, read.rows, read.best) == (2, 8, 12.0, 100, 0.5)
    assert [one.step for one in read.evaluations] == [13, 26]


def test_a_trial_that_did_not_complete_is_no_curve() -> None:
    with pytest.raises(SystemExit, match=r"seed 1: trial 4 is FAILED"):
        list(recorder.rows_of(1, record(4, None, TrialState.FAILED)))


@pytest.mark.parametrize(
    ("table", "seeds", "count", "space", "rows"),
    [
        ("curves", 3, 48, "bert", 4_000),
        ("quickstart", 2, 28, "quickstart", 2_000),
        ("pretrained", 2, 24, "bert", 1_000),
    ],
)
def test_the_tables_that_are_shipped_are_whole(table: str, seeds: int, count: int, space: str, rows: int) -> None:
    curves = read_curves(replay.TABLE.with_name(f"{table}.csv"))
    drawn = recorder.configurations(count, recorder.SPACES[space])
    assert sorted(curves) == list(range(seeds))
    for of in curves.values():
        assert [one.configuration for one in of] == list(range(count))
        assert [one.epochs for one in of] == [one["num_train_epochs"] for one in drawn]
        assert [one.batch for one in of] == [one["per_device_train_batch_size"] for one in drawn]
        assert all(len(one.evaluations) >= 4 * one.epochs and one.rows == rows for one in of)


def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["replay", "--trials", "10", "--orders", "2", "--match", "median at 1, 2"])
    replay.main()
    rows = list(csv.reader(capsys.readouterr().out.splitlines(), delimiter="|"))
    named = [row for row in rows if len(row) > 1 and row[1].strip().startswith("median at 1, 2")]
    assert len(named) >= 1
    assert all(0 < float(row[2]) <= 1 for row in named)
