"""Every task keeps the same promises; a new entry of the table is tested by being listed."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from finesweep.errors import DataProblem
from finesweep.registry import TASKS
from finesweep.trial import Direction

ROWS = 12
# Whole numbers are classes to one task and measures to the other.
LABELS = {
    "train": pd.Series(["1", "2", "4"] * (ROWS // 3)),
    "validation": pd.Series(["4", "1", "2"]),
}


@pytest.fixture(params=TASKS.names)
def task(request):
    return TASKS.load(request.param)()


def test_each_row_keeps_its_label(task):
    encoded = task.encode(LABELS, None)
    assert {split: len(labels) for split, labels in encoded.splits.items()} == {"train": ROWS, "validation": 3}
    kept = {split: set(map(str, labels)) for split, labels in encoded.splits.items()}
    assert len(kept["train"]) == 3
    assert kept["validation"] == kept["train"]


def test_a_constant_label_is_refused(task):
    with pytest.raises(DataProblem, match=r"every label is '?7"):
        task.encode({"train": pd.Series(["7"] * ROWS)}, None)


def test_every_metric_but_the_loss_is_scored(task):
    encoded = task.encode(LABELS, None)
    width = task.head(encoded.names)["num_labels"]
    logits = np.random.default_rng(0).normal(size=(3, width)).astype(np.float32)
    score = task.score(logits, task.collate(encoded.splits["validation"], encoded.names))
    assert {f"eval_{name}" for name in score} == set(task.metrics) - {"eval_loss"}
    assert all(math.isfinite(value) for value in score.values())
    assert task.metrics["eval_loss"] is Direction.MINIMIZE


def drawn_evaluation(task, rows):
    """Logits that are often right, and the labels."""
    rng = np.random.default_rng(1)
    encoded = task.encode(LABELS, None)
    kept = [encoded.splits["train"][row] for row in rng.integers(0, ROWS, rows)]
    labels = task.collate(kept, encoded.names)
    width = task.head(encoded.names)["num_labels"]
    right = labels if labels.ndim == 2 else np.eye(width)[labels] if width > 1 else labels[:, None]
    return (2.0 * right + rng.normal(size=(rows, width))).astype(np.float32), labels


def test_mean_of_the_row_scores_is_the_metric(task):
    logits, labels = drawn_evaluation(task, 300)
    by_row = task.row_scores(logits, labels)
    whole = {"eval_loss": task.loss(logits, labels)} | {
        f"eval_{name}": value for name, value in task.score(logits, labels).items()
    }
    assert set(task.metrics) - set(by_row) <= {"eval_spearman"}
    for name, values in by_row.items():
        assert values.shape == (300,)
        assert values.mean() == pytest.approx(whole[name], rel=1e-9), name


def test_spread_of_the_row_scores_is_the_error_of_the_metric(task):
    logits, labels = drawn_evaluation(task, 400)
    by_row = task.row_scores(logits, labels)
    rng = np.random.default_rng(2)
    drawn = [rng.integers(0, 400, 400) for _ in range(400)]
    again = [{"loss": task.loss(logits[r], labels[r]), **task.score(logits[r], labels[r])} for r in drawn]
    for name, values in by_row.items():
        errors = np.std([one[name.removeprefix("eval_")] for one in again])
        # 400 resamples know a standard error to 4 %, and a linear form is exact to 1 / rows.
        assert values.std() / 20 == pytest.approx(errors, rel=0.15), name


@pytest.mark.filterwarnings("ignore")
def test_row_scores_of_one_row_and_of_equal_rows_are_finite(task):
    logits, labels = drawn_evaluation(task, 5)
    for picked in ([0], [1, 1, 1]):
        assert all(np.isfinite(one).all() for one in task.row_scores(logits[picked], labels[picked]).values())


@pytest.mark.filterwarnings("ignore")
def test_the_head_gives_a_loss_near_that_of_knowing_nothing(task):
    """Fresh weights know nothing, so their loss is the yardstick that the guard takes, within a factor of two."""
    import transformers

    transformers.set_seed(0)
    encoded = task.encode(LABELS, None)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.AutoConfig.for_model("bert", vocab_size=50, **sizes, **task.head(encoded.names))
    model = getattr(transformers, task.model_class).from_config(config).eval()
    assert model.num_labels == task.head(encoded.names)["num_labels"]
    import torch

    labels = torch.from_numpy(task.collate(encoded.splits["train"], encoded.names))
    inputs = torch.randint(5, 50, (ROWS, 6), generator=torch.Generator().manual_seed(0))
    loss = model(input_ids=inputs, labels=labels).loss.item()
    naive = task.naive_loss(encoded.splits["train"], encoded.names)
    assert naive / 2 < loss < naive * 2


@pytest.mark.parametrize("kind", ["varied", "constant", "tied", "perfect"])
def test_the_proof_computes_every_metric_alike(task, kind):
    """It shares no code with the scores that rank a trial."""
    import torch

    encoded = task.encode(LABELS, None)
    kept = encoded.splits["train"]
    labels = task.collate(kept, encoded.names)
    logits = np.random.default_rng(0).normal(size=(ROWS, task.head(encoded.names)["num_labels"]))
    if kind == "constant":
        logits[:] = logits[0]
    elif kind == "tied":
        logits = np.round(logits)
    elif kind == "perfect":
        by_class = labels if labels.ndim == 2 else np.eye(3)[labels.astype(int) % 3]
        logits = 9.0 * (2.0 * by_class.astype(float) - 1) if encoded.names else labels[:, None] + 0.0
    again = task.recompute_metrics(torch.tensor(logits), kept)
    scores = {"loss": task.loss(logits, labels), **task.score(logits, labels)}
    assert again == pytest.approx({f"eval_{metric}": value for metric, value in scores.items()}, rel=1e-12, abs=1e-12)


def test_given_answers_have_the_form_of_kept_labels(task):
    encoded = task.encode(LABELS, None)
    kept = encoded.splits["train"]
    labels = task.collate(kept, encoded.names)
    by_class = labels if labels.ndim == 2 else np.eye(3)[labels.astype(int) % 3]
    logits = 2.0 * by_class - 1 if encoded.names else labels[:, None]
    assert list(task.given(logits)) == list(kept)
    assert {type(one) for one in task.given(logits)} == {type(one) for one in kept}


def test_strata_and_lengths_are_of_each_row(task):
    encoded = task.encode(LABELS, None)
    strata = task.strata(encoded.splits["train"])
    assert strata is None or len(strata) == ROWS
    assert bool(task.split_by) == (strata is not None)
    assert 0 <= task.explained(np.arange(ROWS) % 5 + 3, encoded.splits["train"]) <= 1


def test_the_naive_answer_is_scored_by_every_metric(task):
    encoded = task.encode(LABELS, None)
    naive = task.naive(encoded.splits["train"], encoded.splits["validation"], encoded.names)
    assert naive.scores.keys() == task.metrics.keys()
    assert naive.verdict(naive.scores, "eval_loss", task.metrics) is not None


def test_a_name_that_no_row_has_is_absent(task):
    encoded = task.encode(LABELS, None)
    assert task.absent(encoded.splits["train"], encoded.names) == []
    if encoded.names is not None:
        assert task.absent(encoded.splits["train"], (*encoded.names, "never")) == ["never"]


def test_the_same_answer_to_every_row_is_noticed(task):
    encoded = task.encode(LABELS, None)
    kept, width = encoded.splits["train"], task.head(encoded.names)["num_labels"]
    same = np.tile([[2.0, -1.0, -1.0][:width]], (ROWS, 1))
    assert task.same_answer(same, kept, encoded.names) in ("1", "2")
    assert task.same_answer(same * np.linspace(-3, 3, ROWS)[:, None], kept, encoded.names) is None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_type", ["albert", "bert", "distilbert", "electra", "roberta"])
def test_models_learn_by_the_loss_of_the_task(task, model_type):
    """Trials are ranked by it; from scratch, these types are not tried on two rows before a sweep."""
    import torch
    import transformers

    encoded = task.encode(LABELS, None)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    sizes |= {"dim": 8, "n_layers": 1, "n_heads": 1, "hidden_dim": 8, "embedding_size": 8}
    config = transformers.AutoConfig.for_model(model_type, vocab_size=50, **sizes, **task.head(encoded.names))
    model = getattr(transformers, task.model_class).from_config(config).eval()
    labels = task.collate(encoded.splits["train"], encoded.names)
    inputs = torch.randint(5, 50, (ROWS, 6), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = model(input_ids=inputs, labels=torch.from_numpy(labels))
    assert found.loss.item() == pytest.approx(task.loss(found.logits.numpy(), labels), rel=1e-5)
