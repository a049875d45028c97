"""Every YAML that is shipped loads, and says at its top how it is run and which schema an editor uses."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from pathlib import Path

import pytest

from finesweep.errors import SpecError
from finesweep.host.machine import Machine
from finesweep.launch import profile
from finesweep.launch.profile import Limits, Profile
from finesweep.spec import reader
from finesweep.spec.json_schema import schema

ROOT = Path(__file__).parents[2]
SEARCH_SPACES = sorted((ROOT / "search_spaces").rglob("*.y*ml"))
PROFILES = sorted((ROOT / "sweeps").rglob("*.y*ml"))


def names(files: list[Path]) -> list[str]:
    return [str(file.relative_to(ROOT)) for file in files]


every_search_space = pytest.mark.parametrize("file", SEARCH_SPACES, ids=names(SEARCH_SPACES))
every_profile = pytest.mark.parametrize("file", PROFILES, ids=names(PROFILES))


def comments(file: Path) -> list[str]:
    """Return the comment lines at the top of a file."""
    lines = file.read_text(encoding="utf-8").splitlines()
    end = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    return lines[:end]


def command(file: Path) -> list[str]:
    """Return the words of the command at the top of a file."""
    (found,) = re.findall(r"(?:^#|\s)\s+(sweep (?:run|submit) .*)", "\n".join(comments(file)))
    return shlex.split(found)


def test_there_are_search_spaces_and_profiles():
    assert {"bert.yaml", "quickstart.yaml", "regression.yaml"} <= {file.name for file in SEARCH_SPACES}
    assert {"local.yaml", "gpu_box.yaml"} <= {file.name for file in PROFILES}


@every_search_space
def test_a_shipped_search_space_loads(file: Path) -> None:
    loaded = reader.draft(file).finished()
    assert loaded.spec.name == file.stem
    assert not loaded.notes


@every_search_space
def test_a_shipped_search_space_names_the_schema_that_lies_beside_it(file: Path) -> None:
    first = comments(file)[0]
    assert first.startswith("# yaml-language-server: $schema=")
    beside = file.parent / first.partition("=")[2]
    assert json.loads(beside.read_text(encoding="utf-8")) == schema()


@every_search_space
def test_the_command_at_the_top_of_a_search_space_loads_with_its_overrides(file: Path) -> None:
    words = command(file)
    assert ROOT / words[2] == file
    overrides = [value for option, value in itertools.pairwise(words) if option == "--set"]
    assert len(words) == 3 + 2 * len(overrides)
    assert reader.draft(file, overrides).finished().spec.name == file.stem


@every_search_space
def test_the_comments_say_what_a_search_space_is_for(file: Path) -> None:
    assert re.match(r"# \w.{20,}", comments(file)[1])


@every_profile
def test_a_shipped_profile_loads_and_is_named_by_its_command(file: Path) -> None:
    profile.load(file)
    words = command(file)
    assert (ROOT / words[2]).is_file()
    assert words[3:] == ["--on", str(file.relative_to(ROOT))]


def test_the_profile_of_this_machine_shows_every_key_with_its_default():
    file = ROOT / "sweeps/local.yaml"
    assert profile.load(file) == Profile()
    shown = re.findall(r"^ *(\w+):", file.read_text(encoding="utf-8"), re.MULTILINE)
    assert shown == [*Profile.model_fields, *Limits.model_fields]


def test_the_profile_of_a_gpu_machine_runs_a_trial_on_each_gpu():
    box = Machine(cores=32, gpus=("0", "1", "2", "3"), memory_gb=256.0)
    loaded = profile.load(ROOT / "sweeps/gpu_box.yaml")
    found = loaded.settled(box, trials=40)
    assert (found.workers, found.gpus_per_trial, found.threads_per_worker) == (4, 1, 8)
    assert not found.notes(box)
    assert None not in (loaded.memory_gb, *loaded.limits.model_dump().values())
    with pytest.raises(SpecError, match="no GPU was found"):
        loaded.settled(Machine(cores=32, gpus=(), memory_gb=256.0), trials=40)


def test_the_quickstart_needs_no_network():
    loaded = reader.draft(ROOT / "search_spaces/quickstart.yaml").finished()
    data = loaded.spec.data
    assert data.dataset is None
    assert not hasattr(loaded.spec.model, "name")
    for name in (data.train, data.validation):
        assert name is not None
        assert (loaded.spec.base / name).is_file()
