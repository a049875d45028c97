"""The Trainer's own part of the loop: what is called when, what evaluations leave alone, how training goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.torch

ROWS, STEPS = 24, 6


class Stopped(Exception):
    """Training is to end here."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Any]:
    """Make a Trainer of a BERT with four numbers a token, for six steps of four rows."""
    import datasets
    import numpy as np
    import transformers

    from finesweep.training.batching import Padding, TokenRows
    from finesweep.training.trainer import FineTuner

    tokens = [[number % 7 + 1, number % 5 + 1, number % 3 + 1][: number % 3 + 1] for number in range(ROWS)]
    rows = datasets.Dataset.from_dict(
        {
            "input_ids": tokens,
            "attention_mask": [[1] * len(one) for one in tokens],
            "labels": [number % 2 for number in range(ROWS)],
        }
    )

    class Tokenizer:
        pad_token_id, pad_token_type_id, padding_side = 0, 0, "right"

    def made(callbacks: Any = (), **arguments: Any) -> FineTuner:
        transformers.set_seed(0)
        sizes = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 4}
        config = transformers.BertConfig(vocab_size=8, max_position_embeddings=8, num_labels=2, **sizes)
        given = {
            "output_dir": str(tmp_path),
            "use_cpu": True,
            "per_device_train_batch_size": 4,
            "max_steps": STEPS,
            "learning_rate": 1e-2,
            "logging_steps": 2,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "label_names": ["labels"],
            "train_sampling_strategy": "group_by_length",
            "data_seed": 0,
            "dataloader_pin_memory": False,
            **arguments,
        }
        return FineTuner(
            validation=rows.select(range(8)),
            row_scores=lambda logits, _: {"eval_loss": np.abs(logits).mean(axis=1)},
            model=transformers.BertForSequenceClassification(config),
            args=transformers.TrainingArguments(**given),
            train_dataset=TokenRows(rows),
            eval_dataset=rows.select(range(4)),
            data_collator=Padding(Tokenizer(), np.asarray, 1, 8),
            compute_metrics=lambda found: {"loss": float(np.abs(found.predictions).mean())},
            callbacks=list(callbacks),
        )

    return made


def weights(trainer: Any) -> list[float]:
    return [float(tensor.double().sum()) for tensor in trainer.model.state_dict().values()]


def test_after_step_comes_before_the_first_step_and_after_all_that_belongs_to_one(make, tmp_path: Path) -> None:
    import transformers

    class Listener(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_evaluate = state.global_step == 4

        def on_log(self, args: Any, state: Any, control: Any, logs: Any, **_: Any) -> None:
            happened.append(f"logs {'loss' if 'loss' in logs else 'scores'} {state.global_step}")

        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            happened.append(f"evaluates {state.global_step}")

    happened: list[str] = []
    trainer = make([Listener()], logging_steps=4, max_steps=4)
    trainer.fine_tune(tmp_path, lambda: happened.append(f"after {trainer.state.global_step}"))
    first_end = happened.index("evaluates 4")
    assert happened[:first_end] == ["after 0", "after 1", "after 2", "after 3", "logs loss 4", "logs scores 4"]
    assert happened[first_end + 1] == "after 4"


@pytest.mark.parametrize(("ends", "steps"), [(False, 2), (True, 0)])
def test_an_evaluation_that_a_callback_asks_for_comes_before_the_first_step(make, tmp_path, ends, steps) -> None:
    import transformers

    class Asks(transformers.TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_evaluate = True

        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            happened.append(f"evaluates {state.global_step}")
            control.should_training_stop = ends

    happened: list[str] = []
    trainer = make(max_steps=2)
    trainer.add_callback(Asks())
    trainer.fine_tune(tmp_path, lambda: happened.append("after"))
    assert happened[:3] == ["after", "evaluates 0", "after"]
    assert trainer.state.global_step == steps, "an evaluation that ends training is followed by no step"


def test_scores_of_any_rows_are_logged_and_no_callback_takes_them_for_an_evaluation(make) -> None:
    import transformers

    class Refuses(transformers.TrainerCallback):  # type: ignore[misc]
        def on_evaluate(self, *_: Any, **__: Any) -> None:
            raise AssertionError("no evaluation of the loop")

    trainer = make([Refuses()])
    found = trainer.scores(trainer.validation)
    assert trainer.state.log_history[-1]["eval_loss"] == found["eval_loss"]


def test_an_evaluation_draws_no_random_number(make) -> None:
    import torch

    trainer = make()
    before = torch.random.get_rng_state()
    trainer.evaluate()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_labels_are_smoothed_in_training_only(make) -> None:
    plain, smoothed = make(), make(label_smoothing_factor=0.5)
    batch = plain.data_collator([plain.train_dataset[0], plain.train_dataset[1]])
    losses = {}
    for trains in (True, False):
        for name, trainer in (("plain", plain), ("smoothed", smoothed)):
            trainer.model.train(trains)
            trainer.model.config.hidden_dropout_prob = 0.0
            for module in trainer.model.modules():
                if type(module).__name__ == "Dropout":
                    module.p = 0.0
            losses[name, trains] = float(trainer.compute_loss(trainer.model, dict(batch)).detach())
    assert losses["plain", False] == losses["smoothed", False]
    assert losses["plain", True] != losses["smoothed", True]
    assert smoothed.label_smoother is not None, "it is put back"


@pytest.mark.parametrize(
    ("order", "steps", "stop"),
    [
        *(("group_by_length", STEPS, stop) for stop in (1, 3, 5, 6)),
        ("random", STEPS + 2, STEPS + 1),
    ],
)
def test_training_goes_on_from_a_memory_to_the_same_weights(make, tmp_path, order, steps, stop) -> None:
    """The order of rows follows from seed and epoch alone, whatever was drawn in the second process."""
    import torch

    arguments = {"train_sampling_strategy": order, "max_steps": steps}
    whole = make(**arguments)
    whole.fine_tune(tmp_path)

    def stop_there() -> None:
        if first.state.global_step == stop:
            raise Stopped("here")

    first = make(**arguments)
    with pytest.raises(Stopped, match=r"^here$"):
        first.fine_tune(tmp_path, stop_there)
    memory = first.memory()
    second = make(**arguments)
    torch.manual_seed(99)
    second.remember(memory)
    second.fine_tune(tmp_path)
    assert weights(second) == weights(whole)
    losses = [[entry["loss"] for entry in one.state.log_history if "loss" in entry] for one in (whole, second)]
    assert losses[0] == losses[1], "also the loss that was added up and not yet logged"


def test_what_was_loaded_is_not_held_while_training_goes_on(make, tmp_path: Path) -> None:
    first = make(max_steps=2)
    first.fine_tune(tmp_path)
    second = make(max_steps=4)
    second.remember(first.memory())
    held: list[int] = []
    second.fine_tune(tmp_path, lambda: held.append(len(second._memory.weights) + len(second._memory.optimizer)))
    assert set(held) == {0}
