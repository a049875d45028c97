"""Proves the winner: evaluates it in a fresh process, with nothing but transformers, torch and the rows.

The proof of a winner must not repeat a mistake of the evaluation that ranked it. So this module shares no Trainer, no
batches, no loss and no metrics with it: texts are read and tokenised anew, and each task computes its scores a second
time (``Task.recompute_metrics``).
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import transformers

from finesweep.errors import WinnerMismatch
from finesweep.files import read_as, write_json
from finesweep.files.parquet import read_frame
from finesweep.folder import SweepFolder
from finesweep.folder.openings import open_test
from finesweep.host.timeline import phase
from finesweep.model import check_files
from finesweep.registry import TASKS
from finesweep.results import Evidence
from finesweep.results.answers import Answers
from finesweep.tasks import Task
from finesweep.training import precision
from finesweep.training.tokens import tokenized, without_texts
from finesweep.trial import TrialRecord

ROWS_COMPARED = 64
ROWS_AT_ONCE = 32


def prove(
    folder: Path, model: Path, record: Path, output: Path, *, trial: int, command: str, trusted: bool = False
) -> None:
    """Evaluate an exported model on the sweep's validation rows; on its test rows too, if it is what was ranked.

    Args:
        folder: The sweep's folder.
        model: The exported model.
        record: File of the record of the trial that it comes from.
        output: JSON file to write: ``reloaded``, ``test``, ``sample``, ``precision``, ``rows``, ``same_answer`` and
            ``answers``.
        trial: Number of the winner, under which the opening of the test rows is noted.
        command: Name of the command that exports it, for the same note.
        trusted: Whether code that comes with the model may run.

    Raises:
        FolderError: The test rows are not those that the sweep began with.
        WinnerMismatch: The tokenizer gives other tokens.
    """
    sweep_folder = SweepFolder(folder)
    manifest, ranked = sweep_folder.manifest(), read_as(TrialRecord, record)
    settings = ranked.effective
    ways = precision.for_evaluation(settings)
    torch.set_float32_matmul_precision("high" if ways.get("tf32") else "highest")
    task = TASKS.load(manifest.spec.task)()
    with phase("load the winner"):
        exported = Exported.load(model, task, settings, trusted=trusted)
    _check_tokenizer(exported, sweep_folder, tokenized(sweep_folder, manifest, exported.max_length)["validation"])
    with phase("evaluate it again"):
        logits, labels = exported.answers(read_frame(sweep_folder.data / "validation.parquet"))
    found: dict[str, Any] = {
        "reloaded": task.recompute_metrics(logits, labels),
        "test": {},
        "sample": asked_as_users_will(sweep_folder, model, exported, trusted=trusted),
        "precision": ways,
        "rows": len(labels),
        "same_answer": task.same_answer(logits.numpy(), labels, manifest.data.labels) if len(labels) > 1 else None,
        "answers": _answers(logits, labels, task, manifest.data.labels),
    }
    evidence = Evidence(trial, manifest.spec.objective.metric, ranked.objective or 0.0, **found)
    # Test rows are opened for a winner alone, and a model that is not what was ranked becomes none.
    is_sound = not evidence.differences(ranked, task.metrics)
    if is_sound and (rows := open_test(sweep_folder, command, trial)) is not None:
        found["test"] = task.recompute_metrics(*exported.answers(read_frame(rows)))
    write_json(output, {**found, "answers": dataclasses.asdict(evidence.answers)})


@dataclass(frozen=True)
class Exported:
    """A model as its users load it.

    Attributes:
        model: The model.
        tokenizer: Its tokenizer.
        task: Its task.
        max_length: Longest input in tokens.
        batch: Rows per forward pass.
    """

    model: Any
    tokenizer: Any
    task: Task
    max_length: int
    batch: int = ROWS_AT_ONCE

    @classmethod
    def load(cls, folder: Path, task: Task, settings: Mapping[str, Any], *, trusted: bool) -> Exported:
        """Load a folder.

        Args:
            folder: Model and tokenizer.
            task: The model's task.
            settings: The trial's settings.
            trusted: Whether code that comes with the model may run.
        """
        check_files(folder)
        known = {"local_files_only": True, "trust_remote_code": trusted}
        kind = getattr(transformers, task.model_class)
        model = kind.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, **known)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **known)
        batch = min(ROWS_AT_ONCE, settings.get("per_device_eval_batch_size") or ROWS_AT_ONCE)
        on_gpu = torch.cuda.is_available() and not settings.get("use_cpu")
        return cls(model.eval().to("cuda" if on_gpu else "cpu"), tokenizer, task, settings["data.max_length"], batch)

    def tokens(self, rows: pd.DataFrame) -> Any:
        """Return the tokens of rows, padded to the longest of them."""
        texts = [rows[name].tolist() for name in ("text", "text_pair") if name in rows]
        with without_texts("the winner's tokenizer"):
            return self.tokenizer(
                *texts, truncation=True, max_length=self.max_length, padding=True, return_tensors="pt"
            )

    def answers(self, rows: pd.DataFrame) -> tuple[torch.Tensor, Sequence[Any]]:
        """Return the logits of all rows in double precision, and the rows' kept labels, in the rows' order."""
        accepted = inspect.signature(self.model.forward).parameters
        logits = []
        for start in range(0, len(rows), self.batch):
            tokens = self.tokens(rows[start : start + self.batch])
            inputs = {name: tensor.to(self.model.device) for name, tensor in tokens.items() if name in accepted}
            with torch.no_grad():
                logits.append(self.model(**inputs).logits.double().cpu())
        return torch.cat(logits), rows["label"].tolist()


def _answers(logits: torch.Tensor, labels: Sequence[Any], task: Task, names: Sequence[str] | None) -> Answers:
    losses = task.row_scores(logits.numpy(), task.collate(labels, names))["eval_loss"]
    return Answers.of(labels, task.given(logits.numpy()), losses, names)


def _check_tokenizer(exported: Exported, sweep_folder: SweepFolder, rows: Any) -> None:
    """Raise WinnerMismatch if the exported tokenizer gives other tokens for the first texts."""
    frame = read_frame(sweep_folder.data / "validation.parquet").head(ROWS_COMPARED)
    tokens = exported.tokens(frame)
    for ids, mask, trained in zip(tokens["input_ids"], tokens["attention_mask"], rows["input_ids"], strict=False):
        if ids[mask.bool()].tolist() != list(trained):
            raise WinnerMismatch("the exported tokenizer does not give the tokens that the model was trained on")


@phase("ask it as users will")
def asked_as_users_will(sweep_folder: SweepFolder, model: Path, exported: Exported, *, trusted: bool) -> dict[str, Any]:
    """Ask the model for the first validation row by the stock pipeline, as its users will."""
    row = read_frame(sweep_folder.data / "validation.parquet").iloc[0]
    options = {**exported.task.pipeline_options, "trust_remote_code": trusted}
    pipeline = transformers.pipeline(exported.task.pipeline, model=str(model), **options)
    inputs = {"text": row["text"], **({"text_pair": row["text_pair"]} if "text_pair" in row else {})}
    with without_texts("the stock pipeline, on the first row of validation,"):
        (answer,) = pipeline([inputs], truncation=True, max_length=exported.max_length)
    first = answer[0] if isinstance(answer, list) else answer  # of all labels, the one with the highest score
    return {"label": first["label"], "score": first["score"]}
