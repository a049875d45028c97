"""Which factor and which sampler a sweep gets that leaves them to finesweep, and that a folder keeps its own."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from made_records import manifest, run

from finesweep.errors import SpecError
from finesweep.folder import Manifest, changes
from finesweep.folder.manifest import without_run
from finesweep.folder.sweep_folder import make_folders
from finesweep.spec import LoadedSpec
from finesweep.sweep.prepare import load, profile_of
from finesweep.sweep.request import Request

SPEC = """model: {model}
data: {{train: a.csv}}
search: {{pruner: {pruner}}}
space: {{adam_beta1: {{low: 0.8, high: 0.9}}}}
"""
RATED = SPEC.replace("adam_beta1: {{low: 0.8, high: 0.9}}", "learning_rate: {{low: 1.0e-5, high: 1.0e-4}}")


def read(
    folder: Path,
    pruner: str = "halving",
    model: str = "org/encoder",
    more: str = "",
    text: str = SPEC,
    **asked: bool,
) -> LoadedSpec:
    """Read a spec as `sweep run` does, beside the folder `my`."""
    (folder / "my.yaml").write_text(text.format(model=model, pruner=pruner) + more, encoding="utf-8")
    request = Request(folder / "my.yaml", results=folder, **asked)
    return load(request, profile_of(request))


def write_folder(folder: Path, spec: LoadedSpec, factor: int | str) -> Manifest:
    """Write a folder `my` whose sweep began with a factor."""
    pruning = spec.spec.pruning.model_copy(update={"factor": factor})
    made = dataclasses.replace(manifest(), spec=spec.spec.model_copy(update={"pruning": pruning}))
    (folder / "my").mkdir()
    (folder / "my/spec.json").write_text(json.dumps(made.to_json()), encoding="utf-8")
    return made


@pytest.mark.parametrize(
    ("model", "factor", "shown"),
    [("org/encoder", 3, "3 (auto: pretrained)"), ("{config: bert}", 2, "2 (auto: from scratch)")],
)
@pytest.mark.parametrize("more", ["", "pruning: {factor: auto}\n"])
def test_the_factor_follows_from_the_model(tmp_path: Path, model: str, factor: int, shown: str, more: str) -> None:
    found = read(tmp_path, model=model, more=more)
    assert (found.spec.pruning.factor, found.spec.factor) == (factor, factor)
    assert found.defaults["pruning.factor"] == shown


@pytest.mark.parametrize("model", ["org/encoder", "{config: bert}"])
def test_a_factor_in_the_yaml_stands(tmp_path: Path, model: str) -> None:
    found = read(tmp_path, model=model, more="pruning: {factor: 4}\n")
    assert found.spec.factor == 4
    assert "pruning.factor" not in found.defaults


@pytest.mark.parametrize("pruner", ["median", "none", "asha"])
def test_only_halving_has_a_factor(tmp_path: Path, pruner: str) -> None:
    found = read(tmp_path, pruner)
    assert found.spec.pruning.factor == "auto"
    assert not isinstance(found.defaults.get("pruning.factor", ""), int)


@pytest.mark.parametrize("pruner", ["halving", "median", "none"])
@pytest.mark.parametrize("before", [2, 3, 5])
def test_a_folder_keeps_the_factor_that_it_began_with(tmp_path: Path, pruner: str, before: int) -> None:
    made = write_folder(tmp_path, read(tmp_path, pruner), before)
    found = read(tmp_path, pruner)
    assert found.spec.pruning.factor == before
    assert changes(made, dataclasses.replace(made, spec=found.spec)) == []
    if pruner == "halving":
        assert found.defaults["pruning.factor"] == f"{before} (auto: as the folder has it)"


def test_a_folder_refuses_another_factor_that_the_yaml_names(tmp_path: Path) -> None:
    made = write_folder(tmp_path, read(tmp_path), 2)
    asked = read(tmp_path, more="pruning: {factor: 3}\n")
    assert changes(made, dataclasses.replace(made, spec=asked.spec)) == ["pruning.factor: 2 -> 3"]


def test_a_sweep_that_begins_anew_takes_no_factor_from_the_old_folder(tmp_path: Path) -> None:
    write_folder(tmp_path, read(tmp_path), 5)
    assert read(tmp_path, fresh=True).spec.factor == 3


def test_a_folder_that_cannot_be_read_decides_nothing(tmp_path: Path) -> None:
    (tmp_path / "my").mkdir()
    (tmp_path / "my/spec.json").write_text("{", encoding="utf-8")
    assert read(tmp_path).spec.factor == 3


def write_sampler(folder: Path, **search: Any) -> Manifest:
    """Write a folder `my` whose sweep began with this search."""
    spec = read(folder).spec
    spec = spec.model_copy(update={"search": spec.search.model_copy(update=search)})
    made = dataclasses.replace(manifest(), spec=without_run(spec))
    (folder / "my").mkdir()
    (folder / "my/spec.json").write_text(json.dumps(made.to_json()), encoding="utf-8")
    return made


@pytest.mark.parametrize(
    ("more", "sampler", "shown"),
    [
        ("", "gp", "gp (auto: few parameters and trials)"),
        ("budget: {trials: 101}\n", "tpe", "tpe (auto: more than 100 trials)"),
    ],
)
def test_the_sampler_follows_from_space_and_budget(tmp_path: Path, more: str, sampler: str, shown: str) -> None:
    found = read(tmp_path, more=more)
    assert found.spec.search.sampler == sampler
    assert found.defaults["search.sampler"] == shown


def test_auto_in_the_yaml_is_told_too(tmp_path: Path) -> None:
    found = read(tmp_path, "halving, sampler: auto")
    assert found.defaults["search.sampler"] == "gp (auto: few parameters and trials)"


def test_a_sampler_in_the_yaml_stands(tmp_path: Path) -> None:
    found = read(tmp_path, "halving, sampler: tpe")
    assert found.spec.search.sampler == "tpe"
    assert "search.sampler" not in found.defaults


@pytest.mark.parametrize("before", ["tpe", "gp"])
@pytest.mark.parametrize("more", ["", "budget: {trials: 500}\n"])
def test_a_folder_keeps_its_sampler_with_any_budget(tmp_path: Path, before: str, more: str) -> None:
    made = write_sampler(tmp_path, sampler=before)
    found = read(tmp_path, more=more)
    assert found.spec.search.sampler == before
    assert found.defaults["search.sampler"] == f"{before} (auto: as the folder has it)"
    assert changes(made, dataclasses.replace(made, spec=without_run(found.spec))) == []


@pytest.mark.parametrize("before", ["random", "grid"])
def test_auto_is_no_sampler_that_does_not_learn(tmp_path: Path, before: str) -> None:
    made = write_sampler(tmp_path, sampler=before)
    asked = dataclasses.replace(made, spec=without_run(read(tmp_path).spec))
    assert changes(made, asked) == [f"search.sampler: {before} -> gp"]


def test_a_sweep_that_begins_anew_takes_no_sampler_from_the_old_folder(tmp_path: Path) -> None:
    write_sampler(tmp_path, sampler="tpe")
    assert read(tmp_path, fresh=True).spec.search.sampler == "gp"


def test_a_manifest_without_a_sampler_means_the_default_of_its_time(tmp_path: Path) -> None:
    made = write_sampler(tmp_path, sampler="tpe").to_json()
    del made["spec"]["search"]["sampler"]
    assert Manifest.read(made).spec.search.sampler == "tpe"
    del made["spec"]["search"]
    assert Manifest.read(made).spec.search.sampler == "tpe"


def begun(folder: Path, start: Any) -> Manifest:
    """Write a folder `my` whose sweep began with this start."""
    spec = read(folder, text=RATED).spec.model_copy(update={"start": start})
    made = dataclasses.replace(manifest(), spec=without_run(spec))
    (folder / "my").mkdir()
    (folder / "my/spec.json").write_text(json.dumps(made.to_json()), encoding="utf-8")
    return made


def test_known_good_values_are_tried_first_where_there_are_some(tmp_path: Path) -> None:
    found = read(tmp_path, text=RATED)
    assert (found.spec.start, found.defaults["start"]) == ("auto", "auto")


@pytest.mark.parametrize(
    "asked",
    [
        {"text": SPEC},
        {"text": RATED, "model": "{config: bert}"},
        {"text": RATED, "pruner": "halving, sampler: random"},
        {"text": RATED, "more": "start: none\n"},
    ],
)
def test_elsewhere_start_is_none_and_not_told(tmp_path: Path, asked: dict[str, Any]) -> None:
    found = read(tmp_path, **asked)
    assert found.spec.start == ()
    assert "start" not in found.defaults


def test_a_folder_that_began_without_known_good_values_goes_on_without(tmp_path: Path) -> None:
    made = begun(tmp_path, ())
    found = read(tmp_path, text=RATED)
    assert found.spec.start == ()
    assert changes(made, dataclasses.replace(made, spec=without_run(found.spec))) == []


@pytest.mark.parametrize("written", [None, []])
def test_a_folder_of_an_earlier_version_has_none(tmp_path: Path, written: Any) -> None:
    values = begun(tmp_path, ()).to_json()
    del values["spec"]["start"]
    if written is not None:
        values["spec"]["start"] = written
    (tmp_path / "my/spec.json").write_text(json.dumps(values), encoding="utf-8")
    assert Manifest.read(values).spec.start == ()
    assert read(tmp_path, text=RATED).spec.start == ()


def test_a_folder_with_known_good_values_goes_on_with_any_budget(tmp_path: Path) -> None:
    made = begun(tmp_path, "auto")
    assert Manifest.read(json.loads(json.dumps(made.to_json()))).spec.start == "auto"
    found = read(tmp_path, text=RATED, more="budget: {trials: 500}\n")
    assert changes(made, dataclasses.replace(made, spec=without_run(found.spec))) == []


@pytest.mark.parametrize("more", ["start: none\n", "start: [{learning_rate: 2.0e-5}]\n"])
def test_another_start_in_the_yaml_is_another_sweep(tmp_path: Path, more: str) -> None:
    made = begun(tmp_path, "auto")
    found = read(tmp_path, text=RATED, more=more)
    assert [line.partition(":")[0] for line in changes(made, dataclasses.replace(made, spec=found.spec))] == ["start"]


def test_configurations_of_the_folder_are_not_silently_dropped(tmp_path: Path) -> None:
    made = begun(tmp_path, ({"learning_rate": 2e-5},))
    found = read(tmp_path, text=RATED)
    assert [line.partition(":")[0] for line in changes(made, dataclasses.replace(made, spec=found.spec))] == ["start"]


@pytest.mark.parametrize(
    ("asked", "auto", "shown"),
    [
        ({}, True, "true (auto: pretrained, sampler gp, pruner halving, eval_loss)"),
        ({"more": "stop: {auto: auto}\n"}, True, "true (auto: pretrained, sampler gp, pruner halving, eval_loss)"),
        ({"model": "{config: bert}"}, False, "false (auto: from scratch)"),
        ({"more": "budget: {trials: 101}\n"}, False, "false (auto: the sampler is tpe)"),
        ({"pruner": "halving, sampler: random"}, False, "false (auto: the sampler is random)"),
        ({"pruner": "median"}, False, "false (auto: the pruner is median)"),
        ({"more": "objective: {metric: eval_accuracy}\n"}, False, "false (auto: the objective is eval_accuracy)"),
    ],
)
def test_a_sweep_may_end_by_itself_where_that_was_measured(
    tmp_path: Path, asked: dict[str, Any], auto: bool, shown: str
) -> None:
    found = read(tmp_path, **asked)
    assert found.spec.stop.auto is auto
    assert found.defaults["stop.auto"] == shown


@pytest.mark.parametrize("auto", [True, False])
@pytest.mark.parametrize("model", ["org/encoder", "{config: bert}"])
def test_what_the_yaml_says_about_the_end_stands(tmp_path: Path, auto: bool, model: str) -> None:
    found = read(tmp_path, model=model, more=f"stop: {{auto: {str(auto).lower()}}}\n")
    assert found.spec.stop.auto is auto
    assert "stop.auto" not in found.defaults


@pytest.mark.parametrize("auto", ["yes", "1", "none", "0.5"])
def test_other_words_for_the_end_are_refused(tmp_path: Path, auto: str) -> None:
    with pytest.raises(SpecError, match="must be auto, true or false"):
        read(tmp_path, more=f"stop: {{auto: {auto}}}\n")


def with_runs(folder: Path, *stops: dict[str, Any]) -> None:
    """Write a folder `my` in which runs have begun with these conditions."""
    write_sampler(folder, sampler="gp")
    made = make_folders(folder / "my")
    for number, stop in enumerate(stops, start=1):
        values = {**run(number).to_json(), "stop": stop}
        (made.path / f"runs/{number:04d}.json").write_text(json.dumps(values), encoding="utf-8")


@pytest.mark.parametrize(
    ("first", "auto"),
    [({"target": None, "no_gain_trials": None}, False), ({"auto": True}, True), ({"auto": False}, False)],
    ids=["earlier version", "on", "off"],
)
def test_a_folder_ends_as_its_first_run_was_to_end(tmp_path: Path, first: dict[str, Any], auto: bool) -> None:
    with_runs(tmp_path, first, {"auto": not auto})
    found = read(tmp_path)
    assert found.spec.stop.auto is auto
    assert found.defaults["stop.auto"] == f"{str(auto).lower()} (auto: as the folder has it)"
    assert read(tmp_path, more=f"stop: {{auto: {str(not auto).lower()}}}\n").spec.stop.auto is not auto
    assert read(tmp_path, fresh=True).spec.stop.auto is True


def test_a_folder_without_runs_decides_nothing_about_the_end(tmp_path: Path) -> None:
    with_runs(tmp_path)
    assert read(tmp_path).spec.stop.auto is True
