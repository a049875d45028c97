"""Makes TF-IDF features of texts and of pairs of texts, in bounded time and memory."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LONGEST = 2_000
"""Maximum characters that are read of a text, about the 512 tokens that a model reads."""

MOST_CHARACTERS = 4_000_000
"""Maximum characters that are read of all texts of a split; of many texts less is read of each."""

MOST_WEIGHTS = 1_000_000
"""Maximum of features times classes. The solver holds twenty copies of that many numbers, 160 MB."""

MOST_FEATURES = 50_000

LONG_WORD = 15
"""Characters of a text for each of its words above which texts have no blanks between words, as in Chinese."""

_LOOKED_AT = 1_000
"""Texts that are looked at to choose between words and characters."""

_WORD = r"\b\w+\b"


@dataclass(frozen=True)
class Features:
    """Sparse features.

    Attributes:
        train: (training rows, features).
        validation: (validation rows, features).
    """

    train: Any
    validation: Any


def tf_idf(train: Sequence[Sequence[str]], validation: Sequence[Sequence[str]], outputs: int) -> Features | None:
    """Make features of words and pairs of words, or of characters where words are not separated.

    Both texts of a pair have features of their own, and one more says how similar they are.

    Args:
        train: The texts of the training rows; a second sequence holds the second texts of pairs.
        validation: The same of the validation rows.
        outputs: Number of classes that are fitted together.

    Returns:
        None if no text has a letter or a digit.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    most = min(MOST_FEATURES, max(MOST_WEIGHTS // max(outputs * len(train), 1), 1_000))
    longest = min(LONGEST, max(MOST_CHARACTERS // max(len(train[0]), len(validation[0])), 100))
    cut = [[[text[:longest] for text in column] for column in columns] for columns in (train, validation)]
    of_words = _has_words(cut[0][0])
    ways: dict[str, Any] = {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": _WORD}
    ways = ways if of_words else {"analyzer": "char", "ngram_range": (1, 3)}
    known = [text for column in cut[0] for text in column]
    if not any(re.search(r"\w", text) for text in known):
        return None
    vectors = TfidfVectorizer(sublinear_tf=True, max_features=most, **ways).fit(known)
    return Features(*(_joined([vectors.transform(column) for column in columns]) for columns in cut))


def _has_words(texts: Sequence[str]) -> bool:
    """Return whether most texts have blanks between their words."""
    looked_at = texts[:_LOOKED_AT]
    return statistics.median(len(text) / max(len(re.findall(_WORD, text)), 1) for text in looked_at) <= LONG_WORD


def _joined(columns: Sequence[Any]) -> Any:
    """Return the features of one text, or of both texts of a pair with their cosine."""
    from scipy.sparse import csr_matrix, hstack

    if len(columns) == 1:
        return columns[0]
    first, second = columns
    return hstack([first, second, csr_matrix(first.multiply(second).sum(axis=1))], format="csr")
