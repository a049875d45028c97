"""T: the tutorial recipe inside the stock search: texts padded to ``max_length``, a checkpoint for every epoch.

    python -m benchmarks.peers.tutorial WORKLOAD.json FOLDER

What the library's own pages on text classification and on hyperparameter search say, put together. They let every
checkpoint stand; the winner is the last one of the best trial's folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import optuna
import transformers
from benchmarks.peers.given import Diary, given, ship, suggested


def main() -> None:
    """Search and ship."""
    workload, folder = given()
    rows = datasets.load_dataset("csv", data_files={"train": workload.train, "validation": workload.validation})
    tokenizer = transformers.AutoTokenizer.from_pretrained(workload.model)

    def tokenize(batch: Any) -> Any:
        return tokenizer(batch["text"], padding="max_length", truncation=True, max_length=workload.max_length)

    def model_init() -> Any:
        return transformers.AutoModelForSequenceClassification.from_pretrained(
            workload.model, num_labels=workload.labels
        )

    def compute_metrics(prediction: Any) -> dict[str, float]:
        guessed = np.argmax(prediction.predictions, axis=-1)
        return {"accuracy": float((guessed == prediction.label_ids).mean())}

    tokens = rows.map(tokenize, batched=True)
    trainer = transformers.Trainer(
        model_init=model_init,
        args=transformers.TrainingArguments(
            output_dir=str(folder / "trials"),
            eval_strategy="epoch",
            save_strategy="epoch",
            per_device_eval_batch_size=16,
            seed=workload.seed,
            **workload.fixed,
        ),
        train_dataset=tokens["train"],
        eval_dataset=tokens["validation"],
        processing_class=tokenizer,
        compute_metrics=compute_metrics,
        callbacks=[Diary(folder, len(tokens["train"]))],
    )
    best = trainer.hyperparameter_search(
        hp_space=lambda trial: suggested(workload, trial),
        compute_objective=lambda metrics: metrics["eval_loss"],
        direction="minimize",
        backend="optuna",
        n_trials=workload.trials,
        sampler=optuna.samplers.TPESampler(seed=workload.seed),
    )
    ship(folder, last_checkpoint(folder / "trials" / f"run-{best.run_id}"))


def last_checkpoint(trial: Path) -> Path:
    """Return a trial's checkpoint with the most steps."""
    return max(trial.glob("checkpoint-*"), key=lambda found: int(found.name.rpartition("-")[2]))


if __name__ == "__main__":
    main()
