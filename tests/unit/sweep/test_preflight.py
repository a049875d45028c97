"""How a spec, its data and its model fit, before anything is spent."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny
from finesweep.errors import SpecError
from finesweep.spec.reader import draft
from finesweep.sweep import prepare
from finesweep.sweep.preflight import Checked, check
from finesweep.sweep.request import Request
from finesweep.text import clean

pytestmark = pytest.mark.torch

SPEC = """\
model: ./model
data: {train: train.csv, validation: validation.csv}
space:
  learning_rate: {low: 1e-5, high: 5e-5, log: true}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny.write_csv(tmp_path / "train.csv", tiny.review_rows(60, seed=1))
    tiny.write_csv(tmp_path / "validation.csv", tiny.review_rows(20, seed=2))
    tiny.write_model_files(tmp_path / "model", max_position_embeddings=64)
    return tmp_path


def spec(folder: Path, text: str = SPEC) -> Path:
    file = folder / "spec.yaml"
    file.write_text(text)
    return file


def check_all(request: Request) -> Checked:
    """Check what `sweep validate` checks."""
    return prepare.check(request, prepare.profile_of(request))


def test_a_sound_spec_is_planned_with_its_data_and_its_model(folder: Path) -> None:
    checked = check(draft(spec(folder)).finished())
    manifest = checked.manifest()
    assert manifest.data.rows == {"train": 60, "validation": 20}
    assert manifest.data.labels == ["0", "1"]
    assert manifest.model.max_tokens == 64
    assert manifest.model.folder == folder / "model"
    assert list(manifest.planned) == [{"learning_rate": 5e-5}]
    assert "budget" not in manifest.spec
    assert "stop" not in manifest.spec


def planned_with(folder: Path, addition: str = "") -> Checked:
    """Check a spec with a wide range of learning rates as `sweep run` does; the model is 4 wide."""
    request = Request(spec(folder, SPEC.replace("5e-5", "1e-1") + addition), results=folder)
    return check(prepare.load(request, prepare.profile_of(request)))


def test_known_good_values_are_planned_for_the_models_width_and_told(folder: Path) -> None:
    checked = planned_with(folder)
    assert [params["learning_rate"] for params in checked.planned] == [5e-5, 5.76e-3, 8.26e-3, 3.84e-3]
    assert checked.manifest().to_json()["spec"]["start"] == "auto"
    told = "start: auto tries known good values first (learning_rate): 0.00576; 0.00826; 0.00384. "
    assert [note for note in checked.notes if note.startswith("start")] == [f"{told}start: none turns that off."]


def test_the_known_good_values_fit_on_the_screen(folder: Path) -> None:
    space = "  num_train_epochs: {low: 2, high: 5}\n  per_device_train_batch_size: {choices: [8, 16, 32]}\n"
    others = "  weight_decay: {low: 0.0, high: 0.1}\n  adam_beta1: {low: 0.8, high: 0.9}\n"
    (told,) = (note for note in planned_with(folder, space + others).notes if note.startswith("start"))
    assert clean(told) == (
        "start: auto tries known good values first (learning_rate, num_train_epochs, per_device_train_batch_size): "
        "0.00576, 3, 16; 0.00576, 4, 8; 0.00826, 3, 32; 0.00384, 4, 8. start: none turns that off."
    )


@pytest.mark.parametrize("addition", ["start: none\n", "search: {sampler: random}\n", "budget: {trials: 2}\n"])
def test_where_no_values_are_tried_first_nothing_is_told(folder: Path, addition: str) -> None:
    checked = planned_with(folder, addition)
    assert len(checked.planned) == 1
    assert not any(note.startswith("start") for note in checked.notes)


@pytest.mark.parametrize(
    ("addition", "where"),
    [
        ("data: {train: train.csv, max_length: 65}", r"spec\.yaml:2 data\.max_length"),
        ("fixed: {data.max_length: 65}", r"spec\.yaml:5 fixed\.data\.max_length"),
    ],
)
def test_a_length_beyond_the_models_is_refused(folder: Path, addition: str, where: str) -> None:
    lines = SPEC.splitlines()
    text = "\n".join([lines[0], addition, *lines[2:]] if addition.startswith("data") else [*lines, addition])
    with pytest.raises(SpecError, match=where + r": 65 tokens is beyond the model's 64 \(write at most 64\)"):
        check(draft(spec(folder, text)).finished())


@pytest.mark.parametrize("parameter", ["{choices: [32, 65]}", "{low: 16, high: 65}"])
def test_a_searched_length_beyond_the_models_is_refused(folder: Path, parameter: str) -> None:
    with pytest.raises(SpecError, match=r"spec\.yaml:5 space\.data\.max_length: 65 tokens is beyond"):
        check(draft(spec(folder, SPEC + f"  data.max_length: {parameter}\n")).finished())


def test_a_length_that_just_fits_is_taken(folder: Path) -> None:
    checked = check(draft(spec(folder, SPEC + "fixed: {data.max_length: 64}\n")).finished())
    assert checked.model.max_tokens == 64


@pytest.mark.parametrize(
    ("setting", "noted"),
    [
        ("  per_device_train_batch_size: {choices: [8, 60]}", True),
        ("  per_device_train_batch_size: {low: 8, high: 60}", True),
        ("fixed: {per_device_train_batch_size: 60}", True),
        ("  per_device_train_batch_size: {choices: [8, 59]}", False),
    ],
)
def test_a_batch_of_all_rows_is_noted(folder: Path, setting: str, noted: bool) -> None:
    notes = check(draft(spec(folder, f"{SPEC}{setting}\n")).finished()).notes
    assert any("an epoch is a single step" in note for note in notes) == noted


def test_what_each_searched_length_cuts_is_noted_before_anything_is_trained(folder: Path) -> None:
    scratch = SPEC.replace("model: ./model", "model: {config: bert, vocab_size: 300}")
    assert scratch != SPEC
    notes = check(draft(spec(folder, scratch + "  data.max_length: {choices: [4, 64]}\n")).finished()).notes
    (told,) = [note for note in notes if note.startswith("data.max_length: ")]
    assert "4 tokens cut 100 % of the texts" in told
    assert "64 tokens cut none" in told


def test_problems_of_data_and_model_are_told_at_once(folder: Path) -> None:
    (folder / "model/config.json").unlink()
    text = SPEC.replace("train.csv,", "train.csv, text: review,")
    with pytest.raises(SpecError) as caught:
        check(draft(spec(folder, text)).finished())
    messages = str(caught.value)
    assert "data.text" in messages
    assert "config.json" in messages


def test_a_folder_whose_files_are_damaged_is_refused_without_torch(folder: Path) -> None:
    import subprocess
    import sys

    (folder / "model/model.safetensors").write_bytes(b"")
    code = (
        "import sys; from pathlib import Path; from finesweep.sweep.preflight import check; "
        "from finesweep.spec.reader import draft\n"
        "try: check(draft(Path(sys.argv[1])).finished())\n"
        "except ValueError as error: print('weights file damaged' in str(error), 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(spec(folder))]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "True False"


def test_a_model_inside_the_results_folder_is_refused(folder: Path) -> None:
    inside = folder / "results/spec/winner"
    tiny.write_model_files(inside, max_position_embeddings=64)
    request = Request(spec(folder, SPEC.replace("./model", str(inside))), results=folder / "results")
    with pytest.raises(SpecError, match=r"model: .* lies inside .*results/spec"):
        check_all(request)


def test_checking_writes_nothing(folder: Path) -> None:
    file = spec(folder, SPEC.replace("./model", "{config: bert}"))
    before = sorted(folder.rglob("*"))
    check_all(Request(file, results=folder / "results"))
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    "broken",
    [
        "search: {sampler: tpee}",
        "search: 5",
        "objective: {metric: eval_acc}",
        "budget: {trials: 0}",
        "stop: {target: best}",
        "patience: never",
        "pruning: {factor: 1}",
        "evaluation: {rows: 0}",
        "start: [{learning_rat: 1e-5}]",
        "fixed: {optim: [sgd]}",
        "surplus: 1",
    ],
)
def test_no_broken_section_hides_columns_and_settings(folder: Path, broken: str) -> None:
    text = SPEC.replace("train.csv,", "train.csv, label: stars,") + f"  model.droput: {{choices: [0.1]}}\n{broken}\n"
    with pytest.raises(SpecError) as caught:
        check_all(Request(spec(folder, text), results=folder / "results"))
    found = str(caught.value)
    assert f"spec.yaml:6 {broken.partition(':')[0]}" in found
    assert "spec.yaml:2 data.label: train.csv has no column 'stars'" in found
    assert "spec.yaml:5 space.model.droput: the config of bert has no such field" in found


def test_an_unknown_key_of_the_data_hides_no_column(folder: Path) -> None:
    text = SPEC.replace("train.csv,", "train.csv, label: stars, max_lenght: 8,")
    with pytest.raises(SpecError) as caught:
        check_all(Request(spec(folder, text), results=folder / "results"))
    found = str(caught.value)
    assert "spec.yaml:2 data.max_lenght: no such key (did you mean max_length?)" in found
    assert "spec.yaml:2 data.label: train.csv has no column 'stars'" in found


@pytest.mark.parametrize(
    ("old", "new", "others"),
    [
        ("./model", "{nam: model}", ["data.label"]),
        ("data: {", "data: {colour: red, ", ["space.model.droput", "fixed.optim"]),
        ("task: text-regression", "task: translation", ["space.model.droput", "fixed.optim"]),
        ("learning_rate:", "learning_rat:", ["data.label", "space.model.droput", "fixed.optim"]),
        ("./model", "./modell", ["data.label", "fixed.optim"]),
    ],
)
def test_a_broken_stage_hides_no_stage_beside_it(folder: Path, old: str, new: str, others: list[str]) -> None:
    text = f"task: text-regression\n{SPEC}  model.droput: {{choices: [0.1]}}\nfixed: {{optim: [sgd]}}\n"
    text = text.replace("train.csv,", "train.csv, label: stars,").replace(old, new)
    (folder / "profile.yaml").write_text("launcher: locl\nworkers: -3\n")
    request = Request(spec(folder, text), profile=folder / "profile.yaml", results=folder / "results")
    with pytest.raises(SpecError) as caught:
        prepare.profile_of(request)
    places = [problem.where.split(" ")[1] for problem in caught.value.problems]
    assert places[-2:] == ["launcher", "workers"]
    assert set(others) <= set(places)
