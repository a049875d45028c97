"""The winner's proof shares nothing with the evaluation that ranked it, so that it finds what that gets wrong."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256

import pandas as pd
import pytest
from lab import Lab
from transformers import pipeline

from finesweep.errors import WinnerMismatch
from finesweep.files import as_kind
from finesweep.folder import checked_files
from finesweep.folder.openings import openings
from finesweep.folder.sweep_folder import SweepFolder
from finesweep.results import kept_weights
from finesweep.results.winner import Evidence
from finesweep.tasks.text_classification import TextClassification
from finesweep.training import evaluation
from finesweep.training.callback import TrialWatch
from finesweep.trial import Direction, TrialRecord, TrialState
from finesweep.worker import prove_winner


@pytest.fixture
def ranked(lab, tmp_path):
    """Train a trial and keep it in a copy of the sweep's folder; returns what proves it or finds differences."""
    sweep_folder = SweepFolder(shutil.copytree(lab.sweep_folder.path, tmp_path / "results"))
    copy = Lab(sweep_folder, lab.manifest, lab.spec, lab.scratch)

    def train(params):
        context, watch = (
            copy.context({"num_train_epochs": 4, "learning_rate": 5e-3, **params}),
            TrialWatch(Direction.MINIMIZE),
        )
        kept_weights.save(sweep_folder.checkpoint(0), copy.trainer_of(context, watch))
        best = watch.result
        effective = context.settings.named()
        record = TrialRecord(
            0, 1, TrialState.COMPLETE, context.params, 0.0, 1.0, "", "here", objective=best.objective,
            metrics=best.metrics, effective=effective,
        )  # fmt: skip
        file = sweep_folder.path / "trials" / "0000.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(record.to_json()))
        return record

    def prove(record):
        places = sweep_folder.path, sweep_folder.checkpoint(0), sweep_folder.record_file(0), tmp_path / "evidence.json"
        prove_winner.prove(*places, trial=0, command="run")
        found = json.loads((tmp_path / "evidence.json").read_text())
        evidence = as_kind(Evidence, {**found, "trial": 0, "metric": "eval_loss", "ranked": record.objective})
        return evidence, evidence.differences(record, TextClassification.metrics)

    return sweep_folder, train, prove


def give_test_rows(sweep_folder, manifest):
    shutil.copy(sweep_folder.data / "validation.parquet", sweep_folder.data / "test.parquet")
    checked_files.note(sweep_folder, manifest.model.folder, ())


def test_proof_agrees_with_the_evaluation(ranked):
    _, train, prove = ranked
    record = train({"dataloader_drop_last": True, "per_device_eval_batch_size": 7})
    evidence, differing = prove(record)
    assert differing == []
    assert evidence.reloaded == pytest.approx(record.metrics, rel=1e-5)
    assert (evidence.rows, evidence.same_answer) == (64, None)
    by_label = evidence.answers.by_label
    assert (by_label.keys(), sum(by_label.values())) == ({"0", "1"}, 64)
    assert min(by_label.values()) > 0
    right = sum(one.rows for one in evidence.answers.confusions if one.label == one.given)
    assert right / 64 == pytest.approx(record.metrics["eval_accuracy"])


def test_winner_cuts_long_texts_where_training_did(ranked):
    sweep_folder, train, _ = ranked
    train({"max_steps": 1})
    classify = pipeline("text-classification", str(sweep_folder.checkpoint(0)), device="cpu")
    (answer,) = classify("moving " * 5_000, truncation=True)
    assert answer["label"] in ("0", "1")
    assert classify.tokenizer.model_max_length == 24


def test_proof_finds_rows_that_the_evaluation_left_out(ranked, monkeypatch):
    _, train, prove = ranked
    order = evaluation.evaluation_order
    monkeypatch.setattr(evaluation, "evaluation_order", lambda lengths: order(lengths)[:60])
    assert "eval_loss" in prove(train({}))[1]


@pytest.mark.slow
def test_proof_finds_a_loss_that_the_evaluation_scaled(ranked, monkeypatch):
    _, train, prove = ranked
    loss = TextClassification.loss
    monkeypatch.setattr(TextClassification, "loss", lambda *args: 1.01 * loss(*args))
    assert prove(train({}))[1] == ["eval_loss"]


def test_proof_refuses_a_tokenizer_that_cuts_other_tokens(ranked):
    sweep_folder, train, prove = ranked
    record = train({"max_steps": 1})
    file = sweep_folder.checkpoint(0) / "tokenizer.json"
    content = json.loads(file.read_text())
    vocabulary = content["model"]["vocab"]
    first, last = sorted(vocabulary, key=vocabulary.get)[-2:]
    vocabulary[first], vocabulary[last] = vocabulary[last], vocabulary[first]
    file.write_text(json.dumps(content))
    frame = pd.read_parquet(sweep_folder.data / "validation.parquet")
    frame["text"] = f"{first} {last}"
    frame.to_parquet(sweep_folder.data / "validation.parquet")
    with pytest.raises(WinnerMismatch, match="does not give the tokens that the model was trained on"):
        prove(record)


def test_model_that_answers_the_same_to_every_row_is_noticed(ranked):
    _, train, prove = ranked
    evidence, differing = prove(train({"max_steps": 1, "learning_rate": 1e-9}))
    assert differing == []
    assert evidence.same_answer in ("0", "1")
    assert evidence.answers.by_label == {"0": 0, "1": 0, evidence.same_answer: 64}


def test_test_rows_are_opened_for_a_sound_winner_and_noted(ranked, lab):
    sweep_folder, train, prove = ranked
    give_test_rows(sweep_folder, lab.manifest)
    evidence, _ = prove(train({"max_steps": 1}))
    assert evidence.test == evidence.reloaded  # the same rows
    (opening,) = openings(sweep_folder)
    assert (opening.command, opening.trial) == ("run", 0)
    assert opening.rows_digest == sha256((sweep_folder.data / "test.parquet").read_bytes()).hexdigest()


def test_test_rows_stay_closed_for_a_model_that_was_not_ranked(ranked, lab):
    sweep_folder, train, prove = ranked
    give_test_rows(sweep_folder, lab.manifest)
    record = train({"max_steps": 1})
    file = sweep_folder.record_file(0)
    file.write_text(file.read_text().replace(json.dumps(record.metrics["eval_loss"]), "0.123"))
    evidence, _ = prove(record)
    assert evidence.test == {}
    assert openings(sweep_folder) == []
