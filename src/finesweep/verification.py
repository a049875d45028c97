"""Owns the fresh process's side of proving a winner: load the exported folder and evaluate it."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import transformers

from finesweep import precision
from finesweep.atomic import write_json
from finesweep.errors import WinnerMismatch
from finesweep.modeling import tokenized
from finesweep.run_dir import RunDir
from finesweep.training import build_trainer
from finesweep.trial import TrialRecord
from finesweep.watching import TrialContext

ROWS_COMPARED = 64
EVALUATION_BATCH = "per_device_eval_batch_size"


def verify(folder: Path, model: Path, trial: int, output: Path, *, trusted: bool = False) -> None:
    """Evaluate an exported model on the sweep's validation and test rows.

    Args:
        folder: The sweep's folder.
        model: The exported model.
        trial: The trial it comes from; supplies ``max_length``, batch size and precision.
        output: JSON file to write: ``reloaded``, ``test``, ``sample`` and ``precision``.
        trusted: Whether code that comes with the model may be run.
    """
    run_dir = RunDir(folder)
    manifest = run_dir.manifest()
    record = next(item for item in run_dir.records() if item.trial == trial)
    facts = {**manifest.model, "path": str(model), "from_scratch": False, "trust_remote_code": trusted}
    exported = dataclasses.replace(manifest, model=facts)
    with tempfile.TemporaryDirectory(prefix="finesweep-") as scratch:
        context = TrialContext(run_dir, exported, manifest.spec_for(), record.params, None, Path(scratch))
        trainer = build_trainer(context, **_as_ranked(record))
        tokens = tokenized(run_dir, manifest, context.settings.max_length)
        _check_tokenizer(trainer.processing_class, run_dir, tokens["validation"], context.settings.max_length)
        found = {split: _metrics(trainer, tokens.get(split), context) for split in ("validation", "test")}
    sample = _sample(run_dir, model, context)
    ways = precision.in_force(trainer.args)
    write_json(output, {"reloaded": found["validation"], "test": found["test"], "sample": sample, "precision": ways})


def _as_ranked(record: TrialRecord) -> dict[str, Any]:
    """Return the training arguments that rounding depends on, as they were in the trial."""
    batch = {name: record.effective[name] for name in (EVALUATION_BATCH,) if name in record.effective}
    return {**batch, **precision.for_evaluation(record.effective)}


def _check_tokenizer(tokenizer: Any, run_dir: RunDir, rows: Any, max_length: int) -> None:
    """Raise WinnerMismatch if the exported tokenizer cuts the first texts into other tokens."""
    frame = pd.read_parquet(run_dir.data / "validation.parquet").head(ROWS_COMPARED)
    texts = [frame[name].tolist() for name in ("text", "text_pair") if name in frame]
    fresh = tokenizer(*texts, truncation=True, max_length=max_length)["input_ids"]
    if fresh != [list(ids) for ids in rows[: len(frame)]["input_ids"]]:
        raise WinnerMismatch("the exported tokenizer does not give the tokens that the model was trained on")


def _metrics(trainer: Any, rows: Any, context: TrialContext) -> dict[str, float]:
    if rows is None:
        return {}
    metrics = trainer.evaluate(rows)
    return {name: metrics[name] for name in context.task.metrics}


def _sample(run_dir: RunDir, model: Path, context: TrialContext) -> dict[str, Any]:
    """Ask the model for the first validation row the way its users will."""
    row = pd.read_parquet(run_dir.data / "validation.parquet").iloc[0]
    pipeline = transformers.pipeline(
        context.task.pipeline, model=str(model), trust_remote_code=context.manifest.trusts_code
    )
    inputs = {"text": row["text"], **({"text_pair": row["text_pair"]} if "text_pair" in row else {})}
    answer = pipeline([inputs], truncation=True, max_length=context.settings.max_length)[0]
    return {"text": row["text"][:200], "label": answer["label"], "score": answer["score"]}
