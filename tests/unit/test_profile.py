"""Launch profiles are closed and say what is wrong."""

from pathlib import Path

import pytest

from finesweep.errors import SpecError
from finesweep.profile import Profile, load

SHIPPED = sorted((Path(__file__).parents[2] / "sweeps").rglob("*.yaml"))


def write(folder: Path, text: str) -> Path:
    file = folder / "p.yaml"
    file.write_text(text)
    return file


def test_without_a_profile_everything_runs_here():
    assert load(None) == Profile(launcher="local", threads_per_worker="auto", keep_best=1)
    assert load(None).threads >= 1


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_every_shipped_profile_loads(file):
    assert load(file).launcher == "local"


def test_profiles_are_shipped():
    assert SHIPPED


def test_an_unknown_key_names_the_line_and_the_nearest_one(tmp_path):
    with pytest.raises(SpecError, match=r"p\.yaml:2 keep_bst: no such key.*did you mean keep_best\?"):
        load(write(tmp_path, "launcher: local\nkeep_bst: 2\n"))


def test_an_unknown_launcher_lists_the_choices(tmp_path):
    with pytest.raises(SpecError, match=r"p\.yaml:1 launcher: no launcher is called 'slrm'; there are local"):
        load(write(tmp_path, "launcher: slrm\n"))


@pytest.mark.parametrize("threads", ["0", "many", "1.5", "true"])
def test_threads_are_a_number_or_auto(tmp_path, threads):
    with pytest.raises(SpecError, match=r"p\.yaml:1 threads_per_worker: "):
        load(write(tmp_path, f"threads_per_worker: {threads}\n"))


def test_keep_best_must_keep_something(tmp_path):
    with pytest.raises(SpecError, match=r"keep_best: must be at least 1, found integer 0"):
        load(write(tmp_path, "keep_best: 0\n"))
