"""How many tokens texts have: by a tokenizer, and by their scripts where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep.model.from_scratch import train_tokenizer
from finesweep.model.text_length import LOOKED_AT, counter_of, estimated_tokens, tokenizer_counter

ENGLISH = "The soup was cold, and the waiter knew it; he had seen three tables complain before us."


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        pytest.param(ENGLISH, 18, 26, id="english"),
        pytest.param("这部电影真的非常好看演员的表演也很到位我推荐大家去看" * 4, 100, 110, id="chinese"),
        pytest.param("とても面白い映画でしたまた観たい" * 4, 50, 70, id="japanese"),
        pytest.param("정말 재미있는 영화였어요", 8, 14, id="korean"),
        pytest.param("หนังเรื่องนี้สนุกมากอยากดูอีก" * 2, 20, 35, id="thai"),
        pytest.param("Это очень хороший фильм, посмотрите", 8, 16, id="russian"),
        pytest.param("यह बहुत अच्छी फिल्म है", 6, 14, id="hindi"),
        pytest.param("هذا فيلم جيد جدا", 5, 10, id="arabic"),
        pytest.param("Der Kellner wußte, daß die Suppe kalt war", 10, 16, id="german"),
        pytest.param("https://shop.example/a/very/long/address/12345", 18, 30, id="address"),
        pytest.param("YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWZnaGlqa2xtbm9w", 15, 40, id="base64"),
        pytest.param("中文abc混合text", 7, 10, id="mixed"),
        pytest.param("", 2, 2, id="empty"),
    ],
)
def test_tokens_are_estimated_by_script_not_by_blanks(text: str, least: int, most: int) -> None:
    assert least <= estimated_tokens([text]) <= most


def test_a_pair_has_the_tokens_of_both_texts_and_a_mark_between_them():
    assert estimated_tokens([ENGLISH, ENGLISH]) == 2 * estimated_tokens([ENGLISH]) - 1


def test_a_very_long_text_is_counted_in_proportion():
    text = "good words " * 50_000
    tokens = estimated_tokens([text])
    assert tokens == pytest.approx(100_000, rel=0.01)
    count = counter_of(train_tokenizer(["good words"] * 20, 100))
    assert count([text]) == pytest.approx(100_000, rel=0.01)
    assert count([text[:LOOKED_AT]]) < 4_000


@given(st.text(max_size=300))
def test_every_text_can_be_estimated(text: str) -> None:
    assert 2 <= estimated_tokens([text]) <= 2 + len(text)


def test_a_tokenizers_own_padding_and_limit_are_not_counted(tmp_path: Path) -> None:
    tokenizer = train_tokenizer([ENGLISH] * 5, 200)
    tokenizer.enable_padding(length=128)
    tokenizer.enable_truncation(8)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    count = tokenizer_counter(tmp_path)
    assert count is not None
    assert count(["the soup"]) == 4
    assert count(["the soup", "the soup"]) == 7
    assert count([ENGLISH]) > 18


@pytest.mark.parametrize("content", [None, "", "{}", '{"model": {"type": "WordPiece", "vocab": {}}}', "\xff"])
def test_a_folder_whose_tokenizer_cannot_be_read_has_no_counter(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content, encoding="latin-1")
    assert tokenizer_counter(tmp_path) is None
