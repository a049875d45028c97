"""The recorded tables of curves: all are whole, and those that no rule is tuned on are named as such."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
from benchmarks.curves.recorded import FOLDER, HELD_OUT, find_table, is_held_out, read_curves
from benchmarks.studies.rated_texts import label_of, read_ratings, rows_of
from benchmarks.studies.record_curves import SPACES, configurations
from benchmarks.studies.recorded_table import lines, missing, read_table, write_table
from benchmarks.studies.replay import orders, replay, title
from benchmarks.studies.replay_rules import Unpruned

EVALUATIONS_PER_EPOCH = 4
TABLES = sorted(path.stem for path in FOLDER.glob("*.csv"))
HELD_OUT_TABLES = [name for name in TABLES if name in HELD_OUT]


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_the_whole_curve_of_each_configuration_under_each_seed(name: str) -> None:
    curves = read_curves(find_table(name))
    assert sorted(curves) == list(range(len(curves)))
    for of in curves.values():
        assert [one.configuration for one in of] == list(range(len(curves[0])))
        assert [(one.epochs, one.batch, one.rows) for one in of] == [(it.epochs, it.batch, it.rows) for it in curves[0]]
        for one in of:
            assert len(one.evaluations) == EVALUATIONS_PER_EPOCH * one.epochs
            assert all(one.at(end) for end in one.epoch_ends)
            assert math.isfinite(one.best)


@pytest.mark.parametrize("name", HELD_OUT_TABLES)
def test_a_held_out_table_has_the_configurations_that_its_space_draws(name: str) -> None:
    with find_table(name).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    drawn = {int(row["configuration"]): (row["learning_rate"], row["epochs"], row["batch"]) for row in rows}
    wanted = [tuple(str(value) for value in one.values()) for one in configurations(24, SPACES[name])]
    assert [drawn[number] for number in sorted(drawn)] == wanted


def test_tables_are_found_by_name_and_by_path(tmp_path: Path) -> None:
    assert find_table("pretrained") == FOLDER / "pretrained.csv"
    other = tmp_path / "other.csv"
    other.write_text("", encoding="utf-8")
    assert find_table(str(other)) == other
    with pytest.raises(ValueError, match=r"no table curve; name a file or one of .*curves, pretrained"):
        find_table("curve")


def test_only_the_recorded_tables_are_held_out(tmp_path: Path) -> None:
    assert is_held_out(FOLDER / "amazon.csv")
    assert is_held_out(FOLDER / "tweets.csv")
    assert not any(is_held_out(FOLDER / f"{name}.csv") for name in ("curves", "pretrained", "quickstart"))
    assert not is_held_out(tmp_path / "amazon.csv")


def test_a_replay_says_that_its_table_is_held_out() -> None:
    assert title(FOLDER / "amazon.csv") == "amazon: held out, so no rule may be tuned on these figures"
    assert title(FOLDER / "curves.csv") == "curves"


@pytest.mark.parametrize("name", HELD_OUT_TABLES)
def test_held_out_tables_can_be_replayed(name: str) -> None:
    curves = read_curves(find_table(name))
    swept = replay(curves, Unpruned, list(orders(curves, 16, 2)), workers=1)
    assert all(len(one.outcome.complete) == 16 for one in swept)


@pytest.mark.parametrize(
    ("rating", "neutral", "label"),
    [
        (0.1, 0, "positive"),
        (-0.1, 0, "negative"),
        (0.0, 0, None),
        (-0.0, 0, None),
        (1.0, 1, "neutral"),
        (-1.0, 1, "neutral"),
        (1.05, 1, "positive"),
        (-1.05, 1, "negative"),
    ],
)
def test_ratings_become_classes(rating: float, neutral: float, label: str | None) -> None:
    assert label_of(rating, neutral) == label


def test_rated_texts_are_read_once_each_and_have_an_order_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "rated.txt"
    file.write_bytes(b"1\t2.5\tgood\r\n2\t-1\tbad\n\n3\t0.5\tgood \n4\t0\tso so\n5\t1\tone \x85 two\n")
    ratings = read_ratings(file)
    assert ratings == {"good": 2.5, "bad": -1.0, "so so": 0.0, "one \ufffd two": 1.0}
    rows = rows_of(ratings, 0)
    assert sorted(rows) == [("bad", "negative"), ("good", "positive"), ("one \ufffd two", "positive")]
    assert rows == rows_of(dict(reversed(ratings.items())), 0)


def test_recording_goes_on_where_it_stopped(tmp_path: Path) -> None:
    table, params = tmp_path / "table.csv", configurations(2, SPACES["tweets"])
    assert list(missing(2, [0, 1], read_table(table))) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    evaluations = [{"step": 20 * (number + 1), "eval_loss": 0.5, "eval_accuracy": 0.25} for number in range(8)]
    made = {(seed, 1): lines((seed, 1), params[1], (evaluations, 1.25)) for seed in (1, 0)}
    write_table(made, table)
    assert read_table(table) == made
    assert list(missing(2, [0, 1], read_table(table))) == [(0, 0), (1, 0)]
    assert [one.seed for of in read_curves(table).values() for one in of] == [0, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
