"""What the README tells its readers to type works, word for word."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tiny

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXEMPT = {
    "make quickstart": "it installs into an environment of its own; .ci/run does the same with `make test-all`",
    "PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make quickstart": "the same, from the network",
    "source .venv/bin/activate": "the environment of the tests is the active one",
    "sweep run search_spaces/bert.yaml": "test_hub_cache.py runs it",
    "sweep run my.yaml --set budget.trials=22": "a command before it does the same with 21",
    "sweep submit my.yaml --on sweeps/slurm.yaml --name my-cluster": "tests/cluster/test_slurm.py has a Slurm",
    "sweep cancel results/my-cluster": "the same",
}
"""Commands that are not run here, with the reason."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    return [line for block in blocks("(?:bash|console|sh)") for line in block.splitlines()]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Return the folder of somebody who follows the README, and an environment whose Hub is a filled cache."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("search_spaces", "sweeps"):
        shutil.copytree(ROOT / name, folder / name)
    tiny.write_csv(folder / "my.csv", tiny.review_rows(120, seed=3))
    tiny.fill_hub_cache(folder / "hub", rows={"train": 80, "validation": 20, "test": 20})
    scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    offline = {"HF_HUB_CACHE": str(folder / "hub"), "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    return folder, {**os.environ, **offline, "PATH": scripts, "OMP_NUM_THREADS": "1"}


def test_the_exempt_commands_stand_in_the_readme():
    assert set(EXEMPT) <= set(commands())
    assert len(set(commands()) - set(EXEMPT)) >= 8


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_commands_work_one_after_the_other_and_the_winner_answers(reader):
    folder, environment = reader
    for command in commands():
        if command not in EXEMPT:
            done = subprocess.run(
                ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            assert "Traceback" not in done.stdout + done.stderr
    assert {"my", "my-smoke", "my-wider"} <= {item.name for item in (folder / "results").iterdir()}

    (snippet,) = blocks("python")
    said = subprocess.run(
        [sys.executable, "-c", snippet], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    assert re.search(r"'label': '[01]', 'score': 0\.\d+", said.stdout)


def test_the_files_that_the_results_page_lists_are_those_of_a_sweep(finished):
    page = (ROOT / "results/README.md").read_text(encoding="utf-8")
    listed = {name.strip("/") for line in page.splitlines() if line.startswith("| `") for name in _names(line)}
    folder = finished.results()
    there = {item.name for item in folder.iterdir() if not item.name.startswith(".")}
    assert there == listed


def _names(line: str) -> list[str]:
    first, *more = re.findall(r"`([^`]+)`", line.split("|")[1])
    return [first, *(f"{Path(first).stem}{name}" if name.startswith(".") else name for name in more)]


def test_the_commands_and_their_options_are_those_there_are():
    listed = set(re.findall(r"^\| `sweep ([a-z-]+)", README, re.MULTILINE))
    shown = _help()
    assert listed == set(re.findall(r"^  ([a-z-]+) {2,}", shown.partition("Commands:")[2], re.MULTILINE))
    (run,) = re.findall(r"^\| `sweep run SPEC`.*$", README, re.MULTILINE)
    named = set(re.findall(r"--[a-z-]+", run))
    assert named == set(re.findall(r"^  (--[a-z-]+)", _help("run"), re.MULTILINE)) - {"--help"}


def _help(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "finesweep", *command, "--help"], capture_output=True, text=True, check=True
    )
    return done.stdout
