"""Launch profiles that want more than to be read: a batch script holds values of theirs, and runs none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from security.attacks import Sweep

KEYS = ("partition", "account", "qos", "constraint", "gpu_type", "options.reservation", "options.comment", "launcher")
SHELL = [
    *("a b; touch PWNED", "$(touch PWNED)", "`touch PWNED`", "a' touch PWNED '", 'a" touch PWNED "', "a\\", "-x", "%j"),
]
LINES = [
    *("x\ntouch PWNED", "x\n#SBATCH --wrap=PWNED\n#", "x\r\ntouch PWNED", "x\u2028touch PWNED", "x\ttouch PWNED"),
]
SETUP = "setup: ['touch PWNED']\n"
SUBMIT = ("submit", "spec.yaml", "--on")


@pytest.fixture(autouse=True)
def eager_slurm(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put an ``sbatch`` on PATH that runs at once what it is given, and notes that it was called."""
    programs = project.parent / "programs"
    programs.mkdir()
    called = project.parent / "called"
    (programs / "sbatch").write_text(f'#!/bin/bash\ntouch "{called}"\nbash "${{@: -1}}"\n')
    (programs / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(project.parent / "config"))
    return called


def refused(project: Path, sweep: Sweep, called: Path, profile: str) -> str:
    (project / "slurm.yaml").write_text(profile, encoding="utf-8")
    code, said = sweep(*SUBMIT, "slurm.yaml")
    assert code == 2, said
    assert "Traceback" not in said
    assert not called.exists()
    assert not (project / "results").exists()
    assert not list(project.rglob("*PWNED*"))
    return said


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("text", [*SHELL, *LINES])
def test_s13_s15_no_value_becomes_code(
    project: Path, pwned: Path, sweep: Sweep, eager_slurm: Path, key: str, text: str
) -> None:
    section, _, name = key.rpartition(".")
    given = f"options: {{{name}: {json.dumps(text)}}}" if section else f"{name}: {json.dumps(text)}"
    launcher = "" if key == "launcher" else "launcher: slurm\n"
    said = refused(project, sweep, eager_slurm, f"{launcher}gpus: 1\n{given}\n")
    assert "\x1b" not in said
    assert name in said


@pytest.mark.parametrize(
    "name",
    ["wrap", "wra", "output", "outp", "chdir", "export", "array", "x\ntouch PWNED\n#", "nice --wrap", "-o", "bbf"],
)
def test_s13_no_name_of_an_option_does_more_than_it_says(
    project: Path, pwned: Path, sweep: Sweep, eager_slurm: Path, name: str
) -> None:
    refused(project, sweep, eager_slurm, f"launcher: slurm\noptions: {{{json.dumps(name)}: PWNED}}\n")


@pytest.mark.parametrize("line", ["touch PWNED", "true; touch PWNED", "$(touch PWNED)"])
def test_s14_code_in_a_profile_runs_only_where_the_user_says_so(
    project: Path, pwned: Path, sweep: Sweep, eager_slurm: Path, line: str
) -> None:
    said = refused(project, sweep, eager_slurm, f"launcher: slurm\nsetup: [{json.dumps(line)}]\n")
    assert line in said
    assert "--allow-setup" in said


def test_s14_a_line_of_code_is_one_line_also_for_those_who_allow_it(
    project: Path, pwned: Path, sweep: Sweep, eager_slurm: Path
) -> None:
    (project / "slurm.yaml").write_text('launcher: slurm\nsetup: ["true\\ntouch PWNED"]\n')
    code, said = sweep(*SUBMIT, "slurm.yaml", "--allow-setup")
    assert code == 2
    assert "is no line of shell code" in said
    assert not eager_slurm.exists()


def test_s14_a_way_around_the_users_own_folder_is_none(
    project: Path, pwned: Path, sweep: Sweep, eager_slurm: Path
) -> None:
    own = project.parent / "config" / "finesweep"
    own.mkdir(parents=True)
    (project / "slurm.yaml").write_text("launcher: slurm\n" + SETUP)
    (own / "linked.yaml").symlink_to(project / "slurm.yaml")
    for way in (own / "linked.yaml", own / "../../project/slurm.yaml"):
        code, said = sweep(*SUBMIT, way)
        assert code == 2, said
        assert "--allow-setup" in said
    assert not eager_slurm.exists()


@pytest.mark.parametrize("name", ["%j", "a\\b", 'a"b', "a\ntouch PWNED", "a b", "$(touch PWNED)"])
def test_s15_a_name_on_the_command_line_is_checked_like_those_of_a_yaml(
    project: Path, pwned: Path, sweep: Sweep, eager_slurm: Path, name: str
) -> None:
    (project / "slurm.yaml").write_text("launcher: slurm\n")
    code, said = sweep(*SUBMIT, "slurm.yaml", "--name", name)
    assert code == 2, said
    assert "is no name" in said
    assert not eager_slurm.exists()
