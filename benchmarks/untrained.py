"""Makes sweeps without rows and model, whose trials do not train, and puts finished trials into them."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from finesweep.data.loaded import DataFacts, DataSource
from finesweep.files.atomic import write_json
from finesweep.folder.manifest import Manifest, Run, without_run
from finesweep.folder.model_facts import ModelFacts
from finesweep.folder.sweep_folder import SweepFolder, make_folders
from finesweep.launch.profile import Profile, SettledProfile
from finesweep.spec.sections import BudgetSpec, StopSpec, SweepSpec
from finesweep.trial import Evaluation, Params, TrialRecord, TrialState

METRIC = "eval_loss"
SPEC: dict[str, Any] = {
    "model": {"name": "none"},
    "data": {"train": "none.csv"},
    "objective": {"metric": METRIC, "direction": "minimize"},
    "search": {"sampler": "random", "pruner": "none", "baseline": False},
    "space": {
        "learning_rate": {"low": 1e-5, "high": 1e-3, "log": True},
        "weight_decay": {"low": 0.0, "high": 0.3},
        "num_train_epochs": {"low": 2, "high": 5},
        "lr_scheduler_type": {"choices": ["linear", "constant"]},
    },
}


def prepare(folder: Path, trials: int, sampler: str = "random", pruner: str = "none") -> SweepFolder:
    """Make a sweep's folder as ``sweep run`` does, without rows and model."""
    search = {**SPEC["search"], "sampler": sampler, "pruner": pruner}
    spec = SweepSpec.model_validate({**SPEC, "search": search, "name": folder.name, "base": Path()}, strict=False)
    data = DataFacts({"train": DataSource("none.csv", "0")}, {"train": 1}, labels=None, text_pair=False)
    model = ModelFacts("none", None, None, "0", max_tokens=1, from_scratch=False)
    sweep_folder = make_folders(folder)
    write_json(sweep_folder.spec_file, Manifest(without_run(spec), data, model, [], time.time()).to_json())
    profile = SettledProfile(Profile(), 1, 0, 1, 1).record()
    sweep_folder.begin_run(
        lambda number: Run(
            number, BudgetSpec(trials=trials), StopSpec(), profile, {}, socket.gethostname(), os.getpid(), time.time()
        )
    )
    return sweep_folder


def fill(sweep_folder: SweepFolder, trials: int) -> None:
    """Put trials in place as if they had run: claim, record, log and scalars."""
    for trial in range(trials):
        loss = 0.3 + (trial * 7919 % 10_007) / 50_000
        params: Params = {
            "learning_rate": 1e-4,
            "weight_decay": loss / 10,
            "num_train_epochs": 3,
            "lr_scheduler_type": "linear",
        }
        made = TrialRecord(
            trial,
            1,
            TrialState.COMPLETE,
            params,
            1_000.0 + trial,
            1.0,
            f"logs/trial-{trial:04d}.log",
            socket.gethostname(),
            objective=loss,
            best_epoch=3.0,
            best_step=300,
            metrics={METRIC: loss, "eval_accuracy": 0.9},
            evaluations=tuple(
                Evaluation(step, step / 100, step * 16, {METRIC: loss, "eval_accuracy": 0.9}, loss)
                for step in (100, 200, 300)
            ),
            examples=4_800,
            examples_per_second=480.0,
            peak_memory_mb=400.0,
            effective={**params, "data.max_length": 128, "per_device_train_batch_size": 16, "seed": 42},
            run=1,
        )
        sweep_folder.record_file(trial).write_text(json.dumps(made.to_json(), indent=1), encoding="utf-8")
        claim = {"run": 1, "host": "", "boot": "", "pid": 1, "started": 0.0, "faults": [], "batch_divisor": 1}
        (sweep_folder.path / "claims" / f"{trial:04d}.1").write_text(json.dumps({**claim, "beat": 0}), encoding="utf-8")
        sweep_folder.trial_log(trial).touch()
        sweep_folder.tensorboard(trial).mkdir()
        (sweep_folder.tensorboard(trial) / "events.out").touch()
