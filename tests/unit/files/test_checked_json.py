"""Files of a sweep's folder, read as if anybody had written them."""

import dataclasses
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep.errors import FolderError
from finesweep.files import checked_json
from finesweep.files.checked_json import (
    Damaged,
    as_kind,
    open_log,
    read_as,
    read_numbered,
    read_values,
    refuse_all_but_files,
)
from finesweep.trial import Progress


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "EOF"),
        ("{", "EOF"),
        ("[" * 5_000 + "]" * 5_000, "recursion limit exceeded"),
        ('{"a":' * 5_000, "recursion limit exceeded"),
        ("[NaN]", "not JSON compliant"),
        ("[-Infinity]", "not JSON compliant"),
        ("[1e999]", "not JSON compliant"),
        ("9" * 5_000, "number out of range"),
        (b'"\xff"', "invalid unicode"),
    ],
)
def test_what_is_no_json_is_one_error(tmp_path: Path, content: str | bytes, message: str) -> None:
    file = tmp_path / "x.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(Damaged, match=message):
        read_values(file)


def test_a_pipe_is_not_waited_for_and_a_folder_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    for place, kind in ((tmp_path / "pipe.json", "pipe"), (tmp_path, "folder"), (Path(os.devnull), "device")):
        with pytest.raises(Damaged, match=f"this is a {kind}"):
            read_values(place)


def test_a_link_in_a_circle_is_damage(tmp_path: Path) -> None:
    (tmp_path / "1.json").symlink_to(tmp_path / "1.json")
    with pytest.raises(Damaged, match="a symbolic link that leads to itself"):
        read_values(tmp_path / "1.json")
    assert list(read_numbered(Progress, tmp_path)) == []


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "x.json").open("wb") as stream:
        stream.truncate(checked_json.MAX_BYTES + 1)  # of which the disk holds nothing
    with pytest.raises(Damaged, match="50,000,001 bytes are more than the 50,000,000"):
        read_values(tmp_path / "x.json")


def test_a_missing_file_is_no_damage(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"x\.json"):
        read_values(tmp_path / "x.json")


PROGRESS = {"trial": 3, "attempt": 1, "params": {"learning_rate": 1e-5}, "started": 5.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trial": "three"}, "trial: Input should be a valid integer"),
        ({"started": None}, "started: Input should be a valid number"),
        ({"params": {"learning_rate": [1]}}, r"params\.learning_rate"),
        ({"__class__": "os"}, "unknown field '__class__'"),
        ({"x" * 10_000: 1}, "unknown field 'x{100}'"),
    ],
)
def test_a_field_of_another_type_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(Damaged, match=message):
        as_kind(Progress, {**PROGRESS, **changes})


@pytest.mark.parametrize("values", [None, [], "text", 3])
def test_a_dataclass_is_made_of_an_object(values: object) -> None:
    with pytest.raises(Damaged, match="no JSON object"):
        as_kind(Progress, values)


numbers = st.floats(allow_nan=False, allow_infinity=False)
values = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | numbers | st.text(st.characters(codec="utf-8"))


@given(params=st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=9), values, max_size=4), started=numbers)
def test_what_was_written_comes_back_with_its_types(
    tmp_path_factory: pytest.TempPathFactory, params: dict[str, object], started: float
) -> None:
    progress = Progress(trial=3, attempt=1, params=params, started=started)  # type: ignore[arg-type]
    file = tmp_path_factory.getbasetemp() / "progress.json"
    file.write_text(json.dumps(dataclasses.asdict(progress)))
    found = read_as(Progress, file)
    assert found == progress
    assert [type(value) for value in found.params.values()] == [type(value) for value in params.values()]


def test_numbered_files_are_read_in_order_without_the_damaged_ones(tmp_path: Path) -> None:
    for name, trial in (("0003", 3), ("0001", 9), ("x", 4), ("²", 2)):
        (tmp_path / f"{name}.json").write_text(json.dumps({**PROGRESS, "trial": trial}))
    (tmp_path / "0002.json").write_text("{")
    assert [(number, item.trial) for number, item in read_numbered(Progress, tmp_path)] == [(1, 9), (3, 3)]


@pytest.mark.parametrize("target", ["file", "folder", "nothing"])
def test_a_link_in_a_folder_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    sweep = tmp_path / "sweep"
    (sweep / "inner").mkdir(parents=True)
    refuse_all_but_files(sweep, deep=True)
    (sweep / "inner" / "link").symlink_to(tmp_path / target)
    refuse_all_but_files(sweep)
    with pytest.raises(FolderError, match=r"inner/link is a symbolic link; a sweep's folder has none"):
        refuse_all_but_files(sweep, deep=True)
    (sweep / "link").symlink_to(tmp_path / target)
    with pytest.raises(FolderError, match=r"sweep/link is a symbolic link"):
        refuse_all_but_files(sweep)


@pytest.mark.parametrize("name", ["model.safetensors", "events.out", "anything"])
def test_pipe_in_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "inner").mkdir()
    os.mkfifo(tmp_path / "inner" / name)
    refuse_all_but_files(tmp_path)
    with pytest.raises(FolderError, match=rf"inner/{name} is neither a file nor a folder; a sweep's folder has none"):
        refuse_all_but_files(tmp_path, deep=True)


def test_a_log_is_appended_to_and_never_through_a_link(tmp_path: Path) -> None:
    for line in (b"one\n", b"two\n"):
        with os.fdopen(open_log(tmp_path / "log"), "ab") as stream:
            stream.write(line)
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"
    (tmp_path / "link").symlink_to(tmp_path / "log")
    with pytest.raises(OSError, match="symbolic links"):
        open_log(tmp_path / "link")
