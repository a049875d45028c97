"""The tables of names: what they list can be loaded, what they do not list is refused with the choices."""

import subprocess
import sys

import pytest

from finesweep.registry import BACKENDS, LAUNCHERS, PROFILES, SUBMITTERS, TASKS, Registry, UnknownName

TABLES = [TASKS, BACKENDS, LAUNCHERS, SUBMITTERS, PROFILES]


@pytest.mark.parametrize(("table", "name"), [(table, name) for table in TABLES for name in table.names])
def test_every_listed_name_can_be_loaded(table: Registry, name: str) -> None:
    assert isinstance(table.load(name), type)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.kind)
def test_an_unknown_name_lists_the_choices(table: Registry) -> None:
    wrong = table.names[0] + "x"
    with pytest.raises(UnknownName, match=f"no {table.kind} is called '{wrong}'; there are {table.names[0]}") as caught:
        table.load(wrong)
    assert caught.value.hint == f"did you mean {table.names[0]}?"


def test_names_keep_the_order_of_the_table() -> None:
    assert Registry("thing", {"b": "x:y", "a": "x:y"}).names == ("b", "a")


def test_an_entry_is_imported_only_when_asked_for() -> None:
    table = Registry("thing", {"lost": "no_such_module:Thing", "path": "pathlib:Path"})
    assert table.load("path").__name__ == "Path"
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        table.load("lost")


def test_loading_every_entry_imports_nothing_heavy() -> None:
    code = (
        "import sys; from finesweep.registry import TASKS, BACKENDS, LAUNCHERS, SUBMITTERS, PROFILES\n"
        "for table in (TASKS, BACKENDS, LAUNCHERS, SUBMITTERS, PROFILES): [table.load(name) for name in table.names]\n"
        "print([m for m in ('torch', 'transformers', 'datasets', 'optuna', 'ray', 'pandas', 'sklearn') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
