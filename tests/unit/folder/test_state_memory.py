"""A run's folder in memory is found by its own processes on its own machine alone, and never stays."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from finesweep.files import owned_folder
from finesweep.folder import state_memory
from finesweep.host import process_memory

TOKEN = "0123456789abcdef"
OTHER = "fedcba9876543210"


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for this machine's memory."""
    folder = tmp_path / "shm"
    folder.mkdir()
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(owned_folder, "MEMORY", folder)
    monkeypatch.setattr(owned_folder, "SHORT", tmp_path / "disk")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "disk"))
    monkeypatch.setattr(state_memory, "_MOUNTS", tmp_path / "mounts")
    mounted(tmp_path, f"tmpfs {folder} tmpfs rw,size=64m 0 0")
    return folder


def mounted(tmp_path: Path, *lines: str) -> None:
    (tmp_path / "mounts").write_text("\n".join(("sysfs /sys sysfs rw 0 0", "", *lines, "")))


def test_a_folder_is_found_by_its_token_while_the_block_runs(memory: Path) -> None:
    assert state_memory.folder_of(TOKEN) is None
    assert not state_memory.is_used()
    with state_memory.made(TOKEN) as is_made:
        assert is_made
        folder = state_memory.folder_of(TOKEN)
        assert folder is not None
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert state_memory.is_used()
        assert state_memory.folders((OTHER, TOKEN, "")) == [folder]
        (folder / "trial-0000").mkdir()
        owned_folder.remove_abandoned()
        assert (folder / "trial-0000").is_dir()
    assert list(memory.iterdir()) == []


def test_a_run_without_a_token_has_none() -> None:
    with state_memory.made(""):
        assert state_memory.folder_of("") is None


def test_another_machine_does_not_see_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with state_memory.made(TOKEN):
        other = tmp_path / "other machine"
        other.mkdir()
        with monkeypatch.context() as there:
            there.setattr(owned_folder, "MEMORY", other)
            assert state_memory.folder_of(TOKEN) is None
            assert state_memory.folders([TOKEN]) == []
        assert state_memory.folder_of(TOKEN) is not None


@pytest.mark.parametrize(
    "line",
    ["overlay {} overlay rw 0 0", "tmpfs {}/deeper tmpfs rw 0 0", "", "tmpfs {} tmpfs rw 0 0\next4 {} ext4 rw 0 0"],
)
def test_without_a_file_system_in_memory_there_is_none(tmp_path: Path, memory: Path, line: str) -> None:
    mounted(tmp_path, line.format(memory, memory))
    with state_memory.made(TOKEN) as is_made:
        assert not is_made
        assert list(memory.iterdir()) == []


def test_where_the_kernel_tells_no_mounts_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "mounts").unlink()
    assert not state_memory.is_there()


def test_a_folder_that_another_user_has_made_is_not_used(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with state_memory.made(TOKEN):
        folder = state_memory.folder_of(TOKEN)
        assert folder is not None
        with state_memory.made(TOKEN) as again:
            assert not again, "there is one"
        assert folder.is_dir()
        real = Path.lstat
        theirs = lambda path: os.stat_result([*real(path)[:4], os.getuid() + 1, *real(path)[5:]])  # noqa: E731
        monkeypatch.setattr(Path, "lstat", theirs)
        assert state_memory.folder_of(TOKEN) is None
    folder.symlink_to(memory)
    assert state_memory.folder_of(TOKEN) is None


COMMAND = """
    import os, sys, time
    from pathlib import Path
    from finesweep.files import owned_folder
    from finesweep.folder import state_memory
    owned_folder.MEMORY = Path(sys.argv[1])
    state_memory.is_there = lambda: True
    with getattr(state_memory, sys.argv[2])(sys.argv[3]) as is_there:
        print(is_there, flush=True)
        sys.stdin.read()
"""


def holding(memory: Path, how: str) -> subprocess.Popen[str]:
    """Start a process that makes or shares the folder until it is killed."""
    command = [sys.executable, "-c", textwrap.dedent(COMMAND), str(memory), how, TOKEN]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_the_folder_of_a_killed_command_stays_while_a_worker_lives_and_then_the_next_command_removes_it(memory: Path):
    command = holding(memory, "made")
    worker = holding(memory, "shared")
    kill(command)
    owned_folder.remove_abandoned()
    assert state_memory.folder_of(TOKEN) is not None
    kill(worker)
    assert state_memory.folder_of(TOKEN) is not None
    with state_memory.made(OTHER):
        assert state_memory.folder_of(TOKEN) is None
        assert state_memory.folder_of(OTHER) is not None


def test_who_shares_a_folder_that_is_not_there_is_told() -> None:
    with state_memory.shared(TOKEN) as is_shared:
        assert not is_shared


@pytest.mark.parametrize(("how", "share"), [("auto", 0.25), ("memory", 0.5), ("disk", 0.0)])
def test_states_take_a_share_of_what_is_available_and_free(how, share, monkeypatch: pytest.MonkeyPatch) -> None:
    free = state_memory.shutil.disk_usage("/")
    monkeypatch.setattr(state_memory.shutil, "disk_usage", lambda _: free._replace(free=64_000_000))
    monkeypatch.setattr(state_memory, "available_bytes", lambda: 8e9)
    assert state_memory.limit(how) == share * 64e6
    monkeypatch.setattr(state_memory.shutil, "disk_usage", lambda _: free._replace(free=10**12))
    assert state_memory.limit(how) == share * 8e9
    # States that are there have taken theirs from both.
    assert state_memory.limit(how, 4e9) == share * 12e9


def test_memory_that_is_available_is_that_of_the_machine_and_of_its_control_groups(tmp_path: Path) -> None:
    whole = process_memory.available_bytes(tmp_path)
    assert 0 < whole < 1e14
    root = tmp_path / "root"
    group = root / "sys/fs/cgroup/job"
    group.mkdir(parents=True)
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("0::/job\n")
    (group / "memory.max").write_text("max\n")
    assert process_memory.available_bytes(root) > 1e6
    (group / "memory.max").write_text("1000\n")
    (group / "memory.current").write_text("900\n")
    assert process_memory.available_bytes(root) == 100
    # What is cached of files on a disk is given up; pages of files in memory (shmem) are not.
    (group / "memory.stat").write_text("anon 300\nfile 500\nshmem 200\ninactive_file 250\nactive_file 50\n")
    assert process_memory.available_bytes(root) == 400
    (group / "memory.current").write_text("2000\n")
    assert process_memory.available_bytes(root) == 0


def test_the_first_version_of_control_groups_counts_too(tmp_path: Path) -> None:
    group = tmp_path / "sys/fs/cgroup/memory/job"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("4:memory:/job\n")
    (group / "memory.limit_in_bytes").write_text("1000\n")
    (group / "memory.usage_in_bytes").write_text("900\n")
    (group / "memory.stat").write_text("active_file 1\ninactive_file 1\ntotal_active_file 20\ntotal_inactive_file 30\n")
    assert process_memory.available_bytes(tmp_path) == 150
