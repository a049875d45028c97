"""What `sweep init` writes for tables of every kind passes the whole check, with a model that can be loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import tiny
from finesweep.host.machine import Machine
from finesweep.propose.proposed_spec import propose
from finesweep.spec.reader import draft
from finesweep.sweep.preflight import check

TABLES = {
    "classes.csv": "{number},{text},{mood}",
    "ids.tsv": "{number}\t{text}\t{group}",
    "headerless_train.csv": '"{label}","title {number}","{text}"',
    "measure.jsonl": '{{"text": "{text}", "score": {score}}}',
    "pairs.jsonl": '{{"sentence1": "{text}", "sentence2": "{number}", "label": {label}}}',
    "评论.csv": "{number},这部电影真的非常好看{number},{label}",
}
HEADERS = {"classes.csv": "id,text,label", "ids.tsv": "id\ttext\tlabel", "评论.csv": "编号,评论,label"}


@pytest.mark.slow
@pytest.mark.parametrize("machine", [Machine(2, (), 8.0), Machine(8, ("0",), 64.0)], ids=["cpu", "gpu"])
def test_what_init_writes_passes_the_whole_check(tmp_path: Path, machine: Machine) -> None:
    folder = tiny.tiny_model(tmp_path / "models" / "tiny")
    (tmp_path / "specs").mkdir()
    for name, line in TABLES.items():
        lines = [line.format(**row) for row in _rows()]
        for file in (name, name.replace("_train", "_test")):
            content = [HEADERS[name], *lines] if name in HEADERS else lines
            (tmp_path / file).write_text("\n".join(content if file == name else content[40:]) + "\n", encoding="utf-8")
        target = tmp_path / "specs" / f"{Path(name).stem}.yaml"
        found = propose(tmp_path / name, target, model=str(folder), machine=machine)
        target.write_text(found.text, encoding="utf-8")
        checked = check(draft(target).finished())
        assert any(note.startswith("data.max_length: ") for note in checked.notes)
        assert ("test" in checked.data.facts().rows) == ("_train" in name)


@pytest.mark.slow
def test_what_is_cut_is_told_of_a_model_without_tokenizer_json(tmp_path: Path) -> None:
    folder = tiny.tiny_model(tmp_path / "model")
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)) + "\n")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    tiny.write_csv(tmp_path / "train.csv", tiny.review_rows(60, seed=5))
    target = tmp_path / "spec.yaml"
    target.write_text(
        "{model: ./model, data: {train: train.csv, max_length: 5}, space: {learning_rate: {low: 1e-5, high: 1e-4}}}"
    )
    (told,) = [note for note in check(draft(target).finished()).notes if note.startswith("data.max_length: ")]
    assert "5 tokens cut 100 % of the texts" in told


def _rows() -> Iterator[dict[str, object]]:
    for number, (text, label) in enumerate(tiny.review_rows(80, seed=5)):
        plain = text.replace(",", "")
        mood = "good" if label else "bad"
        yield {"number": number, "text": plain, "label": label, "mood": mood, "group": number % 25, "score": number / 7}
