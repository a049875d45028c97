"""References are scored in the unit of the trials, for each task, and for rows that are hard to fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss

from finesweep.references import Reference, best_reference
from finesweep.references import fitting as module
from finesweep.registry import TASKS
from finesweep.trial import Direction

CLASSES, SEVERAL, NUMBERS = "text-classification", "multi-label-classification", "text-regression"


def frame(texts: Sequence[str], labels: Sequence[Any], **columns: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame({"text": list(texts), **columns, "label": list(labels)})


def fitted(task: str, train: pd.DataFrame, validation: pd.DataFrame, names: Sequence[str] | None) -> list[Reference]:
    frames = {"train": train, "validation": validation}
    return list(module.fitted(TASKS.load(task)(), frames, names, seed=0))


def words(labels: Sequence[int], seed: int = 0) -> list[str]:
    """Texts of noise with a word for the label."""
    rng = np.random.default_rng(seed)
    return [f"word{label} " + " ".join(f"noise{n}" for n in rng.integers(0, 50, 6)) for label in labels]


def test_scores_are_those_of_scikit_learn_by_hand() -> None:
    train, validation = [0, 1, 2] * 20, [0, 1, 2, 0] * 5
    majority, linear = fitted(
        CLASSES, frame(words(train), train), frame(words(validation, 1), validation), ["a", "b", "c"]
    )
    vectors = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"\b\w+\b").fit(words(train))
    model = LogisticRegression(C=10.0, max_iter=200, tol=1e-3).fit(vectors.transform(words(train)), train)
    guesses = model.predict_proba(vectors.transform(words(validation, 1)))
    assert linear.metrics["eval_loss"] == pytest.approx(log_loss(validation, guesses), rel=1e-6)
    assert linear.metrics["eval_accuracy"] == accuracy_score(validation, guesses.argmax(1)) > 0.8
    assert majority.metrics["eval_loss"] == pytest.approx(math.log(3))
    assert (majority.name, majority.metrics["eval_accuracy"], majority.rows) == ("majority class", 0.5, 60)
    assert best_reference([majority, linear], "eval_loss", Direction.MINIMIZE) is linear


def test_a_class_without_rows_in_the_sample_has_a_finite_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 20)
    train = [0, 1] * 50 + [2]
    found = fitted(CLASSES, frame(words(train), train), frame(words([0, 1, 2]), [0, 1, 2]), ["a", "b", "c"])
    assert [one.rows for one in found] == [101, 20]
    assert all(math.isfinite(one.metrics["eval_loss"]) for one in found)


def test_one_class_in_train_gives_the_majority_alone() -> None:
    found = fitted(CLASSES, frame(words([0] * 9), [0] * 9), frame(words([0, 1]), [0, 1]), ["a", "b"])
    assert [one.name for one in found] == ["majority class"]


def test_texts_without_a_letter_give_the_majority_alone() -> None:
    found = fitted(CLASSES, frame(["!!", "??"] * 5, [0, 1] * 5), frame(["..", ""], [0, 1]), ["a", "b"])
    assert [one.name for one in found] == ["majority class"]


def test_texts_without_blanks_are_read_by_characters() -> None:
    train = ["我们今天去公园玩得很开心大家都笑了起来", "昨天的饭菜味道实在太差让人非常失望难过"] * 5
    held = ["公园里大家玩得开心笑个不停我们明天再来", "味道太差的饭菜让客人失望再也不想来这里"]
    found = fitted(CLASSES, frame(train, [0, 1] * 5), frame(held, [0, 1]), ["good", "bad"])
    assert found[1].metrics["eval_accuracy"] == 1.0


def test_several_labels_are_each_yes_or_no() -> None:
    train = [[0], [1], [0, 1], []] * 15
    texts = [" ".join(f"word{label}" for label in ids) + " rest" for ids in train]
    labels = [[*ids, 2] for ids in train]  # a label that all rows have cannot be fitted
    majority, linear = fitted(SEVERAL, frame(texts, labels), frame(texts[:8], labels[:8]), ["a", "b", "c"])
    assert linear.metrics["eval_subset_accuracy"] == 1.0
    assert majority.metrics["eval_loss"] == pytest.approx(2 / 3 * math.log(2), abs=0.01)
    assert linear.metrics.keys() == {f"eval_{name}" for name in ("loss", "micro_f1", "macro_f1", "subset_accuracy")}


def test_numbers_are_scored_in_their_own_unit() -> None:
    train = [1000.0 + 500 * (n % 3) for n in range(60)]
    texts = words([n % 3 for n in range(60)])
    mean, ridge = fitted(NUMBERS, frame(texts, train), frame(texts[:12], train[:12]), None)
    assert (mean.name, mean.metrics["eval_pearson"]) == ("mean", 0.0)
    assert mean.metrics["eval_loss"] == pytest.approx(np.var(train))
    assert ridge.metrics["eval_mae"] < 150


def test_a_pair_is_told_apart_by_how_similar_its_texts_are() -> None:
    rng = np.random.default_rng(0)
    first = [" ".join(f"w{n}" for n in rng.integers(0, 30, 5)) for _ in range(200)]
    labels = [n % 2 for n in range(200)]
    second = [text if label else other for text, label, other in zip(first, labels, first[1:] + first[:1], strict=True)]
    rows = frame(first, labels, text_pair=second)
    found = fitted(CLASSES, rows[:150], rows[150:], ["other", "same"])
    assert found[1].metrics["eval_accuracy"] > 0.9


@pytest.mark.parametrize("task", [CLASSES, SEVERAL, NUMBERS])
def test_constant_reference_has_the_scores_of_the_naive_answer(task: str) -> None:
    labels: Any = {CLASSES: [0, 1, 1, 1, 2], SEVERAL: [[0], [0, 1], [0], [], [2]], NUMBERS: [0.5, 2.0, 9.0, 1.0, 1.5]}
    train, validation = labels[task] * 8, labels[task][:4] * 5
    names = None if task == NUMBERS else ["a", "b", "c"]
    found, *_ = fitted(task, frame(["w x"] * 40, train), frame(["w"] * 20, validation), names)
    assert found.metrics == TASKS.load(task)().naive(train, validation, names).scores
    f1 = {CLASSES: 0.75 * 2 / 1.75 / 2, SEVERAL: 0.75 * 2 / 1.75 / 2}.get(task)
    assert f1 is None or found.metrics["eval_macro_f1"] == pytest.approx(f1)
