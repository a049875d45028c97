"""R: the stock search with Ray Tune and ASHA, as many trials at a time as there are cores.

    python -m benchmarks.peers.stock_ray WORKLOAD.json FOLDER [--warm]

Otherwise as the stock search with Optuna. ``--warm`` keeps Ray's actors from trial to trial, which is off by default.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ray
from benchmarks.peers.given import given, ship
from benchmarks.peers.stock import trainer_for
from benchmarks.workload import Workload
from ray import tune
from ray.tune.schedulers import ASHAScheduler


def space(workload: Workload) -> dict[str, Any]:
    """Return the space in Ray's words."""
    found: dict[str, Any] = {}
    for name, axis in workload.space.items():
        if "choices" in axis:
            found[name] = tune.choice(axis["choices"])
        elif isinstance(axis["low"], int):
            found[name] = tune.randint(axis["low"], axis["high"] + 1)
        else:
            found[name] = (tune.loguniform if axis.get("log") else tune.uniform)(axis["low"], axis["high"])
    return found


def main() -> None:
    """Search and ship."""
    workload, folder = given()
    ray.init(include_dashboard=False, log_to_driver=False)
    epochs = workload.space.get("num_train_epochs", {}).get("high", 5)
    best = trainer_for(workload, folder).hyperparameter_search(
        hp_space=lambda _: space(workload),
        compute_objective=lambda metrics: metrics["eval_loss"],
        direction="minimize",
        backend="ray",
        n_trials=workload.trials,
        resources_per_trial={"cpu": 1},
        scheduler=ASHAScheduler(metric="objective", mode="min", max_t=epochs, grace_period=1),
        checkpoint_config=tune.CheckpointConfig(
            num_to_keep=1, checkpoint_score_attribute="objective", checkpoint_score_order="min"
        ),
        storage_path=str(folder / "ray"),
        reuse_actors="--warm" in sys.argv,
        verbose=0,
    )
    analysis = best.run_summary
    trial = analysis.get_best_trial("objective", "min", scope="all")
    checkpoint = analysis.get_best_checkpoint(trial, "objective", "min")
    ship(folder, next(Path(checkpoint.path).glob("checkpoint-*")))
    ray.shutdown()


if __name__ == "__main__":
    main()
