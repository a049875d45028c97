"""How rows become batches: grouped by length, in the same order whatever happened before, padded as stock pads."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from lab import Lab
from torch.utils.data import RandomSampler, SequentialSampler

from finesweep.folder.sweep_folder import SweepFolder
from finesweep.tasks.multi_label_classification import MultiLabelClassification
from finesweep.tasks.text_classification import TextClassification
from finesweep.tasks.text_regression import TextRegression
from finesweep.training import batching
from finesweep.training.batching import (
    GroupedByLength,
    Padding,
    TokenRows,
    evaluation_order,
    grouped,
    lengths_tell_labels,
)
from finesweep.training.fine_tuning import build_trainer
from finesweep.training.tokens import _tokens

lengths_of = st.lists(st.integers(1, 60), min_size=1, max_size=300).map(np.array)
batches = st.integers(1, 40)
CLASSIFY, REGRESS = TextClassification(), TextRegression()
seeds = st.integers(0, 5)


@given(lengths_of, batches, seeds, st.integers(0, 3))
def test_an_epoch_has_every_row_once_and_the_longest_first(lengths, batch, seed, epoch):
    order = grouped(lengths, batch, seed, epoch)
    assert sorted(order) == list(range(len(lengths)))
    assert lengths[order[0]] == max(lengths)


@given(lengths_of, batches, seeds)
def test_in_a_batch_the_longest_come_first(lengths, batch, seed):
    """So the largest of the smaller batches, of which a step may consist, is the first one too."""
    order = lengths[grouped(lengths, batch, seed, 0)]
    assert all(list(part) == sorted(part, reverse=True) for part in np.split(order, range(batch, len(order), batch)))


@given(lengths_of, batches, seeds, st.integers(0, 3))
def test_the_order_follows_from_seed_and_epoch_whatever_was_drawn(lengths, batch, seed, epoch):
    before = grouped(lengths, batch, seed, epoch)
    torch.rand(3), np.random.rand(3)
    assert np.array_equal(grouped(lengths, batch, seed, epoch), before)


def test_every_epoch_and_every_seed_has_an_order_of_its_own():
    lengths = np.random.default_rng(0).integers(1, 60, 400)
    orders = {(seed, epoch): tuple(grouped(lengths, 8, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(set(orders.values())) == 9
    # Not only the order of the batches differs, but which rows meet in one.
    met = [{frozenset(order[start : start + 8]) for start in range(0, 400, 8)} for order in orders.values()]
    assert all(len(one & other) < 5 for one, other in itertools.combinations(met, 2))


def padded(lengths: np.ndarray, order: Any, batch: int) -> int:
    """Count what a model is given, padding included."""
    widths = lengths[np.asarray(order)]
    return sum(len(part) * part.max() for part in np.split(widths, range(batch, len(widths), batch)))


@pytest.mark.parametrize("batch", [8, 16, 32])
def test_little_is_padded(batch):
    """Lengths spread like those of review sentences; shuffled, they are padded to about twice as much."""
    lengths = np.random.default_rng(0).lognormal(3, 0.6, 4000).astype(int) + 2
    shuffled = padded(lengths, np.random.default_rng(1).permutation(len(lengths)), batch)
    assert shuffled > 1.6 * lengths.sum()
    assert padded(lengths, grouped(lengths, batch, 0, 0), batch) < 1.12 * lengths.sum()
    assert padded(lengths, evaluation_order(lengths), batch) < 1.06 * lengths.sum()


@pytest.mark.parametrize("params", [{}, {"gradient_accumulation_steps": 3}])
def test_a_halved_trial_takes_its_steps_on_the_same_rows(lab, params):
    """The order is that of whole optimizer steps, not of the smaller batches that make them up."""
    context = lab.context({"per_device_train_batch_size": 16, **params})
    whole, halved = (
        build_trainer(one, lab.scratch) for one in (context, dataclasses.replace(context, batch_divisor=4))
    )
    assert halved.args.per_device_train_batch_size == 4
    first, second = (list(trainer.get_train_dataloader().batch_sampler.sampler) for trainer in (whole, halved))
    assert first == second


@pytest.mark.parametrize(
    ("strategy", "kind"),
    [(None, GroupedByLength), ("random", RandomSampler), ("sequential", SequentialSampler)],
)
def test_a_switch_restores_plain_shuffling(lab, strategy, kind):
    trainer = lab.build({"train_sampling_strategy": strategy} if strategy else {})
    assert isinstance(trainer.get_train_dataloader().batch_sampler.sampler, kind)


def test_the_loader_gives_every_epoch_its_order(lab):
    trainer = lab.build({"per_device_train_batch_size": 16})
    loader, rows = trainer.get_train_dataloader(), trainer.train_dataset
    for epoch in (0, 1, 5):
        loader.set_epoch(epoch)
        order = grouped(rows.lengths, 16, trainer.args.data_seed, epoch)
        first = next(iter(loader))["input_ids"]
        expected = trainer.data_collator([rows[row] for row in order[:16]])["input_ids"]
        assert torch.equal(first, expected)


def test_an_evaluation_in_groups_comes_to_the_same(lab, monkeypatch):
    """Other rows meet in a batch, so that sums are rounded otherwise: single precision has seven digits."""
    grouped_metrics = lab.build({"bf16": False, "per_device_eval_batch_size": 7}).evaluate()
    monkeypatch.setattr("finesweep.training.evaluation.evaluation_order", lambda lengths: list(range(len(lengths))))
    plain = lab.build({"bf16": False, "per_device_eval_batch_size": 7}).evaluate()
    assert grouped_metrics["eval_loss"] == pytest.approx(plain["eval_loss"], rel=1e-5)
    assert grouped_metrics["eval_accuracy"] == plain["eval_accuracy"]


def test_texts_of_words_that_the_tokenizer_does_not_know_are_counted_and_said(lab, tmp_path):
    tokenizer = lab.build({}).processing_class
    frame = pd.DataFrame({"text": ["the plot is moving", "電影 很 好看", "電影 is 很"], "label": [0, 1, 1]})
    _, counts = _tokens(tokenizer, "train", frame, 24)
    assert counts["unknown"] == 2
    folder = SweepFolder(tmp_path)
    folder.tokens(24).mkdir(parents=True)
    (folder.tokens(24) / "counts.json").write_text(json.dumps({"train": counts}))
    assert folder.text_notes(24) == ["2 of 3 train texts are mostly words that the tokenizer does not know"]


def test_rows_are_read_where_they_lie(lab):
    """A copy of all tokens for each trial would cost memory and time."""
    row = lab.build({}).train_dataset[3]["input_ids"]
    assert not row.flags.owndata
    assert not row.flags.writeable


rows_of_tokens = st.lists(st.lists(st.integers(1, 300), min_size=1, max_size=12), min_size=1, max_size=20)


@settings(max_examples=20, deadline=None)
@given(rows_of_tokens, st.integers(1, 5), st.data())
def test_rows_are_those_of_the_table(tmp_path_factory, tokens, chunk, data):
    """Whatever chunks they lie in, all of them or a choice."""
    labels = [float(len(row)) for row in tokens]
    parts = [slice(start, start + chunk) for start in range(0, len(tokens), chunk)]
    table = datasets.concatenate_datasets(
        [datasets.Dataset.from_dict({"input_ids": tokens[part], "labels": labels[part]}) for part in parts]
    )
    chosen = data.draw(st.lists(st.integers(0, len(tokens) - 1), min_size=1, max_size=20))
    for some, expected in ((table, range(len(tokens))), (table.select(chosen), chosen)):
        rows = TokenRows(some)
        assert [list(rows[row]["input_ids"]) for row in range(len(rows))] == [tokens[row] for row in expected]
        assert [rows[row]["labels"] for row in range(len(rows))] == [labels[row] for row in expected]
        assert list(rows.lengths) == [len(tokens[row]) for row in expected]


def test_no_rows_are_no_rows():
    rows = TokenRows(datasets.Dataset.from_dict({"input_ids": [[1]], "labels": [0]}).select([]))
    assert len(rows) == len(rows.lengths) == 0


@pytest.fixture(scope="module")
def tokenizer(lab: Lab) -> Any:
    return transformers.AutoTokenizer.from_pretrained(lab.sweep_folder.model)


@pytest.mark.filterwarnings("ignore:.*fast tokenizer.*")
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(("task", "label"), [(CLASSIFY, 1), (REGRESS, 0.25)])
def test_a_batch_is_what_stock_pads(tokenizer, monkeypatch, side, task, label):
    collate = functools.partial(task.collate, names=None)
    monkeypatch.setattr(tokenizer, "padding_side", side)
    rows = [
        {"input_ids": [5] * n, "attention_mask": [1] * n, "token_type_ids": [1] * n, "labels": n * label}
        for n in (3, 1, 9, 4)
    ]
    for multiple in (1, 8):
        ours = Padding(tokenizer, collate, multiple)(
            [{name: np.asarray(value) for name, value in row.items()} for row in rows]
        )
        stock = transformers.DataCollatorWithPadding(tokenizer, pad_to_multiple_of=multiple)(rows)
        assert ours.keys() == stock.keys()
        assert all(torch.equal(ours[name], stock[name]) and ours[name].dtype == stock[name].dtype for name in ours)


@pytest.mark.parametrize("cells", [[[], []], [[0, 2], []]])
def test_rows_that_keep_several_labels_become_a_batch_of_flags(tokenizer, cells):
    labels = [np.array(ids, dtype=np.int64 if any(cells) else object) for ids in cells]  # as Parquet gives them
    frame = pd.DataFrame({"text": ["witty", "dull and long"], "label": labels})
    rows = TokenRows(_tokens(tokenizer, "train", frame, 24)[0])
    assert [list(ids) for ids in rows.column("labels")] == cells
    collate = functools.partial(MultiLabelClassification().collate, names=["a", "b", "c"])
    batch = Padding(tokenizer, collate)([rows[0], rows[1]])
    assert batch["labels"].tolist() == [[float(label in ids) for label in range(3)] for ids in cells]
    assert batch["labels"].dtype == torch.float32
    assert batch["input_ids"].shape[0] == 2


@pytest.mark.parametrize(("longest", "width"), [(3, 8), (8, 8), (9, 12), (12, 12), (15, 15)])
def test_rounding_a_width_up_never_passes_what_the_model_takes(tokenizer, longest, width):
    batch = Padding(tokenizer, np.asarray, multiple=8, widest=12)([{"input_ids": [5] * longest}])
    assert batch["input_ids"].shape == (1, width)


def test_no_step_counts_operations(lab, monkeypatch, tmp_path: Path):
    """Stock walks through all parameters for every batch to count what nobody reads."""
    trainer = lab.build({"num_train_epochs": 1})
    monkeypatch.setattr(trainer.model, "num_parameters", lambda **_: pytest.fail("counted"))
    trainer.args.max_steps = 2
    trainer.fine_tune(tmp_path)
    assert trainer.state.global_step == 2


@pytest.mark.parametrize(
    ("task", "lengths", "labels", "tell"),
    [
        (CLASSIFY, [5, 6, 7, 8] * 50, [0, 1, 1, 0] * 50, False),
        (CLASSIFY, [5, 6, 25, 26] * 50, [0, 0, 1, 1] * 50, True),
        (REGRESS, [5, 6, 7, 8] * 50, [0.5, 0.6, 0.7, 0.8] * 50, True),
        (REGRESS, [5, 6, 7, 8] * 50, [0.8, 0.1, 0.3, 0.7] * 50, False),
        (CLASSIFY, [5] * 200, [0, 1] * 100, False),
        (CLASSIFY, [5, 6, 7, 8] * 50, [1] * 200, False),
        (REGRESS, [5, 6, 7, 8] * 50, [0.5] * 200, False),
        (CLASSIFY, [5], [1], False),
    ],
)
def test_whether_a_rows_length_tells_its_label(task, lengths, labels, tell):
    assert bool(lengths_tell_labels(np.array(lengths), np.array(labels), task)) is tell


def test_rows_are_shuffled_plainly_where_batches_of_one_length_would_be_batches_of_one_label(lab, monkeypatch):
    watch = lab.train({"max_steps": 1})
    assert watch.settled["train_sampling_strategy"] == "group_by_length"
    monkeypatch.setattr(batching, "TELLING", -1.0)
    assert lab.train({"max_steps": 1}).settled["train_sampling_strategy"] == "random"
    asked = lab.train({"max_steps": 1, "train_sampling_strategy": "group_by_length"})
    assert asked.settled["train_sampling_strategy"] == "group_by_length"
