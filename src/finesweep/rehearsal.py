"""Owns the rehearsal: one tiny step through everything, before the first trial costs anything.

It finds what would fail in every trial (a model whose weights are NaN, a loss that the Trainer scales,
a metric that is missing), and imports what would otherwise be imported in every trial's process.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import torch

from finesweep import precision
from finesweep.errors import SweepError
from finesweep.fine_tuner import FineTuner
from finesweep.manifest import Manifest
from finesweep.run_dir import RunDir
from finesweep.spec import SweepSpec
from finesweep.training import build_trainer
from finesweep.watching import TrialContext

ROWS = 4


def rehearse(run_dir: RunDir, manifest: Manifest, spec: SweepSpec) -> None:
    """Train one step on a few rows, evaluate them, and compare with a plain forward pass.

    Runs on the CPU, also where there is a GPU: trials are forks, and a process that has used CUDA cannot
    be forked. There it leaves out training, whose backward pass would start threads.

    Raises:
        SweepError: Something would fail or mislead in every trial.
    """
    params = dict(manifest.plan[0]) if manifest.plan else {}
    with tempfile.TemporaryDirectory(prefix="finesweep-") as scratch:
        context = TrialContext(run_dir, manifest, spec, params, None, Path(scratch))
        precision.refuse_emulation(context.settings.training)
        trainer = build_trainer(
            context, use_cpu=True, max_steps=1, per_device_train_batch_size=2, bf16=False, fp16=False, tf32=None
        )
        trainer.train_dataset = trainer.train_dataset.select(range(min(ROWS, len(trainer.train_dataset))))
        trainer.eval_dataset = trainer.eval_dataset.select(range(min(ROWS, len(trainer.eval_dataset))))
        metrics = trainer.evaluate()
        _check(trainer, metrics, spec)
        if not torch.cuda.is_available():
            trainer.train()


def _check(trainer: FineTuner, metrics: dict[str, float], spec: SweepSpec) -> None:
    if not math.isfinite(metrics["eval_loss"]):
        raise SweepError(f"the untrained model's loss is {metrics['eval_loss']}: its weights are damaged")
    if spec.objective.metric not in metrics:
        names = ", ".join(quality_metrics(metrics))
        raise SweepError(f"no evaluation produces {spec.objective.metric}; there are {names}")
    plain = plain_loss(trainer)
    if not math.isclose(plain, metrics["eval_loss"], rel_tol=1e-3, abs_tol=1e-5):
        raise SweepError(
            f"the Trainer reports a loss of {metrics['eval_loss']:.6g} where a plain forward pass gives {plain:.6g}; "
            "the ranking would be wrong, so nothing is trained"
        )


def quality_metrics(metrics: dict[str, float]) -> list[str]:
    """Return the names that measure quality, without the Trainer's own timings."""
    timings = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second")
    return [name for name in metrics if name not in timings]


def plain_loss(trainer: FineTuner) -> float:
    """Return the mean loss over the evaluation rows from forward passes outside the Trainer."""
    total = 0.0
    trainer.model.eval()
    with torch.no_grad():
        for row in trainer.eval_dataset:
            batch = trainer.data_collator([row])
            batch = {name: tensor.to(trainer.model.device) for name, tensor in batch.items()}
            total += float(trainer.model(**batch).loss)
    return total / len(trainer.eval_dataset)
