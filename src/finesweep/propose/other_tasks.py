"""Recognises data of tasks that do not exist yet, so that ``sweep init`` proposes no wrong task for them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from finesweep.propose.column_roles import Column, named_label

_WORD_LISTS = frozenset({"tokens", "words", "token", "word"})
_TAG = re.compile(r"O|[BIELSU]-\S+")
_QUESTIONS = ("question", "query")
_PASSAGES = ("context", "passage", "paragraph", "document", "article")
_ANSWERS = ("answers", "answer", "answer_text", "answer_start")
_CHOICE_LISTS = frozenset({"choices", "options", "endings", "candidates"})
_CHOICE = re.compile(r"(ending|choice|option|sol|answer|opt)[ _]?([0-9]|[a-e])")
_GENERATED = (
    (("article", "document", "text", "dialogue", "report", "body"), ("summary", "highlights", "abstract", "headline")),
    (("prompt", "instruction", "input", "query"), ("completion", "response", "output", "target", "answer")),
    (("source", "src", "original", "input"), ("target", "tgt", "translation", "paraphrase", "corrected")),
    (("question",), ("answer", "response")),
)
_CHATS = frozenset({"messages", "conversations", "conversation", "dialog", "turns", "translation"})
_LANGUAGE = re.compile(r"[a-z]{2}(_[A-Za-z]{2,4})?")
_MOST_ANSWERS = 20
"""Maximum number of different answers that are classes; more are texts to be found."""


def other_task(columns: Sequence[Column]) -> str | None:
    """Describe data of a task that does not exist; return None if the data fit an existing one."""
    for recognise in _RECOGNISED:
        if found := recognise(columns):
            return found
    return None


def _tags(columns: Sequence[Column]) -> str | None:
    """Recognise a tag for each word: lists as long as the list of words, or a word and its tag in each row."""
    lists = {column.name: column.lists for column in columns if column.lists}
    words = next((name for name in lists if name.lower() in _WORD_LISTS), None)
    tags = next((name for name in lists if words and name != words and lists[name] == lists[words]), None)
    if words and tags:
        return f"{words!r} and {tags!r} are lists of one length: token classification, a tag for each word"
    for column in columns:
        kinds = Counter(value[:1] for value in column.values if _TAG.fullmatch(value))
        if kinds["O"] and kinds.total() > 1 and kinds.total() == len(column.values):
            return f"{column.name!r} holds tags such as {column.values[0]!r}: token classification, a tag for each word"
    return None


def _answers(columns: Sequence[Column]) -> str | None:
    named = {column.lowered: column for column in columns}
    question, passage = (
        next((named[name] for name in names if name in named), None) for names in (_QUESTIONS, _PASSAGES)
    )
    answer = next((named[name] for name in _ANSWERS if name in named), None)
    if question is None or passage is None or answer is None or _has_label(columns):
        return None
    if answer.nested or answer.lowered == "answer_start" or len(answer.values) > _MOST_ANSWERS:
        shown = f"{question.name!r}, {passage.name!r} and {answer.name!r}"
        return f"{shown}: question answering, an answer to be found in a text"
    return None


def _choices(columns: Sequence[Column]) -> str | None:
    groups = defaultdict(list)
    for column in columns:
        if column.lowered in _CHOICE_LISTS and column.nested == "lists":
            return f"{column.name!r} holds lists of answers: multiple choice, one of several texts"
        if (match := _CHOICE.fullmatch(column.lowered)) is not None and column.is_text:
            groups[match[1]].append(column.name)
    several = next((names for names in groups.values() if len(names) > 1), None)
    return f"{_listed(several)}: multiple choice, one of several texts" if several else None


def _preferences(columns: Sequence[Column]) -> str | None:
    named = {column.lowered: column.name for column in columns}
    for names, what in (
        (("chosen", "rejected"), "preferences, the better of two answers"),
        (("anchor", "positive"), "similarity of texts without a score"),
        (("query", "pos"), "similarity of texts without a score"),
    ):
        if set(names) <= named.keys():
            return f"{_listed([named[name] for name in names])}: {what}"
    return None


def _generation(columns: Sequence[Column]) -> str | None:
    what = "generation, a text made from a text"
    named = {column.lowered: column for column in columns}
    if _has_label(columns):
        return None
    for column in columns:
        if column.lowered in _CHATS and column.nested:
            return f"{column.name!r} holds {column.nested}: {what}"
    texts = {
        name: column for name, column in named.items() if column.is_text and column.is_varied and column.words >= 2
    }
    for sources, targets in _GENERATED:
        source = next((texts[name] for name in sources if name in texts), None)
        target = next((texts[name] for name in targets if name in texts), None)
        if source is not None and target is not None:
            return f"{source.name!r} and {target.name!r}: {what}"
    languages = [column.name for name, column in texts.items() if _LANGUAGE.fullmatch(name)]
    return f"{_listed(languages)} are texts in several languages: {what}" if len(languages) > 1 else None


def _has_label(columns: Sequence[Column]) -> bool:
    label = named_label(columns)
    return label is not None and not label.nested and not (label.is_text and label.is_varied)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:-1])) + (" and " if len(names) > 1 else "") + repr(names[-1])


_RECOGNISED: Sequence[Callable[[Sequence[Column]], str | None]] = (
    *(_tags, _choices, _preferences, _answers, _generation),
)
