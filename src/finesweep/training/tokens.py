"""Tokenises the rows of a sweep, and opens the tokens."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd

from finesweep import activity
from finesweep.errors import SweepError
from finesweep.files import exclusive, sync_all, write_json
from finesweep.files.parquet import read_frame
from finesweep.folder import Manifest, SweepFolder
from finesweep.folder.checked_files import is_sound, seal
from finesweep.host.timeline import phase
from finesweep.model import check_files
from finesweep.model.pretrained import load_tokenizer

_OF_FOREIGN_CODE = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""Exceptions of a tokenizer or a pipeline that fails on a text."""

SPLITS = ("train", "validation", "test")
ROWS_AT_A_TIME = 5_000
"""Rows that are tokenised between two reports of progress; a second or two on a slow core."""


def tokenized(sweep_folder: SweepFolder, manifest: Manifest, max_length: int) -> dict[str, datasets.Dataset]:
    """Return every split as memory-mapped tokens; they are made on first use, and again if they have changed.

    Args:
        sweep_folder: The sweep's folder, with the rows under ``data/``.
        manifest: Tells where the tokenizer is.
        max_length: Longest input in tokens; longer ones are cut.

    Returns:
        By split, rows of ``input_ids``, ``attention_mask``, ``labels`` (and ``token_type_ids`` if the model has them);
        not padded, since the collator pads each batch to its own longest row.
    """
    folder = sweep_folder.tokens(max_length)
    if not is_sound(folder):
        # One worker makes them while the others wait: millions of texts take minutes.
        with exclusive(sweep_folder.data / ".lock"):
            # Checked again: another worker may have made them while this one waited.
            if not is_sound(folder):
                shutil.rmtree(folder, ignore_errors=True)
                tokenizer = load_tokenizer(manifest.model.folder, trusted=manifest.trusts_code)
                _tokenize(sweep_folder, tokenizer, max_length, folder)
    return {split: _numbers(path) for split in SPLITS if (path := folder / split).is_dir()}


def _numbers(folder: Path) -> datasets.Dataset:
    """Open rows of numbers; a column of another kind (images, say) could fetch files that a stranger's folder names."""
    check_files(folder)
    rows = datasets.load_from_disk(str(folder))
    for name, feature in rows.features.items():
        inner = feature.feature if isinstance(feature, datasets.List) else feature
        if not isinstance(inner, datasets.Value):
            raise SweepError(f"{folder}: the column {name!r} holds no numbers; remove {folder.parent} and run it again")
    return rows


@phase("make the tokens")
def _tokenize(sweep_folder: SweepFolder, tokenizer: Any, max_length: int, folder: Path) -> None:
    building = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(building, ignore_errors=True)
    counts: dict[str, Mapping[str, int]] = {}
    for split in SPLITS:
        file = sweep_folder.data / f"{split}.parquet"
        if file.is_file():
            rows, counts[split] = _tokens(tokenizer, split, read_frame(file), max_length)
            rows.save_to_disk(str(building / split))
    write_json(building / "counts.json", counts)
    seal(building)
    sync_all(building)
    # The name appears last: other workers look for it without the lock.
    building.rename(folder)


@contextlib.contextmanager
def without_texts(what: str) -> Iterator[None]:
    """Keep error messages that may repeat a row's text out of logs and records; --debug shows them.

    Args:
        what: Name of the code in the block, for the message.

    Raises:
        SweepError: Instead of an error of another kind.
    """
    try:
        yield
    except SweepError:
        raise
    except _OF_FOREIGN_CODE as error:
        if os.environ.get("FINESWEEP_DEBUG"):
            raise
        kind = type(error).__name__
        raise SweepError(f"{what} failed with {kind}, whose words may be a row's text; --debug shows them") from None


def _tokens(
    tokenizer: Any, split: str, frame: pd.DataFrame, max_length: int
) -> tuple[datasets.Dataset, dict[str, int]]:
    texts = [frame["text"].tolist()] + ([frame["text_pair"].tolist()] if "text_pair" in frame else [])
    columns: dict[str, list[Any]] = {name: [] for name in tokenizer.model_input_names}
    cut = 0
    for start in range(0, len(frame), ROWS_AT_A_TIME):
        activity.tell(f"tokenising {split}: {start:,} of {len(frame):,} rows")
        some = [column[start : start + ROWS_AT_A_TIME] for column in texts]
        with without_texts(f"the tokenizer, on the rows of {split} from {start + 1:,} on,"):
            encoded = tokenizer(*some, truncation=True, max_length=max_length)
            cut += _cut(tokenizer, some, encoded, max_length)
        for name, values in columns.items():
            values += encoded[name]
    # If no row has a label, the library cannot infer the type of empty lists.
    labels = [label.astype(np.int64) if isinstance(label, np.ndarray) else label for label in frame["label"].tolist()]
    longest = max(map(len, columns["input_ids"]), default=0)
    return datasets.Dataset.from_dict({**columns, "labels": labels}), {
        "rows": len(frame),
        "cut": cut,
        "longest": longest,
        "unknown": _unknown(tokenizer, columns["input_ids"]),
    }


def _unknown(tokenizer: Any, rows: Sequence[Sequence[int]]) -> int:
    """Count the rows of which more than half is the unknown token."""
    special = tokenizer.num_special_tokens_to_add()
    token = tokenizer.unk_token_id
    return sum(2 * list(row).count(token) > len(row) - special for row in rows) if token is not None else 0


def _cut(tokenizer: Any, texts: Sequence[Sequence[str]], encoded: Any, max_length: int) -> int:
    """Count the rows that were cut; a tokenizer in plain Python does not tell, so its full rows are tokenised again."""
    if encoded.encodings is not None:
        return sum(bool(encoding.overflowing) for encoding in encoded.encodings)
    full = [row for row, ids in enumerate(encoded["input_ids"]) if len(ids) >= max_length]
    columns = [[column[row] for row in full] for column in texts]
    return sum(len(ids) > max_length for ids in tokenizer(*columns, verbose=False)["input_ids"]) if full else 0
