"""Boards of sweeps that never ran, of any size, with every state and with hostile texts."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from made_records import DIVERGED, FAILED, PRUNED, manifest, record, run

from finesweep.confidence import Interval
from finesweep.references import Reference
from finesweep.results.answers import Answers, Confusion
from finesweep.results.board import Board
from finesweep.results.decision import decide
from finesweep.results.ranking import rank, ranked, summarize
from finesweep.results.standing import Standing
from finesweep.results.winner import Evidence
from finesweep.spec.sections import BudgetSpec
from finesweep.trial import Direction, Divergence, Evaluation, TrialRecord

SPACE = {
    "learning_rate": {"low": 1e-6, "high": 1e-3, "log": True},
    "num_train_epochs": {"low": 2, "high": 5},
    "per_device_train_batch_size": {"choices": [8, 16, 32]},
    "weight_decay": {"low": 0.0, "high": 0.1},
    "lr_scheduler_type": {"choices": ["linear", "cosine"]},
}

WIDE = {
    **SPACE,
    "warmup_steps": {"low": 0.0, "high": 0.3},
    "adam_beta2": {"low": 0.9, "high": 0.999},
    "max_grad_norm": {"low": 0.1, "high": 2.0},
}
"""Eight parameters."""

REFERENCES = (Reference("TF-IDF + logistic regression", {"eval_loss": 0.48, "eval_accuracy": 0.79}, 1.5, 6_920),)

ANSWERS = Answers(
    tuple(
        Confusion(label, given, rows)
        for label, given, rows in (
            ("negative", "negative", 360),
            ("negative", "positive", 40),
            ("positive", "negative", 100),
            ("positive", "positive", 372),
        )
    )
)

HOSTILE = (
    "</script><script>window.hacked=1</script>",
    "<img src=x onerror=window.hacked=1>",
    "<!--",
    "=cmd()|' /C calc'!A0",
    '"><b onmouseover=alert(1)>x</b>',
    "\u202eright to left\u202c العربية",
    "🙂 emoji {{ 7*7 }} {% raw %}",
    "$\\href{https://example.org}{x}$ <a href='javascript:window.hacked=1'>link</a>",
)
"""Texts that break a page which does not escape them."""


def made_records(count: int, seed: int = 1, *, wide: bool = False) -> list[TrialRecord]:
    """Trials whose loss is best at a learning rate of 3e-5; one in four was pruned, one in ten diverged or failed.

    Those of the space ``WIDE`` have 12 evaluations, others 10.
    """
    draw = random.Random(seed)
    return [_made(number, draw, wide) for number in range(count)]


def _made(number: int, draw: random.Random, wide: bool) -> TrialRecord:
    rate = 10 ** draw.uniform(-6, -3) if number else 5e-5
    params = {
        "learning_rate": rate,
        "num_train_epochs": draw.randint(2, 5),
        "per_device_train_batch_size": draw.choice([8, 16, 32]),
        "weight_decay": draw.uniform(0, 0.1),
        "lr_scheduler_type": draw.choice(["linear", "cosine"]),
    }
    params |= {name: draw.uniform(WIDE[name]["low"], WIDE[name]["high"]) for name in list(WIDE)[5:] if wide}
    floor = 0.3 + 0.08 * (math.log10(rate) + 4.5) ** 2 + draw.gauss(0, 0.004)
    curve = [floor + 0.5 * math.exp(-step / 3) + draw.gauss(0, 0.003) for step in range(1, 13 if wide else 11)]
    kind = "diverged" if rate > 7e-4 else "failed" if number % 29 == 28 else "pruned" if number % 4 == 3 else "complete"
    seen = curve if kind == "complete" else [] if kind == "failed" else curve[: 2 + number % 5]
    evaluations = tuple(
        Evaluation(100 * step, step / 4, 1600 * step, {"eval_loss": value, "eval_accuracy": 1 - value / 2}, value)
        for step, value in enumerate(seen, 1)
    )
    best = min(evaluations, key=lambda one: one.objective, default=None)
    fields: dict[str, Any] = {
        "params": params,
        "evaluations": evaluations,
        "examples": 1600 * len(seen),
        "seconds": 40.0 + 30 * len(seen),
        "started": 1.79e9 + 200.0 * number,
        "run": 1,
        "metrics": dict(best.metrics) if best else {},
        "best_step": best.step if best else None,
        "best_epoch": best.epoch if best else None,
        "effective": {"data.max_length": 128},
    }
    if kind == "diverged":
        found = Divergence("training loss is NaN", 120, rate, 0.69)
        return record(number, None, DIVERGED, reason=found.reason, divergence=found, **fields)
    if kind == "failed":
        return record(number, None, FAILED, reason="OSError: the file is gone", **fields)
    value = best.objective if best else None
    if kind == "pruned":
        return record(
            number, value, PRUNED, reason=f"worse than half of the trials at {1600 * len(seen)} examples", **fields
        )
    return record(number, value, **fields)


def made_board(folder: Path, count: int, records: list[TrialRecord] | None = None, **facts: Any) -> Board:
    """A board of a sweep of so many trials, with a proven winner."""
    found = made_records(count) if records is None else records
    spec = {"space": SPACE, "fixed": {"label_smoothing_factor": 0.1}, **facts.pop("spec", {})}
    naive = {"answer": "positive", "scores": {"eval_loss": 0.69, "eval_accuracy": 0.52}, "limits": {"eval_loss": 0.68}}
    held = manifest(spec=spec, data={"naive": naive, **facts.pop("data", {})}, baseline=True)
    runs = [
        run(
            budget=BudgetSpec(trials=count, hours=12.0),
            profile={"workers": 2, "gpus_per_trial": 1, "trials_per_gpu": 1},
        )
    ]
    summary = summarize(held, found, runs)
    best = summary.best
    evidence = None
    if best is not None and best.objective is not None:
        scores = {"eval_loss": best.objective, "eval_accuracy": 0.84}
        evidence = Evidence(
            *(best.trial, "eval_loss", best.objective, scores, {"eval_loss": 0.41, "eval_accuracy": 0.82}, {}),
            answers=facts.pop("answers", ANSWERS),
        )
    standing = made_standing(found, summary.direction, summary.baseline)
    references, findings = facts.pop("references", REFERENCES), facts.pop("findings", ())
    decision = decide(summary, best, standing, references, findings, "eval_loss 0.4100" if evidence else None)
    rows = rank(found, summary.direction)
    return Board(
        folder,
        held,
        found,
        runs,
        summary,
        rows,
        decision,
        best,
        evidence,
        standing=standing,
        references=references,
        findings=findings,
    )


def made_standing(
    records: Sequence[TrialRecord], direction: Direction, baseline: TrialRecord | None
) -> Standing | None:
    """Intervals of 0.02 to both sides; the first three are tied, and the third is the cheapest."""
    first = ranked(records, direction)
    if not first:
        return None
    found = {
        one.trial: Interval(one.objective - 0.02, one.objective + 0.02) for one in first if one.objective is not None
    }
    tied = tuple(one.trial for one in first[:3])
    ahead = {first[0].trial: Interval(0.002, 0.009)} if baseline is not None else {}
    scores = {trial: {"eval_loss": interval} for trial, interval in found.items()}
    return Standing(found, scores, tied, tied[-1], ahead, rows=872)
