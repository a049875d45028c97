"""One tiny prepared sweep to train trials of, in this process, and one real sweep to look at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from finesweep import preflight, spec_reader, training
from finesweep.atomic import write_json
from finesweep.manifest import Manifest
from finesweep.modeling import tokenized
from finesweep.run_dir import RunDir, make_folders
from finesweep.scratch_model import make_scratch
from finesweep.spec import ScratchModelSpec, SweepSpec
from finesweep.training import FineTuner, TrialContext, TrialWatch, build_trainer, train_trial
from finesweep.trial import Evaluation

ROWS, VALIDATION_ROWS = 192, 64
SPEC = """\
model: {config: bert, hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 64,
        max_position_embeddings: 32, vocab_size: 300}
data: {train: train.csv, validation: validation.csv, max_length: 24}
search: {pruner: none, sampler: random, baseline: false}
space:
  learning_rate: {low: 5e-4, high: 5e-3, log: true}
"""


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@dataclass(frozen=True)
class Lab:
    """A sweep that is prepared and waits for its first trial.

    Attributes:
        run_dir: Its folder, with rows, tokens and the model's config.
        manifest: What it is.
        spec: Its spec.
        scratch: What a Trainer may call its output.
    """

    run_dir: RunDir
    manifest: Manifest
    spec: SweepSpec
    scratch: Path

    def context(self, params: Mapping[str, Any], **changes: Any) -> TrialContext:
        """Describe a trial: what its parameters and its fixed settings are together, and changes of the spec."""
        spec = self.spec.model_copy(update=changes)
        return TrialContext(self.run_dir, self.manifest, spec, {"learning_rate": 1e-3, **params}, None, self.scratch)

    def build(self, params: Mapping[str, Any], **changes: Any) -> FineTuner:
        """Build a trial's Trainer and do not train."""
        return build_trainer(self.context(params, **changes))

    def train(self, params: Mapping[str, Any], reports: list[Any] | None = None, **changes: Any) -> TrialWatch:
        """Train a trial; every report goes to ``reports``."""
        watch = TrialWatch(self.spec.direction)
        self.trainer_of(self.context(params, **changes), watch, reports)
        return watch

    @staticmethod
    def trainer_of(context: TrialContext, watch: TrialWatch, reports: list[Any] | None = None) -> FineTuner:
        """Train a trial that is described already, and return its Trainer."""

        def report(evaluation: Evaluation, best: float, last: bool) -> None:
            if reports is not None:
                reports.append((evaluation, best, last))

        return train_trial(context, watch, report, lambda _: None)


def prepare(folder: Path, rows: Sequence[Sequence[object]], spec: str = SPEC) -> Lab:
    """Do what `sweep run` does before it starts a worker."""
    tiny.write_csv(folder / "train.csv", rows)
    tiny.write_csv(folder / "validation.csv", tiny.review_rows(VALIDATION_ROWS, seed=2))
    (folder / "spec.yaml").write_text(spec)
    checked = preflight.check(spec_reader.load(folder / "spec.yaml"))
    run_dir = make_folders(folder / "results")
    for split, frame in checked.data.frames.items():
        frame.to_parquet(run_dir.data / f"{split}.parquet")
    model = checked.loaded.spec.model
    assert isinstance(model, ScratchModelSpec)
    run_dir.model.mkdir()
    make_scratch(model, checked.data.frames["train"]["text"], run_dir.model, pairs=False)
    values = checked.manifest().__dict__
    manifest = Manifest(**{**values, "model": {**values["model"], "path": str(run_dir.model)}})
    write_json(run_dir.spec_file, manifest.__dict__)
    tokenized(run_dir, manifest, 24)
    (folder / "scratch").mkdir()
    return Lab(run_dir, manifest, checked.loaded.spec, folder / "scratch")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A sweep over 192 training rows and 64 validation rows; tests leave nothing in its folder."""
    return prepare(tmp_path_factory.mktemp("lab"), tiny.review_rows(ROWS, seed=1))


@pytest.fixture(scope="session")
def contrary(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A sweep whose training labels say the opposite, so that every evaluation is worse than the one before."""
    rows = [(text, 1 - label) for text, label in tiny.review_rows(ROWS, seed=1)]
    return prepare(tmp_path_factory.mktemp("contrary"), rows)


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Change the loss of chosen forward passes of every model that is built.

    ``change`` is given the loss, whether the model trains, and how many passes of that kind there were.
    """
    build_model = training.build_model

    def install(change: Callable[[torch.Tensor, bool, int], torch.Tensor]) -> None:
        def build(*args: Any) -> Any:
            model, passes = build_model(*args), {True: 0, False: 0}

            def hook(module: Any, _: Any, output: Any) -> None:
                passes[module.training] += 1
                output.loss = change(output.loss, module.training, passes[module.training])

            model.register_forward_hook(hook)
            return model

        monkeypatch.setattr(training, "build_model", build)

    return install


TOKEN = "hf_" + "Secret" * 6  # no real one; only looked for


@dataclass(frozen=True)
class Swept:
    """A real sweep that was carried out from another folder, with a token in its environment."""

    path: Path
    results: Path

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(file.read_text()) for file in sorted((self.results / "trials").glob("*.json"))]


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """Three trials, ranked by accuracy, in processes of their own; tests leave the folder as it is."""
    project, elsewhere = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("elsewhere")
    tiny.write_csv(project / "train.csv", tiny.review_rows(ROWS, seed=1))
    tiny.write_csv(project / "validation.csv", tiny.review_rows(VALIDATION_ROWS, seed=2))
    extra = "objective: {metric: eval_accuracy}\nbudget: {trials: 3}\nfixed: {num_train_epochs: 2}\n"
    (project / "spec.yaml").write_text(SPEC + extra)
    (project / "one_thread.yaml").write_text("threads_per_worker: 1\n")
    files = {name: os.path.relpath(project / name, elsewhere) for name in ("spec.yaml", "one_thread.yaml")}
    command = ["run", files["spec.yaml"], "--on", files["one_thread.yaml"], "--results", "out"]
    done = subprocess.run(
        [sys.executable, "-m", "finesweep", *command],
        cwd=elsewhere,
        env={**os.environ, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Swept(elsewhere, elsewhere / "out" / "spec")
