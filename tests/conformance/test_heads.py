"""A checkpoint that is a classifier already keeps its head's meaning, whatever the head is made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import tiny
from finesweep.model.pretrained import load_tokenizer
from finesweep.registry import TASKS
from finesweep.spec.reader import draft
from finesweep.sweep.preflight import Checked, check
from finesweep.training.trial_model import build_model

ORDER = ("good", "fair", "bad")
NAMES = ("bad", "fair", "good")
TEXTS = [text for text, _ in tiny.review_rows(30, seed=5)]


def checked(
    project: Path, task: str = "text-classification", labels: Sequence[object] = NAMES, keep: str = ""
) -> Checked:
    for split, texts in (("train", TEXTS), ("validation", TEXTS[:12])):
        tiny.write_csv(project / f"{split}.csv", [(text, labels[n % len(labels)]) for n, text in enumerate(texts)])
    (project / "spec.yaml").write_text(
        f"model: {{name: ./model{keep}}}\ntask: {task}\n"
        "data: {train: train.csv, validation: validation.csv}\nspace: {learning_rate: {low: 1e-5, high: 5e-5}}\n"
    )
    return check(draft(project / "spec.yaml").finished())


def outputs(model: Any, folder: Path) -> torch.Tensor:
    tokenizer = load_tokenizer(folder)
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits
    return logits


def of_checkpoint(folder: Path) -> torch.Tensor:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    model.config.pad_token_id = load_tokenizer(folder).pad_token_id
    return outputs(model, folder)


def of_trial(found: Checked, folder: Path, seed: int = 0) -> torch.Tensor:
    manifest = found.manifest()
    torch.manual_seed(seed)
    task = TASKS.load(found.loaded.spec.task)()
    return outputs(build_model(manifest, task, {}, load_tokenizer(folder)), folder)


def told(found: Checked, text: str) -> bool:
    return any(text in note for note in found.notes)


@pytest.mark.parametrize("model_type", ["bert", "roberta", "distilbert", "gpt2"])
def test_rows_of_a_known_head_go_to_the_data_s_labels(tmp_path: Path, model_type: str) -> None:
    folder = tiny.tiny_classifier(tmp_path / "model", ORDER, model_type=model_type)
    found = checked(tmp_path)
    before, after = of_checkpoint(folder), of_trial(found, folder)
    torch.testing.assert_close(after, before[:, [ORDER.index(name) for name in NAMES]])
    assert [NAMES[place] for place in after.argmax(1)] == [ORDER[place] for place in before.argmax(1)]
    assert len(set(before.argmax(1).tolist())) > 1, "the texts tell the rows apart"
    assert told(found, "in another order (good, fair, bad), and its rows are put into the data's order")
    assert found.loading is not None
    assert found.loading.new == []


def test_rows_of_a_known_head_go_to_the_labels_of_several(tmp_path: Path) -> None:
    folder = tiny.tiny_classifier(tmp_path / "model", ORDER)
    found = checked(tmp_path, "multi-label-classification", ("bad", "good|fair", "", "fair"))
    before, after = of_checkpoint(folder), of_trial(found, folder)
    torch.testing.assert_close(after, before[:, [ORDER.index(name) for name in NAMES]])


@pytest.mark.parametrize(("model_type", "kept"), [("bert", 0), ("roberta", 2)])
def test_a_head_for_other_labels_is_new_and_the_same_in_all_trials(tmp_path: Path, model_type: str, kept: int) -> None:
    folder = tiny.tiny_classifier(tmp_path / "model", ("x", "y", "z"), model_type=model_type)
    found = checked(tmp_path)
    before, first, second, other = of_checkpoint(folder), *(of_trial(found, folder, seed) for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.allclose(first, other)
    assert not torch.allclose(first, before, atol=1e-2)
    assert told(found, "other labels (x, y, z) than the data's (bad, fair, good), so its last layer (classifier")
    model = build_model(found.manifest(), TASKS.load("text-classification")(), {}, load_tokenizer(folder))
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder).state_dict()
    head = [name for name in theirs if not name.startswith(model.base_model_prefix)]
    assert sum(torch.equal(theirs[name], model.state_dict()[name]) for name in head) == kept, "all but the last layer"


@pytest.mark.parametrize(
    ("outputs_there", "labels", "task", "keep", "same"),
    [
        (3, NAMES, "text-classification", ", keep_head: true", True),
        (3, NAMES, "text-classification", "", False),
        (1, (1.5, 2.5, 0.25), "text-regression", ", keep_head: true", True),
        (1, (1.5, 2.5, 0.25), "text-regression", "", False),
        (3, (1.5, 2.5, 0.25), "text-regression", "", False),
        (1, NAMES, "text-classification", "", False),
        (2, NAMES, "text-classification", "", False),
    ],
)
def test_a_head_without_names_is_new_unless_the_spec_keeps_it(
    tmp_path: Path, outputs_there: int, labels: Sequence[object], task: str, keep: str, same: bool
) -> None:
    folder = tiny.tiny_classifier(tmp_path / "model", outputs=outputs_there)
    found = checked(tmp_path, task, labels, keep)
    before, after = of_checkpoint(folder), of_trial(found, folder)
    assert (before.shape == after.shape and torch.allclose(before, after)) == same
    assert found.loading is not None
    assert found.loading.new == ([] if same else ["classifier.weight", "classifier.bias"])
    assert told(found, "head is kept as it is, by `keep_head`" if same else "its last layer (classifier) is new")


@pytest.mark.parametrize(
    ("outputs_there", "labels", "task", "message"),
    [
        (2, NAMES, "text-classification", "the checkpoint's head has 2 outputs, 3 are needed"),
        (2, (1.5, 2.5, 0.25), "text-regression", "the checkpoint's head has 2 outputs, 1 is needed"),
        (0, NAMES, "text-classification", "the checkpoint has no head, 3 are needed"),
    ],
)
def test_a_head_that_does_not_fit_is_refused_where_it_is_to_be_kept(
    tmp_path: Path, outputs_there: int, labels: Sequence[object], task: str, message: str
) -> None:
    if outputs_there:
        tiny.tiny_classifier(tmp_path / "model", outputs=outputs_there)
    else:
        tiny.tiny_model(tmp_path / "model")
    with pytest.raises(ValueError, match=rf"spec\.yaml:1 model\.keep_head: {message} \(leave keep_head out\)"):
        checked(tmp_path, task, labels, ", keep_head: true")
