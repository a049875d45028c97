"""What foreign code says of a text goes neither into a log nor into a record."""

from __future__ import annotations

import traceback
from typing import Any

import pandas as pd
import pytest

from finesweep.errors import SpecError, SweepError
from finesweep.tasks.text_classification import TextClassification
from finesweep.training.tokens import _tokens, without_texts
from finesweep.worker.prove_winner import Exported

SECRET = "the patient's name is written here"
FRAME = pd.DataFrame({"text": ["harmless", SECRET], "label": [0, 1]})


class Tokenizer:
    """Says which text it does not like, as tokenizers in plain Python do."""

    model_input_names = ("input_ids",)

    def __init__(self, kind: type[Exception]) -> None:
        self.kind = kind

    def __call__(self, texts: list[str], **_: Any) -> Any:
        raise self.kind(texts[1])


@pytest.fixture(autouse=True)
def no_debugging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FINESWEEP_DEBUG", raising=False)


@pytest.mark.parametrize("kind", [ValueError, KeyError, TypeError, RuntimeError, IndexError, AssertionError])
def test_text_in_an_error_of_the_tokenizer_is_left_out(kind: type[Exception]) -> None:
    for step in (
        lambda: _tokens(Tokenizer(kind), "validation", FRAME, 8),
        lambda: Exported(None, Tokenizer(kind), TextClassification(), 8).tokens(FRAME),
    ):
        with pytest.raises(SweepError, match=f"failed with {kind.__name__}, whose words may be a row's text") as caught:
            step()
        assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_text_in_an_error_is_shown_where_the_user_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINESWEEP_DEBUG", "1")
    with pytest.raises(ValueError, match=SECRET):
        _tokens(Tokenizer(ValueError), "validation", FRAME, 8)


def test_own_error_keeps_its_words() -> None:
    with pytest.raises(SpecError, match="no such file"), without_texts("something"):
        raise SpecError(["a.csv: no such file"])  # type: ignore[list-item]
