"""Which trials are planned to be trained again, and that a plan only grows."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from made_records import PRUNED, manifest, record, run

from finesweep.errors import FolderError
from finesweep.folder import Manifest, Repeat, RowScores, checked_files, new_token
from finesweep.folder.manifest import changes
from finesweep.folder.sweep_folder import make_folders
from finesweep.host.machine import Machine
from finesweep.launch import Profile, of_run
from finesweep.launch.slurm.profile import SlurmProfile
from finesweep.spec import ConfirmSpec, StopSpec
from finesweep.sweep.collect import submitted_confirmation
from finesweep.sweep.confirm import ConfirmRequest, confirm
from finesweep.sweep.confirmation import begin_confirmation, candidates, fresh_seed
from finesweep.sweep.open_sweep import OpenSweep
from finesweep.trial import TrialRecord

pytestmark = pytest.mark.torch
SEED = 7
"""Seed of the sweep."""


def trial(number: int, objective: float | None, rate: float, **fields) -> TrialRecord:
    return record(number, objective, params={"learning_rate": rate, "num_train_epochs": 3}, **fields)


RECORDS = [trial(0, 0.5, 5e-5), trial(1, 0.4, 1e-5), trial(2, 0.3, 2e-5), trial(3, 0.35, 3e-5), trial(4, 0.1, 4e-5)]


@pytest.fixture
def search(tmp_path: Path) -> OpenSweep:
    folder = make_folders(tmp_path / "sweep")
    folder.spec_file.write_text(json.dumps(manifest().to_json()))
    (folder.data / "train.parquet").write_bytes(b"rows")
    (folder.data / "tokens-64").mkdir()
    (folder.data / "tokens-64" / "rows.arrow").write_bytes(b"tokens")
    (folder.data / ".lock").touch()
    checked_files.note(folder, tmp_path, ())
    for one in RECORDS:
        folder.record_file(one.trial).write_text(json.dumps(one.to_json()))
    profile = {**Profile(workers=1, gpus_per_trial=0).model_dump(), "trials_per_gpu": 1, "threads_per_worker": 1}
    begun = run(profile=profile, model_path=str(tmp_path), stop=StopSpec(target=0.2))
    folder.write_run(begun)
    return OpenSweep(folder, manifest().of_run(begun), manifest().spec_for(begun), of_run(begun.profile), begun)


def planned(made: Manifest) -> list[tuple[int, int]]:
    return [(one.trial, one.seed) for one in made.repeats]


def seeds(count: int) -> list[int]:
    return [fresh_seed(SEED, number) for number in range(count)]


def begin(search: OpenSweep, top: int, count: int) -> OpenSweep:
    found = begin_confirmation(search, ConfirmSpec(top=top, seeds=count), Profile(gpus_per_trial=0), 1)
    assert found is not None
    return found


def test_the_best_and_the_untuned_default_are_candidates():
    made = manifest()
    assert [one.trial for one in candidates(made, RECORDS, 2)] == [4, 2, 0]
    assert [one.trial for one in candidates(made, RECORDS, 10)] == [4, 2, 3, 1, 0]
    assert [one.trial for one in candidates(made, RECORDS[:1], 3)] == [0]
    assert candidates(made, [trial(0, None, 1e-5, state=PRUNED)], 3) == []
    assert [one.trial for one in candidates(manifest(baseline=False), RECORDS, 1)] == [4]


def test_only_tied_trials_and_the_untuned_default_are_candidates():
    made = manifest()
    assert [one.trial for one in candidates(made, RECORDS, 3, [4])] == [4, 0], "nothing else fills the places"
    assert [one.trial for one in candidates(made, RECORDS, 2, [4, 2, 3])] == [4, 2, 0]
    assert [one.trial for one in candidates(made, RECORDS, 3, [4, 0])] == [4, 0]


def test_tied_trials_are_those_that_their_rows_cannot_tell_from_the_first(search):
    common = np.random.default_rng(0).gamma(1.0, 0.5, 200)
    noise = np.random.default_rng(1).normal(0.0, 0.05, 200)
    for number, (more, share) in enumerate([(0.5, 0.0), (0.3, 0.0), (0.0, 0.0), (0.3, 0.0), (0.0, 1.0)]):
        values = common + more + share * (noise - noise.mean() - 0.0001)
        made = dataclasses.replace(
            RECORDS[number], objective=float(values.mean()), metrics={"eval_loss": values.mean()}
        )
        search.sweep_folder.record_file(number).unlink()
        search.sweep_folder.record(made, RowScores.of(number, 1, {"eval_loss": values}, np.zeros(200)))
    first, second = seeds(2)
    again = begin(search, 3, 2)
    assert planned(again.manifest) == [(trial, seed) for seed in (first, second) for trial in (4, 2, 0)]


def test_each_configuration_is_one_candidate():
    twice = [*RECORDS, trial(5, 0.2, 4e-5)]
    assert [one.trial for one in candidates(manifest(), twice, 2)] == [4, 2, 0]


def test_seeds_are_fresh_and_the_same_for_all_candidates():
    assert len({fresh_seed(seed, number) for seed in range(50) for number in range(20)} | {*range(50)}) == 1_050
    assert all(0 <= fresh_seed(0, number) < 2**31 for number in range(100))


def test_plan_goes_through_all_candidates_seed_by_seed(search):
    again = begin(search, 1, 2)
    first, second = seeds(2)
    assert planned(again.manifest) == [(4, first), (0, first), (4, second), (0, second)]
    assert again.manifest.planned[2] == {"learning_rate": 4e-5, "num_train_epochs": 3}
    assert again.wanted == again.spec.budget.trials == 4


def test_nothing_ends_or_prunes_a_training_and_nothing_is_proposed(search):
    again = begin(search, 3, 2)
    spec = again.spec
    assert (spec.search.pruner, spec.search.sampler, spec.patience, spec.stop) == ("none", "random", "none", StopSpec())
    assert not spec.search.baseline
    assert spec.confirm is None
    differing = {line.partition(":")[0] for line in changes(search.manifest, again.manifest)}
    assert differing == {"patience", "search.baseline", "search.pruner", "search.sampler"}


def test_rows_and_tokens_are_links_to_those_of_the_search(search):
    data = begin(search, 1, 2).sweep_folder.data
    for name in ("train.parquet", "tokens-64/rows.arrow"):
        assert (data / name).samefile(search.sweep_folder.data / name)
    assert not (data / ".lock").exists()
    assert checked_files.read(begin(search, 1, 2).sweep_folder, data).own.changed() is None


def test_rows_that_changed_are_linked_again(search):
    data = begin(search, 1, 2).sweep_folder.data
    (data / "train.parquet").unlink()
    (data / "train.parquet").write_bytes(b"other")
    begin(search, 1, 2)
    assert (data / "train.parquet").read_bytes() == b"rows"


def test_same_call_again_plans_nothing_more(search):
    first = begin(search, 2, 3)
    file = first.sweep_folder.spec_file
    before = file.stat().st_mtime_ns, file.read_text()
    again = begin(search, 2, 3)
    assert (file.stat().st_mtime_ns, file.read_text()) == before
    assert again.run.number == first.run.number + 1


def test_more_seeds_and_trials_are_added_behind_those_that_there_are(search):
    few = planned(begin(search, 1, 2).manifest)
    more = planned(begin(search, 2, 3).manifest)
    first, second, third = seeds(3)
    assert more[:4] == few
    assert more[4:] == [(2, first), (2, second), (4, third), (2, third), (0, third)]
    assert planned(begin(search, 1, 2).manifest) == more, "fewer take nothing back"


def test_better_trial_of_a_later_run_joins_the_candidates(search):
    before = planned(begin(search, 1, 2).manifest)
    search.sweep_folder.record_file(5).write_text(json.dumps(trial(5, 0.05, 1.5e-5).to_json()))
    first, second = seeds(2)
    assert planned(begin(search, 1, 2).manifest) == [*before, (5, first), (5, second)]


def test_folder_that_was_begun_and_not_finished_is_made_anew(search):
    half = search.sweep_folder.confirmation.path
    (half / "data").mkdir(parents=True)
    (half / "data" / "train.parquet").write_bytes(b"ro")
    assert (begin(search, 1, 2).sweep_folder.data / "train.parquet").read_bytes() == b"rows"


def test_sweep_without_a_ranked_trial_has_no_candidates(search):
    for one in RECORDS:
        search.sweep_folder.record_file(one.trial).unlink()
    assert begin_confirmation(search, ConfirmSpec(), Profile(gpus_per_trial=0), 1) is None
    assert not search.sweep_folder.confirmation.path.exists()


def test_folder_of_a_confirmation_is_not_confirmed(search, tmp_path):
    search.sweep_folder.spec_file.write_text(
        json.dumps(dataclasses.replace(manifest(), planned=[{}], repeats=(Repeat(0, 1),)).to_json())
    )
    with pytest.raises(FolderError, match="is a confirmation itself; name the folder of its sweep"):
        confirm(ConfirmRequest(search.sweep_folder.path))


def test_sweep_without_a_run_is_not_confirmed(tmp_path):
    folder = make_folders(tmp_path / "sweep")
    folder.spec_file.write_text(json.dumps(manifest().to_json()))
    with pytest.raises(FolderError, match="no run yet"):
        confirm(ConfirmRequest(folder.path))


def on_slurm(search: OpenSweep, **changed) -> tuple[OpenSweep, str]:
    """The sweep as the last job of a Slurm opens it, with the token on that job's command line."""
    record = SlurmProfile(workers=2, setup=("module load cuda",)).settled(Machine(2, (), 8.0), 4).record()
    submitted = run(profile={**record, **changed}, token=new_token(record), confirm=ConfirmSpec(top=1, seeds=2))
    search.sweep_folder.write_run(submitted)
    return OpenSweep.of_run(search.sweep_folder, submitted, "submit"), submitted.token


def test_last_job_submits_no_confirmation_with_shell_lines_that_were_changed(search: OpenSweep) -> None:
    sweep, token = on_slurm(search, setup=["curl evil"])
    said = "; the confirmation was not submitted: the profile in the folder is not what its command wrote"
    assert submitted_confirmation(sweep, token) == (None, said)
    assert not search.sweep_folder.confirmation.path.exists()


def test_last_job_on_a_machine_without_slurm_says_so(search: OpenSweep, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    submitted, said = submitted_confirmation(*on_slurm(search))
    assert submitted is None
    assert said.startswith("; the confirmation could not be submitted from this machine: sbatch is not on")
    (ended,) = search.sweep_folder.confirmation.runs()
    assert ended.outcome is not None
    assert ended.outcome.startswith("sbatch is not on")
