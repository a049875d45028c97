"""S: the stock search with Optuna, well written.

    python -m benchmarks.peers.stock WORKLOAD.json FOLDER [--grouped]

Dynamic padding, one evaluation an epoch, large evaluation batches, the default sampler (TPE) and pruner (median). Of
each trial the weights of the best evaluation are kept and no optimizer state, since without saving anything the search
ends without a winner: ``save_only_model``, ``save_total_limit=1``, ``load_best_model_at_end``. ``--grouped`` adds
``train_sampling_strategy="group_by_length"``, which saves padding.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import datasets
import optuna
import transformers
from benchmarks.peers.given import Diary, given, ship, suggested
from benchmarks.peers.tutorial import last_checkpoint
from benchmarks.workload import Workload


def trainer_for(workload: Workload, folder: Path, **arguments: Any) -> Any:
    """Return the Trainer to search with.

    Args:
        workload: What to train.
        folder: Where it may write.
        arguments: Training arguments beside those of this recipe.
    """
    rows = datasets.load_dataset("csv", data_files={"train": workload.train, "validation": workload.validation})
    tokenizer = transformers.AutoTokenizer.from_pretrained(workload.model)
    limit = workload.max_length
    tokens = rows.map(lambda batch: tokenizer(batch["text"], truncation=True, max_length=limit), batched=True)
    model, labels = workload.model, workload.labels
    return transformers.Trainer(
        model_init=lambda: transformers.AutoModelForSequenceClassification.from_pretrained(model, num_labels=labels),
        args=transformers.TrainingArguments(
            **{
                "output_dir": str(folder / "trials"),
                "eval_strategy": "epoch",
                "save_strategy": "epoch",
                "save_only_model": True,
                "save_total_limit": 1,
                "load_best_model_at_end": True,
                "metric_for_best_model": "eval_loss",
                "greater_is_better": False,
                "per_device_eval_batch_size": 64,
                "disable_tqdm": True,
                "seed": workload.seed,
                **workload.fixed,
                **arguments,
            }
        ),
        train_dataset=tokens["train"],
        eval_dataset=tokens["validation"],
        processing_class=tokenizer,
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
        compute_metrics=accuracy,
        callbacks=[Diary(folder, len(tokens["train"]))],
    )


def accuracy(prediction: Any) -> dict[str, float]:
    """Score an evaluation."""
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def best_checkpoint(trial: Path) -> Path:
    """Return the checkpoint of a trial's best evaluation."""
    state = json.loads((last_checkpoint(trial) / "trainer_state.json").read_text(encoding="utf-8"))
    return Path(state["best_model_checkpoint"])


def main() -> None:
    """Search and ship."""
    workload, folder = given()
    grouped = {"train_sampling_strategy": "group_by_length"} if "--grouped" in sys.argv else {}
    best = trainer_for(workload, folder, **grouped).hyperparameter_search(
        hp_space=lambda trial: suggested(workload, trial),
        compute_objective=lambda metrics: metrics["eval_loss"],
        direction="minimize",
        backend="optuna",
        n_trials=workload.trials,
        sampler=optuna.samplers.TPESampler(seed=workload.seed),
    )
    (folder / "parameters.json").write_text(json.dumps(best.hyperparameters), encoding="utf-8")
    ship(folder, best_checkpoint(folder / "trials" / f"run-{best.run_id}"))


if __name__ == "__main__":
    main()
