"""A source distribution holds what the tests need."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IGNORED = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
BUILD = "import sys, setuptools.build_meta as build; print(build.build_{kind}(sys.argv[1]))"


def _ignored(folder: str, names: list[str]) -> set[str]:
    """Return what is not in git; of the folders called results, that is the one at the top."""
    return IGNORED(folder, names) | ({"results"} if Path(folder) == ROOT else set())


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of what git would check out, to build in."""
    folder = tmp_path_factory.mktemp("built") / "source"
    shutil.copytree(ROOT, folder, ignore=_ignored, symlinks=True)
    (folder / "results").mkdir()
    shutil.copy(ROOT / "results/README.md", folder / "results")
    shutil.copytree(ROOT / ".ci", folder / ".ci")
    return folder


def built(source: Path, kind: str) -> Path:
    target = source.parent / kind
    command = [sys.executable, "-c", BUILD.format(kind=kind), str(target)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=True)
    return target / done.stdout.split()[-1]


def run(*command: str, cwd: Path, path: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_source_distribution_holds_what_its_tests_need(source, tmp_path):
    with tarfile.open(built(source, "sdist")) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    there, wanted = ({item.name for item in folder.iterdir()} for folder in (unpacked, source))
    assert wanted - there <= {"build"}
    assert (unpacked / ".ci/run").is_file()
    collected = run(sys.executable, "-m", "pytest", "-q", "--collect-only", cwd=unpacked, path=unpacked / "src")
    assert "error" not in collected.rpartition("\n\n")[2]
    tests = ["tests/unit/test_shipped_yaml.py", "tests/unit/test_docs.py", "tests/unit/spec/test_json_schema.py"]
    run(sys.executable, "-m", "pytest", "-q", *tests, cwd=unpacked, path=unpacked / "src")
