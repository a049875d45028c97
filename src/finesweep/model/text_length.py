"""Counts the tokens of texts, with a model's tokenizer or estimated from their characters."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finesweep.errors import Unreadable
from finesweep.files import read_text
from finesweep.model.folder_check import MAX_JSON

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Texts = Sequence[str]
"""The texts that a model reads together: one, or the two of a pair."""

Counter = Callable[[Texts], int]
"""Returns the number of tokens of a row, special tokens included."""

LOOKED_AT = 20_000
"""Characters of a text that are tokenised; the rest of a longer text is counted in proportion."""

_SPECIAL = 2
"""Approximate number of special tokens of one text: one before it, one after it."""

# A letter of these scripts is about a token, or a part of one: their words have no blanks between them, or a vocabulary
# of many languages has only pieces of their words.
_PIECES = re.compile(
    r"(?P<ideograph>[\u2e80-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
    r"|(?P<hangul>[\u1100-\u11ff\uac00-\ud7af]+)"
    r"|(?P<unspaced>[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]+)"
    r"|(?P<ascii>[A-Za-z]++(?![\u00c0-\u024f]))"
    r"|(?P<digits>[0-9]+)"
    r"|(?P<letters>(?:[^\W\d_\u2e80-\uffff]|[\u0300-\u036f\u0590-\u0dff])+)"
    r"|(?P<other>\S)"
)
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_LETTERS_PER_TOKEN = {
    "ideograph": 1.0,
    "hangul": 1.5,
    "unspaced": 2.0,
    "ascii": 6.0,
    "digits": 3.0,
    "letters": 3.5,
    "other": 1.0,
}
_LONGEST_WORD = 18
"""Maximum length of a word in letters; a longer run is a key or an address, which needs more tokens."""
_KEY_LETTERS = 2.5


def tokenizer_counter(folder: Path) -> Counter | None:
    """Return a counter with the tokenizer of a model's folder; None if it has no ``tokenizer.json``.

    Args:
        folder: The model's folder. Tokenizers in other formats take seconds to convert and are not used.
    """
    tokenizer = _tokenizer(folder)
    return None if tokenizer is None else counter_of(tokenizer)


def unknown_share(folder: Path, rows: Iterable[Texts]) -> float:
    """Return the share of tokens that a tokenizer does not know, 0 to 1.

    Args:
        folder: Has ``tokenizer.json``; for any other tokenizer the result is 0.
        rows: Texts.
    """
    tokenizer = _tokenizer(folder)
    name = getattr(tokenizer.model, "unk_token", None) if tokenizer is not None else None
    if tokenizer is None or name is None:
        return 0.0
    texts = [text[:LOOKED_AT] for row in rows for text in row]
    tokens = [
        token for encoding in tokenizer.encode_batch(texts, add_special_tokens=False) for token in encoding.tokens
    ]
    return tokens.count(name) / max(len(tokens), 1)


def _tokenizer(folder: Path) -> Tokenizer | None:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(read_text(folder / "tokenizer.json", MAX_JSON))
    except Unreadable:
        return None
    except Exception as error:
        if type(error) is Exception:  # the library raises this for every fault of the file
            return None
        raise


def counter_of(tokenizer: Tokenizer) -> Counter:
    """Return a counter with a tokenizer of the library `tokenizers`."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return _counter(lambda first, second: len(tokenizer.encode(first, second)))


def counter_of_loaded(tokenizer: Any) -> Counter:
    """Return a counter with a tokenizer of `transformers`."""
    return _counter(lambda first, second: len(tokenizer(first, second, verbose=False)["input_ids"]))


def _counter(tokens_of: Callable[[str, str | None], int]) -> Counter:
    def count(row: Texts) -> int:
        parts = [text[:LOOKED_AT] for text in row]
        tokens = tokens_of(parts[0], parts[1] if len(parts) > 1 else None)
        looked_at, characters = sum(map(len, parts)), sum(map(len, row))
        return math.ceil(tokens * characters / looked_at) if looked_at < characters else tokens

    return count


def bytes_of(row: Texts) -> int:
    """Count the tokens of a byte tokenizer: one per byte, and one mark after each text."""
    return sum(len(text.encode()) + 1 for text in row)


def estimated_tokens(row: Texts) -> int:
    """Estimate the tokens of a row for a typical model of its language, by the scripts of its characters."""
    return _SPECIAL + len(row) - 1 + sum(map(_estimated, row))


def _estimated(text: str) -> int:
    looked_at = text[:LOOKED_AT]
    tokens = sum(
        _tokens(match.lastgroup or "other", match.end() - match.start()) for match in _PIECES.finditer(looked_at)
    )
    return math.ceil(tokens * len(text) / len(looked_at)) if looked_at else 0


def _tokens(script: str, letters: int) -> int:
    is_key = script == "ascii" and letters > _LONGEST_WORD
    return math.ceil(letters / (_KEY_LETTERS if is_key else _LETTERS_PER_TOKEN[script]))


def word_count(text: str) -> int:
    """Count words approximately: two letters of a script without blanks count as one word."""
    blanks = len(text.split())
    return blanks if text.isascii() else max(blanks, len(_UNSPACED.findall(text)) // 2)
