"""Evaluates an exported model in a fresh process, with nothing but transformers, torch and the rows.

The proof of a winner must not repeat a mistake of the evaluation that ranked it. So this module shares no Trainer, no
batches, no loss and no metrics with it: texts are read and cut into tokens anew, and the scores are computed here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import transformers

from finesweep.errors import WinnerMismatch
from finesweep.files.atomic import write_json
from finesweep.files.parquet import read_frame
from finesweep.folder.sweep_folder import SweepFolder
from finesweep.model.folder_check import check_files
from finesweep.registry import TASKS
from finesweep.training import precision
from finesweep.training.model_and_tokens import tokenized, without_texts

ROWS_COMPARED = 64
ROWS_AT_ONCE = 32
EQUAL = 1e-3
"""Standard deviation of predicted numbers, in those of the labels, below which they count as one answer."""


def verify(folder: Path, model: Path, trial: int, output: Path, *, trusted: bool = False) -> None:
    """Evaluate an exported model on the sweep's validation and test rows.

    Args:
        folder: The sweep's folder.
        model: The exported model.
        trial: The trial it comes from; supplies ``max_length``, batch size and precision.
        output: JSON file to write: ``reloaded``, ``test``, ``sample``, ``precision``, ``rows`` and ``same_answer``.
        trusted: Whether code that comes with the model may be run.
    """
    sweep_folder = SweepFolder(folder)
    manifest = sweep_folder.manifest()
    settings = next(item for item in sweep_folder.records() if item.trial == trial).effective
    ways = precision.for_evaluation(settings)
    torch.set_float32_matmul_precision("high" if ways.get("tf32") else "highest")
    exported = Exported.load(model, settings, trusted=trusted)
    _check_tokenizer(exported, sweep_folder, tokenized(sweep_folder, manifest, exported.max_length)["validation"])
    score = SCORES[manifest.spec["task"]]
    files = {split: sweep_folder.data / f"{split}.parquet" for split in ("validation", "test")}
    answers = {split: exported.answers(read_frame(file)) for split, file in files.items() if file.is_file()}
    scores = {split: score(*answer) for split, answer in answers.items()}
    found = {
        "reloaded": scores["validation"],
        "test": scores.get("test", {}),
        "sample": asked_as_users_will(
            sweep_folder, model, TASKS.load(manifest.spec["task"]).pipeline, exported, trusted=trusted
        ),
        "precision": ways,
        "rows": len(answers["validation"][1]),
        "same_answer": _same_answer(*answers["validation"], manifest.data["labels"]),
    }
    write_json(output, found)


@dataclass(frozen=True)
class Exported:
    """A model as its users load it.

    Attributes:
        model: The model.
        tokenizer: Its tokenizer.
        max_length: Longest input in tokens.
        batch: Rows that go through the model at a time.
    """

    model: Any
    tokenizer: Any
    max_length: int
    batch: int = ROWS_AT_ONCE

    @classmethod
    def load(cls, folder: Path, settings: Mapping[str, Any], *, trusted: bool) -> Exported:
        """Load a folder.

        Args:
            folder: Model and tokenizer.
            settings: The trial's.
            trusted: Whether code that comes with the model may be run.
        """
        check_files(folder)
        known = {"local_files_only": True, "trust_remote_code": trusted}
        kind = transformers.AutoModelForSequenceClassification
        model = kind.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, **known)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **known)
        batch = min(ROWS_AT_ONCE, settings.get("per_device_eval_batch_size") or ROWS_AT_ONCE)
        on_gpu = torch.cuda.is_available() and not settings.get("use_cpu")
        return cls(model.eval().to("cuda" if on_gpu else "cpu"), tokenizer, settings["data.max_length"], batch)

    def tokens(self, rows: pd.DataFrame) -> Any:
        """Return the tokens of rows, padded to the longest of them."""
        texts = [rows[name].tolist() for name in ("text", "text_pair") if name in rows]
        with without_texts("the winner's tokenizer"):
            return self.tokenizer(
                *texts, truncation=True, max_length=self.max_length, padding=True, return_tensors="pt"
            )

    def answers(self, rows: pd.DataFrame) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits and labels of all rows, in double precision and in the rows' order."""
        accepted = inspect.signature(self.model.forward).parameters
        logits = []
        for start in range(0, len(rows), self.batch):
            tokens = self.tokens(rows[start : start + self.batch])
            inputs = {name: tensor.to(self.model.device) for name, tensor in tokens.items() if name in accepted}
            with torch.no_grad():
                logits.append(self.model(**inputs).logits.double().cpu())
        return torch.cat(logits), torch.tensor(rows["label"].to_numpy())


def _classes(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    given, count = logits.argmax(dim=-1), logits.shape[-1]
    right = torch.bincount(labels[given == labels], minlength=count).double()
    either = torch.bincount(labels, minlength=count) + torch.bincount(given, minlength=count)
    return {
        "eval_loss": float(torch.nn.functional.cross_entropy(logits, labels)),
        "eval_accuracy": float(right.sum()) / len(labels),
        "eval_macro_f1": float((2 * right / either)[either > 0].mean()),
    }


def _numbers(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    given, truth = logits.flatten(), labels.double()
    error = given - truth
    ranks = [torch.tensor(pd.Series(side.numpy()).rank().to_numpy()) for side in (given, truth)]
    return {
        "eval_loss": float(error.square().mean()),
        "eval_mse": float(error.square().mean()),
        "eval_mae": float(error.abs().mean()),
        "eval_pearson": _correlation(given, truth),
        "eval_spearman": _correlation(*ranks),
    }


def _correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    is_constant = any(bool((side == side[0]).all()) for side in (one, other))
    return 0.0 if is_constant else float(torch.corrcoef(torch.stack([one, other]))[0, 1])


SCORES: Mapping[str, Callable[[torch.Tensor, torch.Tensor], dict[str, float]]] = {
    "text-classification": _classes,
    "text-regression": _numbers,
}
"""By task, its metrics a second time: from logits and labels."""


def _same_answer(logits: torch.Tensor, labels: torch.Tensor, names: list[str] | None) -> str | None:
    """Return what a model answers to each of some rows if it is always the same, else None."""
    if len(labels) < 2:
        return None
    if names is None:
        given, spread = logits.flatten(), labels.double().std()
        return f"{float(given.mean()):.6g}" if given.std() <= EQUAL * spread else None
    given = logits.argmax(dim=-1)
    return names[int(given[0])] if bool((given == given[0]).all()) and bool((labels != labels[0]).any()) else None


def _check_tokenizer(exported: Exported, sweep_folder: SweepFolder, rows: Any) -> None:
    """Raise WinnerMismatch if the exported tokenizer cuts the first texts into other tokens."""
    frame = read_frame(sweep_folder.data / "validation.parquet").head(ROWS_COMPARED)
    tokens = exported.tokens(frame)
    for ids, mask, trained in zip(tokens["input_ids"], tokens["attention_mask"], rows["input_ids"], strict=False):
        if ids[mask.bool()].tolist() != list(trained):
            raise WinnerMismatch("the exported tokenizer does not give the tokens that the model was trained on")


def asked_as_users_will(
    sweep_folder: SweepFolder, model: Path, kind: str, exported: Exported, *, trusted: bool
) -> dict[str, Any]:
    """Ask the model for the first validation row the way its users will."""
    row = read_frame(sweep_folder.data / "validation.parquet").iloc[0]
    pipeline = transformers.pipeline(kind, model=str(model), trust_remote_code=trusted)
    inputs = {"text": row["text"], **({"text_pair": row["text_pair"]} if "text_pair" in row else {})}
    with without_texts("the stock pipeline, on the first row of validation,"):
        answer = pipeline([inputs], truncation=True, max_length=exported.max_length)[0]
    return {"label": answer["label"], "score": answer["score"]}
