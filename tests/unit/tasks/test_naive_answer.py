"""A model that is no better than the same answer to every text is called so, and no other."""

from __future__ import annotations

import dataclasses
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
from made_records import manifest, record

from finesweep.results.ranking import summarize
from finesweep.results.winner import Evidence
from finesweep.spec.search_space import Parameter
from finesweep.sweep.preflight import _long_warmup
from finesweep.tasks.text_classification import TextClassification
from finesweep.tasks.text_regression import TextRegression

NAMES = ("bad", "good")
CLASSES = TextClassification().naive(np.array([0, 1, 1, 1]), np.array([0, 1] * 50), NAMES)
PRICES = TextRegression().naive(np.array([200_000.0, 300_000.0]), np.array([240_000.0, 280_000.0] * 50), None)


def of_classes(loss, accuracy, f1=0.5, objective="eval_loss"):
    found = {"eval_loss": loss, "eval_accuracy": accuracy, "eval_macro_f1": f1}
    return CLASSES.verdict(found, objective, TextClassification.metrics)


def test_naive_answer_is_that_of_train_and_its_scores_those_of_validation():
    assert CLASSES.answer == "good"
    expected = {"eval_loss": -(math.log(0.25) + math.log(0.75)) / 2, "eval_accuracy": 0.5, "eval_macro_f1": 1 / 3}
    assert CLASSES.scores == pytest.approx(expected)
    assert PRICES.answer == "250000"
    assert PRICES.scores == pytest.approx(
        {"eval_loss": 5e8, "eval_mse": 5e8, "eval_mae": 20_000, "eval_pearson": 0, "eval_spearman": 0}
    )


@pytest.mark.parametrize(
    ("loss", "accuracy", "f1"),
    [(0.84, 0.5, 0.33), (0.9, 0.55, 0.5), (0.83, 0.5, 0.3), (0.835, 0.59, 0.59), (None, None, None)],
)
def test_classifier_within_chance_of_the_most_frequent_class_is_useless(loss, accuracy, f1):
    found = of_classes(loss, accuracy, f1)
    assert found is not None
    assert found.startswith("not better by more than chance than always answering 'good' (eval_loss 0.8370")


def test_value_that_looks_better_stands_beside_what_luck_gives():
    """Two standard errors above a half: 0.6; macro F1 is 1/3 for the constant answer, and 1/2 for a guess."""
    naive = "not better by more than chance than always answering 'good'"
    assert of_classes(0.9, 0.5) == f"{naive} (eval_loss 0.8370, eval_accuracy 0.5000)"
    assert of_classes(0.9, 0.59) == f"{naive} (eval_loss 0.8370, eval_accuracy 0.5000; by luck up to 0.6000)"
    by_f1 = of_classes(0.9, 0.5, 0.59, objective="eval_macro_f1")
    assert by_f1 is not None
    assert by_f1.startswith(f"{naive} (eval_macro_f1 0.3333; by luck up to 0.6000, eval_loss")


@pytest.mark.parametrize(("loss", "accuracy", "f1"), [(0.6, 0.5, 0.3), (1.5, 0.8, 0.8), (0.9, 0.5, 0.7)])
def test_classifier_that_is_better_in_one_way_is_of_use(loss, accuracy, f1):
    """One that is sure of its errors has a large loss and a high accuracy."""
    assert of_classes(loss, accuracy, f1) is None


@pytest.mark.parametrize(
    ("loss", "mae", "pearson", "objective", "useless"),
    [
        (6e10, 250_000, 0.4, "eval_loss", True),  # answers about 9 to all
        (6e10, 250_000, 0.4, "eval_pearson", False),
        (6e10, 250_000, 0.1, "eval_pearson", True),
        (4.99e8, 20_000, 0.0, "eval_loss", True),
        (3e8, 19_000, 0.0, "eval_loss", False),
        (6e8, 12_000, 0.0, "eval_loss", False),  # a few wild answers, and most of them near
    ],
)
def test_regression_is_judged_by_its_errors_or_by_what_it_is_ranked_by(loss, mae, pearson, objective, useless):
    found = {"eval_loss": loss, "eval_mse": loss, "eval_mae": mae, "eval_pearson": pearson, "eval_spearman": 0.9}
    verdict = PRICES.verdict(found, objective, TextRegression.metrics)
    assert (verdict is not None) is useless
    assert not useless or "always answering '250000'" in verdict


def test_constant_that_happens_to_fit_few_validation_rows_is_useless():
    """The mean of twenty rows lies about a fifth of their deviation from that of train."""
    naive = TextRegression().naive(np.array([200.0, 300.0]), np.array([210.0, 310.0] * 10), None)
    found = {"eval_loss": 2_500.0, "eval_mse": 2_500.0, "eval_mae": 50.0}
    assert naive.scores["eval_loss"] == 2_600
    assert naive.verdict(found, "eval_loss", TextRegression.metrics) is not None


def test_class_that_train_lacks_costs_no_infinite_loss():
    naive = TextClassification().naive(np.array([0, 0, 1]), np.array([2, 0]), ("a", "b", "c"))
    assert math.isfinite(naive.scores["eval_loss"])


def test_headline_calls_a_useless_winner_so_instead_of_its_gain():
    made = manifest(data={"naive": dataclasses.asdict(CLASSES)})
    useless, good = ({"eval_loss": loss, "eval_accuracy": 0.5, "eval_macro_f1": 0.5} for loss in (0.84, 0.3))
    records = [record(0, 0.9, metrics=useless), record(1, 0.84, metrics=useless)]
    assert summarize(made, records, []).headline() == (
        "eval_loss 0.8400 (trial 1): not better by more than chance than always answering 'good' "
        "(eval_loss 0.8370, eval_accuracy 0.5000)"
    )
    assert "below the untuned default" in summarize(made, [records[0], record(1, 0.3, metrics=good)], []).headline()
    assert "below the untuned default" in summarize(manifest(), records, []).headline()


def test_warnings_name_a_verdict_and_one_answer_for_all():
    evidence = Evidence(0, "eval_loss", 0.5, {}, {}, {}, rows=1_200, same_answer="good")
    assert evidence.warnings("no better than luck") == [
        "This model is no better than luck.",
        "It answers 'good' to each of the 1,200 validation rows.",
    ]
    assert dataclasses.replace(evidence, same_answer=None).warnings(None) == []


@pytest.mark.parametrize(
    ("space", "fixed", "said"),
    [
        ({}, {"warmup_steps": 500}, r"500 last all of training \(39 steps\): none gets to its learning_rate"),
        ({}, {"warmup_steps": 0.5}, None),
        ({}, {"warmup_steps": 38}, None),
        ({}, {"warmup_steps": 500, "max_steps": 501}, None),
        ({"warmup_steps": {"low": 0, "high": 39}}, {}, r"39 are no fewer than .* the shortest training \(39\)"),
        ({"per_device_train_batch_size": {"choices": [1, 100]}}, {"warmup_steps": 3}, r"shortest training \(3\)"),
        ({"num_train_epochs": {"low": 1, "high": 9}}, {"warmup_steps": 117}, r"117 last all of training \(117 steps\)"),
    ],
)  # fmt: skip
def test_warmup_longer_than_training_is_noted(space, fixed, said):
    searched = {name: Parameter(**values) for name, values in space.items()}
    spec = SimpleNamespace(space=searched, fixed=fixed, merged=lambda params: {**fixed, **params})
    notes = list(_long_warmup(spec, 100))
    assert len(notes) == (said is not None)
    assert all(re.search(said, note) for note in notes)
