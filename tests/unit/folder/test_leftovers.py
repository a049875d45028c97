"""Half-written files of killed processes are deleted, and nothing else."""

import os
from pathlib import Path

from finesweep.files import write_json
from finesweep.folder import leftovers
from finesweep.folder.sweep_folder import make_folders


def test_what_killed_processes_left_half_written_is_removed_and_nothing_else(tmp_path: Path) -> None:
    folder = make_folders(tmp_path / "demo")
    write_json(folder.record_file(0), {})
    (folder.path / "trials" / ".0001.json.99.ab.tmp").write_text("{")
    (folder.path / "checkpoints" / ".trial-0001.1.tmp").mkdir()
    (folder.path / "checkpoints" / "trial-0000").mkdir()
    mine = folder.path / "runs" / f".0002.json.{os.getpid()}.0123abcd.tmp"
    mine.write_text("{")
    mine.with_name(f".0002.json.{2**22 + 1}.0123abcd.tmp").write_text("{")
    leftovers.remove_leftovers(folder)
    assert list((folder.path / "runs").iterdir()) == [mine], "a process that lives continues to write"
    assert [item.name for item in (folder.path / "trials").iterdir()] == ["0000.json"]
    assert [item.name for item in (folder.path / "checkpoints").iterdir()] == ["trial-0000"]


def test_only_one_trials_leftovers_are_removed(tmp_path: Path) -> None:
    folder = make_folders(tmp_path / "demo")
    files = [
        folder.path / "trials/.0002.json.999999999.00aa00aa.tmp",
        folder.path / "progress/.0002.json.999999999.00bb00bb.tmp",
        folder.path / "trials/.0003.json.10002.00cc00cc.tmp",
        folder.path / "trials/0002.json",
    ]
    for file in files:
        file.write_text("{")
    building = folder.path / "checkpoints/.trial-0002.1.tmp"
    building.mkdir()
    (building / "model.safetensors").write_bytes(b"half")
    leftovers.remove_leftovers(folder, 2)
    assert [file.exists() for file in files] == [False, False, True, True]
    assert not building.exists()
