"""Labels in every form people write them, and the metrics against scikit-learn and scipy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from finesweep.errors import DataProblem
from finesweep.registry import TASKS
from finesweep.tasks.label_column import MANY, MOST_CLASSES
from finesweep.tasks.protocol import EncodedLabels, Task
from finesweep.tasks.text_classification import TextClassification
from finesweep.tasks.text_regression import TextRegression
from finesweep.trial import Direction

CLASSIFY, REGRESS = TextClassification(), TextRegression()


def encode(
    task: Task, names: tuple[str, ...] | None = None, *, as_written: bool = False, **splits: list[Any]
) -> EncodedLabels:
    index = {split: pd.RangeIndex(2, len(values) + 2, name="line") for split, values in splits.items()}
    labels = {s: pd.Series(values, index=index[s], dtype=object) for s, values in splits.items()}
    return task.encode(labels, names, as_written=as_written)


@pytest.mark.parametrize("name", TASKS.names)
def test_a_task_needs_no_state_and_shows_its_metrics_on_the_class(name: str) -> None:
    kind = TASKS.load(name)
    kind()
    assert kind.metrics["eval_loss"] is Direction.MINIMIZE
    assert kind.pipeline == "text-classification"


@pytest.mark.parametrize(
    ("labels", "names", "ids"),
    [
        pytest.param([10, 1, 5, 1], ("1", "5", "10"), [2, 0, 1, 0], id="integers-with-gaps"),
        pytest.param(["10", "1", "5"], ("1", "5", "10"), [2, 0, 1], id="integers-of-a-csv"),
        pytest.param(["-1", "0", "1"], ("-1", "0", "1"), [0, 1, 2], id="negative"),
        pytest.param(["pos", "neg", "pos "], ("neg", "pos"), [1, 0, 1], id="D15-texts-are-trimmed"),
        pytest.param([True, False], ("False", "True"), [1, 0], id="booleans"),
        pytest.param(["True", "False"], ("False", "True"), [1, 0], id="booleans-of-a-csv"),
        pytest.param([1.0, 0.0], ("0", "1"), [1, 0], id="whole-floats"),
        pytest.param(["1.0", "0.0"], ("0", "1"), [1, 0], id="whole-floats-of-a-csv"),
        pytest.param(["1.0", "1.5", "0.5"], ("0.5", "1.0", "1.5"), [1, 2, 0], id="few-fractions"),
        pytest.param([0, "x", "9"], ("0", "9", "x"), [0, 2, 1], id="mixed"),
    ],
)
def test_classes_are_found_and_put_in_order(labels: list[Any], names: tuple[str, ...], ids: list[int]) -> None:
    encoded = encode(CLASSIFY, train=labels)
    assert encoded.names == names
    assert encoded.splits["train"] == ids


def test_one_label_written_in_two_ways_is_one_class() -> None:
    encoded = encode(CLASSIFY, train=[1, 0, 2], validation=["2", "0", "1"], test=[1.0, 0.0, 2.0])
    assert encoded.splits == {"train": [1, 0, 2], "validation": [2, 0, 1], "test": [1, 0, 2]}


JOINED = "Labels written in several ways are one: {} (`data: {{labels: as_written}}` takes each as it stands)."


@pytest.mark.parametrize(
    ("splits", "names", "note"),
    [
        pytest.param(
            {"train": ["pos", "Pos", "neg", "pos"], "validation": ["NEG", "pos"]},
            ("neg", "pos"),
            JOINED.format("'NEG', 'neg' as 'neg'; 'Pos', 'pos' as 'pos'"),
            id="case",
        ),
        pytest.param(
            {"train": ["TRUE", "true", "False"]},
            ("false", "true"),
            JOINED.format("'False' as 'false'; 'TRUE', 'true' as 'true'"),
            id="booleans",
        ),
        pytest.param(
            {"train": [True, False], "validation": ["false", "true"]},
            ("false", "true"),
            JOINED.format("'False', 'false' as 'false'; 'True', 'true' as 'true'"),
            id="booleans-of-two-files",
        ),
        pytest.param(
            {"train": ["a", "A", "b"]},
            ("A", "a", "b"),
            "The labels 'A', 'a' differ only in case or spaces and are separate classes.",
            id="letters",
        ),
        pytest.param(
            {"train": ["None", "for", "against"]},
            ("None", "against", "for"),
            "The label 'None' is a class like others (1 row).",
            id="none",
        ),
        pytest.param(
            {"train": ["s|tennis", "s|golf"]},
            ("s|golf", "s|tennis"),
            "A label with '|' in it, as 's|golf', is one class.",
            id="paths",
        ),
        pytest.param(
            {"train": ["0,5", "10,0", "2,5"]},
            ("0,5", "2,5", "10,0"),
            "The labels are 3 different numbers with a decimal comma, taken as classes; for a measure: "
            "`task: text-regression`.",
            id="decimal-commas",
        ),
        pytest.param(
            {"train": [18 + n for n in range(60)] * 3},
            tuple(str(18 + n) for n in range(60)),
            "The labels are 60 whole numbers from 18 to 77 without a gap, taken as classes; for a measure: "
            "`task: text-regression`.",
            id="ages",
        ),
        pytest.param(
            {"train": ["0", "9", "x"]},
            ("0", "9", "x"),
            "The labels '0', '9' are numbers, others are words; all are classes.",
            id="numbers-among-words",
        ),
    ],
)
def test_what_labels_are_taken_for_is_said(splits: dict[str, list[Any]], names: tuple[str, ...], note: str) -> None:
    encoded = encode(CLASSIFY, **splits)
    assert encoded.names == names
    assert encoded.notes == (note,)


def test_class_ids_are_classes_without_a_word() -> None:
    encoded = encode(CLASSIFY, train=list(range(30)) * 4)
    assert (encoded.names, encoded.notes) == (tuple(str(n) for n in range(30)), ())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        pytest.param(
            ["a|b", "b", "a"], "several labels in one cell: 'a|b' holds labels with '|' between", id="several"
        ),
        pytest.param(["['a', 'b']", "['b']"], "several labels in one cell: lists such as", id="lists"),
        pytest.param(["1", "0", "inf"], "'inf' among the labels, which are numbers \\(1 row\\)", id="infinite"),
        pytest.param([1.0, 0.0, -math.inf], "'-inf' among the labels", id="infinite-float"),
    ],
)
def test_labels_that_mean_something_else_are_classes_only_if_told(labels: list[Any], message: str) -> None:
    with pytest.raises(DataProblem, match=message) as caught:
        encode(CLASSIFY, train=labels)
    assert "as_written" in caught.value.hint
    encoded = encode(CLASSIFY, train=labels, as_written=True)
    assert encoded.names is not None
    assert [encoded.names[position] for position in encoded.splits["train"]] == [str(label) for label in labels]


def test_labels_as_written_are_joined_no_more() -> None:
    encoded = encode(CLASSIFY, train=["TRUE", "true", "false"], as_written=True)
    assert encoded.names == ("TRUE", "false", "true")
    assert encode(CLASSIFY, train=[f"{n},5" for n in range(30)] * 3, as_written=True).names


def test_a_class_that_validation_lacks_is_remarked() -> None:
    assert encode(CLASSIFY, train=["a", "b"], validation=["a"]).notes == ("No row of validation has the label 'b'.",)


def test_names_that_come_with_the_data_keep_their_order() -> None:
    encoded = encode(CLASSIFY, ("z", "y", "x"), train=[2, 0, 2])
    assert (encoded.names, encoded.splits["train"]) == (("z", "y", "x"), [2, 0, 2])
    assert encoded.notes == ("No row of train has the label 'y'.",)


def test_names_and_positions_of_two_files_are_the_same_classes() -> None:
    encoded = encode(CLASSIFY, ("z", "1", "x"), train=["x", "z", "1"], validation=["0", "1", 2])
    assert encoded.splits == {"train": [2, 0, 1], "validation": [0, 1, 2]}


@pytest.mark.parametrize(
    ("labels", "message", "hint"),
    [
        pytest.param(["a", "a"], "every label is 'a'; at least two", "right column", id="D17-constant"),
        pytest.param([-100, -100], "every label is -100, which marks rows without", "labelled", id="D18"),
        pytest.param([-1, -1], "every label is -1, which marks rows without", "labelled", id="D18-minus-one"),
        pytest.param(
            [n + 0.5 for n in range(MANY + 1)] * 100,
            "21 different labels with fractions",
            "task: text-regression",
            id="measure",
        ),
        pytest.param(
            [f"{n},5" for n in range(50)] * 9,
            "50 different labels with decimal commas",
            "task: text-regression",
            id="decimal-commas",
        ),
        pytest.param(
            [str(n / 7) for n in range(400)],
            "400 different labels with fractions",
            "task: text-regression",
            id="measure-of-a-csv",
        ),
        pytest.param(
            list(range(MOST_CLASSES + 1)) * 3, "1,001 classes; at most 1,000", "text-regression", id="too-many-numbers"
        ),
        pytest.param(
            [f"id{n}" for n in range(MOST_CLASSES + 1)] * 3, "1,001 classes", "the text or an id", id="too-many-texts"
        ),
        pytest.param([f"text {n}" for n in range(11)], "11 different labels in 11 rows", "an id", id="as-many-as-rows"),
    ],
)
def test_a_column_that_holds_no_classes_is_a_problem(labels: list[Any], message: str, hint: str) -> None:
    with pytest.raises(DataProblem, match=message) as caught:
        encode(CLASSIFY, train=labels)
    assert hint in caught.value.hint
    assert caught.value.about == "train"


def test_labels_that_train_lacks_are_named() -> None:
    with pytest.raises(
        DataProblem, match=r"'mixed' cannot be learned \(2 of 3 rows\); train has only 'neg', 'pos'"
    ) as caught:
        encode(CLASSIFY, train=["pos", "neg"], validation=["pos", "mixed", "mixed"])
    assert caught.value.about == "validation"
    with pytest.raises(DataProblem, match="'postive'") as caught:
        encode(CLASSIFY, train=["positive", "negative"], test=["postive"])
    assert caught.value.hint == "did you mean positive?"


def test_a_label_beyond_the_names_is_a_problem() -> None:
    with pytest.raises(DataProblem, match=r"'2' cannot be learned \(1 of 3 rows\); there are names for 0 to 1 only"):
        encode(CLASSIFY, ("no", "yes"), train=[0, 1, 2])


def test_fewer_rows_than_named_classes_are_a_problem() -> None:
    with pytest.raises(DataProblem, match="2 rows for 3 classes"):
        encode(CLASSIFY, ("a", "b", "c"), train=[0, 1])


LABEL = st.one_of(st.integers(-3, 12), st.booleans(), st.text("abAB 1", min_size=1).filter(str.strip))


@given(st.lists(LABEL, min_size=2, max_size=30))
def test_ids_point_back_to_the_label_as_it_was_written(labels: list[Any]) -> None:
    try:
        encoded = encode(CLASSIFY, train=labels, as_written=True)
    except DataProblem:
        return
    assert encoded.names is not None
    assert [encoded.names[position] for position in encoded.splits["train"]] == [str(x).strip() for x in labels]
    assert len(set(encoded.names)) == len(encoded.names)


def test_the_head_of_a_classifier_has_the_names() -> None:
    assert CLASSIFY.head(["neg", "pos"]) == {
        "num_labels": 2,
        "id2label": {0: "neg", 1: "pos"},
        "label2id": {"neg": 0, "pos": 1},
        "problem_type": "single_label_classification",
    }
    assert CLASSIFY.naive_loss(np.array([0, 1]), ["a", "b", "c"]) == pytest.approx(math.log(3))


def class_score(truth: list[int], predicted: list[int], classes: int) -> dict[str, float]:
    return CLASSIFY.score(np.eye(classes, dtype=np.float32)[predicted], np.array(truth))


def test_macro_f1_is_the_mean_over_the_classes_that_occur() -> None:
    """Class 0: precision 1, recall 1/2, F1 2/3. Class 1: precision 1/2, recall 1, F1 2/3. Class 2: F1 1."""
    score = class_score([0, 0, 1, 2], [0, 1, 1, 2], classes=9)
    assert score == {"accuracy": 0.75, "macro_f1": pytest.approx((2 / 3 + 2 / 3 + 1) / 3)}
    assert class_score([0, 0], [1, 1], classes=3) == {"accuracy": 0.0, "macro_f1": 0.0}


def test_many_classes_in_few_rows_are_scored_without_a_warning() -> None:
    assert class_score(list(range(60)), list(range(60)), classes=77) == {"accuracy": 1.0, "macro_f1": 1.0}


@pytest.mark.parametrize("task", [CLASSIFY, REGRESS])
def test_a_score_has_every_metric_but_the_loss(task: Task) -> None:
    score = task.score(np.array([[0.1], [0.2]]), np.array([0, 0]))
    assert {f"eval_{name}" for name in score} == set(task.metrics) - {"eval_loss"}


def test_numbers_are_read_from_any_way_to_write_them() -> None:
    encoded = encode(REGRESS, train=["1.5", 2, "-3e-1"], validation=[1.5])
    assert encoded.names is None
    assert encoded.splits == {"train": [1.5, 2.0, -0.3], "validation": [1.5]}


def test_decimal_commas_are_numbers_and_said() -> None:
    encoded = encode(REGRESS, train=["3,5", "-0,25", "4"], validation=["1,125"])
    assert encoded.splits == {"train": [3.5, -0.25, 4.0], "validation": [1.125]}
    assert encoded.notes == ("The labels are 3 different numbers with a decimal comma, read as with a point.",)
    with pytest.raises(DataProblem, match=r"the comma of '1,250' may part thousands, or the fraction"):
        encode(REGRESS, train=["1,250", "3,500"])
    with pytest.raises(DataProblem, match="no finite numbers: '3,5' in line 2"):
        encode(REGRESS, train=["3,5", "4"], as_written=True)


def test_class_ids_that_are_learned_as_numbers_are_said() -> None:
    assert encode(REGRESS, train=list(range(30)) * 4).notes == (
        (
            "The labels are 30 whole numbers from 0 to 29 without a gap, taken as numbers; for classes: "
            "`task: text-classification`."
        ),
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        pytest.param(["1", "good", "3,5"], "2 of 3 labels .*: 'good' in line 3, '3,5' in line 4", id="text"),
        pytest.param([1.0, True], "True in line 3", id="boolean"),
        pytest.param(["1_000", "2"], "'1_000' in line 2", id="underscore"),
        pytest.param([1.0, float("inf")], "inf in line 3", id="infinite"),
        pytest.param(["1", "nan"], "'nan' in line 3", id="D26-nan"),
        pytest.param([1.0, 10**400], "in line 3", id="too-large"),
        pytest.param([2, "2.0"], "every label is 2", id="constant"),
    ],
)
def test_a_column_that_holds_no_measure_is_a_problem(labels: list[Any], message: str) -> None:
    with pytest.raises(DataProblem, match=message):
        encode(REGRESS, train=labels)


def test_named_classes_are_no_measure() -> None:
    with pytest.raises(DataProblem, match="the labels are classes"):
        encode(REGRESS, ("a", "b"), train=[0, 1])


def test_the_head_of_a_regression_has_one_output() -> None:
    assert REGRESS.head(None) == {"num_labels": 1, "problem_type": "regression"}
    assert REGRESS.naive_loss(np.array([1.0, -2.0, 2.0], dtype=np.float32), None) == pytest.approx(3.0)


def test_measures_are_scored_as_scipy_does() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=50)
    predicted = truth + rng.normal(size=50)
    score = REGRESS.score(predicted[:, None], truth)
    assert score == {
        "mse": pytest.approx(np.mean((predicted - truth) ** 2)),
        "mae": pytest.approx(np.mean(np.abs(predicted - truth))),
        "pearson": pytest.approx(pearsonr(predicted, truth).statistic),
        "spearman": pytest.approx(spearmanr(predicted, truth).statistic),
    }


def test_constant_predictions_correlate_with_nothing() -> None:
    # The mean of many equal numbers is not that number, so their spread must be judged before it is taken off.
    predicted = np.full((999, 1), 0.1, dtype=np.float32)
    score = REGRESS.score(predicted, np.arange(999))
    assert (score["pearson"], score["spearman"]) == (0.0, 0.0)


def test_a_prediction_that_is_not_finite_gives_no_score() -> None:
    score = REGRESS.score(np.array([[1.0], [math.nan]]), np.array([1.0, 2.0]))
    assert all(math.isnan(value) for value in score.values())
    assert math.isnan(REGRESS.score(np.array([[1.0], [math.inf]]), np.array([1.0, 2.0]))["pearson"])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            [1.7e9 + second for second in range(100)],
            r"lie within 28\.9 of 17000000(49|50), closer than single precision",
        ),
        ([1.0, 2.0, 3e300], r"a label is 3e\+300; at most 1e\+15"),
        ([1.0, 2.0, -1e16], "a label is 1e\\+16"),
    ],
)
def test_measures_that_single_precision_cannot_hold_are_refused(labels, message) -> None:
    with pytest.raises(DataProblem, match=message):
        REGRESS.encode({"train": pd.Series(labels)}, None)


def test_label_that_drowns_all_others_is_noted() -> None:
    labels = pd.Series([float(row % 7) for row in range(1_000)] + [1e6])
    note = REGRESS.encode({"train": labels}, None).notes[0]
    assert "1 of 1,001 labels lie more than 20 standard deviations from the mean (1e+06 in row 1000)" in note
