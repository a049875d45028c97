"""A process on another machine works in the folder that was prepared, or says that it does not see it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from made_records import run

from finesweep.errors import FolderError
from finesweep.folder import shared_folder
from finesweep.folder.shared_folder import is_as_written, new_token, open_run
from finesweep.folder.sweep_folder import make_folders


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_folder, "VISIBLE_SECONDS", 0.2)
    monkeypatch.setattr(shared_folder, "POLL_SECONDS", 0.05)


def test_the_run_that_was_prepared_is_opened(tmp_path: Path) -> None:
    folder = make_folders(tmp_path / "demo")
    for number in (1, 2):
        folder.write_run(run(number, token=f"token {number}"))
    opened, found = open_run(folder.path, 2, "token 2")
    assert (opened.path, found.number) == (folder.path, 2)
    assert open_run(folder.path, 1)[1].token == "token 1"


@pytest.mark.parametrize(
    ("made", "number", "token", "message"),
    [
        (False, 1, "a", "there is no such folder"),
        (True, 2, "a", "the folder has no run 2"),
        (True, 1, "another", "its run 1 has another token"),
        (True, 1, "token", "its run 1 has another token"),
        (False, 1, "", "there is no such folder"),
    ],
)
def test_another_machines_folder_is_told_apart(
    tmp_path: Path, made: bool, number: int, token: str, message: str
) -> None:
    if made:
        make_folders(tmp_path / "demo").write_run(run(1, token="token 1"))
    with pytest.raises(FolderError, match=rf"demo on \S+: {message}; .* all its machines share \(--results\)"):
        open_run(tmp_path / "demo", number, token)


def test_what_a_network_file_system_shows_late_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_folders(tmp_path / "demo")
    monkeypatch.setattr(shared_folder.time, "sleep", lambda _: folder.write_run(run(1, token="late")))
    assert open_run(folder.path, 1, "late")[1] == dataclasses.replace(run(1), token="late")


GIVEN = {"launcher": "ray", "address": "head:6379", "dashboard": None}


@pytest.mark.parametrize("changed", [{"address": "evil:6379"}, {"dashboard": "http://evil"}])
def test_addresses_that_were_changed_in_the_folder_are_refused(tmp_path: Path, changed: dict[str, str]) -> None:
    folder, token = make_folders(tmp_path / "demo"), new_token(GIVEN)
    folder.write_run(run(1, token=token, profile=GIVEN))
    assert open_run(folder.path, 1, token)[1].profile == GIVEN
    settled = {**GIVEN, "workers": 4}
    folder.write_run(run(1, token=token, profile=settled))
    assert open_run(folder.path, 1, token)[1].profile == settled
    folder.write_run(run(1, token=token, profile={**settled, **changed}))
    with pytest.raises(
        FolderError, match=r"^run 1: .* in its file differs from what its command wrote; nothing is sent there;"
    ):
        open_run(folder.path, 1, token)


def test_addresses_without_a_token_are_those_of_the_folder_alone(tmp_path: Path) -> None:
    folder = make_folders(tmp_path / "demo")
    folder.write_run(run(1, profile=GIVEN | {"dashboard": "http://head"}))
    with pytest.raises(
        FolderError, match=r"^run 1 names address and dashboard; without its --token nothing is sent there$"
    ):
        open_run(folder.path, 1)
    folder.write_run(run(1, profile={"launcher": "ray", "address": "auto"}))
    assert open_run(folder.path, 1)[1].number == 1


def test_shell_lines_that_were_changed_in_the_folder_are_noticed() -> None:
    given = {"launcher": "slurm", "setup": ("module load cuda",), "workers": 4}
    token = new_token(given)
    assert is_as_written(run(1, profile={**given, "setup": ["module load cuda"], "workers": 2}), token)
    assert not is_as_written(run(1, profile={**given, "setup": ["module load cuda", "curl evil"]}), token)
    assert not is_as_written(run(1, profile=given), "")


def test_two_runs_have_two_tokens() -> None:
    assert new_token(GIVEN) != new_token(GIVEN)
