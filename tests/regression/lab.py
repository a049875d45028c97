"""One tiny sweep that is prepared and waits for its first trial, to train trials of in a test's process."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import tiny
from finesweep.files.atomic import write_json
from finesweep.folder.manifest import Manifest
from finesweep.folder.sweep_folder import SweepFolder, make_folders
from finesweep.model.from_scratch import make_scratch
from finesweep.spec import reader
from finesweep.spec.sections import ScratchModelSpec, SweepSpec
from finesweep.sweep import preflight
from finesweep.training.callback import TrialContext, TrialWatch
from finesweep.training.fine_tuning import FineTuning, build_trainer
from finesweep.training.saved_state import SavedState, Weights, read_state
from finesweep.training.tokens import tokenized
from finesweep.training.trainer import FineTuner
from finesweep.trial import Report

TOKEN = "hf_" + "Secret" * 6  # no real one; only looked for
ROWS, VALIDATION_ROWS = 192, 64
SPEC = """\
model: {config: bert, hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 64,
        max_position_embeddings: 32, vocab_size: 300}
data: {train: train.csv, validation: validation.csv, max_length: 24}
search: {pruner: none, sampler: random, baseline: false}
patience: none
space:
  learning_rate: {low: 5e-4, high: 5e-3, log: true}
"""


@dataclass(frozen=True)
class Lab:
    """A sweep that is prepared and waits for its first trial.

    Attributes:
        sweep_folder: Its folder, with rows, tokens and the model's config.
        manifest: What it is.
        spec: Its spec.
        scratch: What a Trainer may call its output.
    """

    sweep_folder: SweepFolder
    manifest: Manifest
    spec: SweepSpec
    scratch: Path

    def context(self, params: Mapping[str, Any], **changes: Any) -> TrialContext:
        """Describe a trial: what its parameters and its fixed settings are together, and changes of the spec."""
        spec = self.spec.model_copy(update=changes)
        return TrialContext(self.sweep_folder, self.manifest, spec, {"learning_rate": 1e-3, **params})

    def build(self, params: Mapping[str, Any], **changes: Any) -> FineTuner:
        """Build a trial's Trainer and do not train."""
        return build_trainer(self.context(params, **changes), self.scratch)

    def train(self, params: Mapping[str, Any], reports: list[Report] | None = None, **changes: Any) -> TrialWatch:
        """Train a trial; every report goes to ``reports``."""
        watch = TrialWatch(self.spec.direction)
        self.trainer_of(self.context(params, **changes), watch, reports)
        return watch

    @staticmethod
    def trainer_of(context: TrialContext, watch: TrialWatch, reports: list[Report] | None = None) -> FineTuner:
        """Train a trial that is described already, and return its Trainer."""
        tuning = tuning_of(context, watch, reports)
        tuning.train()
        return tuning.trainer


def tuning_of(
    context: TrialContext,
    watch: TrialWatch,
    reports: list[Report] | None = None,
    on_step: Callable[[TrialWatch], None] = lambda _: None,
    state: SavedState | None = None,
    scratch: Path | None = None,
) -> FineTuning:
    """Make everything ready to train a trial; every report goes to ``reports``."""

    told: list[Report] = [] if reports is None else reports
    return FineTuning(context, scratch or scratch_of(context), watch, told.append, on_step, state)


def scratch_of(context: TrialContext) -> Path:
    """Return the folder that ``prepare`` made for the output of Trainers."""
    return context.sweep_folder.path.parent / "scratch"


def go_on(context: TrialContext, folder: Path) -> tuple[TrialWatch, Weights]:
    """Train an interrupted trial to its end, in a process that knows nothing of the first."""
    torch.set_num_threads(1)
    watch = TrialWatch(context.spec.direction)
    tuning = tuning_of(context, watch, state=read_state(folder))
    tuning.train()
    return watch, tuning.trainer.model.state_dict()


def prepare(
    folder: Path,
    rows: Sequence[Sequence[object]],
    spec: str = SPEC,
    validation: Sequence[Sequence[object]] | None = None,
) -> Lab:
    """Do what `sweep run` does before it starts a worker."""
    tiny.write_csv(folder / "train.csv", rows)
    tiny.write_csv(folder / "validation.csv", validation or tiny.review_rows(VALIDATION_ROWS, seed=2))
    (folder / "spec.yaml").write_text(spec)
    checked = preflight.check(reader.draft(folder / "spec.yaml").finished())
    sweep_folder = make_folders(folder / "results")
    for split, frame in checked.data.frames.items():
        frame.to_parquet(sweep_folder.data / f"{split}.parquet")
    model = checked.loaded.spec.model
    assert isinstance(model, ScratchModelSpec)
    sweep_folder.model.mkdir()
    make_scratch(model, checked.data.frames["train"]["text"], sweep_folder.model, pairs=False)
    manifest = checked.manifest()
    manifest = dataclasses.replace(manifest, model=dataclasses.replace(manifest.model, path=str(sweep_folder.model)))
    write_json(sweep_folder.spec_file, manifest.to_json())
    tokenized(sweep_folder, manifest, 24)
    (folder / "scratch").mkdir()
    return Lab(sweep_folder, manifest, checked.loaded.spec, folder / "scratch")
