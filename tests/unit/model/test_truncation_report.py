"""What is said of texts that are longer than the limit, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep.model.from_scratch import train_tokenizer
from finesweep.model.source import ResolvedModel
from finesweep.model.truncation_report import percent, sample, shares_cut, truncation_notes
from finesweep.spec.sections import SweepSpec

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def frame(lengths: list[int], pair: int = 0) -> pd.DataFrame:
    """Return rows of so many words each; every word is a token, and two special ones stand around them."""
    texts = [" ".join((WORDS * 10)[:length]) for length in lengths]
    columns = {"text": texts, "label": [0] * len(texts)}
    return pd.DataFrame(columns | ({"text_pair": ["one"] * len(texts)} if pair else {}))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ResolvedModel:
    folder = tmp_path_factory.mktemp("model")
    train_tokenizer([" ".join(WORDS)] * 50, 400).save(str(folder / "tokenizer.json"))
    return ResolvedModel("model", folder, None, "digest", {}, 64)


def spec(space: dict[str, Any] | None = None, **data: Any) -> SweepSpec:
    values = {"name": "a", "base": Path(), "model": {"name": "./model"}, "data": {"train": "a.csv", **data}}
    return SweepSpec.model_validate({**values, "space": space or {"learning_rate": {"low": 1e-5, "high": 1e-4}}})


def notes(asked: SweepSpec, model: ResolvedModel, **frames: pd.DataFrame) -> list[str]:
    return list(truncation_notes(asked, frames, model))


def test_the_shares_of_texts_and_of_tokens_are_told(model: ResolvedModel) -> None:
    found = notes(spec(max_length=8), model, train=frame([2, 2, 2]), validation=frame([14]))
    assert found == ["data.max_length: 8 tokens cut 25 % of the texts and 29 % of all tokens."]


def test_where_nothing_is_cut_the_longest_text_is_told(model: ResolvedModel) -> None:
    assert notes(spec(), model, train=frame([3, 9])) == ["data.max_length: 64 tokens cut no text; the longest has 11."]


def test_the_second_text_of_a_pair_counts(model: ResolvedModel) -> None:
    assert "longest has 7." in notes(spec(), model, train=frame([3], pair=1))[0]


@pytest.mark.parametrize(
    "parameter", [{"choices": [8, 16, 4]}, {"low": 4, "high": 16}, {"low": 4, "high": 16, "log": True}]
)
def test_each_length_that_is_searched_is_told(model: ResolvedModel, parameter: dict[str, Any]) -> None:
    (note,) = notes(spec({"data.max_length": parameter}), model, train=frame([4, 8]))
    assert "4 tokens cut 100 % of the texts and 50 % of all tokens; " in note
    assert note.endswith("16 tokens cut none.")
    assert ("; 8 tokens cut 50 %" in note) == ("choices" in parameter)


def test_a_sample_is_called_one(model: ResolvedModel) -> None:
    (note,) = notes(spec(max_length=8), model, train=frame([8] * 2_000), test=frame([1] * 2_000))
    assert note.endswith(" (in a sample of 1,000 of 4,000 rows).")
    share = int(note.partition("cut ")[2].partition(" %")[0])
    assert 40 <= share <= 60, "rows of all splits are drawn"


def test_few_long_texts_are_enough_of_a_sample():
    rows, total = sample({"train": pd.DataFrame({"text": ["x" * 1_500_000] * 10})}, seed=0)
    assert (len(rows), total) == (1, 10)


def test_a_model_from_scratch_is_told_of_too() -> None:
    asked = spec(max_length=8).model_copy(update={"model": scratch()})
    found = ResolvedModel("bert (from scratch)", None, None, "scratch", {}, 64)
    (note,) = notes(asked, found, train=frame([3, 60]))
    assert note.startswith("data.max_length: 8 tokens cut 50 % of the texts")


def test_a_model_from_scratch_counts_with_the_words_of_train_alone() -> None:
    asked = spec(max_length=8).model_copy(update={"model": scratch()})
    found = ResolvedModel("bert (from scratch)", None, None, "scratch", {}, 64)
    strange = pd.DataFrame({"text": ["zyx"] * 50, "label": [0] * 50})
    (note,) = notes(asked, found, train=frame([1] * 50), validation=strange)
    assert "the longest has 3" in note, "zyx has letters that train lacks, so it is one unknown token"


def test_a_tokenizer_of_other_texts_is_told(model: ResolvedModel) -> None:
    strange = pd.DataFrame({"text": ["\u043e\u0434\u0438\u043d \u0434\u0432\u0430", "one"], "label": [0, 1]})
    note = "model: its tokenizer does not know 67 % of the words; is it the one for these texts?"
    assert notes(spec(), model, train=strange)[1:] == [note]


def scratch() -> Any:
    from finesweep.spec.sections import ScratchModelSpec

    return ScratchModelSpec(config="bert", vocab_size=200)


@given(st.lists(st.integers(1, 100), min_size=1), st.integers(1, 100))
def test_the_shares_are_those_of_texts_cut_one_by_one(lengths: list[int], limit: int) -> None:
    texts, tokens = shares_cut(lengths, limit)
    assert texts == pytest.approx(sum(length > limit for length in lengths) / len(lengths))
    assert tokens == pytest.approx(1 - sum(min(length, limit) for length in lengths) / sum(lengths))


@pytest.mark.parametrize(("share", "shown"), [(0, "0 %"), (0.001, "less than 1 %"), (0.345, "34 %"), (1.0, "100 %")])
def test_a_small_share_is_not_shown_as_none(share: float, shown: str) -> None:
    assert percent(share) == shown
