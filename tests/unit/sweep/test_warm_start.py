"""A sweep starts from another one: its best are planned, and its trials tell the sampler without ranking here."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from made_records import COMPLETE, DIVERGED, FAILED, manifest, record, run

from finesweep.backends.optuna.study import FOREIGN, SweepStudy
from finesweep.doctor.next_spec import next_spec
from finesweep.errors import SpecError
from finesweep.files import write_json
from finesweep.folder import SweepFolder, sweep_folder
from finesweep.folder.foreign import Foreign, ForeignTrial, read_foreign
from finesweep.folder.manifest import Manifest, Repeat
from finesweep.results.board import read_board
from finesweep.spec import LoadedSpec, reader
from finesweep.spec.planned_trials import planned_trials
from finesweep.sweep import warm_start

SPACE = {"learning_rate": {"low": 1e-5, "high": 5e-5, "log": True}, "num_train_epochs": {"low": 2, "high": 5}}


def params(rate: float, epochs: int = 3) -> dict[str, Any]:
    return {"learning_rate": rate, "num_train_epochs": epochs}


def old_sweep(path: Path) -> SweepFolder:
    folder = sweep_folder.make_folders(path)
    write_json(folder.spec_file, manifest().to_json())
    for one in (
        record(0, 0.5, params=params(1e-5)),
        record(1, 0.3, params=params(3e-5)),
        record(2, 0.4, params=params(4e-5, 5)),
        record(3, params=params(5e-5), state=DIVERGED),
        record(4, params=params(5e-5), state=FAILED),
    ):
        write_json(folder.record_file(one.trial), one.to_json())
    return folder


def loaded(tmp_path: Path, **changes: Any) -> LoadedSpec:
    values = {
        "model": "org/encoder",
        "data": {"train": "/data/train.csv"},
        "search": {"pruner": "median", "seed": 7},
        "space": SPACE,
        "fixed": {"weight_decay": 0.01},
        "start": {"from": str(tmp_path / "old"), "top": 2},
        **changes,
    }
    file = tmp_path / "next.yaml"
    file.write_text(yaml.safe_dump(values))
    return reader.draft(file).finished()


def new_manifest(one: LoadedSpec) -> Manifest:
    sections = one.spec.model_dump(mode="json", exclude={"base", "name"})
    return manifest(spec={**sections, "search": {"pruner": "median", "seed": 7}})


def warmth(tmp_path: Path, **changes: Any) -> warm_start.Warmth:
    one = loaded(tmp_path, **changes)
    found = warm_start.read(one, new_manifest(one))
    assert found is not None
    return found


def test_the_best_are_planned_after_the_untuned_default(tmp_path: Path) -> None:
    old_sweep(tmp_path / "old")
    one = loaded(tmp_path)
    plan = planned_trials(one.spec, {}, 128, warmth(tmp_path).best)
    assert plan == [params(5e-5), params(3e-5), params(4e-5, 5)]


def test_trials_that_would_train_the_same_tell_the_sampler(tmp_path: Path) -> None:
    old_sweep(tmp_path / "old")
    found = warmth(tmp_path)
    assert [(one.trial, one.state) for one in found.foreign.trials] == [
        *((0, COMPLETE), (1, COMPLETE), (2, COMPLETE)),
        (3, DIVERGED),
    ]
    assert found.note == "start: 4 of 5 trials of old tell the sampler; its best 2 in this space are tried first."


def test_trials_outside_of_the_new_space_are_left_out(tmp_path: Path) -> None:
    old_sweep(tmp_path / "old")
    space = {**SPACE, "learning_rate": {"low": 2e-5, "high": 3.5e-5, "log": True}}
    found = warmth(tmp_path, space=space)
    assert [one.trial for one in found.foreign.trials] == [1]
    assert found.best == [params(3e-5)]


def test_another_fixed_setting_is_another_training(tmp_path: Path) -> None:
    old_sweep(tmp_path / "old")
    found = warmth(tmp_path, fixed={"weight_decay": 0.1})
    assert found.foreign.trials == ()
    assert len(found.best) == 2


def test_a_setting_that_was_fixed_takes_its_place_in_the_space(tmp_path: Path) -> None:
    old_sweep(tmp_path / "old")
    found = warmth(tmp_path, space={**SPACE, "weight_decay": {"low": 0.0, "high": 0.1}}, fixed={})
    assert found.foreign.trials[0].params == {**params(1e-5), "weight_decay": 0.01}


def test_values_of_another_objective_do_not_compare(tmp_path: Path) -> None:
    old_sweep(tmp_path / "old")
    found = warmth(tmp_path, objective={"metric": "eval_accuracy"})
    assert found.foreign.trials == ()
    assert "objective.direction differs" in found.note


def test_a_folder_that_is_no_sweep_is_a_problem_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"next.yaml:\d+.*no such folder"):
        warmth(tmp_path)
    again = dataclasses.replace(manifest(), planned=[params(1e-5)], repeats=(Repeat(0, 11),))
    write_json(old_sweep(tmp_path / "old").spec_file, again.to_json())
    with pytest.raises(SpecError, match=r"next.yaml:\d+.*is a confirmation itself; name the folder of its sweep"):
        warmth(tmp_path)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ({"from": "x", "best": 3}, "no such key"),
        ({"top": 3}, "from"),
        ({"from": "x", "top": -1}, "top"),
        (7, "start"),
    ],
)
def test_a_faulty_start_is_a_problem(tmp_path: Path, start: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        loaded(tmp_path, start=start)


def test_a_manifest_keeps_the_start_and_its_place_is_no_identity(tmp_path: Path) -> None:
    one, other = (new_manifest(loaded(tmp_path, start={"from": name, "top": 3})) for name in ("a", "b"))
    again = Manifest.read(one.to_json())
    assert again.spec.start == one.spec.start
    assert one.identity() == other.identity()


def test_foreign_trials_stand_in_the_study_below_zero(tmp_path: Path) -> None:
    folder = sweep_folder.make_folders(tmp_path / "new")
    trials = (ForeignTrial(7, COMPLETE, params(3e-5), 0.3), ForeignTrial(9, DIVERGED, params(5e-5), None))
    Foreign("/old", trials).write(folder)
    write_json(folder.record_file(0), record(0, 0.5, params=params(1e-5)).to_json())
    assert read_foreign(folder) == Foreign("/old", trials)
    others = SweepStudy(folder, manifest().spec, lambda _: None).others(1)
    assert [(one.number, one.user_attrs.get(FOREIGN)) for one in others] == [(-2, 7), (-1, 9), (0, None)]
    assert [one.value for one in others] == [0.3, None, 0.5]
    assert others[1].state is optuna.trial.TrialState.PRUNED


def test_foreign_trials_are_what_the_sampler_learns_from(tmp_path: Path) -> None:
    folder = sweep_folder.make_folders(tmp_path / "new")
    spread = [ForeignTrial(n, COMPLETE, params(1e-5 * 5 ** (n / 29)), abs(n - 15) / 15) for n in range(30)]
    Foreign("/old", tuple(spread)).write(folder)
    study = SweepStudy(folder, manifest().spec, lambda _: None)
    drawn = []
    for trial in range(20):
        found = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=trial))
        found.add_trials(study.others(trial))
        drawn.append(found.ask().suggest_float("learning_rate", 1e-5, 5e-5, log=True))
    middle = sorted(drawn)[5:15]  # without what it was told, half of them would lie between 1.5e-5 and 3.3e-5
    assert middle[0] > 1.7e-5
    assert middle[-1] < 3.0e-5


def test_foreign_trials_neither_rank_nor_count(tmp_path: Path) -> None:
    folder = old_sweep(tmp_path / "new")
    before = read_board(folder)
    Foreign("/old", (ForeignTrial(7, COMPLETE, params(3e-5), 0.01),)).write(folder)
    after = read_board(folder)
    assert (after.rows, after.summary) == (before.rows, before.summary)


def test_the_next_spec_of_the_doctor_can_be_read(tmp_path: Path) -> None:
    folder = old_sweep(tmp_path / "old")
    board = read_board(folder)
    text = next_spec(folder.path, board.manifest, [run()], board.findings)
    file = tmp_path / "next.yaml"
    file.write_text(text)
    spec = reader.draft(file).finished().spec
    assert spec.name == "sst2-next"
    assert (spec.budget, spec.search, spec.space) == (
        run().budget,
        board.manifest.spec.search,
        board.manifest.spec.space,
    )
    assert len(warmth(tmp_path, start=spec.start.model_dump()).best) == 3  # type: ignore[union-attr]
