"""Rehearses a trial: takes one tiny step through everything, before the first trial starts.

It finds faults that would fail every trial (NaN in the weights, a loss that the Trainer scales, a missing metric), and
does the imports once instead of in every trial's process.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch

from finesweep import activity
from finesweep.errors import SweepError
from finesweep.folder import Manifest, SweepFolder
from finesweep.host.temporary_folders import temporary_folder
from finesweep.host.timeline import phase
from finesweep.spec import SweepSpec
from finesweep.training import precision
from finesweep.training.batching import TokenRows
from finesweep.training.callback import TrialContext
from finesweep.training.fine_tuning import build_trainer
from finesweep.training.trainer import FineTuner
from finesweep.trial import Params

ROWS = 4

FAR_OFF = 1e6
"""Maximum loss of an untrained model, as a multiple of the loss of a model that knows nothing."""


def rehearse(sweep_folder: SweepFolder, manifest: Manifest, spec: SweepSpec) -> None:
    """Rehearse the first trial in a process that will be forked for each trial.

    A process that has used CUDA cannot be forked, so it runs on the CPU. With a GPU it skips training, whose backward
    pass would start threads.

    Raises:
        SweepError: Every trial would fail, or give misleading results.
    """
    activity.tell("rehearsing: a few rows through the model and the Trainer")
    params = dict(manifest.planned[0]) if manifest.planned else {}
    take_through(sweep_folder, manifest, spec, params, trains=not torch.cuda.is_available())


def take_through(
    sweep_folder: SweepFolder, manifest: Manifest, spec: SweepSpec, params: Params, *, trains: bool
) -> FineTuner:
    """Train one step on a few rows, evaluate them, and compare with a plain forward pass, all on the CPU.

    Args:
        sweep_folder: The sweep's folder.
        manifest: The sweep's manifest.
        spec: The sweep's spec.
        params: Parameters of a trial.
        trains: Whether to train, after the evaluation.

    Returns:
        The Trainer.

    Raises:
        SweepError: Every trial would fail, or give misleading results.
    """
    with temporary_folder() as temporary:
        context = TrialContext(sweep_folder, manifest, spec, params)
        precision.refuse_emulation(context.settings.training)
        # In single precision, because the losses are compared to three digits.
        plain = {"bf16": False, "fp16": False, "tf32": None, "use_cpu": True}
        with phase("make model and Trainer"):
            trainer = build_trainer(context, Path(temporary), ROWS, max_steps=1, per_device_train_batch_size=2, **plain)
        with phase("evaluate a few rows"):
            metrics = trainer.evaluate()
            labels = TokenRows(trainer.eval_dataset).column("labels")
            _check_size(metrics["eval_loss"], context.task.naive_loss(labels, manifest.data.labels))
            _check(trainer, metrics, spec, own_code=manifest.trusts_code)
        if trains:
            with phase("train one step"):
                trainer.train()
        return trainer


def _check_size(loss: float, naive: float) -> None:
    if not math.isfinite(loss):
        raise SweepError(f"the untrained model's loss is {loss}: its weights are damaged")
    if loss > FAR_OFF * max(1.0, naive):
        known = f"that of a model that knows nothing {naive:.3g}"
        raise SweepError(f"the untrained model's loss is {loss:.3g}, {known}: its weights are far too large")


def _check(trainer: FineTuner, metrics: dict[str, float], spec: SweepSpec, *, own_code: bool) -> None:
    if spec.objective.metric not in metrics:
        raise SweepError(f"no evaluation produces {spec.objective.metric}; there are {', '.join(metrics)}")
    trained, plain = _losses(trainer)
    if not _is_close(trained, plain):
        raise SweepError(
            f"the Trainer takes a loss of {trained:.6g} where a plain forward pass gives {plain:.6g}; "
            "training would be wrong, so nothing is trained"
        )
    # A model with its own code may train with another loss than the task's. Its trials are compared by eval_loss, too.
    if not own_code and not _is_close(metrics["eval_loss"], plain):
        raise SweepError(
            f"the evaluation gives a loss of {metrics['eval_loss']:.6g} where a plain forward pass gives {plain:.6g}; "
            "the ranking would be wrong, so nothing is trained"
        )


def _is_close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-3, abs_tol=1e-5)


def _losses(trainer: FineTuner) -> tuple[float, float]:
    """Return the mean loss over the evaluation rows as the Trainer computes it, and that of plain forward passes."""
    rows = [trainer.data_collator([row]) for row in trainer.eval_dataset]
    batches = [{name: tensor.to(trainer.model.device) for name, tensor in row.items()} for row in rows]
    trainer.model.eval()
    if trainer.target_scale is not None:
        trainer.target_scale.check(trainer.model, batches[0])
    with torch.no_grad(), trainer.as_exported():
        taken = [float(trainer.compute_loss(trainer.model, dict(batch))) for batch in batches]
        plain = [float(trainer.model(**batch).loss) for batch in batches]
    return sum(taken) / len(rows), sum(plain) / len(rows)
