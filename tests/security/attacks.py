"""What attacks are made of: a server that nobody may call, a pickle that does harm, a folder that somebody sent."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Sweep = Callable[..., tuple[int, str]]
"""Runs `sweep`; returns its exit code and all that it printed."""

SPEC = """\
model: ./model
data: {train: train.csv, validation: validation.csv}
budget: {trials: 3}
space: {learning_rate: {low: 5e-4, high: 5e-3, log: true}}
"""


class Canary:
    """A TCP server on this machine that counts who connects."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self.calls = 0
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:  # closed
                return
            self.calls += 1
            connection.close()

    def close(self) -> None:
        # Closing alone does not wake the thread that waits.
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


@dataclass(frozen=True)
class Planted:
    """A results folder as somebody else could have sent it."""

    path: Path

    def write(self, name: str, content: bytes | str) -> Path:
        """Put a file into it."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    def change(self, name: str, /, **changes: object) -> None:
        """Change fields of a JSON file in it."""
        file = self.path / name
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
