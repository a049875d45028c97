"""A sweep of several labels for one text; its winner's numbers are those of transformers and scikit-learn."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

import tiny

TOPICS = {"film": ("film", "plot", "director"), "music": ("music", "dialogue"), "praise": ("moving", "witty", "warm")}


def topics(text: str) -> str:
    return "|".join(sorted(name for name, words in TOPICS.items() if any(word in text for word in words)))


@pytest.fixture(scope="module")
def swept(make_project):
    project = make_project()
    for split, rows, seed in (("train", 300, 1), ("validation", 100, 2), ("test", 60, 3)):
        cells = [(text, topics(text)) for text, _ in tiny.review_rows(rows, seed)]
        if split == "validation":  # as people leave cells
            cells = [(text, f"{cell}|{cell.split('|')[0]}|" if cell else cell) for text, cell in cells]
        tiny.write_csv(project.path / f"{split}.csv", cells)
    spec = (project.path / "spec.yaml").read_text()
    spec = spec.replace("max_length: 24}", "test: test.csv, max_length: 24}").replace("trials: 3", "trials: 2")
    spec = (
        spec.replace("{low: 2, high: 3}", "{low: 5, high: 6}")
        .replace("[16, 32]", "[8, 16]")
        .replace("5e-4, high: 5e-3", "3e-3, high: 8e-3")
    )
    project.write("spec.yaml", f"task: multi-label-classification\nobjective: {{metric: eval_micro_f1}}\n{spec}")
    out, _ = project.sweep("run", "spec.yaml")
    return project, out


def truth(project, split: str, names: list[str]) -> np.ndarray:
    with (project.path / f"{split}.csv").open(newline="") as stream:
        cells = [set(filter(None, row["label"].split("|"))) for row in csv.DictReader(stream)]
    return np.array([[name in cell for name in names] for cell in cells])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("split", ["validation", "test"])
def test_winner_of_several_labels_scores_what_stock_finds(swept, split):
    from transformers import pipeline

    project, _ = swept
    winner = project.results() / "winner"
    config = json.loads((winner / "config.json").read_text())
    assert (config["problem_type"], config["id2label"]) == (
        "multi_label_classification",
        {str(place): name for place, name in enumerate(TOPICS)},
    )
    with (project.path / f"{split}.csv").open(newline="") as stream:
        texts = [row["text"] for row in csv.DictReader(stream)]
    answers = pipeline("text-classification", str(winner), top_k=None)(texts, truncation=True)
    shares = np.array([[{one["label"]: one["score"] for one in answer}[name] for name in TOPICS] for answer in answers])
    labels = truth(project, split, list(TOPICS))
    found = json.loads((winner / "evidence.json").read_text())["test" if split == "test" else "reloaded"]
    given = shares > 0.5
    assert found["eval_micro_f1"] == pytest.approx(f1_score(labels, given, average="micro"))
    assert found["eval_macro_f1"] == pytest.approx(f1_score(labels, given, average="macro"))
    assert found["eval_subset_accuracy"] == pytest.approx(accuracy_score(labels, given))
    entropy = -np.mean(np.where(labels, np.log(shares), np.log(1 - shares)))
    assert found["eval_loss"] == pytest.approx(entropy, rel=1e-4)
    constant = 2 * labels.mean(0).sum() / (labels.shape[1] + labels.mean(0).sum())
    assert found["eval_micro_f1"] > constant + 0.05, "more than answering all labels to every text"


@pytest.mark.slow
def test_board_and_screen_tell_of_several_labels(swept):
    project, out = swept
    assert set(project.leaderboard()[0]["metrics"]) == {
        *("eval_loss", "eval_micro_f1", "eval_macro_f1", "eval_subset_accuracy")
    }
    assert "Labels are parted at '|'" in out
    assert "Rows of validation that name a label twice" in out
    assert '/winner", top_k=None)' in out
    assert "those above 0.5 are the answer" in (project.results() / "winner" / "README.md").read_text()
