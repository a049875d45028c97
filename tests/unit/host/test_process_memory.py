"""The memory of processes, and the kernel's kills for lack of it, are read from the kernel's own files."""

from __future__ import annotations

from pathlib import Path

import pytest

from finesweep.host import process_memory


def test_the_kernels_kills_are_counted_where_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.events").write_text("low 0\noom 4\noom_kill 3\noom_group_kill 0\n")
    monkeypatch.setattr(process_memory, "_cgroup_files", lambda: [tmp_path / "missing", tmp_path / "memory.events"])
    assert process_memory.oom_kills() == 3
