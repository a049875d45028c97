"""Measures how far the value that a sweep shows for its winner is from the winner's loss on rows that it never saw.

Each draw of rows is one real sweep with ``confirm``, through the command line. Two values are compared with the loss on
fresh rows:

* stock: the eval_loss of the search's best trial, from one seed, against the loss of that trial's weights. This is what
  ``Trainer.hyperparameter_search`` reports for the same trials, so it is read from the search, before its confirmation.
* confirmed: the mean over seeds of the confirmed winner, against the mean loss of the models of just these seeds. The
  exported model, the best of these seeds by validation, stands beside it: it is what a user gets, but the mean is no
  estimate of it.

A confirmation keeps the weights of each candidate's best seed alone. So this module trains the others again, in its own
process, and checks that each reaches the value of its record. Trials that were not confirmed are trained on the first
two of these seeds too. Then each gap can be split into what all models have in common (the draw of the validation rows,
and the choice of each model's epoch on them) and what the choice of the configuration and of the seed adds, and the
trial with the lowest mean over seeds is known.

Validation rows and fresh rows come from rows that no recorded curve (``curves/``) was trained or evaluated on.

    python -m benchmarks.confirmed_gap --data sst2_train.csv --unseen sst2_test.csv --folder results/gap --sweeps 20

The first file is the one that the curves were recorded on, the second one they never saw. After a stop the same command
continues.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from benchmarks import texts
from benchmarks.gaps import Model, Sweep, lines

ROWS = {"train": 2_000, "validation": 180}
"""Rows of each sweep; the fresh rows are all others that no curve saw."""

RECORDED = ((4_000, 3), (1_000, 2))
"""Rows and number of seeds of the recorded curves on real texts, seeds from 0; see ``curves/README.md``."""

SPEC: Mapping[str, Any] = {
    "model": {
        "config": "bert",
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
    },
    "data": {"train": "train.csv", "validation": "validation.csv", "max_length": 64},
    "budget": {"trials": 8},
    "confirm": {"top": 3, "seeds": 3},
    "space": {
        "learning_rate": {"low": 1.5e-3, "high": 4e-3, "log": True},
        "num_train_epochs": {"low": 3, "high": 4},
        "lr_scheduler_type": {"choices": ["linear", "cosine"]},
    },
    "fixed": {"per_device_train_batch_size": 32, "weight_decay": 0.01, "warmup_steps": 0.1},
}
"""The sweep; without a pruner, as the stock call, and so that each trial has a value."""

PROFILE = {"launcher": "local", "workers": 1, "threads_per_worker": 1, "keep_best": SPEC["budget"]["trials"]}

SAME = 1e-4
"""Relative difference between two evaluations of the same weights."""

BATCH = 128

Pool = tuple[Sequence[texts.Row], Sequence[texts.Row]]
"""The rows to train on, and those to evaluate on."""


def unseen_rows(data: Path, unseen: Path) -> Pool:
    """Return the rows to train on, and those that no recorded curve was trained or evaluated on; both by text, once.

    Args:
        data: The training rows of the curves; what they did not draw of them is unseen too.
        unseen: Rows that they did not use.
    """
    from finesweep.data import loader
    from finesweep.registry import TASKS
    from finesweep.spec import yaml_source
    from finesweep.spec.sections import DataSpec

    task, source = TASKS.load("text-classification")(), yaml_source.parse("data: {}", "recorded")
    seen = set[str]()
    for rows, seeds in RECORDED:
        spec = DataSpec(train=data.name, validation=str(unseen.resolve()), max_train_rows=rows)
        for seed in range(seeds):
            found = loader.load(spec, task, base=data.resolve().parent, seed=seed, source=source)
            seen |= set(found.frames["train"]["text"])
    every = {text: int(label) for file in (data, unseen) for text, label in texts.read(file, "text", "label")}
    used = {text for text, _ in texts.read(data, "text", "label")} & seen
    train = [(text, label) for text, label in every.items() if text in used]
    return train, [(text, label) for text, label in every.items() if text not in used]


def carry_out(pool: Pool, draw: int, folder: Path) -> None:
    """Draw rows, and run a sweep with its confirmation on them, or the rest of it.

    Args:
        pool: The rows to train on, and those to evaluate on.
        draw: Number of the draw, and seed of the sweep.
        folder: Where everything is written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    source = random.Random(draw)
    others = source.sample(pool[1], len(pool[1]))
    parts = {"train": source.sample(pool[0], ROWS["train"]), "validation": others[: ROWS["validation"]]}
    for name, rows in {**parts, "fresh": others[ROWS["validation"] :]}.items():
        texts.write(rows, folder / f"{name}.csv")
    spec = {**SPEC, "search": {"sampler": "tpe", "pruner": "none", "seed": draw}}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    (folder / "profile.yaml").write_text(yaml.safe_dump(PROFILE), encoding="utf-8")
    command = [sys.executable, "-m", "finesweep", "run", "sweep.yaml", "--on", "profile.yaml", "--name", "sweep"]
    subprocess.run([*command, "--results", "."], check=True, cwd=folder)


def judged(draw: int, folder: Path) -> Sweep:
    """Evaluate the models of a sweep on its fresh rows.

    Args:
        draw: Number of the draw.
        folder: Where the sweep was carried out.

    Raises:
        ValueError: There is no confirmed winner, or a model is not what its record says.
    """
    from finesweep.folder import SweepFolder
    from finesweep.results.board import read_board
    from finesweep.results.ranking import ranked

    sweep = SweepFolder(folder / "sweep")
    board = read_board(sweep)
    best = board.confirmation.best if board.confirmation else None
    if best is None or best.mean is None or best.best is None or board.standing is None:
        raise ValueError(f"draw {draw}: the sweep has no confirmed winner")
    records = ranked(board.records, board.manifest.spec.direction)
    validation, fresh = (texts.read(folder / f"{name}.csv", "text", "label") for name in ("validation", "fresh"))
    judge = Judge(validation, fresh)
    search = [judge.saved(one.trial, sweep.checkpoint(one.trial), one.objective) for one in records]
    exported = judge.saved(best.trial, sweep.winner, best.best.objective)
    again = on_fresh_seeds(sweep, [(one.trial, one.params) for one in records], judge)
    return Sweep(draw, len(fresh), search, again, board.standing.tied, best.trial, best.mean, exported)


@dataclass(frozen=True)
class Judge:
    """Evaluates models on validation rows and on fresh rows.

    Attributes:
        validation: The validation rows.
        fresh: The fresh rows.
    """

    validation: Sequence[tuple[str, Any]]
    fresh: Sequence[tuple[str, Any]]

    def saved(self, trial: int, folder: Path, expected: float | None) -> Model:
        """Return a saved model; raise ValueError if it is not what its record says."""
        import transformers

        model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
        return self.judged(trial, model, transformers.AutoTokenizer.from_pretrained(folder), expected)

    def judged(self, trial: int, model: Any, tokenizer: Any, expected: float | None) -> Model:
        """Return a model's losses; raise ValueError if it is not what its record says."""
        shown = mean_loss(model, tokenizer, self.validation)
        if expected is not None and not math.isclose(shown, expected, rel_tol=SAME):
            raise ValueError(f"trial {trial}: eval_loss {shown}, and its record says {expected}")
        return Model(trial, shown, mean_loss(model, tokenizer, self.fresh))


def mean_loss(model: Any, tokenizer: Any, rows: Sequence[tuple[str, Any]]) -> float:
    """Return the mean cross-entropy over rows."""
    import torch

    ordered, total = sorted(rows, key=lambda row: len(row[0])), 0.0
    model.eval()
    for start in range(0, len(ordered), BATCH):
        batch = ordered[start : start + BATCH]
        length = SPEC["data"]["max_length"]
        tokens = tokenizer(
            [text for text, _ in batch], padding=True, truncation=True, max_length=length, return_tensors="pt"
        )
        labels = torch.tensor([int(label) for _, label in batch])
        with torch.no_grad():
            logits = model(**tokens).logits
        total += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
    return total / len(rows)


def on_fresh_seeds(folder: Any, trials: Sequence[tuple[int, Any]], judge: Judge) -> list[Model]:
    """Return the models of trials on the fresh seeds of the confirmation, the first seed of each first.

    Those of which the confirmation kept no weights are trained again, by the sweep's own training. A trial that was not
    confirmed gets as many seeds as each candidate gets at least.

    Raises:
        ValueError: A model does not reach the value that it has in the confirmation.
    """
    from finesweep.pruning.seed_race import FIRST_SEEDS
    from finesweep.results.ranking import ranks
    from finesweep.sweep.confirmation import fresh_seed

    confirmation = folder.confirmation
    manifest = confirmation.manifest()
    ended = {
        (repeat.trial, repeat.seed): record
        for number, repeat in enumerate(manifest.repeats)
        if (record := confirmation.read_record(number)) is not None and ranks(record)
    }
    confirmed, found = {trial for trial, _ in ended}, []
    for trial, params in trials:
        for number in range(SPEC["confirm"]["seeds"]):
            seed = fresh_seed(manifest.spec.search.seed, number)
            record = ended.get((trial, seed))
            if record is not None and (weights := confirmation.checkpoint(record.trial)).is_dir():
                found.append(judge.saved(trial, weights, record.objective))
            elif record is not None or (trial not in confirmed and number < FIRST_SEEDS):
                model = trained(confirmation, manifest, params, seed)
                found.append(judge.judged(trial, *model, record.objective if record else None))
    return found


def trained(folder: Any, manifest: Any, params: Any, seed: int) -> tuple[Any, Any]:
    """Train a model as a sweep does; return it, with the weights of its best evaluation, and its tokenizer."""
    import torch

    from finesweep.training.callback import TrialContext, TrialWatch
    from finesweep.training.fine_tuning import FineTuning

    torch.set_num_threads(PROFILE["threads_per_worker"])
    context = TrialContext(folder, manifest, manifest.spec, params, own_seed=seed)
    with tempfile.TemporaryDirectory() as scratch:
        tuning = FineTuning(context, Path(scratch), TrialWatch(manifest.spec.direction), lambda _: None, lambda _: None)
        tuning.train()
    return tuning.trainer.model, tuning.trainer.processing_class


def main() -> None:
    """Run the sweeps, or the rest of them, and print each and all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="rows that curves were recorded on, CSV")
    parser.add_argument("--unseen", type=Path, required=True, help="rows that they did not use, CSV")
    parser.add_argument("--folder", type=Path, required=True, help="where the results are written")
    parser.add_argument("--sweeps", type=int, default=20)
    asked = parser.parse_args()
    pool, sweeps = unseen_rows(asked.data, asked.unseen), []
    folders = {draw: asked.folder / f"{draw:02}" for draw in range(asked.sweeps)}
    for draw, folder in folders.items():
        if not (folder / "sweep" / "winner").is_dir():
            carry_out(pool, draw, folder)
    for draw, folder in folders.items():
        file = folder / "judged.json"
        if not file.is_file():
            found = judged(draw, folder)
            file.write_text(json.dumps(found.to_json(), indent=1), encoding="utf-8")
        sweeps.append(Sweep.from_json(json.loads(file.read_text(encoding="utf-8"))))
    for line in lines(sweeps):
        print(line)  # noqa: T201


if __name__ == "__main__":
    main()
