"""O: a plain Optuna loop around a fresh Trainer per trial.

    python -m benchmarks.peers.plain_optuna WORKLOAD.json FOLDER

TPE and the median pruner, which hears of each epoch's loss; of all trials the best one's weights are kept.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import optuna
import transformers
from benchmarks.peers.given import given, ship, suggested
from benchmarks.peers.stock import trainer_for


class Reporting(transformers.TrainerCallback):  # type: ignore[misc]
    """Reports each evaluation and lets the pruner end the trial."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial = trial

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        """Report by the number of the epoch."""
        self.trial.report(metrics["eval_loss"], round(state.epoch))
        if self.trial.should_prune():
            raise optuna.TrialPruned


def main() -> None:
    """Search and ship."""
    workload, folder = given()

    def objective(trial: optuna.Trial) -> float:
        trainer = trainer_for(workload, folder, **suggested(workload, trial))
        trainer.add_callback(Reporting(trial))
        try:
            trainer.train()
            loss: float = trainer.state.best_metric
            if not trial.study.best_trials or loss < trial.study.best_value:
                trainer.save_model(str(folder / "best"))
        finally:
            shutil.rmtree(Path(trainer.args.output_dir), ignore_errors=True)
        return loss

    study = optuna.create_study(direction="minimize", sampler=optuna.samplers.TPESampler(seed=workload.seed))
    study.optimize(objective, n_trials=workload.trials)
    ship(folder, folder / "best")


if __name__ == "__main__":
    main()
