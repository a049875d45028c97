"""The benchmark of length-grouped batches runs on a data file of one's own, and says what it should."""

from __future__ import annotations

import argparse

import pytest
from benchmarks import grouping

import tiny


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grouping")
    rows = [(text, ("bad", "good")[label]) for text, label in tiny.review_rows(160, seed=1)]
    data = tiny.write_csv(folder / "mine.csv", rows, columns=("words", "mood"))
    asked = {"data": data, "text_column": "words", "label_column": "mood", "max_length": 32, "model": None}
    return grouping.prepare(folder / "results", grouping.settings_of(argparse.Namespace(**asked)))


@pytest.mark.slow
def test_pairs_differ_in_their_padding_only(context, capsys):
    params = {"learning_rate": 1e-3, "num_train_epochs": 1, "per_device_train_batch_size": 8}
    found = grouping.measure(context, 2, params)
    for shuffled, grouped in zip(*found.values(), strict=True):
        assert shuffled.real == grouped.real, "every row once"
        assert grouped.padding < shuffled.padding / 2
        assert grouped.objective != shuffled.objective
    assert grouping.measure(context, 2, params)["random"][1].objective == found["random"][1].objective
    text = grouping.report(found, "eval_loss")
    assert "grouped minus shuffled, 2 pairs" in text
    assert "times as many with grouping" in text


def training(objective: float) -> grouping.Training:
    return grouping.Training(objective, real=10, given=20, seconds=1.0, cpu=1.0)


def test_the_interval_is_that_of_the_pairs():
    """Three differences of 0.1, 0.2 and 0.3: mean 0.2, standard error 0.1 / sqrt(3), t of two degrees 4.30."""
    found = {"random": [training(value) for value in (1.0, 2.0, 3.0)]}
    found["group_by_length"] = [training(value) for value in (1.1, 2.2, 3.3)]
    mean, half = grouping.difference(found)
    assert mean == pytest.approx(0.2)
    assert half == pytest.approx(4.30 * 0.1 / 3**0.5)


@pytest.mark.parametrize(
    ("gaps", "verdict"), [((0.1, 0.1001), "NOT on par"), ((-0.1, -0.1001), "better"), ((-0.1, 0.1), "on par")]
)
def test_what_lies_in_the_interval_is_on_par(gaps, verdict):
    found = {"random": [training(1.0), training(1.0)], "group_by_length": [training(1.0 + gap) for gap in gaps]}
    assert f"(95 %): {verdict}\n" in grouping.report(found, "eval_loss")


def test_one_pair_has_no_interval():
    with pytest.raises(ValueError, match="two pairs at least"):
        grouping.difference({name: [training(1.0)] for name in grouping.STRATEGIES})
