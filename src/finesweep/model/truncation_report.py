"""Reports how much of the texts each ``data.max_length`` cuts off, before training."""

from __future__ import annotations

import bisect
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from finesweep import activity
from finesweep.model.source import ResolvedModel
from finesweep.model.text_length import Counter, Texts, counter_of, counter_of_loaded, tokenizer_counter, unknown_share
from finesweep.spec import ScratchModelSpec, SweepSpec, TrialSettings

if TYPE_CHECKING:
    import pandas as pd

SAMPLE = 1_000
"""Maximum number of rows that are tokenised."""

SAMPLED_CHARACTERS = 2_000_000
"""Maximum number of characters that are tokenised, in whole rows."""

UNKNOWN = 0.3
"""Share of unknown tokens above which the user gets a note."""

UNKNOWN_SAMPLE = 200
"""Maximum number of rows that are searched for unknown tokens."""

_SHOWN = 6


def truncation_notes(
    spec: SweepSpec, frames: Mapping[str, pd.DataFrame], model: ResolvedModel, *, trusted: bool = False
) -> Iterator[str]:
    """Yield a note on how many texts and tokens are cut, and one on unknown words.

    Args:
        spec: Has the lengths.
        frames: The rows of each split; none is empty.
        model: The model whose tokenizer counts; for a model made from scratch, one is trained on rows of train.
        trusted: Whether code that comes with the model may run.
    """
    rows, total = sample(frames, spec.search.seed)
    count = _counter(spec, frames, model, trusted)
    activity.tell(f"counting the tokens of {len(rows):,} rows")
    lengths = [count(row) for row in rows]
    told = [(limit, _cut(lengths, limit)) for limit in _limits(spec, model.max_tokens)]
    whence = "" if len(rows) == total else f" (in a sample of {len(rows):,} of {total:,} rows)"
    if not any(cut for _, cut in told):
        least = min(limit for limit, _ in told)
        yield f"data.max_length: {least} tokens cut no text; the longest has {max(lengths):,}{whence}."
    elif len(told) == 1:
        yield f"data.max_length: {told[0][0]} tokens cut {told[0][1]}{whence}."
    else:
        listed = "; ".join(f"{limit} tokens cut {cut or 'none'}" for limit, cut in told[:_SHOWN])
        yield f"data.max_length: {listed}{whence}."
    unknown = unknown_share(model.path, rows[:UNKNOWN_SAMPLE]) if model.path is not None else 0.0
    if unknown > UNKNOWN:
        yield f"model: its tokenizer does not know {percent(unknown)} of the words; is it the one for these texts?"


def sample(frames: Mapping[str, pd.DataFrame], seed: int) -> tuple[list[Texts], int]:
    """Draw rows of all splits.

    Returns:
        The texts of each drawn row, and the number of all rows.
    """
    splits = [[frame[name] for name in ("text", "text_pair") if name in frame] for frame in frames.values()]
    ends = list(itertools.accumulate(len(columns[0]) for columns in splits))
    total, characters = ends[-1], 0
    rows: list[Texts] = []
    for place in random.Random(seed).sample(range(total), min(SAMPLE, total)):
        split = bisect.bisect_right(ends, place)
        texts = tuple(column.iloc[place - ends[split]] for column in splits[split])
        characters += sum(map(len, texts))
        if rows and characters > SAMPLED_CHARACTERS:
            break
        rows.append(texts)
    return rows, total


def shares_cut(lengths: Sequence[int], limit: int) -> tuple[float, float]:
    """Return the share of texts that are longer than a limit, and the share of all tokens beyond it."""
    beyond = [length - limit for length in lengths if length > limit]
    return len(beyond) / max(len(lengths), 1), sum(beyond) / max(sum(lengths), 1)


def percent(share: float) -> str:
    """Format a share in percent; a share above 0 is never shown as 0."""
    return "less than 1 %" if 0 < share < 0.01 else f"{share * 100:.0f} %"


def _counter(spec: SweepSpec, frames: Mapping[str, pd.DataFrame], model: ResolvedModel, trusted: bool) -> Counter:
    if isinstance(spec.model, ScratchModelSpec):
        from finesweep.model.from_scratch import train_tokenizer

        rows, _ = sample({"train": frames["train"]}, spec.search.seed)
        return counter_of(train_tokenizer(list(itertools.chain(*rows)), spec.model.vocab_size))
    assert model.path is not None
    return tokenizer_counter(model.path) or _loaded_counter(model.path, trusted)


def _loaded_counter(folder: Path, trusted: bool) -> Counter:
    from finesweep.model.pretrained import load_tokenizer

    return counter_of_loaded(load_tokenizer(folder, trusted=trusted))


def _limits(spec: SweepSpec, max_tokens: int) -> list[int]:
    """Return the lengths that trials can have: every choice, both ends of a range, or the one that is set."""
    parameter = spec.space.get("data.max_length")
    if parameter is None:
        return [TrialSettings.of(spec, {}, max_tokens).max_length]
    values = parameter.ends().values()
    return sorted({TrialSettings.of(spec, {"data.max_length": value}, max_tokens).max_length for value in values})


def _cut(lengths: Sequence[int], limit: int) -> str:
    texts, tokens = shares_cut(lengths, limit)
    return f"{percent(texts)} of the texts and {percent(tokens)} of all tokens" if texts else ""
