"""The page on Slurm explains every key with its default, and its examples load."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from finesweep.launch import profile
from finesweep.launch.deadlines import SLURM_SECONDS
from finesweep.launch.profile import Profile
from finesweep.launch.slurm.profile import DEFAULT_WORKERS, FLAGS, VALUES, SlurmProfile

PAGE = (Path(__file__).parents[4] / "docs/slurm.md").read_text(encoding="utf-8")
KEYS = {name: field for name, field in SlurmProfile.model_fields.items() if name not in Profile.model_fields}


def chapter(heading: str) -> str:
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def test_every_key_is_explained_with_its_default():
    rows = re.findall(r"^\| `(\w+)` \| \w+ \| ([\w-]+) \|", chapter("The profile"), re.MULTILINE)
    assert [name for name, _ in rows] == list(KEYS)
    empty: tuple[object, ...] = (None, (), {})
    for name, default in rows:
        expected = KEYS[name].get_default(call_default_factory=True)
        assert default == ("-" if expected in empty else str(expected)), name


def test_every_option_is_named():
    (text,) = re.findall(r"^`options` takes (.*?)\. Others", PAGE, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"`([a-z-]+)`", text)) - {"true"} == FLAGS | VALUES


def test_numbers_are_those_of_the_code():
    assert f"`auto` means {DEFAULT_WORKERS}" in PAGE
    assert f"{SLURM_SECONDS} to 3,600" in PAGE


@pytest.mark.parametrize("example", re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
def test_the_examples_load(tmp_path: Path, example: str) -> None:
    file = tmp_path / "slurm.yaml"
    file.write_text(example, encoding="utf-8")
    assert isinstance(profile.load(file), SlurmProfile)
