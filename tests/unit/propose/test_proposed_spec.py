"""What `sweep init` proposes for a data file: it always loads, and it guesses what a person would."""

import csv
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from finesweep.data import loader
from finesweep.errors import SpecError
from finesweep.host.machine import Machine
from finesweep.model.from_scratch import train_tokenizer
from finesweep.propose.proposed_spec import propose
from finesweep.registry import TASKS
from finesweep.spec.reader import draft
from finesweep.spec.sections import SweepSpec
from finesweep.spec.yaml_source import parse
from finesweep.sweep.preflight import check

BOX = Machine(cores=2, gpus=(), memory_gb=8.0)
GPU_BOX = Machine(cores=8, gpus=("0",), memory_gb=64.0)
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
    target.write_text(propose(data, target, machine=BOX).text, encoding="utf-8")
    return draft(target).finished().spec


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


SEVERAL = cycle((["food"], ["food", "staff"], [], ["staff"], ["price", "staff"]))


@pytest.mark.parametrize(
    ("columns", "label"),
    [
        pytest.param({"text": texts(), "topics": ["|".join(cell) for cell in SEVERAL]}, "topics", id="bars"),
        pytest.param({"text": texts(), "topics": [", ".join(cell) for cell in SEVERAL]}, "topics", id="commas"),
        pytest.param({"text": texts(), "labels": [str(cell) for cell in SEVERAL]}, "labels", id="lists-as-text"),
        pytest.param(
            {"text": texts(), **{name: [int(name in cell) for cell in SEVERAL] for name in ("staff", "food", "price")}},
            ("staff", "food", "price"),
            id="flags",
        ),
    ],
)
def test_several_labels_of_a_text_are_offered_as_such(tmp_path: Path, columns: dict[str, Any], label: object) -> None:
    data = write_csv(tmp_path / "data.csv", columns)
    spec = proposed(data)
    assert (spec.task, spec.data.label) == ("multi-label-classification", label)
    assert "3 labels: food, price, staff\n" in propose(data, tmp_path / "data.yaml", machine=BOX).text


def test_lists_of_a_file_are_offered_as_several_labels(tmp_path: Path) -> None:
    rows = zip(texts(), SEVERAL, strict=True)
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({"text": text, "labels": cell}) + "\n" for text, cell in rows))
    text = propose(data, tmp_path / "data.yaml", machine=BOX).text
    assert "task: multi-label-classification  # 3 labels: food, price, staff" in text
    assert "# or eval_micro_f1, eval_macro_f1, eval_subset_accuracy, to maximize" in text
    assert proposed(data).data.label == "labels"


def test_a_second_long_text_is_offered_but_not_used(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "data.csv", {"review": texts(), "reply": texts(), "label": cycle((0, 1))})
    assert "  # text_pair: reply  # another text" in propose(data, tmp_path / "data.yaml", machine=BOX).text
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
        pytest.param({"text": texts()}, "label; .*for texts without labels there is no task yet", id="texts-alone"),
    ],
)
def test_a_file_without_text_or_label_is_refused_with_its_columns(
    tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    data = write_csv(tmp_path / "data.csv", columns)
    with pytest.raises(SpecError, match=message):
        propose(data, tmp_path / "data.yaml", machine=BOX)


def test_a_missing_file_and_a_foreign_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"lost\.csv: no such file"):
        propose(tmp_path / "lost.csv", tmp_path / "x.yaml")
    with pytest.raises(SpecError, match=r"data\.xlsx: no data file; finesweep reads \.csv, \.tsv, \.jsonl"):
        propose(tmp_path / "data.xlsx", tmp_path / "x.yaml")


def test_the_proposal_says_how_to_go_on(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "data.csv", {"text": texts(), "label": cycle((0, 1))})
    lines = propose(data, Path("my sweep.yaml"), machine=BOX).text.splitlines()
    assert lines[0] == "# yaml-language-server: $schema=sweep.schema.json"
    assert "#     sweep run 'my sweep.yaml'" in lines
    assert "#     sweep schema > sweep.schema.json" in lines
    assert "name: my-sweep  # of the folder under results/" in lines
    assert "model: sentence-transformers/all-MiniLM-L6-v2" in lines


def test_the_model_that_the_remark_shows_is_a_legal_one(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "data.csv", {"text": texts(), "label": cycle((0, 1))})
    target = tmp_path / "scratch.yaml"
    proposal = propose(data, target, machine=BOX).text.replace("model: sentence-transformers/all-MiniLM-L6-v2", "")
    target.write_text(proposal.replace("# model: {", "model: {"))
    assert draft(target).finished().spec.model.model_dump()["hidden_size"] == 64


def test_the_data_is_found_from_where_the_yaml_stands(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    data = write_csv(tmp_path / "data.csv", {"text": texts(), "label": cycle((0, 1))})
    assert "  train: ../data.csv  #" in propose(data, tmp_path / "deep" / "spec.yaml", machine=BOX).text


def test_a_name_with_a_tilde_is_written_as_a_whole_path(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "~data.csv", {"text": texts(), "label": cycle((0, 1))})
    assert proposed(data).data.train == str(data)


@pytest.mark.parametrize(("words", "max_length"), [(5, 32), (40, 64), (100, 128), (5_000, 512)])
def test_the_length_limit_fits_the_texts(tmp_path: Path, words: int, max_length: int) -> None:
    data = write_csv(tmp_path / "data.csv", {"text": texts((" ".join(["word"] * words),)), "label": cycle((0, 1))})
    assert proposed(data).data.max_length == max_length


def test_the_length_of_texts_without_blanks_is_counted_by_their_characters(tmp_path: Path) -> None:
    reviews = [f"这部电影真的非常好看演员的表演也很到位我推荐大家去看{row}" * 6 for row in range(60)]
    data = write_csv(tmp_path / "data.csv", {"text": reviews, "label": cycle((0, 1))})
    spec = proposed(data)
    assert spec.data.max_length == 256
    assert spec.model.name == "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"


def test_the_tokenizer_of_the_model_that_is_asked_for_counts(tmp_path: Path) -> None:
    folder = tiny.write_model_files(tmp_path / "model", max_position_embeddings=512)
    train_tokenizer(["a b c d e f g h i j k l m n o p q r s t u v w x y z"], 30).save(str(folder / "tokenizer.json"))
    data = write_csv(tmp_path / "data.csv", {"text": texts(("supercalifragilistic",)), "label": cycle((0, 1))})
    found = propose(data, tmp_path / "spec.yaml", model=str(folder), machine=BOX).text
    assert "\nmodel: ./model\n" in found
    assert "  max_length: 32  # the model's own tokens; cuts no text" in found


@pytest.mark.torch
def test_texts_that_the_model_cannot_read_whole_are_told_at_once(tmp_path: Path) -> None:
    folder = tiny.write_model_files(tmp_path / "model", max_position_embeddings=20)
    train_tokenizer(["word 1 2 3 4 5 6 7 8 9 0"], 20).save(str(folder / "tokenizer.json"))
    data = write_csv(tmp_path / "data.csv", {"text": texts((" ".join(["word"] * 80),)), "label": cycle((0, 1))})
    found = propose(data, tmp_path / "spec.yaml", model=str(folder), machine=BOX)
    (note,) = found.notes
    assert note.startswith("100 % of the texts are longer than the 20 tokens that the model reads, and 7")
    assert f"  # {note}" in found.text
    assert "  max_length: 20  #" in found.text


@pytest.mark.parametrize("machine", [BOX, GPU_BOX])
def test_every_choice_says_why(tmp_path: Path, machine: Machine) -> None:
    data = write_csv(tmp_path / "data.csv", {"text": texts(rows=3_000), "label": cycle(tuple(range(30)), 3_000)})
    lines = propose(data, tmp_path / "spec.yaml", machine=machine).text.splitlines()
    for key in ("task", "model", "max_length", "budget", "learning_rate", "num_train_epochs", "per_device_train_batch"):
        (at,) = [at for at, line in enumerate(lines) if line.strip().startswith(key)]
        assert "# " in lines[at] or lines[at - 1].startswith("# "), key
    assert ("1 GPU" if machine.gpus else "2 CPU cores") in "\n".join(lines)


def test_a_machine_with_too_little_memory_is_told(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "data.csv", {"text": texts(), "label": cycle((0, 1))})
    small = Machine(cores=1, gpus=(), memory_gb=1.0)
    assert "about 1.2 GB of memory a trial, more than the 1.0 GB of this machine." in (
        propose(data, tmp_path / "spec.yaml", machine=small).text
    )


def test_labels_that_are_numbers_are_shown_in_their_order(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "data.csv", {"text": texts(), "label": cycle(tuple(range(12)))})
    found = propose(data, tmp_path / "spec.yaml", machine=BOX).text
    assert "task: text-classification  # 12 labels: 0, 1, 2, 3, 4, 5, ...\n" in found


@pytest.mark.parametrize(
    ("labels", "task"),
    [
        pytest.param(range(30), "classification", id="ids"),
        pytest.param([row / 2 for row in range(10)], "classification", id="few-fractions"),
        pytest.param([row / 7 for row in range(600)], "regression", id="many-fractions"),
        pytest.param([f"{row},5" for row in range(60)], "regression", id="decimal-commas"),
        pytest.param(["TRUE", "true", "False"], "classification", id="booleans"),
    ],
)
def test_the_labels_decide_the_task(tmp_path: Path, labels: Any, task: str) -> None:
    data = write_csv(tmp_path / "data.csv", {"text": texts(rows=600), "label": cycle(tuple(labels), 600)})
    assert proposed(data).task == f"text-{task}"


def test_data_of_another_task_are_refused_by_name(tmp_path: Path) -> None:
    rows = [{"tokens": ["a", "b"], "ner_tags": [0, 1], "id": str(row)} for row in range(20)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(SpecError, match=r"token classification.*There is no such task yet, only text-classification"):
        propose(tmp_path / "data.jsonl", tmp_path / "spec.yaml", machine=BOX)


def test_files_beside_are_evaluated_on(tmp_path: Path) -> None:
    columns = {"text": texts(), "label": cycle((0, 1))}
    for name in ("reviews_train", "reviews_dev", "reviews_test"):
        write_csv(tmp_path / f"{name}.csv", {**columns, "text": texts((name,))})
    spec = proposed(tmp_path / "reviews_train.csv")
    assert (spec.data.validation, spec.data.test) == ("reviews_dev.csv", "reviews_test.csv")


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        pytest.param({"text": texts(SHORT), "verdict": cycle((0, 1))}, "it has no column 'label'", id="other-columns"),
        pytest.param({"text": texts(LONG), "label": cycle((0, 1))}, "it holds the same rows", id="same-rows"),
        pytest.param({"text": texts(SHORT), "label": cycle((2, 3))}, "cannot be learned", id="other-labels"),
        pytest.param({"text": texts(SHORT), "label": cycle(("",))}, "every row has", id="no-labels"),
        pytest.param({"text": [], "label": []}, "no rows in the file", id="empty"),
    ],
)
def test_a_file_beside_that_does_not_go_with_the_rows_is_named(
    tmp_path: Path, columns: dict[str, list[Any]], reason: str
) -> None:
    data = write_csv(tmp_path / "train.csv", {"text": texts(LONG), "label": cycle((0, 1))})
    write_csv(tmp_path / "test.csv", columns)
    write_csv(tmp_path / "dev.csv", {"text": texts(("fine",)), "label": cycle((0, 1))})
    spec = proposed(data)
    assert (spec.data.validation, spec.data.test) == ("dev.csv", None)
    assert re.search(
        rf"  # test\.csv lies beside, but is not used: .*{reason}", (tmp_path / "proposal.yaml").read_text()
    )


@pytest.mark.parametrize(
    ("rows", "columns", "keys"),
    [
        pytest.param(
            [(row % 4 + 1, f"a title {row}", LONG[row % 3] * 2) for row in range(60)],
            *(("label", "title", "text"), ("text", "label")),
            id="class-title-text",
        ),
        pytest.param(
            [(row, LONG[row % 3] + f" {row}", "pos" if row % 2 else "neg", row % 5) for row in range(60)],
            *(("column_1", "text", "label", "column_4"), ("text", "label")),
            id="unused-columns",
        ),
        pytest.param(
            [("1", "1", f"a text, number {row}") if row % 2 else ("0", "1", f"a text {row}") for row in range(60)],
            *(("label", "column_2", "text"), ("text", "label")),
            id="equal-cells",
        ),
    ],
)
def test_a_file_without_a_header_gets_names_that_fit_those_beside(
    tmp_path: Path, rows: list[tuple[Any, ...]], columns: tuple[str, ...], keys: tuple[str, str]
) -> None:
    for name, part in (("train", rows), ("test", [*rows[5:], *rows[:5]])):
        with (tmp_path / f"{name}.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows(part)
    (tmp_path / "dev.csv").write_text("one,column too many,for,these,rows\n" * 3)
    found = propose(tmp_path / "train.csv", tmp_path / "spec.yaml", machine=BOX)
    assert found.notes[0].startswith("train.csv has no header: ")
    assert found.notes[0].endswith(f" Its columns are called {', '.join(columns)} now.")
    spec = proposed(tmp_path / "train.csv")
    assert (spec.data.columns, spec.data.text, spec.data.label) == (columns, *keys)
    assert (spec.data.validation, spec.data.test) == (None, "test.csv")
    offered = "  # text_pair: title  # another text" in found.text
    assert offered == ("title" in columns)
    loaded = loader.load(spec.data, TASKS.load(spec.task)(), base=spec.base, seed=0, source=parse("data: {}"))
    assert len(loaded.frames["test"]) == 60


def test_a_headerless_file_beside_one_with_a_header_is_not_used(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "train.csv", {"text": texts(), "label": cycle((0, 1))})
    (tmp_path / "test.csv").write_text("".join(f"{text},{row % 2}\n" for row, text in enumerate(texts(SHORT))))
    spec = proposed(data)
    assert spec.data.test is None
    assert "it has no header: " in (tmp_path / "proposal.yaml").read_text()


def test_rows_that_cannot_be_trained_on_are_refused_before_a_yaml_is_written(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "data.csv", {"text": ["one text", "another"], "label": ["a", "b"]})
    with pytest.raises(SpecError, match=r"data\.csv: .*validation"):
        propose(data, tmp_path / "spec.yaml", machine=BOX)


@pytest.mark.torch
def test_a_proposal_passes_the_whole_check(tmp_path: Path) -> None:
    folder = tiny.write_model_files(tmp_path / "model", max_position_embeddings=64)
    (tmp_path / "specs").mkdir()
    data = write_csv(tmp_path / "train.csv", {'a "b"': texts(), "yes": cycle(("no", "~")), "n": range(60)})
    write_csv(tmp_path / "dev.csv", {'a "b"': texts(SHORT), "yes": cycle(("no", "~")), "n": range(60)})
    target = tmp_path / "specs" / "spec.yaml"
    target.write_text(propose(data, target, model=str(folder), machine=BOX).text)
    assert dict(check(draft(target).finished()).data.facts().rows) == {"train": 60, "validation": 60}


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), min_size=1, max_size=30).filter(
    lambda name: name == name.strip()
)
TRICKY = st.sampled_from(
    ["yes", "null", "1e-5", "~", "- a", "a: b", "a #b", "{", "'", '"', "\\n", "é", "\u2028x", "&a", "!"]
)
ANY_NAME = st.one_of(NAMES, TRICKY)
TEXTS = {
    "english": "the soup of day {row} was cold, and the waiter {other} knew it",
    "chinese": "这部电影{row}真的非常好看{other}演员的表演也很到位",
    "quotes": '"{row}" she said, {other}; "never\tagain"',
    "lines": "first line {row}\nsecond line {other}",
    "short": "{other} {row}",
}
LABELS = {
    "names": ("good", "bad", "so-so"),
    "ids": tuple(range(7)),
    "many": tuple(f"topic {number}" for number in range(25)),
    "booleans": ("TRUE", "false"),
    "fractions": tuple(number / 16 for number in range(61)),
    "nulls": ("NULL", "a", "b"),
    "missing": ("", "a", "b"),
}


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_every_usual_table_gets_a_proposal(tmp_path: Path, suffix: str) -> None:
    for text, label in itertools.product(TEXTS, LABELS):
        columns = {
            "title": [TEXTS["short"].format(row=row, other=row % 3) for row in range(60)],
            "content": [TEXTS[text].format(row=row, other=row * 7 % 10) for row in range(60)],
            "verdict": [LABELS[label][row % len(LABELS[label])] for row in range(60)],
        }
        _write(tmp_path / f"train.{suffix}", columns, header=True)
        spec = proposed(tmp_path / f"train.{suffix}")
        assert spec.data.label == "verdict"
        assert spec.data.text == "content" or text == "short"
        assert (spec.task == "text-regression") == (label == "fractions")


@settings(deadline=None, max_examples=30)
@given(
    names=st.lists(ANY_NAME, min_size=3, max_size=3, unique_by=lambda name: " ".join(name.casefold().split())),
    kinds=st.tuples(st.sampled_from(sorted(TEXTS)), st.sampled_from(sorted(LABELS)), st.sampled_from(sorted(TEXTS))),
    rows=st.integers(8, 90),
    suffix=st.sampled_from(["csv", "tsv", "jsonl"]),
    header=st.booleans(),
    beside=st.sampled_from([None, "dev", "test"]),
)
def test_every_proposal_loads_with_its_rows(tmp_path_factory, names, kinds, rows, suffix, header, beside):
    folder = tmp_path_factory.mktemp("any")
    text, label, other = kinds
    columns = {
        names[0]: [TEXTS[text].format(row=row, other=row * 7 % 10) for row in range(rows)],
        names[1]: [LABELS[label][row % len(LABELS[label])] for row in range(rows)],
        names[2]: [TEXTS[other].format(row=rows - row, other=row % 3) for row in range(rows)],
    }
    for role in filter(None, ("train", beside)):
        _write(folder / f"{role}.{suffix}", columns, header=header)
    spec = _proposed_or_refused(folder / f"train.{suffix}")
    if spec is None:
        return  # a name may look like a value, a label like an id
    loaded = loader.load(spec.data, TASKS.load(spec.task)(), base=spec.base, seed=0, source=parse("data: {}"))
    assert len(loaded.frames["train"]) > 0


def _proposed_or_refused(file: Path) -> SweepSpec | None:
    try:
        return proposed(file)
    except SpecError:
        return None


def _write(file: Path, columns: dict[str, list[Any]], *, header: bool) -> None:
    rows = list(zip(*columns.values(), strict=True))
    if file.suffix == ".jsonl":
        lines = (json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows)
        file.write_text("".join(lines), encoding="utf-8")
        return
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="," if file.suffix == ".csv" else "\t")
        writer.writerows([list(columns), *rows] if header else rows)
