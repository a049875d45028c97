"""The table of architectures in the documentation is what the installed transformers gives."""

from __future__ import annotations

import re

import pytest

import architectures
from finesweep.sweep import dry_run

ROWS = dict(re.findall(r"^\| `(.+?)` \| .+? \| (.+) \|$", architectures.PAGE.read_text(), re.M))
TRIED = ("albert", "mvp", "llama", "layoutlmv2", "reformer", "t5gemma")
"""One of each kind: an encoder, an encoder-decoder, a decoder, what needs another package, hashing, what is refused."""


def test_every_type_of_the_installed_transformers_is_in_the_table():
    assert sorted(ROWS) == architectures.every_type()


@pytest.mark.slow
@pytest.mark.parametrize("kind", TRIED)
def test_a_type_does_what_its_row_says(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(dry_run, "_carried_out", architectures.try_here)
    found = architectures.outcome(kind, tmp_path)
    assert found.split(":")[0] == ROWS[kind].split(":")[0]
