"""The gaps between shown values and fresh rows, and the rows that they are measured on; nothing trains."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from benchmarks import confirmed_gap, gaps
from benchmarks.gaps import Figure, Model, Sweep


def sweep(**changes: object) -> Sweep:
    """Return a sweep in which trial 4 looked best and trial 2 was confirmed, over two seeds."""
    made = {
        "draw": 0,
        "rows": 2_000,
        "search": [Model(4, 0.40, 0.50), Model(2, 0.42, 0.46), Model(0, 0.60, 0.58)],
        "again": [
            *(Model(4, 0.50, 0.54), Model(4, 0.48, 0.50)),
            *(Model(2, 0.44, 0.47), Model(2, 0.46, 0.49)),
            *(Model(0, 0.62, 0.61), Model(0, 0.60, 0.59)),
        ],
        "tied": (4, 0),
        "winner": 2,
        "confirmed": 0.45,
        "exported": Model(2, 0.44, 0.47),
    }
    return Sweep(**{**made, **changes})


def test_gaps_compare_shown_values_with_the_same_models():
    one = sweep()
    assert one.stock.gap == pytest.approx(0.40 - 0.50)
    assert one.confirmed_gap == pytest.approx(0.45 - (0.47 + 0.49) / 2)
    assert one.chosen == 0.42


def test_each_trial_counts_once_in_what_all_have_in_common():
    two = sweep()
    three = sweep(again=[*two.again, Model(2, 0.43, 0.46)])  # one more seed of the same gap
    assert two.common == pytest.approx((-0.03 - 0.03 + 0.01) / 3)
    assert three.common == pytest.approx(two.common)


def test_the_parts_of_a_gap_add_up_to_it():
    sweeps = [sweep(), sweep(search=[Model(4, 0.35, 0.52), *sweep().search[1:]], confirmed=0.43)]
    found = {name: figure.value for name, figure in gaps.figures(sweeps).items()}
    assert found["gap of stock"] == pytest.approx(
        found["both: rows and epochs"] + found["stock: of it, trial"] + found["stock: of it, seed"]
    )
    assert found["gap of confirmed"] == pytest.approx(
        found["both: rows and epochs"] + found["confirmed: choice of trial"]
    )
    assert found["gap of stock"] == pytest.approx((-0.10 - 0.17) / 2)
    assert found["confirmed / stock: mean gaps"] == pytest.approx((0.03 + 0.05) / (0.10 + 0.17))
    assert found["optimism as shown"] == pytest.approx((0.03 + 0.01) / 2)
    assert found["optimism in truth"] == pytest.approx(0.48 - 0.42)


def test_gaps_of_opposite_signs_have_a_size_and_no_mean():
    opposite = np.array([[0.1, -0.1], [0.2, -0.2]])
    assert gaps.mean(opposite) == 0
    assert gaps.size(opposite) == pytest.approx(0.1)
    assert gaps.ratio_of_sizes(opposite) == pytest.approx(0.5)


def test_an_interval_is_that_of_a_mean_over_sweeps():
    values = np.random.default_rng(1).normal(0.3, 0.1, 400)
    found = Figure.of(gaps.mean, values.tolist())
    error = values.std() / 20
    # 10,000 resamples know each end to some hundredths of the error.
    assert found.low == pytest.approx(found.value - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(found.value + 1.96 * error, abs=0.1 * error)


def test_the_best_over_seeds_is_looked_for_in_tie_set_and_winner():
    assert gaps.counts([sweep(), sweep(tied=(4, 2))]) == {
        "tie set holds the best over seeds, validation rows": 1,
        "confirmed trial is that, validation rows": 2,
        "first of the search is that, validation rows": 0,
        "tie set holds the best over seeds, fresh rows": 1,
        "confirmed trial is that, fresh rows": 2,
        "first of the search is that, fresh rows": 0,
    }


def test_a_sweep_is_read_as_it_was_written():
    one = sweep()
    read = Sweep.from_json(json.loads(json.dumps(one.to_json())))
    assert list(gaps.lines([read])) == list(gaps.lines([one]))
    assert "| 0 | 0.4000 | 0.5000 | -0.1000 | 0.4500 | 2 | 0.4800 | -0.0300 | 0.4700 | 2 | 3 |" in gaps.lines([one])


def test_rows_to_evaluate_on_were_drawn_for_no_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(confirmed_gap, "RECORDED", ((6, 2),))
    known = [(f"text {number}", number % 2) for number in range(20)]
    other = [("text 3", 1), *((f"other {number}", number % 2) for number in range(5))]  # one text stands in both
    for name, rows in (("known.csv", known), ("other.csv", other)):
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("text", "label"), *rows])
    train, evaluation = confirmed_gap.unseen_rows(tmp_path / "known.csv", tmp_path / "other.csv")
    assert 6 <= len(train) <= 12
    assert set(train) < set(known)
    assert sorted({*train, *evaluation}) == sorted({*known, *other})
    assert len(train) + len(evaluation) == 25
