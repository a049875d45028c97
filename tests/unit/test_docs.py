"""The pages tell the truth: every key is explained with its default, examples load, links and paths exist."""

from __future__ import annotations

import contextlib
import functools
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from finesweep.errors import SpecError
from finesweep.launch import profile
from finesweep.launch.profile import Profile
from finesweep.registry import BACKENDS, LAUNCHERS, TASKS
from finesweep.spec import reader
from finesweep.spec.search_space import Parameter
from finesweep.spec.sections import (
    SECTIONS,
    BudgetSpec,
    DataSpec,
    EvaluationSpec,
    ModelSpec,
    ObjectiveSpec,
    PruningSpec,
    ScratchModelSpec,
    SearchSpec,
    StopSpec,
    WarmStart,
)
from finesweep.spec.training_arguments import TRAINING_FIELDS

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), ROOT / "results/README.md"]
REFERENCE = (ROOT / "docs/yaml.md").read_text(encoding="utf-8")
KINDS = {
    "model": (ModelSpec, ScratchModelSpec),
    "data": (DataSpec,),
    "objective": (ObjectiveSpec,),
    "budget": (BudgetSpec,),
    "search": (SearchSpec,),
    "pruning": (PruningSpec,),
    "evaluation": (EvaluationSpec,),
    "stop": (StopSpec,),
    "space": (Parameter,),
    "start": (WarmStart,),
    "A profile": (Profile,),
}
MINIMAL = {
    "model": "model: google-bert/bert-base-uncased",
    "data": "data: {train: train.csv}",
    "space": "space: {adam_beta1: {low: 0.8, high: 0.9}}",
}
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@functools.cache
def chapter(heading: str) -> str:
    """Return a chapter of the reference."""
    (text,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", REFERENCE, re.MULTILINE | re.DOTALL)
    return str(text)


def rows(text: str) -> dict[str, tuple[str, ...]]:
    """Return the cells of every row of the tables in a text, by each name in its first cell."""
    found = {}
    for line in re.findall(r"^\| `.*\|$", text, re.MULTILINE):
        cells = [cell.strip() for cell in line.strip("|").split(" |")]
        for name in re.findall(r"`([^`]+)`", cells[0]):
            found[name] = tuple(cells[1:])
    return found


def keys(kind: type[BaseModel], prefix: str = "") -> dict[str, FieldInfo]:
    """Return every key of a section, those of a section within it under its dotted name."""
    found = {}
    for own, field in kind.model_fields.items():
        name = field.alias or own
        inner = field.annotation
        is_section = isinstance(inner, type) and issubclass(inner, BaseModel)
        found |= keys(inner, f"{prefix}{name}.") if is_section else {f"{prefix}{name}": field}
    return found


def shown(value: Any) -> str:
    """Write a default as the reference does."""
    if value is None:
        return "-"
    if isinstance(value, tuple):
        return f"[{', '.join(map(shown, value))}]"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def anchors(text: str) -> set[str]:
    """Return what a link calls each heading of a page."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def examples(text: str) -> list[str]:
    """Return the YAML blocks of a text."""
    return re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_reference_lists_every_section():
    preface = REFERENCE.partition("\n## ")[0]
    assert list(rows(preface)) == list(SECTIONS)


@pytest.mark.parametrize("heading", KINDS)
def test_the_reference_explains_every_key_with_its_default(heading: str) -> None:
    fields = {name: field for kind in KINDS[heading] for name, field in keys(kind).items()}
    table = rows(chapter(heading))
    assert set(table) == set(fields)
    for name, (_, default, *_) in table.items():
        expected = fields[name].default
        if default == "needed":
            assert expected is PydanticUndefined or (heading == "space" and expected is None)
        else:
            assert default == shown(expected), name


def test_the_reference_explains_every_setting_with_its_default():
    table = rows(chapter("settings"))
    assert list(table) == list(TRAINING_FIELDS)
    for name, (_, default, text) in table.items():
        field = TRAINING_FIELDS[name]
        assert default == ("-" if name == "max_steps" else shown(field.default)), name
        assert ("*fixed only*" in text) is not field.tunable, name
        assert not field.choices or re.findall(r"`(\w+)`", text) == list(field.choices), name


def test_the_reference_names_every_task_metric_sampler_pruner_and_launcher():
    for name in TASKS.names:
        assert f"`{name}`" in chapter("task")
        assert all(f"`{metric}`" in chapter("task") for metric in TASKS.load(name).metrics)
    for name in BACKENDS.names:
        backend = BACKENDS.load(name)
        assert all(f"`{word}`" in chapter("search") for word in (*backend.samplers, *backend.pruners))
    assert all(name in chapter("A profile") for name in LAUNCHERS.names)


@pytest.mark.parametrize("example", examples(REFERENCE.partition("\n## A profile\n")[0]))
def test_the_examples_of_the_reference_load(tmp_path: Path, example: str) -> None:
    given = re.findall(r"^(\w+):", example, re.MULTILINE)
    missing = [line for key, line in MINIMAL.items() if key not in given]
    file = tmp_path / "example.yaml"
    file.write_text("\n".join([*missing, example]), encoding="utf-8")
    reader.draft(file).finished()


@pytest.mark.parametrize("example", examples(chapter("A profile")))
def test_the_examples_of_profiles_load(tmp_path: Path, example: str) -> None:
    file = tmp_path / "profile.yaml"
    file.write_text(example, encoding="utf-8")
    profile.load(file)


def test_the_search_space_in_the_readme_is_the_flagship():
    (example,) = examples((ROOT / "README.md").read_text(encoding="utf-8"))
    flagship = (ROOT / "search_spaces/bert.yaml").read_text(encoding="utf-8")
    assert example == "".join(line for line in flagship.splitlines(keepends=True) if not line.startswith("#"))


def test_the_ranges_of_a_profile_are_those_that_it_accepts(tmp_path: Path) -> None:
    ranges = re.findall(r"^\| `(\w+)` .*?\b([\d,]+) to ([\d,]+)", chapter("A profile"), re.MULTILINE)
    assert len(ranges) == 5
    file = tmp_path / "profile.yaml"
    for key, *ends in ranges:
        low, high = (int(end.replace(",", "")) for end in ends)
        for value, is_allowed in ((low, True), (high, True), (low - 1, False), (high + 1, False)):
            file.write_text(f"{key}: {value}\n", encoding="utf-8")
            with contextlib.nullcontext() if is_allowed else pytest.raises(SpecError, match=rf"{key}: must be"):
                profile.load(file)


def fixed_words(page: str) -> list[str]:
    """Return what stands between the dots of each message that a page quotes in the first cells of its tables."""
    cells = re.findall(r"^\| (`.*?`+) \|", page, re.MULTILINE)
    quoted = [span[1].strip() for cell in cells for span in re.findall(r"(`+)(.+?)(?<!`)\1(?!`)", cell)]
    return [words for message in quoted for words in message.split("...") if words.strip()]


def test_the_messages_of_the_troubleshooting_page_are_those_of_the_code():
    files = (ROOT / "src/finesweep").rglob("*.py")
    source = "\n".join(file.read_text(encoding="utf-8") for file in files)
    joined = re.sub(r'"\n *f?"', "", source)  # a message may stand on several lines
    words = fixed_words((ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8"))
    assert len(words) > 60
    assert not [part for part in words if part not in joined]


@every_page
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.is_file(), target
        assert not anchor or anchor in anchors(file.read_text(encoding="utf-8")), target


@every_page
def test_every_path_that_is_named_exists(page: Path) -> None:
    pattern = r"`((?:src|tests|docs|sweeps|search_spaces)/[\w./-]*)`"
    for path in re.findall(pattern, page.read_text(encoding="utf-8")):
        assert (ROOT / path).exists(), path


PACKAGE = ROOT / "src/finesweep"


def is_module(name: str) -> bool:
    return (PACKAGE / f"{name}.py").is_file() or (PACKAGE / name).is_dir()


@every_page
def test_every_module_that_a_page_names_exists(page: Path) -> None:
    packages = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    for name in re.findall(r"`([a-z_]+(?:/[a-z_]+)+)(?:\.py)?`", page.read_text(encoding="utf-8")):
        assert name.partition("/")[0] not in packages or is_module(name), name


def test_every_python_name_on_the_page_for_extensions_exists():
    text = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
    names = {
        name for name in re.findall(r"`([A-Za-z_][\w.]*)`", text) if not name.endswith((".md", ".py", ".toml", ".txt"))
    }
    assert {"PROFILES", "SweepStudy._made", "FOLDERS"} <= names
    sources = [file.read_text(encoding="utf-8") for part in ("src", "tests") for file in (ROOT / part).rglob("*.py")]
    words = {word for source in sources for word in re.findall(r"\w+", source)}
    assert not [name for name in names if not words.issuperset(name.split("."))]


def test_every_module_that_the_design_draws_exists():
    text = (ROOT / "docs/how_it_works.md").read_text(encoding="utf-8")
    _, *drawn = text.partition("```\n")[2].partition("```")[0].splitlines()
    for name in re.findall(r"[\w/]+", "\n".join(drawn)):
        assert is_module(name), name
