"""Launch profiles are closed, say what is wrong, and settle to numbers that fit the machine."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep.errors import FolderError, SpecError
from finesweep.host.machine import Machine
from finesweep.launch.profile import MAX_CHOSEN, MAX_PER_GPU, MOST_WORKERS, NUMBERS, Limits, Profile, load, of_run

LAPTOP = Machine(cores=8, gpus=(), memory_gb=16.0)
BOX = Machine(cores=64, gpus=("0", "1", "2", "3"), memory_gb=256.0)


def write(folder: Path, text: str) -> Path:
    file = folder / "p.yaml"
    file.write_text(text)
    return file


def settled(machine: Machine, trials: int = 100, workers: int | None = None, **keys) -> tuple[int, int, int]:
    """Return the workers, the GPUs of each trial, and the threads of each worker."""
    found = Profile(**keys).settled(machine, trials, workers)
    return found.workers, found.gpus_per_trial, found.threads_per_worker


def test_without_a_profile_everything_runs_here():
    assert load(None) == Profile(
        launcher="local",
        workers="auto",
        gpus_per_trial="auto",
        trials_per_gpu="auto",
        threads_per_worker="auto",
        memory_gb=None,
        keep_best=1,
        retries=2,
        stall_minutes=15.0,
        limits=Limits(trial_minutes=None, disk_gb=None, states_gb=None, states="auto"),
    )


def test_every_key_is_read(tmp_path):
    text = (
        "launcher: local\nworkers: 3\ngpus_per_trial: 0\ntrials_per_gpu: 2\nthreads_per_worker: 4\nmemory_gb: 2.5\n"
        "keep_best: 5\nretries: 0\nstall_minutes: 1\nlimits: {trial_minutes: 90, disk_gb: 0.5, states_gb: 0}\n"
        "shared: group\n"
    )
    found = load(write(tmp_path, text)).model_dump()
    assert list(found.values()) == [
        *("local", 3, 0, 2, 4, 2.5, 5, 0, 1.0),
        "group",
        {"trial_minutes": 90.0, "disk_gb": 0.5, "states_gb": 0.0, "states": "auto"},
    ]


@pytest.mark.parametrize("key", Profile.model_fields)
def test_a_key_without_a_value_is_left_out(tmp_path, key):
    assert load(write(tmp_path, f"{key}:\n")) == Profile()


def test_an_unknown_key_names_the_line_and_the_nearest_one(tmp_path):
    with pytest.raises(SpecError, match=r"p\.yaml:2 keep_bst: no such key; there are .*did you mean keep_best\?"):
        load(write(tmp_path, "launcher: local\nkeep_bst:\n"))


@pytest.mark.parametrize("value", ["postgresql://db/sweeps", "null", ""])
@pytest.mark.parametrize("launcher", ["local", "slurm", "ray"])
def test_a_key_of_an_earlier_version_is_said_to_be_no_longer_needed(tmp_path, launcher, value):
    with pytest.raises(SpecError) as caught:
        load(write(tmp_path, f"launcher: {launcher}\nstorage: {value}\n"))
    said = [str(problem) for problem in caught.value.problems if "storage" in problem.where]
    assert len(said) == 1
    assert said[0].endswith(
        "p.yaml:2 storage: is no longer needed, since the study is made of the sweep's own records; take this line out"
    )


def test_a_run_of_an_earlier_version_is_read():
    values = Profile().model_dump()
    assert of_run({**values, "storage": None}) == of_run(values)


def test_an_unknown_limit_names_the_line_and_the_nearest_one(tmp_path):
    known = r"trial_minutes, disk_gb, states_gb, states \(did you mean disk_gb\?\)"
    message = rf"p\.yaml:3 limits\.disk_bg: no such key; there are {known}"
    with pytest.raises(SpecError, match=message):
        load(write(tmp_path, "limits:\n  trial_minutes: 5\n  disk_bg: 5\n"))


def test_a_limit_outside_its_section_is_told_where_it_stands(tmp_path):
    with pytest.raises(SpecError, match=r"p\.yaml:1 disk_gb: no such key; .*\(it stands in limits, as \{trial_minutes"):
        load(write(tmp_path, "disk_gb: 5\n"))


def test_every_problem_is_listed(tmp_path):
    with pytest.raises(SpecError) as caught:
        load(write(tmp_path, "workers: 0\nlimits: {disk_gb: -1}\nretries: 11\nwrokers: 1\n"))
    lines = {re.search(r":(\d) ", problem.where)[1] for problem in caught.value.problems}
    assert lines == {"1", "2", "3", "4"}


def test_an_unknown_launcher_lists_the_choices(tmp_path):
    with pytest.raises(SpecError, match=r"p\.yaml:1 launcher: no launcher is called 'slrm'; there are local"):
        load(write(tmp_path, "launcher: slrm\n"))


@pytest.mark.parametrize("value", ["0", "many", "1.5", "true", "-1", "1025", "[2]", "'2'"])
@pytest.mark.parametrize("key", ["workers", "threads_per_worker"])
def test_workers_and_threads_are_a_number_or_auto(tmp_path, key, value):
    with pytest.raises(SpecError, match=rf"p\.yaml:1 {key}: must be auto or an integer from 1 to 1,0\d\d, found \w+ "):
        load(write(tmp_path, f"{key}: {value}\n"))


@pytest.mark.parametrize("value", ["2", "8"])
def test_several_gpus_for_a_trial_are_refused_with_what_there_is_instead(tmp_path, value):
    message = r"p\.yaml:1 gpus_per_trial: more than one GPU per trial is not supported yet; .*trials_per_gpu"
    with pytest.raises(SpecError, match=message):
        load(write(tmp_path, f"gpus_per_trial: {value}\n"))


@pytest.mark.parametrize("value", ["-1", "0.5", "true", "all"])
def test_a_trial_has_a_gpu_or_none(tmp_path, value):
    with pytest.raises(SpecError, match=r"gpus_per_trial: must be auto or an integer from 0 to 1, found \w+ "):
        load(write(tmp_path, f"gpus_per_trial: {value}\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("keep_best: 0", "keep_best: must be at least 1, found integer 0"),
        ("trials_per_gpu: 65", "trials_per_gpu: must be auto or an integer from 1 to 64, found integer 65"),
        ("trials_per_gpu: 0", "trials_per_gpu: must be auto or an integer from 1 to 64, found integer 0"),
        ("memory_gb: 0", "memory_gb: must be above 0, found integer 0"),
        ("memory_gb: .inf", "memory_gb: must be a finite number, found number inf"),
        ("retries: -1", "retries: must be at least 0, found integer -1"),
        ("stall_minutes: 0", "stall_minutes: must be above 0, found integer 0"),
        ("limits: {trial_minutes: soon}", "limits.trial_minutes: expected a number, found text 'soon'"),
        (
            "limits: 5",
            "limits: expected a mapping, found integer 5 (as {trial_minutes: ..., disk_gb: ..., states_gb: ...})",
        ),
        ("limits: {states: ram}", "limits.states: must be 'auto', 'memory' or 'disk', found text 'ram'"),
        ("limits: {states_gb: -0.1}", "limits.states_gb: must be at least 0, found number -0.1"),
        ("limits: {states_gb: .inf}", "limits.states_gb: must be a finite number, found number inf"),
    ],
)
def test_a_value_out_of_range_is_named_with_the_range(tmp_path, text, message):
    with pytest.raises(SpecError, match=re.escape(f"p.yaml:1 {message}")):
        load(write(tmp_path, text))


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, (8, 0, 1)),
        ({"workers": 2}, (2, 0, 4)),
        ({"workers": 3}, (3, 0, 2)),
        ({"workers": 20}, (20, 0, 1)),
        ({"threads_per_worker": 3}, (2, 0, 3)),
        ({"threads_per_worker": 100}, (1, 0, 100)),
        ({"memory_gb": 5.0}, (3, 0, 2)),
        ({"memory_gb": 50.0}, (1, 0, 8)),
        ({"memory_gb": 5.0, "workers": 4}, (4, 0, 2)),
        ({"gpus_per_trial": 0}, (8, 0, 1)),
    ],
)
def test_auto_on_a_machine_without_gpu(keys, expected):
    assert settled(LAPTOP, **keys) == expected


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, (4, 1, 16)),
        ({"trials_per_gpu": 2}, (8, 1, 8)),
        ({"trials_per_gpu": 2, "workers": 5}, (5, 1, 12)),
        ({"workers": 1}, (1, 1, 64)),
        ({"gpus_per_trial": 0}, (25, 0, 2)),
        ({"gpus_per_trial": 0, "threads_per_worker": 1}, (64, 0, 1)),
        ({"threads_per_worker": 2}, (4, 1, 2)),
        ({"memory_gb": 100.0}, (2, 1, 32)),
    ],
)
def test_auto_on_a_machine_with_four_gpus(keys, expected):
    assert settled(BOX, **keys) == expected


def test_many_workers_are_for_many_trials():
    wide = Machine(64, (), 512.0)
    assert [settled(wide, trials=trials)[0] for trials in (40, 100, 1000)] == [MAX_CHOSEN + 2, 25, MOST_WORKERS]
    assert settled(wide, trials=30) == (MAX_CHOSEN, 0, 8)


@pytest.mark.parametrize(
    ("machine", "trials", "keys", "reason"),
    [
        (LAPTOP, 100, {}, "one for each of 8 cores"),
        (Machine(1, (), 16.0), 100, {}, "one for each of 1 core"),
        (LAPTOP, 3, {}, "no more trials are left"),
        (Machine(64, (), 512.0), 20, {}, "more than 8 only where each has 4 trials, and 32 at most"),
        (LAPTOP, 100, {"threads_per_worker": 3}, "8 cores with threads_per_worker: 3"),
        (LAPTOP, 100, {"memory_gb": 5.0}, "16.0 GB of memory, memory_gb 5 GB for each"),
        (LAPTOP, 100, {"workers": 2}, ""),
        (BOX, 100, {}, ""),
    ],
)
def test_why_it_is_so_many_workers(machine, trials, keys, reason):
    assert Profile(**keys).reason(machine, trials) == reason


def test_a_large_model_has_fewer_workers():
    assert Profile().settled(LAPTOP, 100, trial_gb=6.0).workers == 2
    assert Profile().settled(LAPTOP, 100, trial_gb=60.0).workers == 1
    assert Profile().reason(LAPTOP, 100, 6.0) == "16.0 GB of memory, about 6 GB for each"
    assert Profile(memory_gb=2.0).settled(LAPTOP, 100, trial_gb=6.0).workers == 8, "memory_gb says it"
    assert Profile(workers=8).settled(LAPTOP, 100, trial_gb=6.0).workers == 8
    assert Profile().settled(BOX, 100, trial_gb=200.0).workers == 4, "on GPUs it is measured"


def test_the_command_line_replaces_the_number_of_workers():
    assert settled(LAPTOP, workers=2) == (2, 0, 4)
    assert Profile(workers=7).settled(LAPTOP, 100, workers=2).workers == 2


def test_there_are_no_more_workers_than_trials():
    assert settled(LAPTOP, trials=3) == (3, 0, 2)
    assert settled(BOX, trials=1, workers=4) == (1, 1, 64)
    assert settled(LAPTOP, trials=0) == (1, 0, 8)


def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(SpecError, match=r"^gpus_per_trial: 1 is asked for, and no GPU was found .*\(auto takes one"):
        Profile(gpus_per_trial=1).settled(LAPTOP, 10)


@pytest.mark.parametrize("gpus", [1, "auto"])
def test_more_workers_than_places_on_gpus_are_refused_with_what_would_fit(gpus):
    message = (
        r"^workers: 9 are asked for, and 4 GPUs with trials_per_gpu: 2 have place for 8 "
        r"\(trials_per_gpu: 3 shares them; gpus_per_trial: 0 uses none\)$"
    )
    with pytest.raises(SpecError, match=message):
        Profile(gpus_per_trial=gpus, workers=9, trials_per_gpu=2).settled(BOX, trials=3)
    assert settled(BOX, gpus_per_trial=gpus, workers=9, trials_per_gpu=3)[0] == 9
    assert settled(BOX, gpus_per_trial=0, workers=9, trials_per_gpu=2)[0] == 9


def test_a_number_of_workers_says_how_many_share_a_gpu_where_nothing_else_does():
    found = Profile(workers=9).settled(BOX, trials=100)
    assert (found.workers, found.trials_per_gpu) == (9, 3)
    assert Profile().settled(BOX, trials=100, workers=4).trials_per_gpu == 1
    assert Profile(trials_per_gpu=5).settled(BOX, trials=100, workers=4).trials_per_gpu == 5
    assert Profile(workers=9).settled(LAPTOP, trials=100).trials_per_gpu == 1


def test_the_message_names_the_option_where_that_asked():
    with pytest.raises(SpecError, match=r"^--workers: 900 are asked for.*\(at most 256 can run; gpus_per_trial: 0"):
        Profile().settled(BOX, trials=1000, workers=900)


def test_a_settled_profile_survives_its_record():
    found = Profile(memory_gb=4.0, limits=Limits(disk_gb=2.0)).settled(BOX, 100)
    again = of_run(json.loads(json.dumps(found.record())))
    assert again.record() == found.record()
    assert (again.workers, again.gpus_per_trial, again.trials_per_gpu, again.threads_per_worker) == (4, 1, 1, 16)
    assert (again.asked.memory_gb, again.asked.limits) == (4.0, Limits(disk_gb=2.0))


def test_a_record_holds_a_number_for_each_key_that_may_be_auto():
    autos = {name for name, value in Profile().model_dump().items() if value == "auto"}
    assert autos == set(NUMBERS)
    assert list(Profile().settled(BOX, 100).record()) == list(Profile.model_fields)


@pytest.mark.parametrize("launcher", ["local", "ray"])
@pytest.mark.parametrize("key", NUMBERS)
def test_auto_in_the_record_of_an_earlier_version_is_the_least(launcher, key):
    values = {"launcher": launcher, **dict.fromkeys(NUMBERS, 1), key: "auto"}
    found = of_run(values)
    assert getattr(found, key) == (0 if key == "gpus_per_trial" else 1)
    assert all(type(getattr(found, name)) is int for name in NUMBERS)


def test_a_record_that_is_no_profile_is_refused():
    with pytest.raises(FolderError, match=r"^the run's profile: workers: .*must be auto or an integer from 1 to 1,000"):
        of_run({"workers": 0})


MACHINES = st.builds(
    Machine,
    cores=st.integers(1, 256),
    gpus=st.lists(st.integers(0, 15).map(str), max_size=8, unique=True).map(tuple),
    memory_gb=st.floats(0.5, 2000),
)


@given(
    machine=MACHINES,
    trials=st.integers(0, 2000),
    threads=st.one_of(st.just("auto"), st.integers(1, 64)),
    trials_per_gpu=st.integers(1, 64),
    memory_gb=st.one_of(st.none(), st.floats(0.1, 500)),
    gpus=st.sampled_from(["auto", 0]),
)
def test_what_is_left_to_finesweep_fits_the_machine(machine, trials, threads, trials_per_gpu, memory_gb, gpus):
    asked = Profile(threads_per_worker=threads, trials_per_gpu=trials_per_gpu, memory_gb=memory_gb, gpus_per_trial=gpus)
    found = asked.settled(machine, trials)
    workers = found.workers
    assert 1 <= workers <= max(trials, 1)
    assert of_run(json.loads(json.dumps(found.record()))).record() == found.record()
    if found.gpus_per_trial:
        assert workers <= len(machine.gpus) * trials_per_gpu
    else:
        assert workers * found.threads_per_worker <= max(machine.cores, workers, found.threads_per_worker)
    if threads == "auto":
        assert workers * found.threads_per_worker <= max(machine.cores, workers)
    if memory_gb is not None and workers > 1:
        assert workers * memory_gb <= machine.memory_gb


@given(machine=MACHINES, trials=st.integers(1, 50), workers=st.integers(1, 1000))
def test_a_number_that_is_asked_for_is_kept_or_refused(machine, trials, workers):
    try:
        found = Profile().settled(machine, trials, workers)
    except SpecError:
        assert workers > MAX_PER_GPU * len(machine.gpus) > 0
    else:
        assert found.workers == min(workers, trials)
        assert found.workers * found.threads_per_worker <= max(machine.cores, found.workers)


def notes(machine: Machine, **keys) -> list[str]:
    return Profile(**keys).settled(machine, 100).notes(machine)


def test_what_fits_needs_no_remark():
    for keys in ({}, {"workers": 4}, {"threads_per_worker": 8}, {"memory_gb": 8.0, "workers": 2}):
        assert notes(LAPTOP, **keys) == []
        assert notes(BOX, **keys) == []


def test_more_threads_than_cores_are_remarked_on():
    assert notes(LAPTOP, workers=4, threads_per_worker=8) == [
        "4 workers with 8 threads each share 8 cores and slow each other down"
    ]
    assert len(notes(LAPTOP, workers=9)) == 1
    assert len(notes(LAPTOP, workers=1, threads_per_worker=9)) == 1
    assert notes(Machine(2, ("0", "1", "2", "3"), 64.0)) == []


def test_more_memory_than_there_is_is_remarked_on():
    assert notes(LAPTOP, workers=4, memory_gb=6.0) == ["4 workers with memory_gb: 6 may take 24 of 16.0 GB of memory"]
    assert len(notes(LAPTOP, memory_gb=17.0)) == 1
