"""Records, manifests and runs that tests of the leaderboard and the display are made of."""

from __future__ import annotations

from typing import Any

from finesweep.folder.manifest import Manifest, Run
from finesweep.spec.sections import BudgetSpec, StopSpec
from finesweep.trial import Progress, TrialRecord, TrialState

WAITING, COMPLETE, PRUNED, DIVERGED, FAILED, INTERRUPTED = (
    TrialState.WAITING,
    TrialState.COMPLETE,
    TrialState.PRUNED,
    TrialState.DIVERGED,
    TrialState.FAILED,
    TrialState.INTERRUPTED,
)


def record(trial: int, objective: float | None = None, state: TrialState = COMPLETE, **fields: Any) -> TrialRecord:
    """One ended trial; trial n began at second 100 n and took 42 seconds."""
    values: dict[str, Any] = {
        "trial": trial,
        "attempt": 1,
        "state": state,
        "params": {"learning_rate": 3.21e-5, "num_train_epochs": 3},
        "started": 100.0 * trial,
        "seconds": 42.0,
        "log": f"logs/trial-{trial:04d}.log",
        "host": "here",
        "objective": objective,
        "metrics": {} if objective is None else {"eval_loss": objective, "eval_accuracy": 0.875},
        "best_epoch": None if objective is None else 2.0,
        "best_step": None if objective is None else 400,
        "examples_per_second": 123.4,
        "peak_memory_mb": 812.5,
    }
    return TrialRecord(**{**values, **fields})


def running(trial: int, **fields: Any) -> Progress:
    """One running trial, at step 100 of 400 after 50 seconds if it is second 100 n + 50."""
    values: dict[str, Any] = {
        "trial": trial,
        "attempt": 1,
        "params": {"learning_rate": 3.21e-5, "num_train_epochs": 3},
        "started": 100.0 * trial,
        "step": 100,
        "total_steps": 400,
        "loss": 0.6123,
        "best": 0.5,
    }
    return Progress(**{**values, **fields})


def manifest(*, spec: Any = None, data: Any = None, model: Any = None, **search: Any) -> Manifest:
    """What a sweep over learning rate and epochs is, read from what its folder would hold, with some keys changed."""
    sections = {
        "model": {"name": "org/encoder"},
        "data": {"train": "/data/train.csv"},
        "objective": {"metric": "eval_loss", "direction": "minimize"},
        "search": {"sampler": "tpe", "pruner": "median", "seed": 7, **search},
        "space": {
            "learning_rate": {"low": 1e-5, "high": 5e-5, "log": True},
            "num_train_epochs": {"low": 2, "high": 5},
        },
        "fixed": {"weight_decay": 0.01},
    }
    data_facts = {
        "sources": {"train": {"place": "/data/train.csv", "digest": "ab12" * 16}},
        "rows": {"train": 6920, "validation": 872},
        "labels": ["negative", "positive"],
        "text_pair": False,
    }
    model_facts = {
        "name": "org/encoder",
        "path": "/m",
        "revision": "86b5e0934494bd15c9632b12f734a8a67f723594",
        "digest": "86b5e0934494bd15c9632b12f734a8a67f723594",
        "max_tokens": 512,
        "from_scratch": False,
    }
    return Manifest.read(
        {
            "name": "sst2",
            "spec": {**sections, **(spec or {})},
            "data": {**data_facts, **(data or {})},
            "model": {**model_facts, **(model or {})},
            "plan": [],
            "created": 0.0,
        }
    )


def run(number: int = 1, **fields: Any) -> Run:
    """One run with a budget of 20 trials, 2 hours long."""
    values: dict[str, Any] = {
        "number": number,
        "budget": BudgetSpec(trials=20, hours=12.0),
        "stop": StopSpec(),
        "profile": {},
        "environment": {"python": "3.11.4", "versions": {"torch": "2.13.0"}, "gpu": None},
        "host": "here",
        "pid": 1,
        "started": 0.0,
        "ended": 7200.0,
    }
    return Run(**{**values, **fields})
