"""Data of tasks that do not exist are called by their name; data of those that do are not taken for them."""

from __future__ import annotations

from typing import Any

import pytest

from finesweep.propose.column_roles import columns_of
from finesweep.propose.other_tasks import other_task

ROWS = 40
TEXTS = [f"the soup of day {row} was cold and the waiter knew it" for row in range(ROWS)]
OTHERS = [f"another text, number {row}, that is long enough" for row in range(ROWS)]


def task(columns: dict[str, list[Any]]) -> str | None:
    return other_task(columns_of(list(columns), columns, {}))


def cycle(*values: Any) -> list[Any]:
    return [values[row % len(values)] for row in range(ROWS)]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        pytest.param(
            {"tokens": [["a", "b"]] * ROWS, "ner_tags": [[0, 1]] * ROWS},
            "'tokens' and 'ner_tags' are lists of one length: token classification",
            id="tags-in-lists",
        ),
        pytest.param(
            {"Words": ["['a', 'b c']"] * ROWS, "POS": ["['DET', 'NOUN']"] * ROWS}, "token class", id="lists-as-text"
        ),
        pytest.param(
            {"Word": cycle("Anna", "lives"), "Tag": cycle("B-PER", "O", "I-PER")},
            "'Tag' holds tags such as 'B-PER': token classification",
            id="a-word-a-row",
        ),
        pytest.param(
            {"question": TEXTS, "context": OTHERS, "answers": [{"text": ["a"], "answer_start": [3]}] * ROWS},
            "'question', 'context' and 'answers': question answering",
            id="squad",
        ),
        pytest.param(
            {"title": cycle("a", "b"), "context": OTHERS, "question": TEXTS, "answer": OTHERS},
            "question answering",
            id="squad-as-csv",
        ),
        pytest.param(
            {"ctx": TEXTS, **{f"ending{n}": OTHERS for n in range(4)}, "label": cycle(0, 1, 2, 3)},
            "'ending0', 'ending1', 'ending2' and 'ending3': multiple choice",
            id="endings",
        ),
        pytest.param({"question": TEXTS, "choices": [["a", "b"]] * ROWS}, "multiple choice", id="choices"),
        pytest.param(
            {"goal": TEXTS, "sol1": OTHERS, "sol2": TEXTS, "label": cycle(0, 1)}, "multiple", id="two-choices"
        ),
        pytest.param({"prompt": TEXTS, "chosen": OTHERS, "rejected": TEXTS}, "preferences", id="preferences"),
        pytest.param({"anchor": TEXTS, "positive": OTHERS, "negative": TEXTS}, "without a score", id="triplets"),
        pytest.param({"article": TEXTS, "highlights": OTHERS}, "'article' and 'highlights': generation", id="summary"),
        pytest.param({"source": TEXTS, "target": OTHERS}, "generation", id="source-and-target"),
        pytest.param({"instruction": TEXTS, "input": cycle(""), "output": OTHERS}, "generation", id="instructions"),
        pytest.param({"en": TEXTS, "de": OTHERS}, "'en' and 'de' are texts in several languages", id="translation"),
        pytest.param({"translation": [{"en": "a", "de": "b"}] * ROWS}, "holds mappings: generation", id="nested"),
        pytest.param({"messages": [[{"role": "user"}]] * ROWS}, "holds lists: generation", id="chat"),
    ],
)
def test_a_task_that_does_not_exist_is_named(columns: dict[str, list[Any]], message: str) -> None:
    assert message in str(task(columns))


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param({"text": TEXTS, "label": cycle(0, 1)}, id="plain"),
        pytest.param({"premise": TEXTS, "hypothesis": OTHERS, "label": cycle("yes", "no")}, id="entailment"),
        pytest.param({"question": TEXTS, "passage": OTHERS, "answer": cycle(True, False)}, id="yes-or-no"),
        pytest.param(
            {"question": TEXTS, "context": OTHERS, "answer": OTHERS, "label": cycle(0, 1)}, id="is-it-answered"
        ),
        pytest.param({"document": TEXTS, "summary": OTHERS, "score": cycle(1, 2, 3)}, id="judged-summary"),
        pytest.param({"text": TEXTS, "blood_group": cycle("O", "A", "B", "AB")}, id="letters"),
        pytest.param({"text": TEXTS, "is_spam": cycle(0, 1), "has_link": cycle(1, 0)}, id="two-flags"),
        pytest.param({"text": TEXTS, "label": cycle(0, 1), **{n: cycle(0, 1, 1) for n in "abc"}}, id="label-and-flags"),
        pytest.param({"text": TEXTS, "topic": cycle("arts|film", "arts|music", "sports|tennis")}, id="paths"),
        pytest.param({"source": cycle("web", "mail"), "body": TEXTS, "target": cycle(0, 1)}, id="target-is-a-class"),
        pytest.param({"choice": cycle("a", "b"), "text": TEXTS}, id="one-choice"),
        pytest.param({"text": TEXTS, **{name: cycle("0", "1") for name in ("rude", "mad", "sad")}}, id="flags"),
        pytest.param({"text": TEXTS, "labels": [["a"], ["a", "b"]] * 20}, id="lists"),
        pytest.param({"text": TEXTS, "label": cycle("a|b", "b", "a", "b|c")}, id="bars"),
    ],
)
def test_data_of_a_task_that_exists_are_left_to_it(columns: dict[str, list[Any]]) -> None:
    assert task(columns) is None
