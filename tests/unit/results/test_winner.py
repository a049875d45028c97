"""How close a winner that was loaded again must come to what it was ranked by."""

from __future__ import annotations

import dataclasses
import socket
from typing import Any

import pytest
from made_records import record

from finesweep.results.winner import Evidence
from finesweep.tasks.text_classification import TextClassification

FP32, BF16 = {"bf16": False, "fp16": False}, {"bf16": True, "fp16": False}
ON_GPU = {**BF16, "tf32": True}


DIRECTIONS = TextClassification.metrics


def differences(reloaded: dict[str, float], ranked: dict[str, float], **changes: Any) -> list[str]:
    evidence = Evidence(0, "eval_loss", 0.5, {"eval_loss": 0.5, **reloaded}, {}, {}, FP32, rows=11)
    trial = dataclasses.replace(record(0, 0.5), metrics={"eval_loss": 0.5, **ranked}, host=socket.gethostname())
    return dataclasses.replace(evidence, **changes).differences(trial, DIRECTIONS)


def agrees(reloaded: float, there: dict[str, Any], here: dict[str, Any], host: str = "") -> bool:
    ranked = dataclasses.replace(record(0, 0.5), effective=there, host=host or socket.gethostname())
    evidence = Evidence(0, "eval_loss", 0.5, {"eval_loss": reloaded}, {}, {}, here)
    return not evidence.differences(ranked, DIRECTIONS)


@pytest.mark.parametrize("ways", [FP32, BF16, ON_GPU])
def test_where_it_was_ranked_it_agrees_to_four_digits(ways):
    assert agrees(0.50004, ways, ways)
    assert not agrees(0.5001, ways, ways)


@pytest.mark.parametrize(
    ("there", "here", "host"),
    [(ON_GPU, FP32, ""), (ON_GPU, ON_GPU, "elsewhere"), (FP32, ON_GPU, "")],
)
def test_rounded_otherwise_it_may_differ_by_a_hundredth(there, here, host):
    assert agrees(0.504, there, here, host)
    assert not agrees(0.506, there, here, host)


@pytest.mark.parametrize("trained", [FP32, BF16])
def test_single_precision_is_the_same_everywhere_whatever_it_was_trained_in(trained):
    assert agrees(0.50004, trained, FP32, "elsewhere")
    assert not agrees(0.5001, trained, FP32, "elsewhere")


def test_a_record_that_names_no_precision_had_single():
    assert not agrees(0.5001, {}, FP32)


def test_loss_that_differs_is_found_whatever_trials_are_ranked_by():
    reloaded, ranked = {"eval_loss": 0.501, "eval_accuracy": 0.9}, {"eval_accuracy": 0.9}
    assert differences(reloaded, ranked, metric="eval_accuracy") == ["eval_loss"]


def test_score_without_its_last_rows_is_found_and_one_tie_is_not():
    reloaded = {"eval_accuracy": 8 / 11}
    assert differences(reloaded, {"eval_accuracy": 1.0}) == ["eval_accuracy"]
    assert differences(reloaded, {"eval_accuracy": 7 / 11}) == []
    assert differences(reloaded, {"eval_accuracy": 7 / 11}, rows=10_000) == ["eval_accuracy"]


def test_scores_of_a_model_with_one_answer_are_not_held_against_it():
    assert differences({"eval_macro_f1": 0.3}, {"eval_macro_f1": 0.6}, same_answer="good") == []
    found = differences({"eval_macro_f1": 0.3}, {"eval_macro_f1": 0.6}, same_answer="good", metric="eval_macro_f1")
    assert found == ["eval_macro_f1"]


def test_metric_that_was_not_finite_is_not_compared():
    assert differences({"eval_accuracy": 0.5}, {"eval_accuracy": None}) == []
