"""Makes batches of tokenised rows: decides which rows go together, in which order, and how they are padded."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset, Sampler

from finesweep.tasks import Task

if TYPE_CHECKING:
    import datasets
    import pyarrow

TokenRow = Mapping[str, Any]
"""One row: a number, or an array of numbers, by column."""

Numbers = npt.NDArray[Any]

GROUPS = 50
"""Maximum number of batches that are sorted together; more save little padding and leave less to chance."""

FEWEST_STRETCHES = 4
"""Minimum number of stretches that are sorted separately; with one, few rows would give the same batches in each epoch.
"""

TELLING = 0.1
"""Maximum share of the variance of lengths that labels may explain. Above it, grouping rows by length would group them
by label."""


class TokenRows(Dataset[TokenRow]):
    """Rows of numbers, read from the columns that hold them; nothing is copied, so they stay memory-mapped.

    Args:
        rows: Tokenised rows; ``input_ids`` gives the length of each.
    """

    def __init__(self, rows: datasets.Dataset) -> None:
        table = rows.with_format("arrow")[:]
        self._columns = {name: _column(table.column(name)) for name in table.column_names}
        self._rows = len(table)

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, row: int) -> TokenRow:
        return {name: column[row] for name, column in self._columns.items()}

    def column(self, name: str) -> Sequence[Any]:
        """Return a column: a number, or an array of numbers, for each row."""
        column: Any = self._columns[name]
        return [column[row] for row in range(len(self))] if isinstance(column, _Lists) else column

    @property
    def lengths(self) -> Numbers:
        """The number of tokens of each row."""
        tokens = self._columns["input_ids"]
        assert isinstance(tokens, _Lists)
        return tokens.lengths()


class _Lists:
    """A column of lists: for each chunk one array with the numbers of all its rows, and the offset of each row."""

    def __init__(self, column: pyarrow.ChunkedArray) -> None:
        chunks = [chunk for chunk in column.chunks if len(chunk)]
        self._numbers = [chunk.values.to_numpy(zero_copy_only=False) for chunk in chunks]
        self._bounds = [chunk.offsets.to_numpy() for chunk in chunks]
        self._starts = list(itertools.accumulate(map(len, chunks), initial=0))

    def __getitem__(self, row: int) -> Numbers:
        chunk = bisect.bisect_right(self._starts, row) - 1
        bounds, place = self._bounds[chunk], row - self._starts[chunk]
        numbers: Numbers = self._numbers[chunk][bounds[place] : bounds[place + 1]]
        return numbers

    def lengths(self) -> Numbers:
        """Return the length of each row."""
        return np.concatenate([np.zeros(0, np.int64), *map(np.diff, self._bounds)])


def _column(column: pyarrow.ChunkedArray) -> _Lists | Numbers:
    import pyarrow.types

    if pyarrow.types.is_list(column.type) or pyarrow.types.is_large_list(column.type):
        return _Lists(column)
    numbers: Numbers = column.to_numpy()
    return numbers


class Padding:
    """Makes a batch of rows, as wide as the longest of them.

    Args:
        tokenizer: Gives the padding tokens and the padding side.
        collate: Makes one array of the labels that rows keep.
        multiple: The width is rounded up to a multiple of this; GPUs multiply matrices of such sizes faster.
        widest: Maximum number of tokens that the model takes; rounding does not exceed it.
    """

    def __init__(
        self, tokenizer: Any, collate: Callable[[Sequence[Any]], Numbers], multiple: int = 1, widest: int = 2**31
    ) -> None:
        self.collate, self.multiple, self.widest = collate, multiple, widest
        self._filling = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
        self._on_the_left = tokenizer.padding_side == "left"

    def __call__(self, rows: Sequence[TokenRow]) -> dict[str, torch.Tensor]:
        """Pad the columns of tokens, and collate the labels."""
        return {name: self._batch(name, [row[name] for row in rows]) for name in rows[0]}

    def _batch(self, name: str, values: Sequence[Any]) -> torch.Tensor:
        is_labels = name == "labels"
        return torch.from_numpy(self.collate(values) if is_labels else self._padded(values, self._filling.get(name, 0)))

    def _padded(self, rows: Sequence[Any], filling: int) -> Numbers:
        padded = np.full((len(rows), self._width(max(map(len, rows)))), filling, np.int64)
        for line, row in zip(padded, rows, strict=True):
            if self._on_the_left:
                line[len(line) - len(row) :] = row
            else:
                line[: len(row)] = row
        return padded

    def _width(self, longest: int) -> int:
        rounded = -(-longest // self.multiple) * self.multiple
        return max(longest, min(rounded, self.widest))  # never cuts a row


class GroupedByLength(Sampler[int]):
    """An order of training rows in which the rows of one optimizer step are about equally long.

    Args:
        lengths: Tokens of each row.
        batch: Rows of one optimizer step, over all its smaller batches.
        seed: Seed of the order.
    """

    def __init__(self, lengths: Numbers, batch: int, seed: int) -> None:
        self.lengths, self.batch, self.seed = lengths, batch, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Switch to the order of this epoch; the Trainer's data loader calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        return iter(grouped(self.lengths, self.batch, self.seed, self.epoch).tolist())


def grouped(lengths: Numbers, batch: int, seed: int, epoch: int) -> Numbers:
    """Return an epoch's order of rows, grouped by length.

    The rows are shuffled and cut into stretches of many batches. Each stretch is sorted by length and cut into batches,
    and all these are shuffled. The order depends on the arguments alone. So a resumed trial continues in it whatever
    random numbers were drawn before, and a trial with half the batch and twice the accumulation takes its steps on the
    same rows.

    Args:
        lengths: Tokens of each row.
        batch: Rows of one optimizer step.
        seed: Seed of the order.
        epoch: Number of the pass over the rows.

    Returns:
        Every row's number once. The first batch has the longest row, so that a lack of memory shows at once; in each
        batch the longest come first. Rows that fill no batch are at the end.
    """
    # Mixed by SeedSequence: with seed + epoch, seed 1 would begin with the second epoch of seed 0.
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0]))
    order = torch.randperm(len(lengths), generator=generator).numpy()
    whole = len(order) - len(order) % batch
    if not whole:
        return _longest_first(order, lengths)
    # At the front of the first stretch: sorting then puts it into the first batch.
    longest = int(lengths[order].argmax())
    order[[0, longest]] = order[[longest, 0]]
    # A multiple of the batch, so that no batch has rows of two stretches.
    stretch = batch * min(GROUPS, max(1, whole // (batch * FEWEST_STRETCHES)))
    parts = [_longest_first(order[start : min(start + stretch, whole)], lengths) for start in range(0, whole, stretch)]
    batches = np.concatenate(parts).reshape(-1, batch)
    # All but the first one, which stays in front.
    shuffled = 1 + torch.randperm(len(batches) - 1, generator=generator).numpy()
    rest = _longest_first(order[whole:], lengths)
    return np.concatenate([batches[0], batches[shuffled].ravel(), rest])


def lengths_tell_labels(lengths: Numbers, labels: Sequence[Any], task: Task) -> bool:
    """Return whether rows of one length have much the same label, so that they should not share batches.

    Args:
        lengths: Tokens of each row.
        labels: The rows' kept labels.
        task: Computes how much of the lengths they explain.
    """
    return len(lengths) > 1 and np.ptp(lengths) > 0 and task.explained(lengths, labels) > TELLING


def evaluation_order(lengths: Numbers) -> list[int]:
    """Return the order of rows with the least padding in an evaluation: the longest, which need most memory, first."""
    order: list[int] = _longest_first(np.arange(len(lengths)), lengths).tolist()
    return order


def _longest_first(rows: Numbers, lengths: Numbers) -> Numbers:
    # Stable, so that rows of one length stay shuffled.
    return rows[np.argsort(-lengths[rows], kind="stable")]
