"""Copies the specs and profiles that come with the package into a folder of the user."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from finesweep.errors import SpecError, did_you_mean
from finesweep.files import create

_SHIPPED = Path(__file__).parents[1] / "shipped"
_COMMAND = re.compile(r"^#.*?(sweep (?:run|submit) .*)$", re.MULTILINE)


def examples() -> Mapping[str, Path]:
    """Return the YAML of every example by its name: specs first, then profiles."""
    return {
        file.stem: file for kind in ("search_spaces", "sweeps") for file in sorted((_SHIPPED / kind).glob("*.yaml"))
    }


def write_example(name: str, folder: Path) -> tuple[list[Path], str]:
    """Write an example, with its data and schema, at the relative path that its comments give.

    Args:
        name: One of ``examples()``.
        folder: Gets ``search_spaces/NAME.yaml`` or ``sweeps/NAME.yaml``.

    Returns:
        The new files, the YAML last; and the command in the first lines of the YAML.

    Raises:
        SpecError: The example does not exist, a file with other content is in the way, or the folder cannot be written.
    """
    known = examples()
    if name not in known:
        there = f"there are {', '.join(known)}" if known else "this installation came without its YAML files"
        raise SpecError.of(f"--example {name}", f"no example is called {name!r}; {there}", did_you_mean(name, known))
    source = known[name]
    new = {folder / file.relative_to(_SHIPPED): file.read_bytes() for file in _files(source)}
    written = folder / source.relative_to(_SHIPPED)
    if _is_there(written):
        raise SpecError.of(str(written), "is there already", "remove it, or go to another folder")
    kept = {target for target in new if _is_there(target)}
    for target in kept:
        if target.suffix != ".json" and not _holds(target, new[target]):
            raise SpecError.of(str(target), "is there already, with another content", "go to another folder")
    wanted = [target for target in new if target not in kept]
    for target in wanted:
        _write(target, new[target])
    return wanted, _COMMAND.findall(source.read_text(encoding="utf-8"))[0]


def _files(example: Path) -> Iterator[Path]:
    yield from sorted((example.parent / example.stem).glob("*.csv"))
    yield from sorted(example.parent.glob("*.json"))
    yield example


def _is_there(target: Path) -> bool:
    return target.exists() or target.is_symlink()


def _holds(target: Path, content: bytes) -> bool:
    return target.is_file() and target.stat().st_size == len(content) and target.read_bytes() == content


def _write(target: Path, content: bytes) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        create(target, content)
    except OSError as error:
        raise SpecError.of(str(target), f"cannot be written: {error.strerror}", "go to another folder") from None
