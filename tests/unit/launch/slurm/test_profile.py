"""A profile for Slurm holds nothing that a shell or sbatch could take for more than a value."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from finesweep.errors import SpecError
from finesweep.host.machine import Machine
from finesweep.launch import profile as module
from finesweep.launch.profile import Profile
from finesweep.launch.slurm.profile import DEFAULT_WORKERS, FLAGS, SAID_ELSEWHERE, VALUES, SlurmProfile

LAPTOP = Machine(cores=2, gpus=(), memory_gb=4.0)
TEXTS = ("partition", "account", "qos", "constraint", "gpu_type")
EVIL = [
    "a b; touch PWNED",
    "$(touch PWNED)",
    "`touch PWNED`",
    "a\ntouch PWNED",
    "a\n#SBATCH --wrap=x",
    "a'b",
    'a"b',
    "a\\",
    "%j",
    "--wrap=x",
    "-x",
    "a#b",
    "a\0b",
    "\x1b[2J",
    "a\u2028b",
    "a\n",
    "",
    "х",  # a Cyrillic letter that looks like a Latin one
    "a" * 201,
]


def loaded(folder: Path, text: str) -> Profile:
    file = folder / "slurm.yaml"
    file.write_text(f"launcher: slurm\n{text}", encoding="utf-8")
    return module.load(file)


def made(**keys: Any) -> SlurmProfile:
    """Return a profile that takes what the tests of one key leave out."""
    return SlurmProfile.model_validate({"launcher": "slurm", **keys})


def test_every_key_is_read(tmp_path):
    found = loaded(
        tmp_path,
        "workers: 8\npartition: gpu,gpu-long\naccount: lab.nlp\nqos: normal\nconstraint: 'a100&(ib|opa)'\n"
        "minutes: 240\ncpus: 6\ngpus: 1\ngpu_type: a100\nmemory_gb: 24\nat_once: 4\nsignal_seconds: 300\nrequeues: 2\n"
        "setup: [module load cuda, 'export X=\"a b\"']\noptions: {reservation: spring, nice: 5, exclusive: true}\n",
    )
    assert isinstance(found, SlurmProfile)
    assert found.shell_lines == ("module load cuda", 'export X="a b"')
    assert found.options == {"reservation": "spring", "nice": 5, "exclusive": True}
    assert (found.partition, found.constraint, found.minutes) == ("gpu,gpu-long", "a100&(ib|opa)", 240)


def test_without_keys_a_worker_is_a_job_of_one_core():
    found = made().settled(LAPTOP, trials=100)
    assert (found.workers, found.threads_per_worker, found.gpus_per_trial) == (DEFAULT_WORKERS, 1, 0)
    assert found.asked.shell_lines == ()
    assert not found.notes(LAPTOP)


@pytest.mark.parametrize(
    ("keys", "trials", "workers", "expected"),
    [
        ({"workers": 16}, 100, None, 16),
        ({"workers": 16}, 3, None, 3),
        ({"workers": 16}, 100, 40, 40),
        ({}, 2, None, 2),
        ({}, 0, None, 1),
    ],
)
def test_there_are_no_more_workers_than_trials(
    keys: dict[str, int], trials: int, workers: int | None, expected: int
) -> None:
    assert made(**keys).settled(LAPTOP, trials, workers).workers == expected


def test_the_submitting_machine_has_no_say():
    found = made(gpus=1, cpus=64, workers=50, memory_gb=500).settled(LAPTOP, trials=100)
    assert (found.workers, found.threads_per_worker, found.gpus_per_trial) == (50, 64, 1)
    assert not found.notes(LAPTOP)


def test_a_settled_profile_is_the_same_read_back_from_its_run():
    settled = made(gpus=1, cpus=8, setup=["module load cuda"], options={"nice": 5}).settled(LAPTOP, trials=9)
    assert module.of_run(json.loads(json.dumps(settled.record()))).record() == settled.record()


@pytest.mark.parametrize("key", TEXTS)
def test_no_text_can_be_more_than_a_value(key: str) -> None:
    others = {"gpus": 1} if key == "gpu_type" else {}
    for text in EVIL:
        with pytest.raises(ValidationError, match="is not allowed; there may be"):
            made(**{key: text}, **others)


@pytest.mark.parametrize("name", ["reservation", "mail-user", "nodelist"])
def test_no_option_can_be_more_than_a_value(name: str) -> None:
    for text in EVIL:
        with pytest.raises(ValidationError, match=f"{name}: .*is not allowed; there may be"):
            made(options={name: text})


@given(text=st.text(max_size=30))
def test_a_text_that_is_allowed_is_one_word_to_a_shell(text: str) -> None:
    for name in ("reservation", "nodelist"):
        try:
            made(options={name: text})
        except ValidationError:
            continue
        assert re.fullmatch(r"[A-Za-z0-9_.,:;@/=+*()\[\]-]+", text)
        assert text[0] != "-"


@pytest.mark.parametrize(
    "name",
    [
        *("wrap", "output", "error", "chdir", "export", "export-file", "dependency", "get-user-env", "bb", "bbf"),
        *("uid", "batch", "container", "job-name", "comment", "open-mode", "requeue", "no-requeue", "test-only"),
        # sbatch takes the start of a name for the whole.
        *("wra", "outp", "chdi", "Wrap", "--nice", "nice=5 --wrap", "nice\n"),
    ],
)
def test_options_that_run_or_write_or_undo_something_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="not passed on to sbatch"):
        made(options={name: "x"})


def test_no_allowed_option_is_the_start_of_another_one():
    known = FLAGS | VALUES
    assert not [(one, other) for one in known for other in known if one != other and other.startswith(one)]


@pytest.mark.parametrize("name", SAID_ELSEWHERE)
def test_an_option_with_a_key_of_its_own_says_so(name: str) -> None:
    assert SAID_ELSEWHERE[name] in SlurmProfile.model_fields
    with pytest.raises(ValidationError, match=f"{name}: the key `{SAID_ELSEWHERE[name]}`"):
        made(options={name: "1"})


def test_a_mistyped_option_gets_a_suggestion():
    with pytest.raises(ValidationError, match=r"did you mean reservation\?"):
        made(options={"reservations": "x"})


@pytest.mark.parametrize(("name", "value"), [("exclusive", False), ("exclusive", "user"), ("nice", True)])
def test_an_option_is_a_flag_or_has_a_value(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=f"{name}: must be"):
        made(options={name: value})


@pytest.mark.parametrize("line", ["a\nb", "", "  ", "a\0", "a\rb", "\x1b[2J"])
def test_a_setup_line_is_one_line(line: str) -> None:
    with pytest.raises(ValidationError, match="is no line of shell code"):
        made(setup=[line])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpus: 2\n", ":2 gpus: more than one GPU per trial is not supported yet"),
        ("trials_per_gpu: 2\n", ":2 trials_per_gpu: on Slurm each worker is a job with a GPU of its own"),
        ("gpus_per_trial: 1\n", "on Slurm `gpus` says how many GPUs a trial has"),
        ("threads_per_worker: 4\n", "on Slurm `cpus` says how many threads a worker has"),
        ("gpu_type: a100\n", "gpu_type goes with gpus: 1"),
        ("minutes: 2\n", "minutes: 2 leaves no time for a trial.*at least 3 are needed"),
        ("signal_seconds: 20\n", ":2 signal_seconds: must be at least 45"),
        ("memory_gb: 4\noptions: {mem-per-cpu: 2G}\n", "do not go with memory_gb"),
        ("partition: 7\n", ":2 partition: expected text, found integer 7"),
        ("workers: 1001\n", ":2 workers: must be auto or an integer from 1 to 1,000"),
        ("setup: module load cuda\n", ":2 setup: expected a list"),
        ("setup: [module load cuda, 3]\n", r":2 setup.1: expected text"),
        ("partitoin: gpu\n", r"did you mean partition\?"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        loaded(tmp_path, text)


def test_a_key_of_slurm_under_another_launcher_is_told_where_it_belongs(tmp_path):
    file = tmp_path / "local.yaml"
    file.write_text("launcher: local\npartition: gpu\n")
    with pytest.raises(SpecError, match="it goes with launcher: slurm"):
        module.load(file)


def test_a_job_that_is_shorter_than_a_trial_may_be_is_noted():
    found = made(minutes=60, limits={"trial_minutes": 90.0})
    assert found.settled(LAPTOP, 100).notes(LAPTOP) == [
        "a job of 60 minutes ends before limits.trial_minutes: 90; such a trial continues in the next job"
    ]
    assert not made(minutes=240, limits={"trial_minutes": 90.0}).settled(LAPTOP, 100).notes(LAPTOP)
