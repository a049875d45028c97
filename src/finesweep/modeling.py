"""Owns the model, the tokenizer and the tokens of one sweep, as transformers objects."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import torch
import transformers

from finesweep import activity
from finesweep.atomic import exclusive, sync_all, write_json
from finesweep.errors import SweepError
from finesweep.manifest import Manifest
from finesweep.model_folder import check_files, foreign_code
from finesweep.parquet_file import read_frame
from finesweep.run_dir import RunDir
from finesweep.tasks import Task
from finesweep.trial import Params
from finesweep.weights_file import WeightsFault, read_weights

SPLITS = ("train", "validation", "test")
ROWS_AT_A_TIME = 5_000
"""Rows that are tokenised between two reports of progress; a second or two on a slow core."""


def load_tokenizer(folder: Path, *, trusted: bool = False) -> Any:
    """Load a folder's tokenizer; one without a padding token pads with its end-of-text token.

    Args:
        folder: The model's folder.
        trusted: Whether code that comes with the model may be run.

    Raises:
        SweepError: The tokenizer has code of its own that nobody allowed.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **_local(folder, trusted=trusted))
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def build_model(manifest: Manifest, task: Task, settings: Params, tokenizer: Any) -> Any:
    """Build a fresh model with the head that the task needs.

    Args:
        manifest: Says where the weights are, or that there are none.
        task: Says what the head is.
        settings: Fields of the model's config that this trial sets.
        tokenizer: Supplies the padding token to a config that lacks one.

    Returns:
        The model, in single precision whatever precision its weights were saved in.

    Raises:
        SweepError: The folder has code of its own that nobody allowed, or its weights are another model's
            or lie outside of it.
    """
    folder = Path(manifest.model["path"])
    head = task.head(manifest.data["labels"])
    offline = _local(folder, trusted=manifest.trusts_code)
    config = transformers.AutoConfig.from_pretrained(folder, **offline, **head, **settings)
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id
    kind = transformers.AutoModelForSequenceClassification
    if manifest.model["from_scratch"]:
        return kind.from_config(config, trust_remote_code=False)
    _check_weights(folder)
    # A head with another number of labels in the folder is replaced by a fresh one, not an error. The
    # library would otherwise train in the precision that the weights were saved in.
    model, report = kind.from_pretrained(
        folder,
        config=config,
        use_safetensors=True,
        ignore_mismatched_sizes=True,
        dtype=torch.float32,
        output_loading_info=True,
        **offline,
    )
    _check_encoder(model, report)
    return model


def _local(folder: Path, *, trusted: bool) -> dict[str, bool]:
    """Return how a folder is loaded, after a look for code: it may have changed since it was checked."""
    if faults := foreign_code(folder, trusted=trusted):
        raise SweepError("\n".join(f"{folder}: {fault.message}" for fault in faults))
    return {"local_files_only": True, "trust_remote_code": trusted}


def _check_weights(folder: Path) -> None:
    try:
        read_weights(folder)
    except WeightsFault as fault:
        raise SweepError(f"{folder}: {fault.message}") from None


def _check_encoder(model: Any, report: Mapping[str, Any]) -> None:
    """Raise SweepError if the weights in the folder are not this encoder's, which would stay random."""
    encoder = {name for name, _ in model.named_parameters() if name.startswith(f"{model.base_model_prefix}.")}
    fresh = {*report["missing_keys"], *(entry[0] for entry in report["mismatched_keys"])} & encoder
    # A pooler of its own is missing from many checkpoints; a whole encoder is missing from the wrong one.
    if len(fresh) > len(encoder) // 2:
        raise SweepError(
            f"{len(fresh)} of {len(encoder)} encoder weights are not in the model's folder: "
            "its config.json and its weights belong to different models"
        )


def tokenized(run_dir: RunDir, manifest: Manifest, max_length: int) -> dict[str, datasets.Dataset]:
    """Return every split as memory-mapped tokens, made on first use.

    Args:
        run_dir: The sweep's folder, with the rows under ``data/``.
        manifest: Says where the tokenizer is.
        max_length: Longest input in tokens; longer ones are cut.

    Returns:
        By split, rows of ``input_ids``, ``attention_mask``, ``labels`` (and ``token_type_ids`` where the
        model has them); not padded, since the collator pads each batch to its own longest row.
    """
    folder = run_dir.tokens(max_length)
    if not folder.is_dir():
        # One worker makes them, the others wait: texts by the million take minutes.
        with exclusive(run_dir.data / ".lock"):
            if not folder.is_dir():
                tokenizer = load_tokenizer(Path(manifest.model["path"]), trusted=manifest.trusts_code)
                _tokenize(run_dir, tokenizer, max_length, folder)
    return {split: _numbers(path) for split in SPLITS if (path := folder / split).is_dir()}


def _numbers(folder: Path) -> datasets.Dataset:
    """Open rows of numbers; a column of another kind (images, say) could fetch what a stranger's folder names."""
    check_files(folder)
    rows = datasets.load_from_disk(str(folder))
    for name, feature in rows.features.items():
        inner = feature.feature if isinstance(feature, datasets.List) else feature
        if not isinstance(inner, datasets.Value):
            raise SweepError(f"{folder}: the column {name!r} holds no numbers; remove {folder.parent} and run it again")
    return rows


def _tokenize(run_dir: RunDir, tokenizer: Any, max_length: int, folder: Path) -> None:
    building = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(building, ignore_errors=True)
    counts: dict[str, Mapping[str, int]] = {}
    for split in SPLITS:
        file = run_dir.data / f"{split}.parquet"
        if file.is_file():
            rows, counts[split] = _tokens(tokenizer, split, read_frame(file), max_length)
            rows.save_to_disk(str(building / split))
    write_json(building / "counts.json", counts)
    sync_all(building)
    building.rename(folder)


def _tokens(
    tokenizer: Any, split: str, frame: pd.DataFrame, max_length: int
) -> tuple[datasets.Dataset, dict[str, int]]:
    texts = [frame["text"].tolist()] + ([frame["text_pair"].tolist()] if "text_pair" in frame else [])
    columns: dict[str, list[Any]] = {name: [] for name in tokenizer.model_input_names}
    cut = 0
    for start in range(0, len(frame), ROWS_AT_A_TIME):
        activity.tell(f"tokenising {split}: {start:,} of {len(frame):,} rows")
        encoded = tokenizer(
            *(column[start : start + ROWS_AT_A_TIME] for column in texts), truncation=True, max_length=max_length
        )
        cut += sum(bool(encoding.overflowing) for encoding in encoded.encodings or ())
        for name, values in columns.items():
            values += encoded[name]
    labels: Sequence[Any] = frame["label"].tolist()
    longest = max(map(len, columns["input_ids"]), default=0)
    return datasets.Dataset.from_dict({**columns, "labels": labels}), {
        "rows": len(frame),
        "cut": cut,
        "longest": longest,
    }
