"""Several labels for one text: how they are read and split, and what is scored, held against scikit-learn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from finesweep.data import splits
from finesweep.errors import DataProblem
from finesweep.tasks.multi_label_classification import MultiLabelClassification
from finesweep.tasks.protocol import EncodedLabels

torch = pytest.importorskip("torch")

TASK = MultiLabelClassification()
NAMES = ("a", "b", "c")
Cell = tuple[Any, ...]


def encode(names: tuple[str, ...] | None = None, *, as_written: bool = False, **cells: list[Cell]) -> EncodedLabels:
    labels = {split: pd.Series(rows, dtype=object) for split, rows in cells.items()}
    return TASK.encode(labels, names, as_written=as_written)


def kept_rows(most_labels: int) -> st.SearchStrategy[list[list[int]]]:
    rows = st.sets(st.integers(0, most_labels - 1)).map(sorted)
    return st.lists(rows, min_size=2, max_size=40)


def test_each_row_keeps_its_labels_once_and_in_order():
    found = encode(train=[("b", "a"), ("c",), (), ("a", "a", "b")], validation=[("c", "b"), ("a",)])
    assert found.names == NAMES
    assert found.splits == {"train": [[0, 1], [2], [], [0, 1]], "validation": [[1, 2], [0]]}
    assert found.notes == (
        "Rows of train without a label, which is learned as well: 1 of 4.",
        "Rows of train that name a label twice, which counts once: 1 of 4.",
    )


def test_order_of_labels_in_a_file_changes_nothing():
    train = [("b", "a"), ("c", "b"), (), ("a",)]
    again = [tuple(reversed(cell)) for cell in train]
    assert encode(train=train, validation=train) == encode(train=train, validation=again)


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        pytest.param([("Food", "price"), ("food",), ("food ", "staff")], ("food", "price", "staff"), id="case"),
        pytest.param([(2, 10), (1,), (10.0,)], ("1", "2", "10"), id="numbers"),
        pytest.param([("a", "nan"), ("b",), ("NULL",)], ("a", "b"), id="words-for-none"),
    ],
)
def test_labels_are_read_as_people_mean_them(cells: list[Cell], names: tuple[str, ...]):
    assert encode(train=cells).names == names


def test_labels_as_written_are_left_as_they_are():
    assert encode(train=[("Food", "nan"), ("food",)], as_written=True).names == ("Food", "food", "nan")


def test_names_that_come_with_the_data_keep_their_order():
    found = encode(("x", "y", "never"), train=[(1,), ("x", 1)])
    assert (found.names, found.splits["train"]) == (("x", "y", "never"), [[1], [0, 1]])
    assert "No row of train has the label 'never'." in found.notes


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        pytest.param({"train": [(), ()]}, "no row has a label", id="none"),
        pytest.param({"train": [("a",), ("a", "a")]}, "every label is 'a'; rows that differ are needed", id="one"),
        pytest.param({"train": [("a", "b"), ("b", "a")]}, "every row has the labels 'a', 'b'", id="same"),
        pytest.param(
            {"train": [("a",), ("b",)], "test": [("a", "x")]},
            "'x' cannot be learned (1 of 2 labels); train has only 'a', 'b'",
            id="unseen",
        ),
        pytest.param({"train": [(f"t{n}",) for n in range(20)]}, "20 different labels in 20 rows", id="texts"),
        pytest.param(
            {"train": [(n, n + 1) for n in range(1_100)] * 3}, "1,101 labels; at most 1,000 are allowed", id="too-many"
        ),
    ],
)
def test_columns_that_cannot_be_learned_are_refused(cells: dict[str, list[Cell]], message: str):
    with pytest.raises(DataProblem) as error:
        encode(**cells)
    assert message in error.value.message


def test_one_label_is_enough_where_rows_lack_it():
    found = encode(train=[("a",), (), ("a",)])
    assert (found.names, TASK.head(found.names)["num_labels"]) == (("a",), 1)
    assert "No row of train has more than one label (for one label each: `task: text-classification`)." in found.notes


def test_label_of_every_row_is_remarked():
    assert (
        "Every row of train has the label 'a': there is nothing to learn of it."
        in encode(train=[("a", "b"), ("a",)]).notes
    )


def test_batch_holds_a_flag_for_each_label():
    batch = TASK.collate([[0, 2], np.array([1]), []], NAMES)
    assert batch.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert batch.dtype == np.float32


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4).flatmap(kept_rows), st.integers(0, 99))
def test_scores_are_those_of_scikit_learn_and_of_the_proof(kept: list[list[int]], seed: int):
    count = 1 + max((label for ids in kept for label in ids), default=0)
    truth = TASK.collate(kept, [str(n) for n in range(count)])
    logits = np.random.default_rng(seed).normal(size=truth.shape)
    found = {"loss": TASK.loss(logits, truth), **TASK.score(logits, truth)}
    given_labels = logits > 0
    counted = f1_score(truth.ravel(), given_labels.ravel(), zero_division=0)
    used = (truth.any(0) | given_labels.any(0)).nonzero()[0]
    by_label = [f1_score(truth[:, label], given_labels[:, label]) for label in used]
    assert found["micro_f1"] == pytest.approx(counted)
    assert found["macro_f1"] == pytest.approx(np.mean(by_label) if len(used) else 0.0)
    assert found["subset_accuracy"] == pytest.approx(accuracy_score(truth, given_labels))
    stock = torch.nn.BCEWithLogitsLoss()(torch.tensor(logits), torch.tensor(truth).double())
    assert found["loss"] == pytest.approx(float(stock))
    proof = TASK.recompute_metrics(torch.tensor(logits), kept)
    assert proof == pytest.approx({f"eval_{name}": value for name, value in found.items()}, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_loss_of_a_broken_row_is_not_finite(bad: float):
    assert not math.isfinite(TASK.loss(np.array([[0.0, bad], [1.0, 1.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5).flatmap(kept_rows), st.sampled_from([0.1, 0.5, 0.9]), st.integers(0, 9))
def test_split_leaves_every_label_in_train(kept: list[list[int]], fraction: float, seed: int):
    strata = TASK.strata(kept)
    held_out = splits.hold_out(fraction, len(kept), np.random.default_rng(seed), strata)
    left = [ids for row, ids in enumerate(kept) if row not in held_out]
    assert {label for ids in left for label in ids} == {label for ids in kept for label in ids}
    groups = [row // 3 for row in range(len(kept))]
    held_out = splits.hold_out_groups(fraction, groups, np.random.default_rng(seed), strata)
    left = [ids for row, ids in enumerate(kept) if row not in held_out]
    assert {label for ids in left for label in ids} == {label for ids in kept for label in ids}


def test_split_keeps_the_share_of_a_rare_label():
    rng = np.random.default_rng(0)
    kept = [sorted({int(rng.integers(3)), *([3] if row % 20 == 0 else [])}) for row in range(1_000)]
    held_out = splits.hold_out(0.2, len(kept), rng, TASK.strata(kept))
    assert sum(3 in kept[row] for row in held_out) in (9, 10, 11)


def test_naive_scores_are_those_of_one_answer_and_limits_of_the_best():
    train = [[0], [0], [0, 1], [0, 1], [], [2]]
    naive = TASK.naive(train, train * 40, NAMES)
    shares = np.array([4, 2, 1]) / 6
    truth = TASK.collate(train * 40, NAMES)
    assert naive.answer == "a"
    assert naive.scores["eval_loss"] == pytest.approx(
        -np.mean(shares * np.log(shares) + (1 - shares) * np.log(1 - shares))
    )
    own = np.tile([1, 0, 0], (240, 1))
    assert naive.scores["eval_subset_accuracy"] == pytest.approx((truth == own).all(1).mean())
    constants = [np.tile(flags, (240, 1)) for flags in np.ndindex(2, 2, 2)]
    for mean in ("micro", "macro"):
        assert naive.scores[f"eval_{mean}_f1"] == pytest.approx(f1_score(truth, own, average=mean, zero_division=0))
        best = max(f1_score(truth, answer, average=mean, zero_division=0) for answer in constants)
        margin = 2 * math.sqrt(best * (1 - best) / 240)
        assert naive.limits[f"eval_{mean}_f1"] == pytest.approx(best + margin)


def test_naive_answer_may_be_no_label():
    naive = TASK.naive([[], [], [0], [1]], [[0], []], ("a", "b"))
    assert naive.answer == "no label"
    assert all(math.isfinite(value) for value in naive.scores.values())


def test_lengths_that_tell_a_label_or_their_number_are_noticed():
    lengths = np.arange(300) % 30
    by_label = [[0] if length > 20 else [1] for length in lengths]
    by_number = [list(range(length // 6)) for length in lengths]
    plain = [[int(n) % 3] for n in np.random.default_rng(0).integers(0, 9, 300)]
    assert TASK.explained(lengths, by_label) > 0.5
    assert TASK.explained(lengths, by_number) > 0.9
    assert TASK.explained(lengths, plain) < 0.05
    assert TASK.explained(lengths, [[]] * 300) == 0.0


def test_same_answer_to_every_row_is_named():
    kept = [[0], [1], []]
    assert TASK.same_answer(np.array([[1.0, 2.0]] * 3), kept, ("a", "b")) == "a, b"
    assert TASK.same_answer(np.array([[-1.0, -2.0]] * 3), kept, ("a", "b")) == "no label"
    assert TASK.same_answer(np.array([[-1.0, 1.0], [1.0, 1.0], [-1.0, 1.0]]), kept, ("a", "b")) is None
    assert TASK.same_answer(np.array([[1.0]] * 2), [[0], [0]], ("a",)) is None
