"""``--set`` puts a value where the YAML would have it, and leaves everything else as it is."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep.data import readers
from finesweep.spec.overrides import DATA_SUFFIXES, apply_overrides, is_data_file
from finesweep.spec.yaml_source import YamlSource, parse

YAML = """\
model: {name: bert, revision: abc}
data:
  dataset: org/reviews
  train: big
  validation: dev
space:
  learning_rate: {low: 1e-5, high: 5e-5}
  model.dropout: {choices: [0.1, 0.2]}
start:
  - {learning_rate: 2e-5, model.dropout: 0.1}
budget: {trials: 5}
"""


def source_of(text: str = YAML) -> YamlSource:
    return parse(text)


def values_after(*overrides: str, text: str = YAML) -> dict[str, Any]:
    changed, problems, _ = apply_overrides(source_of(text), overrides)
    assert problems == []
    return changed.values


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("space.model.dropout.choices.1=0.3", ("space", "model.dropout", "choices"), [0.1, 0.3]),
        ("space.model.dropout={low: 0, high: 1}", ("space", "model.dropout"), {"low": 0, "high": 1}),
        ("start.0.model.dropout=0.4", ("start", 0, "model.dropout"), 0.4),
        ("start.0.data.max_length=64", ("start", 0, "data.max_length"), 64),
        ("fixed.data.max_length=64", ("fixed", "data.max_length"), 64),
        ("fixed.model=x", ("fixed", "model"), "x"),
        (" budget . trials = 7", ("budget", "trials"), 7),
        ("name=a=b", ("name",), "a=b"),
        ("stop.target=-1e-3", ("stop", "target"), -1e-3),
        ("budget.hours=", ("budget", "hours"), None),
        ("budget.trials.deep=1", ("budget", "trials"), {"deep": 1}),
        ("model.revision='1.10'", ("model", "revision"), "1.10"),
        ("data.text=no", ("data", "text"), "no"),
    ],
)
def test_one_value_changes_at_its_place_and_no_other(override: str, path: tuple[Any, ...], value: Any) -> None:
    found, expected = values_after(override), source_of().values
    place: Any = expected
    for key in path[:-1]:
        place = place.setdefault(key, {}) if isinstance(place, dict) else place[key]
    place[path[-1]] = value
    assert found == expected


def test_source_that_is_overridden_stays_as_it_was() -> None:
    source = source_of()
    before = copy.deepcopy((source.values, source.places))
    apply_overrides(source, ["space.learning_rate.high=1", "start.0.learning_rate=3", "data.train=my.csv", "data=3"])
    assert (source.values, source.places) == before


def test_places_below_a_replaced_value_are_forgotten() -> None:
    changed, _, _ = apply_overrides(source_of(), ["space.learning_rate={low: 1, high: 2}"])
    assert changed.where("space", "learning_rate", "high") == "--set space.learning_rate.high"
    assert changed.where("space", "model.dropout").endswith(":8 space.model.dropout")
    assert changed.where("budget", "trials").endswith(":11 budget.trials")


def test_later_override_of_a_parent_replaces_the_earlier_one() -> None:
    assert values_after("budget.trials=3", "budget={hours: 2}")["budget"] == {"hours": 2}
    assert values_after("budget={hours: 2}", "budget.trials=3")["budget"] == {"hours": 2, "trials": 3}


def test_good_overrides_apply_and_each_bad_one_is_a_problem() -> None:
    changed, problems, _ = apply_overrides(
        source_of(), ["budget.trials=9", "nothing", "start.1.learning_rate=1", "a.b=[", "start.-1.x=1"]
    )
    assert changed.values["budget"] == {"trials": 9}
    assert [problem.where for problem in problems] == [
        "--set nothing",
        "--set start.1.learning_rate=1",
        "--set a.b=[",
        "--set start.-1.x=1",
    ]
    assert "the list has 1 entries, no '1'" in problems[1].message


def test_file_takes_the_place_of_the_dataset_and_of_all_its_keys() -> None:
    text = YAML.replace("train: big", "train: big\n  revision: v1\n  config: de\n  text: body")
    changed, _, notes = apply_overrides(source_of(text), ["data.train=my.jsonl", "data.test=~/test.TSV"])
    data = changed.values["data"]
    assert data == {"train": str(Path.cwd() / "my.jsonl"), "test": str(Path.home() / "test.TSV"), "text": "body"}
    replaced = ("dataset", "config", "revision", "validation")
    assert notes == [f"--set data.train=my.jsonl takes the place of {', '.join(f'data.{key}' for key in replaced)}."]


def test_dataset_takes_the_place_of_files_and_keeps_splits() -> None:
    text = YAML.replace("  dataset: org/reviews\n", "").replace("train: big", "train: big.csv")
    changed, _, notes = apply_overrides(source_of(text), ["data.dataset=a/b"])
    assert changed.values["data"] == {"dataset": "a/b", "validation": "dev"}
    assert notes == ["--set data.dataset=a/b takes the place of data.train."]


def test_file_beside_a_dataset_of_the_command_line_is_kept() -> None:
    data = values_after("data.dataset=a/b", "data.validation=dev.csv")["data"]
    assert data == {"dataset": "a/b", "train": "big", "validation": "dev.csv"}


def test_paths_of_the_command_line_begin_at_current_folder(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "encoder").mkdir()
    text = "model: encoder\ndata: {train: a.csv, validation: b.csv}\n"
    found = values_after("data.validation=c.csv", text=text)
    assert found == {"model": "encoder", "data": {"train": "a.csv", "validation": str(tmp_path / "c.csv")}}
    assert values_after("model=encoder", text=text)["model"] == str(tmp_path / "encoder")
    assert values_after("model.name=encoder", text=text)["model"] == {"name": str(tmp_path / "encoder")}
    assert values_after("model.name=org/encoder", text=text)["model"] == {"name": "org/encoder"}
    assert values_after("model=" + "x" * 5_000, text=text)["model"] == "x" * 5_000, "too long for a folder's name"


def test_model_that_is_only_a_name_keeps_it() -> None:
    assert values_after("model.revision=v2", text="model: org/encoder\n")["model"] == {
        "name": "org/encoder",
        "revision": "v2",
    }


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(["model", "data", "space", "start", "0", "train", "dataset", "x"]), max_size=4),
            st.sampled_from(["1", "a.csv", "{x: 1}", "[1, {a: 2}]", "", "a/b", "[", "null"]),
        ),
        max_size=4,
    )
)
def test_any_overrides_give_values_or_problems(overrides: list[Any]) -> None:
    """What the values mean is checked later; no combination is an exception here."""
    given_ = [f"{'.'.join(path)}={text}" for path, text in overrides]
    changed, problems, _ = apply_overrides(source_of(), given_)
    assert isinstance(changed.values, dict)
    assert all(problem.where.startswith("--set ") for problem in problems)


def test_data_files_are_those_that_have_a_reader() -> None:
    assert set(DATA_SUFFIXES) == set(readers.SUFFIXES)
    for suffix in readers.SUFFIXES:
        assert is_data_file(f"my.train{suffix}")
        assert is_data_file(f"TRAIN{suffix.upper()}")


@pytest.mark.parametrize("name", ["train", "csv", "a.csv.gz", "org/data.csv/x", "", None, 3, ["a.csv"]])
def test_split_or_dataset_is_no_data_file(name: object) -> None:
    assert not is_data_file(name)
