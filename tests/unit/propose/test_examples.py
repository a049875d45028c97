"""The search spaces and profiles that come with the package: written whole, never over something, also from a wheel."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from finesweep.cli import command_line
from finesweep.errors import FolderError, SpecError
from finesweep.files.atomic import create
from finesweep.propose.examples import examples, write_example
from finesweep.spec import reader

ROOT = Path(__file__).parents[3]
YAMLS = {file.stem: file for kind in ("search_spaces", "sweeps") for file in (ROOT / kind).glob("*.yaml")}


def test_the_examples_are_the_files_of_the_repository():
    assert {name: file.read_bytes() for name, file in examples().items()} == {
        name: file.read_bytes() for name, file in YAMLS.items()
    }


@pytest.mark.parametrize("name", YAMLS)
def test_an_example_stands_where_its_command_looks_for_it(tmp_path: Path, name: str) -> None:
    written, command = write_example(name, tmp_path)
    relative = written[-1].relative_to(tmp_path)
    assert f" {relative}" in command
    for file in written:
        assert file.read_bytes() == (ROOT / file.relative_to(tmp_path)).read_bytes()
    if relative.parts[0] == "search_spaces":
        assert (tmp_path / "search_spaces/sweep.schema.json").is_file()
        reader.draft(written[-1]).finished()


def test_the_quickstart_comes_with_its_rows(tmp_path: Path) -> None:
    spec = reader.draft(write_example("quickstart", tmp_path)[0][-1]).finished().spec
    assert all((spec.base / str(name)).is_file() for name in (spec.data.train, spec.data.validation))


def test_two_examples_stand_beside_each_other(tmp_path: Path) -> None:
    write_example("quickstart", tmp_path)
    written, _ = write_example("bert", tmp_path)
    assert [file.name for file in written] == ["bert.yaml"]


def test_an_example_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    write_example("local", tmp_path)
    with pytest.raises(SpecError, match=r"sweeps/local\.yaml: is there already"):
        write_example("local", tmp_path)


@pytest.mark.parametrize("other", ["file", "folder", "dead link"])
def test_other_rows_in_the_way_stop_an_example_whole(tmp_path: Path, other: str) -> None:
    rows = tmp_path / "search_spaces/quickstart/validation.csv"
    rows.parent.mkdir(parents=True)
    if other == "file":
        rows.write_text("text,label\n")
    elif other == "folder":
        rows.mkdir()
    else:
        rows.symlink_to("nowhere")
    with pytest.raises(SpecError, match="is there already, with another content"):
        write_example("quickstart", tmp_path)
    assert list((tmp_path / "search_spaces").iterdir()) == [rows.parent]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "sweeps").write_text("a file")
    with pytest.raises(SpecError, match=r"sweeps/ray\.yaml: cannot be written"):
        write_example("ray", tmp_path)


def test_a_file_that_cannot_be_written_whole_is_not_left(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="cannot be written: No such file"):
        create(tmp_path / "missing/file", b"content")
    with pytest.raises(FolderError, match="cannot be written: File name too long"):
        create(tmp_path / ("x" * 300), b"content")
    with pytest.raises(FolderError, match="cannot be written: embedded null byte"):
        create(tmp_path / "a\0b", b"content")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3, before[1]))
    try:
        with pytest.raises(FolderError, match="cannot be written: File too large"):
            create(tmp_path / "file", b"content")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--example", "brt"), "no example is called 'brt'; there are bert, .*did you mean bert"),
        (("--example", "../bert"), "no example is called"),
        (("rows.csv", "--example", "bert"), "rows.csv: an example is written to search_spaces/"),
        ((), "no data file to look at"),
        (("rows.csv", "--output", "there.yaml"), "there.yaml: is there already"),
    ],
)
def test_what_init_cannot_do_is_the_users_to_change(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    Path("there.yaml").write_text("mine")
    Path("rows.csv").write_text("text,label\n" + "".join(f"a text number {row},{row % 2}\n" for row in range(30)))
    monkeypatch.setattr(sys, "argv", ["sweep", "init", *words])
    with pytest.raises(SystemExit, match="2"):
        command_line.main()
    assert re.search(message, capsys.readouterr().err)
    assert Path("there.yaml").read_text() == "mine"


def test_control_characters_of_a_path_are_not_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text("text,label\n" + "".join(f"a text number {row},{row % 2}\n" for row in range(30)))
    monkeypatch.setattr(sys, "argv", ["sweep", "init", "rows.csv", "-o", "a\x1b[31m b.yaml"])
    with pytest.raises(SystemExit, match="0"):
        command_line.main()
    assert r"sweep run 'a\x1b[31m b.yaml'" in capsys.readouterr().out


def test_the_help_names_every_example():
    shown = CliRunner().invoke(command_line.app, ["init", "--help"], terminal_width=200).output
    assert all(re.search(rf"\b{name}\b", shown) for name in YAMLS)


@pytest.mark.slow
def test_a_wheel_alone_writes_the_quickstart_and_checks_it(tmp_path: Path) -> None:
    source, unpacked, folder = tmp_path / "source", tmp_path / "unpacked", tmp_path / "folder"
    source.mkdir()
    folder.mkdir()
    for name in ("src", "search_spaces", "sweeps"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "import sys, setuptools.build_meta as b; b.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, tmp_path], cwd=source, check=True, capture_output=True)
    with zipfile.ZipFile(*tmp_path.glob("*.whl")) as wheel:
        wheel.extractall(unpacked)
    environment = {**os.environ, "PYTHONPATH": str(unpacked), "HF_HUB_OFFLINE": "1"}
    for name in YAMLS:
        _sweep("init", "--example", name, cwd=folder, env=environment)
    assert {file.name for file in folder.rglob("*.yaml")} == {file.name for file in YAMLS.values()}
    said = _sweep("validate", "search_spaces/quickstart.yaml", cwd=folder, env=environment)
    assert "2,000" in said


def _sweep(*words: str, cwd: Path, env: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "finesweep", *words], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
