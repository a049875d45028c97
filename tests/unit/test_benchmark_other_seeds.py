"""What winners are worth on other seeds: targets, paired differences, their interval, the start; nothing trains."""

from __future__ import annotations

import dataclasses
import json
import statistics
from pathlib import Path

import pytest
from benchmarks import arms, other_seeds
from benchmarks.figures import Figures, Goal, Spread
from benchmarks.other_seeds import Interval, Result
from benchmarks.workload import Workload
from made_outcomes import outcome

FIELD = other_seeds.arms_with(1)
WORKLOAD = Workload("x", "a.csv", "b.csv", 2, "model", 64, 30, {"learning_rate": {"low": 1, "high": 2}}, {"a": 1}, 4)


def made(ours: tuple[float | None, ...], peer: tuple[float | None, ...], **changes: object) -> other_seeds.Round:
    """Return a round: finesweep was at 0.41 after 10 s of 40 s, both peers as ``outcome`` says."""
    own = outcome("finesweep", seconds=40.0, reached=((10.0, 0.41),), start_seconds=4.0, end_seconds=2.0)
    stock = outcome("S", start_seconds=7.0, end_seconds=1.0)
    return {
        "finesweep": Result(dataclasses.replace(own, **changes), ours),
        "S": Result(stock, peer),
        "S+": Result(dataclasses.replace(stock, arm="S+"), peer),
    }


def goal(figures: Figures, measure: str, what: str, against: str = "S") -> Goal:
    """Return the goal of a measure against an arm that begins with some words."""
    found = [one for one in figures.goals if (one.measure, one.against) == (measure, against)]
    return next(one for one in found if one.what.startswith(what))


def test_the_target_is_what_s_is_worth_on_the_other_seeds():
    """On its own seed S was at 0.40; the other seeds say 0.42, so 0.41 after 10 s is good enough and 0.5 is not."""
    figures = other_seeds.summed_up("x", FIELD, [made((0.40, 0.41, 0.42), (0.41, 0.42, 0.43))])
    assert figures.raw["targets"] == [pytest.approx(1.01 * 0.42)]
    time = goal(figures, "M1", "wall clock")
    assert time.found == Spread.of([6.0])  # S was there after 60 s
    assert time.is_met
    assert goal(figures, "M1", "whole sweep").found == Spread.of([2.5])
    assert goal(figures, "M2", "examples").found == Spread.of([1.0])
    assert goal(figures, "start", "command to first step", "").found == Spread.of([4.0])
    assert goal(figures, "start", "last step to exit", "").found == Spread.of([2.0])
    assert {one.against for one in figures.goals if one.measure in ("M1", "M2")} == {"S", "S+"}


def test_a_faster_sweep_with_a_worse_winner_meets_no_goal():
    rounds = [made((0.50, 0.51, 0.49), (0.40, 0.41, 0.39)), made((0.52, 0.50, 0.51), (0.41, 0.40, 0.40))]
    figures = other_seeds.summed_up("x", FIELD, [*rounds, *rounds])
    assert not goal(figures, "M1", "wall clock").is_on_par
    assert not any(one.is_met for one in figures.goals if one.measure in ("M1", "M2"))
    assert figures.tables[1].rows[0][-1] == "**no**"


def test_differences_are_paired_by_seed_and_rounds_with_a_failed_seed_are_left_out():
    rounds = [made((0.44, 0.20, 0.30), (0.40, 0.25, 0.30)), made((0.4, None, 0.4), (0.4, 0.4, 0.4))]
    (found,) = other_seeds.differences(rounds, "S")
    assert found == pytest.approx([0.1, -0.2, 0.0])
    figures = other_seeds.summed_up("x", FIELD, rounds)
    assert figures.notes == ["x: finesweep, round 2: 1 of 3 other seeds failed"]


def test_the_interval_is_over_rounds_and_over_seeds_only_with_one_round():
    rounds = [[0.01, 0.03, 0.02], [-0.01, -0.01, -0.01], [0.02, 0.0, 0.01]]
    found = other_seeds.interval(rounds)
    assert found is not None
    means = [0.02, -0.01, 0.01]
    reach = 4.302653 * statistics.stdev(means) / 3**0.5  # Student's t with two degrees of freedom
    assert (found.mean, found.low, found.high) == (
        pytest.approx(statistics.mean(means)),
        pytest.approx(statistics.mean(means) - reach, rel=1e-5),
        pytest.approx(statistics.mean(means) + reach, rel=1e-5),
    )
    assert (found.units, found.of) == (3, "rounds")
    one = other_seeds.interval(rounds[:1])
    assert one is not None
    assert (one.units, one.of) == (3, "seeds")
    assert other_seeds.interval([]) is None
    assert other_seeds.interval([[0.1]]) is None


def test_no_worse_means_that_the_interval_holds_0_or_lies_below():
    for low, high, no_worse in ((-0.2, 0.1, True), (-0.2, -0.1, True), (0.01, 0.2, False), (0.0, 0.0, True)):
        assert Interval(0.0, low, high, 3, "rounds").is_no_worse is no_worse


def test_a_peer_that_never_got_there_gives_a_lower_bound_and_finesweep_none():
    never = made((0.3, 0.3, 0.3), (0.3, 0.3, 0.3))  # the target is 0.303, and nobody was below 0.4
    assert goal(other_seeds.summed_up("x", FIELD, [never]), "M1", "wall clock").found is None
    ours = made((0.3, 0.3, 0.3), (0.3, 0.3, 0.3), reached=((20.0, 0.3),))
    found = goal(other_seeds.summed_up("x", FIELD, [ours]), "M1", "wall clock")
    assert (found.found, found.bound) == (Spread.of([5.0]), True)
    assert found.note == "S did not get there in 1 of 1 rounds"
    late = made((0.42, 0.42, 0.42), (0.42, 0.42, 0.42), reached=((20.0, 0.5),))
    found = goal(other_seeds.summed_up("x", FIELD, [late]), "M1", "wall clock")
    assert (found.found, found.is_met) == (Spread.of([0.0]), False)
    assert found.note == "finesweep did not get there in 1 of 1 rounds"


def test_a_round_in_which_s_failed_has_no_target_and_is_named():
    broken = made((0.4, 0.4, 0.4), (None, None, None))
    broken = {**broken, "S": Result(outcome("S", failure="killed"), (None, None, None))}
    figures = other_seeds.summed_up("x", FIELD, [broken, made((0.4, 0.4, 0.4), (0.4, 0.4, 0.4))])
    assert figures.raw["targets"] == [None, pytest.approx(0.404)]
    assert "x: S: stock call, well written, 1 thread" not in figures.notes
    assert any("round 1: killed" in note for note in figures.notes)
    assert goal(figures, "M1", "wall clock").found == Spread.of([0.0])


def test_the_table_of_arms_has_the_start_as_a_column_of_its_own():
    table = other_seeds.summed_up("x", FIELD, [made((0.40, 0.41, 0.42), (0.41, 0.42, 0.43))]).tables[0]
    row = dict(zip(table.columns, table.rows[0], strict=True))
    assert row["s to the first step"] == "4.00"
    assert row["s from the last step"] == "2.00"
    assert row["on other seeds"] == "0.4100"
    assert row["s to target"] == "10.0"


def test_no_round_shares_a_seed_with_another_or_with_an_arm():
    seeds = [seed for turn in range(10) for seed in other_seeds.other_seeds(turn)]
    assert len(set(seeds)) == len(seeds) == 10 * other_seeds.SEEDS
    assert not set(seeds) & set(range(10))


def test_a_winner_is_trained_again_with_nothing_but_its_parameters():
    again = other_seeds.alone(WORKLOAD, {"learning_rate": 3e-4, "num_train_epochs": 3}, 1_002)
    assert (again.trials, again.seed) == (1, 1_002)
    assert again.space == {"learning_rate": {"choices": [3e-4]}}
    assert again.fixed == {"a": 1, "num_train_epochs": 3}
    assert (again.train, again.model, again.max_length) == (WORKLOAD.train, WORKLOAD.model, WORKLOAD.max_length)


def test_parameters_are_read_from_what_each_arm_left(tmp_path: Path):
    (tmp_path / "parameters.json").write_text(json.dumps({"learning_rate": 1e-4}), encoding="utf-8")
    assert other_seeds.parameters_of(arms.ARMS["S+"], tmp_path) == {"learning_rate": 1e-4}
    sweep = tmp_path / "results" / "sweep"
    (sweep / "winner").mkdir(parents=True)
    (sweep / "trials").mkdir()
    (sweep / "winner" / "evidence.json").write_text(json.dumps({"trial": 7}), encoding="utf-8")
    record = {"params": {"learning_rate": 2e-4}}
    (sweep / "trials" / "0007.json").write_text(json.dumps(record), encoding="utf-8")
    assert other_seeds.parameters_of(arms.OURS, tmp_path) == {"learning_rate": 2e-4}


@pytest.mark.parametrize(
    ("config", "rates", "rows", "length"),
    [
        ({"hidden_size": 768, "max_position_embeddings": 512}, (1e-5, 5e-5), 1_000, 128),
        ({"hidden_size": 64, "max_position_embeddings": 64}, (1.2e-4, 6e-4), 8_000, 64),
        ({"dim": 384}, (2e-5, 1e-4), 1_000, 128),
    ],
)
def test_the_searched_learning_rates_fit_the_models_width(tmp_path, config, rates, rows, length):
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    size = other_seeds.size_for(tmp_path, None)
    axis = size.space["learning_rate"]
    assert (axis["low"], axis["high"]) == rates
    assert (size.train_rows, size.max_length, size.trials) == (rows, length, 30)
    assert other_seeds.size_for(tmp_path, 32).max_length == 32


def test_peers_have_equal_threads_and_s_plus_groups_its_rows(tmp_path):
    assert {arm.threads for key, arm in FIELD.items() if key != "finesweep"} == {1}
    assert FIELD["S+"].command(tmp_path / "w", tmp_path)[-1] == "--grouped"
    assert "--grouped" not in FIELD["S"].command(tmp_path / "w", tmp_path)
