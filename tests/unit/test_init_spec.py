"""What `sweep init` proposes for a data file: it always loads, and it guesses what a person would."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep.errors import SpecError
from finesweep.init_spec import propose
from finesweep.spec import SweepSpec
from finesweep.spec_reader import load

LONG = ("the soup was cold and the waiter knew it", "a film to see twice, at least", "never again, not even for free")
SHORT = ("why though", "because", "no reason given")


def write_csv(path: Path, columns: dict[str, list[Any]], delimiter: str = ",") -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def cycle(values: tuple[Any, ...], rows: int = 60) -> list[Any]:
    return [values[row % len(values)] for row in range(rows)]


def texts(values: tuple[str, ...] = LONG, rows: int = 60) -> list[str]:
    return [f"{values[row % len(values)]} {row}" for row in range(rows)]


def proposed(data: Path) -> SweepSpec:
    """Write the proposal beside its data and read it back."""
    target = data.with_name("proposal.yaml")
    target.write_text(propose(data, target), encoding="utf-8")
    return load(target).spec


@pytest.mark.parametrize(
    ("columns", "text", "pair", "label", "task"),
    [
        pytest.param({"text": texts(), "label": cycle((0, 1))}, "text", None, "label", "classification", id="plain"),
        pytest.param(
            {"id": range(60), "stars": cycle((1, 2, 3, 4, 5)), "title": texts(SHORT), "review": texts()},
            *("review", None, "stars", "classification"),
            id="review",
        ),
        pytest.param(
            {"premise": texts(), "hypothesis": texts(SHORT), "label": cycle(("yes", "no"))},
            *("premise", "hypothesis", "label", "classification"),
            id="entailment",
        ),
        pytest.param(
            {"question2": texts(), "question1": texts(SHORT), "is_duplicate": cycle((0, 1))},
            *("question1", "question2", "is_duplicate", "classification"),
            id="twins",
        ),
        pytest.param(
            {"sentence1": texts(), "sentence2": texts(), "score": [row / 12 for row in range(60)]},
            *("sentence1", "sentence2", "score", "regression"),
            id="similarity",
        ),
        pytest.param(
            {"body": texts(), "price": [row * 1.37 for row in range(60)], "kind": cycle(("a", "b"))},
            *("body", None, "kind", "classification"),
            id="class-before-measure",
        ),
        pytest.param(
            {"url": [f"https://shop.example/a/very/long/address/{row}/of/a/page" for row in range(60)]}
            | {"remark": texts(SHORT), "topic": cycle(("x", "y", "z"))},
            *("remark", None, "topic", "classification"),
            id="address",
        ),
        pytest.param(
            {"text": cycle(LONG), "label": cycle((True, False))}, "text", None, "label", "classification", id="boolean"
        ),
    ],
)
def test_the_columns_are_guessed(
    tmp_path: Path, columns: dict[str, Any], text: str, pair: str | None, label: str, task: str
) -> None:
    spec = proposed(write_csv(tmp_path / "data.csv", columns))
    assert (spec.data.text, spec.data.text_pair, spec.data.label) == (text, pair, label)
    assert spec.task == f"text-{task}"


def test_a_second_long_text_is_offered_but_not_used(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "data.csv", {"review": texts(), "reply": texts(), "label": cycle((0, 1))})
    assert "  # text_pair: reply  # another long text" in propose(data, tmp_path / "data.yaml")
    assert proposed(data).data.text_pair is None


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_every_kind_of_file_is_looked_at(tmp_path: Path, suffix: str) -> None:
    columns = {"text": texts(), "label": cycle(("good", "bad"))}
    data = tmp_path / f"data.{suffix}"
    if suffix == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pytest.importorskip("pyarrow").table(columns), data)
    elif suffix == "jsonl":
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        write_csv(data, columns, "\t" if suffix == "tsv" else ",")
    spec = proposed(data)
    assert (spec.data.train, spec.data.text, spec.data.label) == (f"data.{suffix}", "text", "label")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        pytest.param(
            {"id": range(60), "text": texts()},
            r"data.csv: no column can be the label; there are 'id' \(60 different numbers\), 'text' \(60 different t",
            id="no-label",
        ),
        pytest.param({"a": cycle((0, 1)), "b": range(60)}, "no column can be the text; there are 'a' ", id="no-text"),
        pytest.param(
            {"verdict": cycle(("good", "bad"))}, "no column can be the text beside the label", id="one-column"
        ),
        pytest.param({"text": texts(), "label": cycle((1,))}, "no column can be the label", id="constant"),
        pytest.param({"text": texts(), "": cycle((1, 2))}, "no column can be the label", id="no-name"),
    ],
)
def test_a_file_without_text_or_label_is_refused_with_its_columns(
    tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    data = write_csv(tmp_path / "data.csv", columns)
    with pytest.raises(SpecError, match=message):
        propose(data, tmp_path / "data.yaml")


def test_a_missing_file_and_a_foreign_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"lost\.csv: no such file"):
        propose(tmp_path / "lost.csv", tmp_path / "x.yaml")
    with pytest.raises(SpecError, match=r"data\.xlsx: no data file; finesweep reads \.csv, \.tsv, \.jsonl"):
        propose(tmp_path / "data.xlsx", tmp_path / "x.yaml")


def test_the_proposal_says_how_to_go_on(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "data.csv", {"text": texts(), "label": cycle((0, 1))})
    lines = propose(data, Path("my sweep.yaml")).splitlines()
    assert lines[0] == "# yaml-language-server: $schema=sweep.schema.json"
    assert "#     sweep run 'my sweep.yaml'" in lines
    assert "#     sweep schema > sweep.schema.json" in lines
    assert "name: my-sweep  # of the folder under results/" in lines
    assert "model: google-bert/bert-base-uncased" in lines


def test_the_model_that_the_remark_shows_is_a_legal_one(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "data.csv", {"text": texts(), "label": cycle((0, 1))})
    target = tmp_path / "scratch.yaml"
    proposal = propose(data, target).replace("model: google-bert/bert-base-uncased", "")
    target.write_text(proposal.replace("# model: {", "model: {"))
    assert load(target).spec.model.model_dump()["hidden_size"] == 64


def test_the_data_is_found_from_where_the_yaml_stands(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    data = write_csv(tmp_path / "data.csv", {"text": texts(), "label": cycle((0, 1))})
    assert "  train: ../data.csv  #" in propose(data, tmp_path / "deep" / "spec.yaml")


def test_a_name_with_a_tilde_is_written_as_a_whole_path(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "~data.csv", {"text": texts(), "label": cycle((0, 1))})
    assert proposed(data).data.train == str(data)


@pytest.mark.parametrize(("words", "max_length"), [(5, 32), (30, 64), (60, 128), (5_000, 512)])
def test_the_length_limit_fits_the_texts(tmp_path: Path, words: int, max_length: int) -> None:
    data = write_csv(tmp_path / "data.csv", {"text": texts((" ".join(["word"] * words),)), "label": cycle((0, 1))})
    assert proposed(data).data.max_length == max_length


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), min_size=1, max_size=30).filter(
    lambda name: name == name.strip()
)
TRICKY = st.sampled_from(
    ["yes", "null", "1e-5", "~", "- a", "a: b", "a #b", "{", "'", '"', "\\n", "é", "\u2028x", "&a", "!"]
)


@given(st.lists(st.one_of(NAMES, TRICKY), min_size=2, max_size=2, unique=True), st.one_of(NAMES, TRICKY))
def test_every_proposal_loads_whatever_the_columns_are_called(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], label: str
) -> None:
    folder = tmp_path_factory.mktemp("odd")
    rows = [{names[0]: text, names[1]: f"{label[:6]} {number % 2}"} for number, text in enumerate(texts())]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    spec = proposed(folder / "data.jsonl")
    assert {spec.data.text, spec.data.label} == set(names)
