"""Reads YAML with the decimal scalars of YAML 1.2 and with the line of every key; executes nothing.

PyYAML's resolver reads ``1e-5`` as text and ``no`` as a boolean, and its constructor keeps the last of two equal keys.
So only its parser is used here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import ReaderError

from finesweep.errors import SpecError, Unreadable, did_you_mean, printable
from finesweep.files import read_bytes

MAX_DEPTH = 50
MAX_BYTES = 1_000_000
MAX_DIGITS = 300

_INT = re.compile(r"[-+]?[0-9]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_CORE_TAGS = {"tag:yaml.org,2002:str", "!"}

KeyPath = tuple[str | int, ...]
"""Path to a value: keys, and positions in lists."""


@dataclass(frozen=True)
class YamlSource:
    """A parsed YAML file with the place of each value.

    Attributes:
        name: The file as the user named it; every message begins with it.
        values: Plain dicts, lists and scalars.
        places: ``file:line`` of each key, by its path in ``values``; ``--set`` where it was overridden.
    """

    name: str
    values: dict[str, Any]
    places: dict[KeyPath, str] = field(repr=False)

    def where(self, *path: str | int) -> str:
        """Return ``file:line dotted.name`` for a path; the line is that of the nearest known parent."""
        known = path
        while known and known not in self.places:
            known = known[:-1]
        dotted = ".".join(str(part) for part in path)
        return f"{self.places.get(known, f'{self.name}:1')} {printable(dotted)}".rstrip()


def read(path: Path) -> YamlSource:
    """Read a YAML file.

    Args:
        path: The file; ``~`` is expanded.

    Returns:
        Its values, with the line of each.

    Raises:
        SpecError: The file is missing, empty, not UTF-8, no mapping, or not YAML; every message names the line.
    """
    name = printable(str(path), limit=300)
    try:
        # UTF-8 and UTF-16 need at most four bytes per character.
        data = read_bytes(expand(path), 4 * MAX_BYTES)
    except Unreadable as error:
        raise SpecError.of(name, error.reason, _nearby(path) if error.missing else "") from None
    return parse(_decode(data, name), name)


def _nearby(path: Path) -> str:
    folder = expand(path).parent
    names = [file.name for suffix in ("*.yaml", "*.yml") for file in folder.glob(suffix)]
    return did_you_mean(path.name, names)


def parse(text: str, name: str = "<text>") -> YamlSource:
    """Parse YAML text into values; see ``read``.

    Raises:
        SpecError: As for ``read``.
    """
    if len(text) > MAX_BYTES:
        raise SpecError.of(name, f"the file has {len(text):,} characters; at most {MAX_BYTES:,} are read")
    builder = _Builder(name)
    values = builder.document(text)
    if values is None:
        raise SpecError.of(f"{name}:1", "the file is empty", "`sweep init DATA.csv` writes one that runs")
    if not isinstance(values, dict):
        raise SpecError.of(f"{name}:1", f"expected `key: value` lines, found {_kind(values)}")
    places: dict[KeyPath, str] = {path: f"{name}:{line}" for path, line in builder.lines.items()}
    return YamlSource(name, values, places)


def parse_value(text: str, name: str) -> Any:
    """Parse one value as it would stand after ``key:`` (``1e-4``, ``[8, 16]``, ``text``).

    Raises:
        SpecError: It is not YAML.
    """
    return _Builder(name).document(text)


def expand(path: Path) -> Path:
    """Expand ``~`` in a path; ``~name`` stays as it is if the system has no such user."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def _decode(data: bytes, name: str) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace").replace("\r\n", "\n")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SpecError.of(f"{name}:{line}", f"not UTF-8 at byte {error.start}", "save the file as UTF-8") from None


class _Builder:
    """Builds values from parser events; one instance per document."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[KeyPath, int] = {}

    def document(self, text: str) -> Any:
        try:
            events = yaml.parse(text, Loader=_loader())
            values = self._stream(iter(events))
        except yaml.MarkedYAMLError as error:
            raise self._syntax_error(error, text) from None
        except ReaderError as error:
            # The error's position is in bytes or in characters, depending on the parser. So the line is found by the
            # character.
            line = text[: text.find(chr(error.character)) + 1].count("\n") + 1
            raise SpecError.of(f"{self.name}:{line}", f"the character {error.character:#04x} is not allowed") from None
        except UnicodeEncodeError:
            raise SpecError.of(self.name, "not UTF-8") from None
        except yaml.YAMLError as error:
            raise SpecError.of(self.name, f"not YAML: {error}") from None
        return values

    def _stream(self, events: Iterator[Any]) -> Any:
        next(events)  # StreamStart
        if isinstance(next(events), yaml.StreamEndEvent):
            return None
        values = self._value(next(events), events, ())
        next(events)  # DocumentEnd
        if not isinstance(following := next(events), yaml.StreamEndEvent):
            raise self._at(following, "a second document (`---`); one file holds one spec")
        return values

    def _value(self, event: Any, events: Iterator[Any], path: KeyPath) -> Any:
        if len(path) > MAX_DEPTH:
            raise self._at(event, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise self._at(event, "anchors and aliases are not supported", "write the value out again")
        if event.tag is not None and event.tag not in _CORE_TAGS:
            raise self._at(event, f"the tag {event.tag} is not allowed", "only plain values are")
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(events, path)
        return self._mapping(events, path)

    def _sequence(self, events: Iterator[Any], path: KeyPath) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            here = (*path, len(items))
            self.lines[here] = _line(event)
            items.append(self._value(event, events, here))
        return items

    def _mapping(self, events: Iterator[Any], path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise self._at(event, "a key must be plain text")
            key = self._value(event, events, path)
            if not isinstance(key, str):
                raise self._at(event, f"the key `{event.value}` is {_kind(key)}; keys are text", "quote it")
            here = (*path, key)
            if key in values:
                raise self._at(event, f"`{key}` stands here twice; the first is on line {self.lines[here]}")
            self.lines[here] = _line(event)
            values[key] = self._value(next(events), events, here)
        return values

    def _scalar(self, event: Any) -> Any:
        if "\0" in event.value:
            raise self._at(event, "the character 0x00 is not allowed")
        if event.style in ("'", '"', "|", ">") or event.tag in _CORE_TAGS:
            return event.value
        text: str = event.value
        if text in _WORDS:
            return _WORDS[text]
        if not (is_int := _INT.match(text)) and not _FLOAT.match(text):
            return text
        if len(text) > MAX_DIGITS:
            raise self._at(event, f"a number of {len(text):,} characters is too long")
        return int(text) if is_int else float(text)

    def _at(self, event: Any, message: str, hint: str = "") -> SpecError:
        mark = event.start_mark
        return SpecError.of(f"{self.name}:{mark.line + 1}:{mark.column + 1}", message, hint)

    def _syntax_error(self, error: yaml.MarkedYAMLError, text: str) -> SpecError:
        mark = error.problem_mark or error.context_mark
        if mark is None:
            return SpecError.of(self.name, f"not YAML: {error.problem}")
        where = f"{self.name}:{mark.line + 1}:{mark.column + 1}"
        lines = text.splitlines()
        line = lines[mark.line] if mark.line < len(lines) else ""
        if "\t" in line[: len(line) - len(line.lstrip())]:
            return SpecError.of(where, "the line is indented with a tab", "tabs are not allowed in YAML; use spaces")
        return SpecError.of(where, f"not YAML: {error.problem}")


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _loader() -> Any:
    # CSafeLoader is the parser in C; a PyYAML that was built without libyaml lacks it.
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _kind(value: Any) -> str:
    names = {list: "a list", str: "text", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "nothing")
