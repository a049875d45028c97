"""One tiny prepared sweep to train trials of, in this process, and one real sweep to look at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from lab import ROWS, SPEC, TOKEN, VALIDATION_ROWS, Lab, prepare

import tiny
from finesweep.training import fine_tuning


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A sweep over 192 training rows and 64 validation rows; tests leave nothing in its folder."""
    return prepare(tmp_path_factory.mktemp("lab"), tiny.review_rows(ROWS, seed=1))


@pytest.fixture(scope="session")
def contrary(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A sweep whose training labels say the opposite, so that every evaluation is worse than the one before."""
    rows = [(text, 1 - label) for text, label in tiny.review_rows(ROWS, seed=1)]
    return prepare(tmp_path_factory.mktemp("contrary"), rows)


@pytest.fixture(scope="session")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A sweep of a regression whose targets lie near 250,000."""
    train, validation = (
        [(text, 250_000 + 50_000 * (2 * label - 1) + 1_000 * (row % 7)) for row, (text, label) in enumerate(rows)]
        for rows in (tiny.review_rows(ROWS, seed=1), tiny.review_rows(VALIDATION_ROWS, seed=2))
    )
    return prepare(tmp_path_factory.mktemp("prices"), train, f"task: text-regression\n{SPEC}", validation)


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Change the loss of chosen forward passes of every model that is built.

    ``change`` is given the loss, whether the model trains, and how many passes of that kind there were. In an
    evaluation, whose loss is made of the logits, it is given 0, and what it adds is taken from the first class's.
    """
    build_model = fine_tuning.build_model

    def install(change: Callable[[torch.Tensor, bool, int], torch.Tensor]) -> None:
        def build(*args: Any) -> Any:
            model, passes = build_model(*args), {True: 0, False: 0}

            def hook(module: Any, _: Any, output: Any) -> None:
                passes[module.training] += 1
                if module.training:
                    output.loss = change(output.loss, True, passes[True])
                else:
                    output.logits[:, 0] -= change(torch.zeros(()), False, passes[False])

            model.register_forward_hook(hook)
            return model

        monkeypatch.setattr(fine_tuning, "build_model", build)

    return install


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
