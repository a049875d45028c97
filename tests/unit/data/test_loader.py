"""From ``data:`` and files on disk to rows, or to every problem in them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest

from finesweep.data import loader
from finesweep.data.loaded import DataSource
from finesweep.data.loader import LoadedData
from finesweep.errors import SpecError
from finesweep.registry import TASKS
from finesweep.spec.sections import DataSpec
from finesweep.spec.yaml_source import parse

YAML = "task: text-classification\ndata:\n  train: train.csv\n  validation: validation.csv\n  label: label\n"

Load = Callable[..., LoadedData]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Write the given files (text by name) and load a spec that reads them."""

    def load(files: dict[str, str], *, seed: int = 0, task: str = "text-classification", **settings: Any) -> LoadedData:
        for name, text in files.items():
            (tmp_path / name).write_bytes(text.encode())
        spec = DataSpec(**{"train": "train.csv", **settings})
        return loader.load(spec, TASKS.load(task)(), base=tmp_path, seed=seed, source=parse(YAML, "bert.yaml"))

    return load


def csv(rows: int, *, start: int = 0, labels: str = "ab") -> str:
    return "text,label\n" + "".join(f"text {row},{labels[row % len(labels)]}\n" for row in range(start, start + rows))


FILES = {"train.csv": csv(20), "validation.csv": csv(6, start=20)}
BOTH = {"validation": "validation.csv"}


def test_rows_come_with_encoded_labels_and_nothing_else(load: Load) -> None:
    train = "id,label,text\n1,pos,NA\n2,neg,12\n3,pos,=1+1\n"
    loaded = load({"train.csv": train, "validation.csv": "text,label\nnull,neg\nfine,pos\n"}, **BOTH)
    assert loaded.frames["train"].to_dict("list") == {"text": ["NA", "12", "=1+1"], "label": [1, 0, 1]}
    assert loaded.frames["validation"].to_dict("list") == {"text": ["null", "fine"], "label": [0, 1]}
    assert loaded.names == ("neg", "pos")
    assert loaded.notes == (
        "validation (validation.csv): 1 row (line 2) with only a word such as 'null' in 'text', kept.",
    )


def test_facts_have_a_digest_of_the_bytes(load: Load, tmp_path: Path) -> None:
    facts = load(FILES, **BOTH).facts()
    plain = dataclasses.asdict(facts)
    assert json.loads(json.dumps(plain)) == plain
    assert facts.rows == {"train": 20, "validation": 6}
    assert (facts.labels, facts.text_pair) == (["a", "b"], False)
    digest = hashlib.sha256(FILES["train.csv"].encode()).hexdigest()
    assert facts.sources["train"] == DataSource(str(tmp_path / "train.csv"), digest)


def test_d30_new_content_with_the_time_and_size_of_the_old_is_seen(load: Load, tmp_path: Path) -> None:
    before = load(FILES, **BOTH)
    stat = (tmp_path / "train.csv").stat()
    (tmp_path / "train.csv").write_text(csv(20).replace("text 7", "TEXT 7"))
    os.utime(tmp_path / "train.csv", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = load({}, **BOTH)
    assert after.frames["train"]["text"][7] == "TEXT 7"
    assert after.sources["train"].digest != before.sources["train"].digest
    assert after.sources["validation"] == before.sources["validation"]


@pytest.mark.parametrize(
    ("files", "settings", "message"),
    [
        pytest.param({}, {}, r"bert\.yaml:3 data\.train: no such file: .*train\.csv", id="missing"),
        pytest.param({"trian.csv": ""}, {}, r"\(did you mean trian\.csv\?\)", id="missing-near"),
        pytest.param({}, {"train": "."}, r"'\.': this is a folder; a file is needed", id="folder"),
        pytest.param({"a.txt": "x"}, {"train": "a.txt"}, r"no reader for \.txt; there are \.csv, \.tsv", id="suffix"),
        pytest.param({"a": "x"}, {"train": "a"}, r"a file without suffix", id="no-suffix"),
        pytest.param(
            {"a.txt": "pos good\nneg bad\n" * 2},
            {"train": "a.txt"},
            r"each line looks like a label, a blank and a text; .*: python3 -X utf8 .* < a\.txt > a_columns\.csv",
            id="lines-of-label-and-text",
        ),
        pytest.param({}, {"train": "a\0.csv"}, r"data\.train: .*cannot hold a zero byte", id="zero-in-name"),
        pytest.param({}, {"train": "x" * 5000 + ".csv"}, r"data\.train: .*the name is too long", id="long-name"),
        pytest.param({}, {"train": "http://127.0.0.1:9/a.csv"}, "no such file", id="D33-http"),
        pytest.param({}, {"train": "file:///etc/hosts.csv"}, "no such file", id="S19-file"),
        pytest.param({}, {"train": "zip://a.csv::http://127.0.0.1:9/a.zip"}, "no such file|no reader", id="D33-zip"),
        pytest.param(
            {"train.csv": "a,b\n1,2\n"},
            {},
            r"bert\.yaml:2 data\.text: train\.csv has no column 'text'; there are a, b",
            id="no-text",
        ),
        pytest.param(
            {"train.csv": "text,lable\n1,2\n"},
            {},
            r"bert\.yaml:5 data\.label: .* \(did you mean lable\?\)",
            id="no-label",
        ),
        pytest.param(
            FILES, {"text_pair": "second"}, r"data\.text_pair: train\.csv has no column 'second'", id="no-pair"
        ),
        pytest.param(FILES, {"group": "user"}, r"data\.group: train\.csv has no column 'user'", id="no-group"),
        pytest.param(
            FILES, {"label": "text"}, r"data\.label: 'text' is the column of data\.text already", id="one-column"
        ),
        pytest.param({"train.csv": "text,label\n"}, {}, r"train\.csv: no rows in the file", id="D6"),
        pytest.param(
            {"train.csv": "text,label\n ,a\n,b\n"},
            {},
            r"data\.text: train \(train\.csv\): every row has no text",
            id="D23-all",
        ),
        pytest.param(
            {"train.csv": "text,label\na,\nb,\n"},
            {},
            r"bert\.yaml:5 data\.label: train \(train\.csv\): every row has no label",
            id="D5-all",
        ),
        pytest.param(
            {"train.csv": "text,label\na,x\nb,x\n"},
            {},
            r"bert\.yaml:5 data\.label: train \(train\.csv\): every label is 'x'",
            id="D17",
        ),
        pytest.param(
            {**FILES, "validation.csv": "text,label\nq,c\n"},
            BOTH,
            r"data\.label: validation \(validation\.csv\): 'c' cannot be learned \(1 of 1 rows\)",
            id="D17-unknown",
        ),
        pytest.param(
            FILES,
            {"validation": "train.csv"},
            r"data\.validation: train\.csv holds the same rows as data\.train",
            id="D21-same",
        ),
        pytest.param(
            {**FILES, "copy.csv": FILES["train.csv"]},
            {"test": "copy.csv"},
            r"data\.test: copy\.csv holds the same rows as data\.train",
            id="D21-copy",
        ),
        pytest.param(
            FILES, {"max_train_rows": 1}, r"data\.max_train_rows: fewer rows \(1\) than labels \(2\)", id="cap"
        ),
        pytest.param(
            {"train.csv": "text,label\np,a\nq,b\n"},
            {},
            r"data\.train: .*none of the 2 rows can be spared",
            id="too-few-to-split",
        ),
    ],
)
def test_bad_data_is_one_message_with_its_place(
    load: Load, files: dict[str, str], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        load(files, **settings)


def test_problems_of_all_files_come_at_once(load: Load) -> None:
    files = {"train.csv": "a,b\n1,2\n", "validation.csv": "text,label\n1,2,3\n"}
    with pytest.raises(SpecError, match="no column 'text'") as caught:
        load(files, **BOTH, test="test.csv")
    messages = [str(problem) for problem in caught.value.problems]
    assert len(messages) == 4
    for part in ("has no column 'label'", "validation.csv:2: 3 fields", "data.test: no such file"):
        assert any(part in message for message in messages)


def test_a_pipe_is_not_waited_for(load: Load, tmp_path: Path) -> None:
    fifo = tmp_path / "pipe.csv"
    os.mkfifo(fifo)
    with pytest.raises(SpecError, match=r"'pipe\.csv': this is a pipe"):
        load({}, train="pipe.csv")


def test_paths_start_from_the_base_or_from_home(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "mine.csv").write_text(csv(20))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert load({}, train="~/mine.csv").facts().rows == load({}, train="home/mine.csv").facts().rows


def test_dropped_rows_are_counted(load: Load) -> None:
    files = {**FILES, "train.csv": csv(20) + " ,a\nlost,\n"}
    loaded = load(files, **BOTH)
    assert len(loaded.frames["train"]) == 20
    assert loaded.notes == (
        "train (train.csv): 1 row (line 22) with no text in 'text' left out.",
        "train (train.csv): 1 row (line 23) with no label in 'label' left out.",
    )


def test_d11_an_index_column_is_remarked_unless_it_is_used(load: Load) -> None:
    text = csv(20).replace("text,label", "Unnamed: 0,label")
    assert "'Unnamed: 0'" not in "".join(load({"train.csv": text}, text="Unnamed: 0").notes)
    indexed = pd.DataFrame({"text": [f"t{n}" for n in range(20)], "label": ["a", "b"] * 10}).to_csv()
    loaded = load({"train.csv": indexed})
    assert loaded.notes[0] == "train (train.csv): the column '' looks like row numbers and is not used."
    assert list(loaded.frames["train"].columns) == ["text", "label"]


def test_d21_texts_of_train_in_validation_are_counted(load: Load) -> None:
    files = {**FILES, "validation.csv": csv(6, start=17)}
    assert load(files, **BOTH).notes == ("validation: 3 of 6 texts are in train too, so its scores are too good.",)


def test_pairs_overlap_only_if_both_texts_do(load: Load) -> None:
    train = "text,pair,label\n" + "".join(f"same,p{row},{'ab'[row % 2]}\n" for row in range(20))
    files = {"train.csv": train, "validation.csv": "text,pair,label\nsame,new,a\nsame,p1,b\n"}
    loaded = load(files, **BOTH, text_pair="pair")
    assert loaded.notes == ("validation: 1 of 2 texts are in train too, so its scores are too good.",)
    assert list(loaded.frames["train"].columns) == ["text", "text_pair", "label"]
    assert loaded.facts().text_pair is True


def test_without_validation_a_stratified_part_of_train_is_split_off(load: Load) -> None:
    files = {"train.csv": csv(100, labels="aaab")}
    loaded = load(files, validation_fraction=0.2)
    assert loaded.facts().rows == {"train": 80, "validation": 20}
    assert Counter(loaded.frames["validation"]["label"]) == {0: 15, 1: 5}
    assert set(loaded.sources) == {"train"}
    assert loaded.notes == ("validation: 20 of 100 rows of train, stratified by label, seed 0.",)


def test_the_split_follows_the_seed_alone(load: Load) -> None:
    texts = [load({"train.csv": csv(100)}, seed=seed).frames["validation"]["text"].tolist() for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_a_label_on_one_row_stays_in_train_and_is_remarked(load: Load) -> None:
    loaded = load({"train.csv": csv(40) + "rare,c\n"})
    assert "rare" in loaded.frames["train"]["text"].tolist()
    assert loaded.notes[1] == "validation: too few rows to have the label 'c'."


def test_a_regression_is_split_by_rows(load: Load) -> None:
    text = "text,label\n" + "".join(f"t{row},{row / 7}\n" for row in range(50))
    loaded = load({"train.csv": text}, task="text-regression")
    assert loaded.facts().rows == {"train": 45, "validation": 5}
    assert loaded.facts().labels is None
    assert loaded.frames["train"]["label"].dtype == "float64"
    assert loaded.notes == ("validation: 5 of 50 rows of train, seed 0.",)


def grouped(rows: range) -> str:
    return "text,label,user\n" + "".join(f"text {row},{'ab'[row % 2]},u{row // 10}\n" for row in rows)


def test_a_made_split_keeps_groups_whole(load: Load) -> None:
    loaded = load({"train.csv": grouped(range(200))}, group="user", validation_fraction=0.2)
    users = {split: {int(text.split()[1]) // 10 for text in frame["text"]} for split, frame in loaded.frames.items()}
    assert not users["train"] & users["validation"]
    assert len(loaded.frames["validation"]) == 40
    assert list(loaded.frames["train"].columns) == ["text", "label"]
    assert "whole groups of 'user'" in loaded.notes[0]


def test_given_files_that_share_groups_are_a_problem(load: Load) -> None:
    files = {"train.csv": grouped(range(40)), "validation.csv": grouped(range(35, 60))}
    with pytest.raises(SpecError, match=r"data\.group: groups that stand in train and in validation: 1, as 'u3'"):
        load(files, **BOTH, group="user")


def test_rows_without_a_group_are_groups_of_their_own(load: Load) -> None:
    files = {"train.csv": grouped(range(40)) + "x,a,\n", "validation.csv": grouped(range(40, 60)) + "y,b,\n"}
    loaded = load(files, **BOTH, group="user")
    assert loaded.notes == (
        "train (train.csv): rows without 'user', each a group of its own: 1.",
        "validation (validation.csv): rows without 'user', each a group of its own: 1.",
    )


def test_caps_are_samples_in_order_with_every_label(load: Load) -> None:
    files = {
        "train.csv": csv(100) + "rare,c\n",
        "validation.csv": csv(50, start=200),
        "test.csv": csv(50, start=300),
    }
    loaded = load(files, **BOTH, test="test.csv", max_train_rows=10, max_eval_rows=8)
    assert loaded.facts().rows == {"train": 10, "validation": 8, "test": 50}
    assert set(loaded.frames["train"]["label"]) == {0, 1, 2}
    numbers = [int(text.split()[1]) for text in loaded.frames["validation"]["text"]]
    assert numbers == sorted(numbers)
    assert "train: a sample of 10 of 101 rows, seed 0 (data.max_train_rows)." in loaded.notes
    assert loaded.frames["train"].index.tolist() == list(range(10))
    loaded = load(files, **BOTH, test="test.csv", max_test_rows=9)
    assert loaded.facts().rows == {"train": 101, "validation": 50, "test": 9}
    assert loaded.notes[-1] == "test: a sample of 9 of 50 rows, seed 0 (data.max_test_rows)."


def test_d27_every_kind_of_file_gives_the_same_rows(load: Load, tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["a", "b", "12"], "label": [3, 1, 3]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    frame.to_json(tmp_path / "a.json", orient="records")
    frame.to_parquet(tmp_path / "a.parquet")
    files = {"validation.csv": "text,label\nc,1\n"}
    for suffix in ("csv", "tsv", "jsonl", "json", "parquet"):
        loaded = load(files, **BOTH, train=f"a.{suffix}")
        assert loaded.frames["train"].to_dict("list") == {"text": ["a", "b", "12"], "label": [1, 0, 1]}
        assert loaded.names == ("1", "3")


def test_d23_any_text_passes_unchanged(load: Load) -> None:
    texts = ["\U0001f600 \u05e9\u05dc\u05d5\u05dd", "word " * 10_000, "a\u0000b".replace("\0", "\u0001"), "é"]
    text = "text,label\n" + "".join(f'"{text}",{"ab"[row % 2]}\n' for row, text in enumerate(texts))
    loaded = load({**FILES, "train.csv": text}, **BOTH)
    assert loaded.frames["train"]["text"].tolist() == texts


HEADERLESS = "so good,pos\nbad,neg\n" + "".join(f"text {n},{'pn'[n % 2]}o\n" for n in range(9)) + "x,pos\ny,neg\n"


def test_a_first_line_that_is_a_row_is_asked_about(load: Load) -> None:
    """With names that the line does not have, and also where a spec took them from it."""
    for settings in ({}, {"text": "so good", "label": "pos"}):
        with pytest.raises(
            SpecError, match=r"^train\.csv:1: the first line looks like a row, .*'pos' stands"
        ) as caught:
            load({"train.csv": HEADERLESS}, **settings)
        hint = "write `data: {columns: [text, label]}`, or `header: true` if it does name the columns"
        assert caught.value.problems[0].hint == hint
    with pytest.raises(SpecError, match=r"columns: \[body, stars\]"):
        load({"train.csv": HEADERLESS}, text="body", label="stars")
    assert load({"train.csv": HEADERLESS}, columns=("text", "label")).facts().rows == {"train": 12, "validation": 1}
    loaded = load({"train.csv": HEADERLESS}, header=True, text="so good", label="pos")
    assert sum(loaded.facts().rows.values()) == 12


def test_columns_that_a_spec_names_make_an_odd_header_one(load: Load) -> None:
    name = "How would you describe the service that you got from us"
    text = csv(20).replace("text,", f"{name},")
    assert load({"train.csv": text}, text=name).facts().rows == {"train": 18, "validation": 2}


def test_stray_quotes_lose_no_row_without_a_word(load: Load) -> None:
    body = csv(20).replace("text 3,", '"text 3,').replace("text 7,", 'text 7",')
    with pytest.raises(SpecError, match=r"^train\.csv:5: a double quote opens a field here that continues to line 9"):
        load({"train.csv": body})
    assert sum(load({"train.csv": body}, quoting="none").facts().rows.values()) == 20
    loaded = load({"train.csv": body}, quoting="minimal")
    assert sum(loaded.facts().rows.values()) == 16
    assert "21 lines are 17 records: 1 field in double quotes spans several lines (line 5)." in loaded.notes[0]
    loaded = load({"train.tsv": body.replace(",", "\t")}, train="train.tsv")
    assert sum(loaded.facts().rows.values()) == 20
    assert "double quotes are read as plain characters" in loaded.notes[0]


def test_words_for_no_label_are_left_out_unless_they_are_wanted(load: Load) -> None:
    files = {"train.csv": csv(20) + "x,NULL\ny,nan\n", "validation.csv": csv(6, start=20) + "z,NULL\n"}
    loaded = load(files, **BOTH)
    assert loaded.facts().rows == {"train": 20, "validation": 6}
    assert loaded.notes == (
        (
            "train (train.csv): 2 rows (lines 22, 23) with 'NULL', 'nan' for a label, taken as none and left out "
            "(data.labels: as_written keeps them)."
        ),
        (
            "validation (validation.csv): 1 row (line 8) with 'NULL' for a label, taken as none and left out "
            "(data.labels: as_written keeps them)."
        ),
    )
    assert load(files, **BOTH, labels="as_written").names == ("NULL", "a", "b", "nan")


def test_names_of_classes_hold_for_every_split(load: Load, tmp_path: Path) -> None:
    """Also where another file counts them in another order, or writes them out."""

    def write(name: str, labels: list[int], names: list[str]) -> None:
        features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
        texts = [f"{name} {n}" for n in range(len(labels))]
        datasets.Dataset.from_dict({"text": texts, "label": labels}, features=features).to_parquet(tmp_path / name)

    write("null.parquet", [0, 1, 2] * 9, ["null", "pos", "neg"])
    assert load({}, train="null.parquet").names == ("null", "pos", "neg")
    write("a.parquet", [0, 1, 1, 0, -1], ["pos", "neg"])
    write("b.parquet", [0, 1], ["neg", "pos"])
    loaded = load({"c.csv": "text,label\nx,neg\ny,0\n"}, train="a.parquet", validation="b.parquet", test="c.csv")
    assert loaded.names == ("pos", "neg")
    assert {split: frame["label"].tolist() for split, frame in loaded.frames.items()} == {
        "train": [0, 1, 1, 0],
        "validation": [1, 0],
        "test": [1, 0],
    }


TOPICS = [("a|b", 4), ("b", 5), ("", 3), ("c|a", 2), ("c", 6)]
SEVERAL = "text,topics\n" + "".join(
    f"text {n} {row},{cell}\n" for cell, count in TOPICS for n, row in enumerate(range(count))
)


def test_cells_with_several_labels_become_lists_of_ids(load: Load) -> None:
    validation = "text,topics\nx,c|b\ny,b|\nz,\nnothing known,NULL\n"
    files = {"train.csv": SEVERAL, "validation.csv": validation}
    loaded = load(files, task="multi-label-classification", label="topics", **BOTH)
    assert loaded.names == ("a", "b", "c")
    assert loaded.frames["validation"]["label"].tolist() == [[1, 2], [1], []]
    assert any("1 row (line 5) with 'NULL' for a label" in note for note in loaded.notes)


def test_split_made_of_train_has_every_label_in_train(load: Load) -> None:
    for seed in range(3):
        found = load({"train.csv": SEVERAL}, task="multi-label-classification", label="topics", seed=seed)
        assert {label for ids in found.frames["train"]["label"] for label in ids} == {0, 1, 2}
        assert any("stratified by each row's rarest label" in note for note in found.notes)
    capped = {"max_train_rows": 7, "validation_fraction": 0.2}
    found = load({"train.csv": SEVERAL}, task="multi-label-classification", label="topics", **capped)
    assert {label for ids in found.frames["train"]["label"] for label in ids} == {0, 1, 2}


def test_label_unseen_in_training_is_a_problem(load: Load) -> None:
    files = {"train.csv": SEVERAL, "validation.csv": "text,topics\nx,a|new\n"}
    with pytest.raises(SpecError, match="'new' cannot be learned"):
        load(files, task="multi-label-classification", label="topics", **BOTH)


def test_columns_of_flags_are_labels_in_their_order(load: Load) -> None:
    rows = "".join(f"{n},text {n},{n % 2},{int(n % 3 == 0)},0\n" for n in range(12))
    files = {"train.csv": f"id,text,mad,bad,never\n{rows}12,not known,-1,-1,-1\n"}
    columns = ("mad", "bad", "never")
    loaded = load(files, task="multi-label-classification", label=columns)
    assert loaded.names == columns
    kept = dict(zip(loaded.frames["train"]["text"], loaded.frames["train"]["label"], strict=True))
    assert all(kept.get(f"text {n}", ids) == ids for n, ids in ((1, [0]), (3, [0, 1]), (4, []), (6, [1])))
    assert any("1 row (line 14) with no label" in note for note in loaded.notes)
    with pytest.raises(SpecError, match="has no column 'mood'"):
        load(files, task="multi-label-classification", label=("mad", "mood"))
    with pytest.raises(SpecError, match=r"'text' is the column of data\.text already"):
        load(files, task="multi-label-classification", label=("mad", "text"))


def test_lists_of_every_kind_of_file_are_the_same_labels(load: Load, tmp_path: Path) -> None:
    texts, labels = [f"text {n}" for n in range(8)], [["x"], ["y", "x"], [], ["z"]] * 2
    ids = [[("x", "y", "z").index(label) for label in row] for row in labels]
    named = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.List(datasets.ClassLabel(names=["x", "y", "z"]))}
    )
    datasets.Dataset.from_dict({"text": texts, "label": ids}, features=named).to_parquet(tmp_path / "ids.parquet")
    pd.DataFrame({"text": texts, "label": labels}).to_parquet(tmp_path / "names.parquet")
    lines = "".join(json.dumps({"text": t, "label": row}) + "\n" for t, row in zip(texts, labels, strict=True))
    cells = "text,label\n" + "".join(f"{t},{'|'.join(row)}\n" for t, row in zip(texts, labels, strict=True))
    files = {"train.jsonl": lines + '{"text": "left out", "label": null}\n', "train.csv": cells}
    for train in ("train.csv", "train.jsonl", "names.parquet", "ids.parquet"):
        loaded = load(files, task="multi-label-classification", train=train, validation_fraction=0.1)
        assert loaded.names == ("x", "y", "z")
        kept = pd.concat([loaded.frames["train"], loaded.frames["validation"]]).sort_values("text")
        assert kept["label"].tolist() == [sorted(row) for row in ids], train


def test_list_is_no_label_of_other_tasks(load: Load) -> None:
    files = {"train.jsonl": '{"text": "a", "label": ["x"]}\n{"text": "b", "label": ["y"]}\n'}
    with pytest.raises(SpecError, match="multi-label-classification"):
        load(files, train="train.jsonl")
