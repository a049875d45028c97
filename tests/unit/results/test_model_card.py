"""The winner's card says what the model rests on, and who chose each setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from made_records import manifest, record

from finesweep.folder import SweepFolder
from finesweep.results.choice import Choice
from finesweep.results.confirmation import Candidate
from finesweep.results.model_card import model_card


def chosen(trial: int, objective: float, **fields: Any) -> Choice:
    return Choice(trial, record(trial, objective, **fields), SweepFolder(Path()))


def card(spec=None, data=None, **effective) -> str:
    sources = {"train": {"place": "/home/me/train.csv", "digest": "ab" * 32}}
    facts = {"sources": sources, "rows": {"train": 500, "validation": 50}, "labels": ["a", "b"]}
    made = manifest(spec={"fixed": {}, "data": data or {}, **(spec or {})}, data=facts)
    return model_card(made, chosen(3, 0.5, effective=effective), [], {"eval_loss": 0.5}, {})


@pytest.mark.parametrize(
    ("name", "given", "who"),
    [
        ("learning_rate", {}, "searched"),
        ("warmup_steps", {"spec": {"fixed": {"warmup_steps": 5}}}, "fixed"),
        ("bf16", {}, "chosen by finesweep"),
        ("data.max_length", {}, "chosen by finesweep"),
        ("data.max_length", {"data": {"max_length": 64}}, "fixed"),
    ],
)
def test_card_says_who_chose_each_setting(name, given, who):
    (line,) = (line for line in card(**given, **{name: 5}).splitlines() if line.startswith(f"| {name} "))
    assert line.endswith(f" | {who} |")


def test_card_says_where_validation_rows_came_from_and_which_sample_was_drawn():
    text = card(data={"group": "customer", "max_train_rows": 500, "max_eval_rows": 60})
    assert "- validation: 0.1 of train, split off, stratified by label, whole groups of `customer`, drawn with" in text
    assert "- train is a sample of 500 rows, drawn with seed 7 (`max_train_rows`)" in text
    assert "validation is a sample" not in text


def test_card_says_how_to_ask_for_each_label_of_several():
    text = card(spec={"task": "multi-label-classification"})
    assert 'classify = pipeline("text-classification", "path/to/this/folder", top_k=None)' in text
    assert "Each label has a score of its own between 0 and 1; those above 0.5 are the answer." in text
    assert "- validation: 0.1 of train, split off, stratified by each row's rarest label, drawn with seed" in text
    assert "top_k" not in card()


def test_small_scores_keep_their_digits_in_the_table():
    text = model_card(manifest(), chosen(3, 2.5e-5), [], {"eval_loss": 2.5e-5}, {"eval_loss": 3e9})
    assert "| loss | 2.5000e-05 | 3.0000e+09 |" in text


def front_matter(text: str) -> dict[str, Any]:
    _, data, _ = text.split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(data)
    return found


def test_the_hub_is_told_task_and_scores_by_split():
    found = front_matter(card())
    assert (found["library_name"], found["pipeline_tag"], found["tags"]) == (
        "transformers",
        "text-classification",
        ["finesweep"],
    )
    assert found["base_model"] == "org/encoder"
    (index,) = found["model-index"]
    assert index["name"] == "sst2"
    (result,) = index["results"]
    assert result["dataset"] == {"name": "train.csv", "type": "train.csv", "split": "validation"}
    assert result["metrics"] == [{"type": "loss", "value": 0.5}]


@pytest.mark.parametrize(("name", "revision"), [("org/a: b #c", "1" * 40), ("/home/me/model", None)])
def test_only_a_model_of_the_hub_is_named_as_base_model(name, revision):
    made = manifest(model={"name": name, "revision": revision})
    text = model_card(made, chosen(3, 0.5), [], {"eval_loss": 0.5}, {"eval_loss": 0.25, "eval_accuracy": 1.0})
    found = front_matter(text)
    assert found.get("base_model") == (name if revision else None)
    results = found["model-index"][0]["results"]
    assert [result["dataset"]["split"] for result in results] == ["validation", "test"]
    assert {one["type"]: one["value"] for one in results[1]["metrics"]} == {"loss": 0.25, "accuracy": 1.0}
    assert "/home" not in text


def test_card_of_a_confirmed_winner_names_its_seed_and_how_seeds_differ():
    best = record(4, 0.30, effective={"seed": 22})
    candidate = Candidate(3, 0.25, {11: 0.36, 22: 0.30}, best=best)
    text = model_card(manifest(), Choice(3, best, SweepFolder(Path()), candidate), [], {"eval_loss": 0.3}, {})
    assert "trial 3 of the sweep" in text
    assert "mean eval_loss over 2 fresh seeds on the validation rows, 0.3300\n(0.3000 to 0.3600)" in text
    assert "best fresh\nseed by validation, 22 with 0.3000, at\nepoch 2" in text
