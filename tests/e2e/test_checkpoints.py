"""A sweep that goes on from a model which is a classifier already."""

from __future__ import annotations

import pytest

import tiny

SPEC = """\
model: ./model
data: {train: train.csv, validation: validation.csv, max_length: 24}
objective: {metric: eval_accuracy}
budget: {trials: 1}
search: {pruner: none, baseline: false}
space: {weight_decay: {low: 0.01, high: 0.02}}
fixed: {learning_rate: 1.0e-12, num_train_epochs: 1}
"""


@pytest.mark.slow
def test_a_head_in_another_order_keeps_its_meaning_from_the_screen_to_the_winner(project):
    import transformers

    order, rows = ("good", "bad"), tiny.review_rows(60, seed=2)
    folder = tiny.tiny_classifier(project.path / "model", order)
    classify = transformers.pipeline("text-classification", str(folder))
    answers = [answer["label"] for answer in classify([text for text, _ in rows])]
    assert len(set(answers)) == 2, "the rows tell the labels apart"
    # The checkpoint is right about three of four rows, as far as the rows tell.
    named = [(text, answers[n] if n % 4 else order[answers[n] == order[0]]) for n, (text, _) in enumerate(rows)]
    tiny.write_csv(project.path / "validation.csv", named)
    tiny.write_csv(
        project.path / "train.csv", [(text, ("bad", "good")[label]) for text, label in tiny.review_rows(40, 3)]
    )
    project.write("spec.yaml", SPEC)
    out, _ = project.sweep("run", "spec.yaml")
    assert "in another order (good, bad), and its rows are put into the data's order" in " ".join(out.split())
    (record,) = project.records()
    assert record["metrics"]["eval_accuracy"] == 0.75
    winner, kept = project.results() / "winner", project.results() / "checkpoints/trial-0000"
    # The weights are stored once; the other files may be edited.
    assert [(winner / name).samefile(kept / name) for name in ("model.safetensors", "config.json")] == [True, False]
    assert transformers.AutoConfig.from_pretrained(winner).id2label == {0: "bad", 1: "good"}
    again = transformers.pipeline("text-classification", str(winner))([text for text, _ in rows])
    assert [answer["label"] for answer in again] == answers
    assert "its rows are put into the data's order" in (winner / "README.md").read_text()
