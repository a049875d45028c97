"""A folder full of Python files that nothing may import, one for each name that a process could ask for."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

MODULE = """\
import sys

with open({witness!r}, "a") as stream:
    stream.write(f"{{__name__}} was imported by {{sys.orig_argv}}\\n")
"""

WATCHES = """\
import os
import sys


class Watch:
    \"\"\"Notes each import for which a forbidden folder would be searched, whatever is asked for.\"\"\"

    @staticmethod
    def find_spec(name, path=None, target=None):
        if path is None and name not in {early!r}:
            for folder in sys.path:
                if os.path.realpath(folder) in {forbidden!r}:
                    with open({witness!r}, "a") as stream:
                        stream.write(f"{{name}} would be taken from {{folder}} by {{sys.orig_argv}}\\n")


sys.meta_path.insert(0, Watch)
"""

ENTRY_POINTS = "".join(
    f"[{group}]\nplanted = planted_by_entry_point\n"
    for group in ("pydantic", "torch.backends", "fsspec.specs", "console_scripts", "optuna", "ray", "pytest11")
)


def plant(folder: Path, witness: Path, names: Iterable[str]) -> None:
    """Put a module of each name into a folder, and a distribution whose entry points lead to one.

    Args:
        folder: Where they go.
        witness: A file that says which of them was imported.
        names: Their names.
    """
    folder.mkdir(exist_ok=True)
    text = MODULE.format(witness=str(witness))
    for name in (*names, "planted_by_entry_point"):
        (folder / f"{name}.py").write_text(text)
    described = folder / "planted-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: planted\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text(ENTRY_POINTS)


def write_watch(folder: Path, witness: Path, forbidden: Iterable[Path], early: Iterable[str]) -> None:
    """Make a folder for PYTHONPATH that has every Python process watch its own imports.

    Args:
        folder: The folder to make.
        witness: A file that says what would have been searched where.
        forbidden: Folders that no import may look into.
        early: Names that Python imports before it runs a line of the program.
    """
    folder.mkdir()
    places = {str(place.resolve()) for place in forbidden}
    text = WATCHES.format(witness=str(witness), forbidden=places, early=set(early))
    (folder / "sitecustomize.py").write_text(text)


@functools.cache
def every_name() -> frozenset[str]:
    """Return the name of each top-level module that Python, or a package that is installed, has."""
    installed = {name for name in importlib.metadata.packages_distributions() if name.isidentifier()}
    return frozenset({*sys.stdlib_module_names, *installed, "sitecustomize", "usercustomize", "finesweep"})


@functools.cache
def loaded_before_main(folder: Path) -> frozenset[str]:
    """Return the names that Python itself imports before it runs the first line of ``python -m``.

    Args:
        folder: An empty folder.
    """
    (folder / "probe").mkdir()
    (folder / "probe" / "__init__.py").touch()
    (folder / "probe" / "__main__.py").write_text("import sys\nprint(*sys.modules)\n")
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-P", "-m", "probe"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return frozenset(name.partition(".")[0] for name in done.stdout.split())
