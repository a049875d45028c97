"""Owns the search space that ``sweep init`` proposes for a data file, by a look at its columns."""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finesweep import data_reading
from finesweep.errors import Problem, SpecError, Unreadable, printable
from finesweep.regular_file import read_bytes
from finesweep.spec import is_name
from finesweep.yaml_source import expand, parse_value

LOOKED_AT = 20_000
"""Rows that the guess is made from."""

_LABEL_NAMES = (
    *("label", "labels", "target", "class", "category", "sentiment", "intent", "topic", "score", "stars", "rating"),
    *("similarity", "gold", "y", "answer_label", "label_id", "label_name"),
)
_TEXT_NAMES = (
    "text",
    "sentence",
    "review",
    "content",
    "body",
    "comment",
    "message",
    "document",
    "utterance",
    "question",
)
_PAIRS = {
    "text": ("text_pair",),
    "premise": ("hypothesis",),
    "question": ("passage", "context", "answer"),
    "query": ("passage", "document"),
}
_TWINS = (("1", "2"), ("_a", "_b"), ("a", "b"))
_MANY = 20
"""More numbers than this are a measure, and more short texts of which half are different are no classes."""

_PLAIN = re.compile(r"[A-Za-z_.][A-Za-z0-9_./-]*\Z")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?\Z")


@dataclass(frozen=True)
class Column:
    """What a column looks like.

    Attributes:
        name: As it stands in the file.
        rows: Values that are not missing.
        values: Different values, as text, in the order of their first appearance.
        is_text: Whether every value is text and one of them is no number.
        is_number: Whether every value is a number.
        has_fractions: Whether one of the numbers is not whole.
        length: Characters of the average value.
        words: Words of the average value.
        long_words: Words that 95 % of the values do not exceed.
    """

    name: str
    rows: int
    values: tuple[str, ...]
    is_text: bool
    is_number: bool
    has_fractions: bool
    length: float
    words: float
    long_words: int

    def __str__(self) -> str:
        kind = "numbers" if self.is_number else "texts" if self.is_text else "values"
        return f"{printable(self.name, 40)!r} ({len(self.values):,} different {kind})"


@dataclass(frozen=True)
class Guess:
    """Which column is what.

    Attributes:
        text: The text to learn from.
        pair: The second text of a pair.
        label: What is to be learned.
        second: Another long text, which could be the second of a pair.
        measure: Whether the label is a number on a scale rather than a class.
    """

    text: Column
    pair: Column | None
    label: Column
    second: Column | None
    measure: bool


def propose(data: Path, target: Path) -> str:
    """Write a commented search space for a data file; it loads as it stands.

    Args:
        data: CSV, TSV, JSON lines or Parquet.
        target: Where the YAML is going to stand; paths in it start from there.

    Returns:
        The YAML's text.

    Raises:
        SpecError: The file cannot be read, or no column of it can be the text or the label; lists the
            columns.
    """
    name = str(data)
    table = _read(expand(data), name)
    columns = [_column(key, table.columns[key][:LOOKED_AT]) for key in table.names if _is_usable(key)]
    guess = _guess(columns, name)
    return "\n".join(_lines(guess, len(table.places), expand(data), target)) + "\n"


def _read(path: Path, name: str) -> data_reading.Table:
    suffix = path.suffix.lower()
    if suffix not in data_reading.SUFFIXES:
        raise _error(name, f"no data file; finesweep reads {', '.join(data_reading.SUFFIXES)}")
    try:
        content = read_bytes(path, data_reading.most_bytes())
    except Unreadable as error:
        raise _error(name, error.reason) from None
    names = data_reading.parse(content, suffix, name, ()).names
    return data_reading.parse(content, suffix, name, names)


def _is_usable(name: str) -> bool:
    """Whether a spec can name this column."""
    return 0 < len(name) <= 256 and "\0" not in name


def _column(name: str, values: Sequence[Any]) -> Column:
    present = [value for value in values if not _is_missing(value)]
    texts = [str(value).strip() for value in present]
    words = sorted(text.count(" ") + 1 for text in texts) or [0]
    is_number = bool(texts) and all(map(_is_number, present))
    return Column(
        name,
        rows=len(texts),
        values=tuple(dict.fromkeys(texts)),
        is_text=not is_number and all(isinstance(value, str) for value in present),
        is_number=is_number,
        has_fractions=is_number and any(map(_has_fraction, present)),
        length=sum(map(len, texts)) / max(len(texts), 1),
        words=sum(words) / len(words),
        long_words=words[min(math.ceil(len(words) * 0.95), len(words) - 1)],
    )


def _is_missing(value: Any) -> bool:
    is_nan = isinstance(value, float) and math.isnan(value)
    return value is None or value == "" or isinstance(value, list | dict) or is_nan


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, str) and _NUMBER.match(value.strip()) is not None)


def _has_fraction(value: Any) -> bool:
    number = float(value)
    return math.isfinite(number) and not number.is_integer()


def _guess(columns: Sequence[Column], name: str) -> Guess:
    texts = sorted((c for c in columns if _can_be_text(c)), key=_text_rank)
    labels = sorted((c for c in columns if _can_be_label(c)), key=_label_rank)
    # The best label is taken first: where texts repeat, a column can pass for both.
    pairs = ((text, label) for label in labels for text in texts if text is not label)
    text, label = next(pairs, (None, None))
    if text is None or label is None:
        raise _error(name, _refusal(columns, bool(texts), bool(labels)), "name the columns in a YAML of your own")
    others = [column for column in texts if column not in (text, label)]
    first, pair = _pair(text, others)
    second = next((c for c in others if pair is None and c.length >= text.length / 2), None)
    return Guess(first, pair, label, second, _is_measure(label))


def _can_be_text(column: Column) -> bool:
    return column.is_text and len(column.values) > 1


def _text_rank(column: Column) -> tuple[float, bool]:
    # Addresses and keys are long without being texts.
    worth = column.length if column.words >= 1.5 else column.length / 10
    return -worth, column.name.lower() not in _TEXT_NAMES


def _can_be_label(column: Column) -> bool:
    if len(column.values) < 2 or column.words >= 6:
        return False
    if _is_measure(column):
        return column.has_fractions or column.name.lower() in _LABEL_NAMES
    return len(column.values) <= 10 or len(column.values) <= min(column.rows / 2, 1_000)


def _is_measure(column: Column) -> bool:
    return column.is_number and len(column.values) > _MANY


def _label_rank(column: Column) -> tuple[int, int]:
    lowered = column.name.lower()
    named = next((i for i, name in enumerate(_LABEL_NAMES) if lowered == name), len(_LABEL_NAMES))
    if named == len(_LABEL_NAMES) and any(name in lowered for name in _LABEL_NAMES[:5]):
        named -= 1
    return named, len(column.values)


def _pair(text: Column, others: Sequence[Column]) -> tuple[Column, Column | None]:
    """Return the two texts of a pair in order, going by their names, or the text alone."""
    for other in others:
        for first, second in ((text, other), (other, text)):
            if _are_a_pair(first.name.lower(), second.name.lower()):
                return first, second
    return text, None


def _are_a_pair(first: str, second: str) -> bool:
    twins = any(
        first.endswith(one) and second.endswith(two) and first.removesuffix(one) == second.removesuffix(two)
        for one, two in _TWINS
    )
    return twins or second in _PAIRS.get(first, ())


def _refusal(columns: Sequence[Column], has_text: bool, has_label: bool) -> str:
    if not columns:
        return "no column with a name"
    missing = "the text" if not has_text else "the label" if not has_label else "the text beside the label"
    shown = ", ".join(map(str, columns[:20])) + (", ..." if len(columns) > 20 else "")
    return f"no column can be {missing}; there are {shown}"


def _lines(guess: Guess, rows: int, data: Path, target: Path) -> Iterator[str]:
    yield "# yaml-language-server: $schema=sweep.schema.json"
    yield f"# A proposal for {printable(data.name, 200)} ({rows:,} rows). Look at it, then:"
    yield f"#     sweep run {printable(shlex.quote(str(target)), 1_000)}"
    yield "# An editor completes and checks this file once the schema lies beside it:"
    yield "#     sweep schema > sweep.schema.json"
    yield ""
    if not is_name(target.stem):
        yield f"name: {_slug(target.stem)}  # of the folder under results/"
    yield from _task_lines(guess)
    yield ""
    yield from _model_lines()
    yield ""
    yield from _data_lines(guess, data, target)
    yield ""
    yield from _search_lines(guess)


def _task_lines(guess: Guess) -> Iterator[str]:
    if guess.measure:
        yield "task: text-regression  # the label is a number on a scale"
        return
    shown = ", ".join(printable(value, 20) for value in sorted(guess.label.values)[:6])
    more = ", ..." if len(guess.label.values) > 6 else ""
    yield f"task: text-classification  # {len(guess.label.values)} labels: {shown}{more}"


def _model_lines() -> Iterator[str]:
    yield "# A Hub id, or a local folder (as ./my-model, with config.json, weights and tokenizer). Without any"
    yield "# download, a small model made from scratch, which wants learning rates from 1e-4 to 3e-3:"
    yield "# model: {config: bert, hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 2}"
    yield "model: google-bert/bert-base-uncased"


def _data_lines(guess: Guess, data: Path, target: Path) -> Iterator[str]:
    yield "data:"
    yield f"  train: {_quoted(_path(data, target))}  # a relative path starts from this file's folder"
    yield "  # validation: dev.csv  # without one, a tenth of the training rows is split off"
    yield f"  text: {_quoted(guess.text.name)}"
    if guess.pair is not None:
        yield f"  text_pair: {_quoted(guess.pair.name)}"
    elif guess.second is not None:
        yield f"  # text_pair: {_quoted(guess.second.name)}  # another long text, if the two belong together"
    yield f"  label: {_quoted(guess.label.name)}"
    yield f"  max_length: {_max_length(guess)}  # tokens; longer texts are cut"


def _search_lines(guess: Guess) -> Iterator[str]:
    others = "eval_pearson, eval_spearman" if guess.measure else "eval_accuracy, eval_macro_f1"
    yield f"objective: {{metric: eval_loss, direction: minimize}}  # or {others}, to maximize"
    yield "budget: {trials: 20, hours: 12}"
    yield "search: {backend: optuna, sampler: tpe, pruner: halving, seed: 0}"
    yield ""
    yield "space:"
    yield "  learning_rate: {low: 1e-5, high: 5e-5, log: true}"
    yield "  num_train_epochs: {low: 2, high: 5}"
    yield "  per_device_train_batch_size: {choices: [8, 16, 32]}"
    yield "fixed: {weight_decay: 0.01}"


def _path(data: Path, target: Path) -> str:
    """Return the data's path as seen from the YAML; absolute where a ``~`` would mean a home folder."""
    relative = os.path.relpath(data.absolute(), expand(target).absolute().parent)
    return str(data.absolute()) if relative.startswith("~") else relative


def _max_length(guess: Guess) -> int:
    """Return the power of two that nearly all texts fit into; a word is 1.5 tokens, more or less."""
    words = guess.text.long_words + (guess.pair.long_words if guess.pair is not None else 0)
    return next((length for length in (32, 64, 128, 256) if words * 1.5 + 3 <= length), 512)


def _slug(stem: str) -> str:
    slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-._")[:100]
    return _quoted(slug if is_name(slug) else "sweep")


def _quoted(text: str) -> str:
    """Write a text as YAML: plain where it reads back as itself, else in double quotes."""
    if _PLAIN.match(text) and parse_value(text, "") == text:
        return text
    escapes = {'"': '\\"', "\\": "\\\\"}
    inner = "".join(escapes.get(c) or (c if c.isprintable() else ascii(c)[1:-1]) for c in text)
    return f'"{inner}"'


def _error(name: str, message: str, hint: str = "") -> SpecError:
    return SpecError([Problem(name, message, hint)])
