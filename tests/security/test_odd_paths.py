"""A path that cannot be used is one line and exit code 2 on every command; nothing waits for it."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from finesweep.cli import command_line

SPEC = """\
model: {config: bert, hidden_size: 8, num_hidden_layers: 1, num_attention_heads: 2}
data: {train: train.csv}
space: {learning_rate: {low: 1e-4, high: 1e-3}}
"""
ROWS = "text,label\n" + "".join(f"some text {row},{'ab'[row % 2]}\n" for row in range(20))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield a folder with a sweep to carry out, and with one of each odd thing; it is the current folder."""
    folder, before = tmp_path_factory.mktemp("odd"), Path.cwd()
    (folder / "spec.yaml").write_text(SPEC)
    (folder / "train.csv").write_text(ROWS)
    os.chdir(folder)
    for suffix in ("", ".yaml", ".csv"):
        os.mkfifo(f"pipe{suffix}")
        Path(f"device{suffix}").symlink_to("/dev/zero")
        Path(f"terminal{suffix}").symlink_to("/dev/tty")
        Path(f"circle{suffix}").symlink_to(f"circle{suffix}")
        Path(f"folder{suffix}").mkdir()
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"socket{suffix}")
        shutil.copy("train.csv" if suffix == ".csv" else "spec.yaml", os.fsdecode(b"bytes\xff") + suffix)
    yield folder
    os.chdir(before)


KINDS = {
    **{kind: kind for kind in ("pipe", "device", "terminal", "circle", "folder", "socket", "missing")},
    "long": "x" * 300,
    "bytes": os.fsdecode(b"bytes\xff"),
    "below-a-file": "spec.yaml/a",
    "control": "a\x1b[31m\nerror\u202e",
}
COMMANDS = {
    "init": ("init", "{}.csv"),
    "validate": ("validate", "{}.yaml"),
    "plan": ("plan", "{}.yaml"),
    "run": ("run", "{}.yaml"),
    "submit": ("submit", "{}.yaml", "--on", "{}.yaml"),
    "profile": ("validate", "spec.yaml", "--on", "{}.yaml"),
    "data": ("validate", "spec.yaml", "--set", "data.train={}.csv"),
    "model": ("validate", "spec.yaml", "--set", "model=./{}"),
    "status": ("status", "{}"),
    "leaderboard": ("leaderboard", "{}"),
    "cancel": ("cancel", "{}"),
    "supervise": ("supervise", "{}", "--run", "1"),
    "collect": ("collect", "{}", "--run", "1"),
}
WRITTEN = {
    "output": ("init", "train.csv", "--output", "{}.yaml"),
    "results": ("validate", "spec.yaml", "--results", "{}"),
    "name": ("validate", "spec.yaml", "--name", "{}/"),
}
FREE = {
    ("output", "missing"),
    ("output", "control"),
    ("results", "missing"),
    ("results", "folder"),
    ("model", "folder"),
}
"""What may be made, since nothing is there, and an empty folder of a model, which is several problems."""


@pytest.mark.usefixtures("project", "checks_here")
@pytest.mark.parametrize("place", [*COMMANDS, *WRITTEN])
def test_odd_path_is_one_line_and_exit_code_2(
    place: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, path in KINDS.items():
        if (place, kind) in FREE:
            continue
        words = [word.replace("{}", path) for word in {**COMMANDS, **WRITTEN}[place]]
        monkeypatch.setattr("sys.argv", ["sweep", *words])
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        out, err = capfd.readouterr()
        assert (kind, ended.value.code) == (kind, 2), out + err
        assert [line for line in err.splitlines() if line.startswith("error: ")] == err.splitlines(), (kind, err)
        assert err.count("\n") == 1, (kind, err)
        assert (out + err).replace("\n", "").isprintable(), (kind, out + err)
