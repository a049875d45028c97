"""Owns the model, the tokenizer and the tokens of one sweep, as transformers objects."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import torch
import transformers

from finesweep.atomic import write_json
from finesweep.errors import SweepError
from finesweep.manifest import Manifest
from finesweep.run_dir import RunDir
from finesweep.tasks import Task
from finesweep.trial import Params

SPLITS = ("train", "validation", "test")


def load_tokenizer(folder: Path) -> Any:
    """Load a folder's tokenizer; one without a padding token pads with its end-of-text token."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
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
    """
    folder = manifest.model["path"]
    head = task.head(manifest.data["labels"])
    offline = {"local_files_only": True, "trust_remote_code": False}
    config = transformers.AutoConfig.from_pretrained(folder, **offline, **head, **settings)
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id
    kind = transformers.AutoModelForSequenceClassification
    if manifest.model["from_scratch"]:
        return kind.from_config(config)
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
        _tokenize(run_dir, load_tokenizer(manifest.model["path"]), max_length, folder)
    return {split: datasets.load_from_disk(str(path)) for split in SPLITS if (path := folder / split).is_dir()}


def _tokenize(run_dir: RunDir, tokenizer: Any, max_length: int, folder: Path) -> None:
    building = folder.with_name(f".{folder.name}.{os.getpid()}")
    counts: dict[str, Mapping[str, int]] = {}
    for split in SPLITS:
        file = run_dir.data / f"{split}.parquet"
        if file.is_file():
            rows, counts[split] = _tokens(tokenizer, pd.read_parquet(file), max_length)
            rows.save_to_disk(str(building / split))
    write_json(building / "counts.json", counts)
    try:
        building.rename(folder)
    except OSError:  # another worker was faster
        shutil.rmtree(building)


def _tokens(tokenizer: Any, frame: pd.DataFrame, max_length: int) -> tuple[datasets.Dataset, dict[str, int]]:
    texts = [frame["text"].tolist()] + ([frame["text_pair"].tolist()] if "text_pair" in frame else [])
    encoded = tokenizer(*texts, truncation=True, max_length=max_length)
    cut = sum(bool(encoding.overflowing) for encoding in encoded.encodings or ())
    columns = {name: encoded[name] for name in tokenizer.model_input_names}
    labels: Sequence[Any] = frame["label"].tolist()
    longest = max(map(len, encoded["input_ids"]), default=0)
    return datasets.Dataset.from_dict({**columns, "labels": labels}), {
        "rows": len(frame),
        "cut": cut,
        "longest": longest,
    }
