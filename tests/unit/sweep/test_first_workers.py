"""Where the first workers will run is foreseen from the spec, and is then where they do run."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_records import record

from finesweep.folder.early_end import EarlyEnd, write_early_end
from finesweep.folder.sweep_folder import SweepFolder, make_folders
from finesweep.host.machine import Machine
from finesweep.launch.local import LocalLauncher, WorkerPlace
from finesweep.launch.profile import Profile
from finesweep.launch.ray.profile import RayProfile
from finesweep.model.source import ResolvedModel
from finesweep.spec import LoadedSpec
from finesweep.sweep import first_workers, worker_count
from finesweep.sweep.prepare import load
from finesweep.sweep.request import Request
from finesweep.trial import TrialState

SPEC = """model: {config: bert}
data: {train: a.csv, validation: b.csv}
budget: {trials: 6}
space: {learning_rate: {low: 1e-5, high: 1e-3}}
"""
CPU = Machine(4, (), 16.0)
GPU = Machine(8, ("3", "GPU-5a"), 64.0)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    def use(found: Machine) -> None:
        monkeypatch.setattr(Machine, "probe", lambda: found)

    use(CPU)
    return use


def loaded(folder: Path, request: Request | None = None, more: str = "") -> tuple[LoadedSpec, Request]:
    (folder / "my.yaml").write_text(SPEC + more, encoding="utf-8")
    request = request or Request(folder / "my.yaml", results=folder)
    return load(request, Profile()), request


def places(folder: Path, profile: Profile | None = None, known: SweepFolder | None = None, **request):
    spec, asked = loaded(folder, Request(folder / "my.yaml", results=folder, **request))
    return first_workers.foreseen(spec, asked, profile or Profile(), known)


def finish(folder: SweepFolder, trials: int) -> None:
    for trial in range(trials):
        folder.record(record(trial, state=TrialState.COMPLETE))


def test_on_cores_they_have_their_share_of_them(machine, tmp_path):
    assert places(tmp_path) == [WorkerPlace("", 1)] * 4
    assert places(tmp_path, workers=2) == [WorkerPlace("", 2)] * 2
    assert places(tmp_path, Profile(threads_per_worker=3)) == [WorkerPlace("", 3)]
    assert places(tmp_path, overrides=("budget.trials=1",)) == [WorkerPlace("", 4)]


@pytest.mark.parametrize(
    ("found", "count"),
    [(Machine(1, (), 16.0), 0), (Machine(4, (), 2.0), 0), (Machine(4, (), 3.1), 2), (Machine(2, (), 64.0), 2)],
    ids=["one core", "little memory", "some memory", "two cores"],
)
def test_there_are_no_more_than_a_machine_has_room_for_beside_the_preparation(machine, tmp_path, found, count):
    machine(found)
    assert len(places(tmp_path, workers=6)) == count


@pytest.mark.parametrize(
    ("found", "weights", "count"),
    [
        (Machine(4, (), 4.0), 0, 4),
        (Machine(4, (), 4.0), 90_000_000, 4),  # MiniLM
        (Machine(4, (), 4.0), 440_000_000, 1),  # BERT-base, whose step takes 2.8 GB
        (Machine(4, (), 3.0), 440_000_000, 0),
        (Machine(4, (), 6.0), 440_000_000, 4),
    ],
)
def test_once_the_model_is_found_there_are_no_more_than_leave_memory_to_its_step(
    machine, tmp_path, found, weights, count
):
    machine(found)
    spec, _ = loaded(tmp_path)
    with (tmp_path / "model.safetensors").open("wb") as stream:
        stream.truncate(weights)
    model = ResolvedModel("m", tmp_path, None, "d", {}, 512, files=(tmp_path / "model.safetensors",))
    four = [WorkerPlace("", 1)] * 4
    assert first_workers.beside_the_step(four, spec.spec, model) == four[:count]


def test_a_worker_elsewhere_is_not_started_ahead(machine, tmp_path):
    profile = RayProfile(launcher="ray", address="10.0.0.1:6379", workers=1)
    assert places(tmp_path, profile) == ()


def test_trials_that_have_finished_need_no_worker(machine, tmp_path):
    known = make_folders(tmp_path / "known")
    finish(known, 5)
    assert places(tmp_path, known=known) == [WorkerPlace("", 4)], "the one trial that is left has all cores"
    finish(known, 6)
    assert places(tmp_path, known=SweepFolder(known.path)) == ()
    assert len(places(tmp_path, known=SweepFolder(known.path), overrides=("budget.trials=8",))) == 2


def test_a_sweep_that_has_ended_early_needs_no_worker(machine, tmp_path):
    known = make_folders(tmp_path / "known")
    write_early_end(known, EarlyEnd(begun=3, left=3, wanted=6, best=0.5, gain=0.0, seeds=0.1))
    assert places(tmp_path, known=known, overrides=("stop.auto=true",)) == ()
    assert len(places(tmp_path, known=known, overrides=("stop.auto=true", "budget.trials=8"))) == 4
    assert len(places(tmp_path, known=known, overrides=("stop.auto=false",))) == 4


def test_on_gpus_they_have_one_thread_while_one_measures(machine, tmp_path):
    machine(GPU)
    assert places(tmp_path) == [WorkerPlace("3", 1), WorkerPlace("GPU-5a", 1)]
    assert places(tmp_path, workers=2) == [WorkerPlace("3", 4), WorkerPlace("GPU-5a", 4)], "nothing is measured then"
    assert places(tmp_path, smoke=True) == [WorkerPlace("3", 4), WorkerPlace("GPU-5a", 4)]
    assert places(tmp_path, Profile(gpus_per_trial=0)) == [WorkerPlace("", 1)] * 6


def test_if_all_trials_run_elsewhere_the_one_worker_sees_all_gpus(machine, tmp_path):
    machine(GPU)
    (found,) = places(tmp_path, overrides=("search.backend=ray", "search.pruner=none", "search.sampler=random"))
    assert (found.device, found.all_devices) == (None, True)


@pytest.mark.parametrize("found", [CPU, GPU], ids=["cores", "GPUs"])
@pytest.mark.parametrize("workers", [None, 1, 2])
def test_they_are_the_places_that_the_launcher_gives(machine, tmp_path, found, workers):
    """Otherwise the processes are dropped, and were started in vain."""
    machine(found)
    spec, _ = loaded(tmp_path)
    settled, question = worker_count.settled(Profile(), spec.spec, 6, workers), None
    if workers is None:
        settled, question = worker_count.measured(settled, spec.spec, SweepFolder(tmp_path / "none"), 6, 50)
    launcher, measures = LocalLauncher(), question is not None
    given = [launcher.place(settled, index, measures=measures, single_worker=False) for index in range(settled.workers)]
    assert places(tmp_path, workers=workers) == given
