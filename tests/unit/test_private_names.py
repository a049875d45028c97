"""Private names of other libraries are listed with a reason, and no other is used."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
ROOT = REPOSITORY / "src" / "finesweep"
PAGE = REPOSITORY / "docs" / "private_names.md"
LIBRARIES = frozenset({"transformers", "accelerate", "torch", "datasets", "tokenizers", "optuna", "ray"})

Use = tuple[str, str]
"""A private name and the module of ours that relies on it."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def modules() -> Iterator[tuple[str, ast.Module]]:
    for file in sorted(ROOT.rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        yield "/".join(part for part in parts if part != "__init__"), ast.parse(file.read_text(encoding="utf-8"))


def own_names() -> set[str]:
    """Return every private name that is defined in the package itself."""
    found = set()
    for _, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.attr if isinstance(node, ast.Attribute) else node.id)
    return found


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield the private names and modules that are imported from the libraries."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for parts in (name.split(".") for name in names):
            if parts[0] in LIBRARIES and any(map(is_private, parts)):
                yield parts[-1]


def named(tree: ast.Module) -> Iterator[str]:
    """Yield the private names that are asked of other objects than ``self`` and ``super()``, also as a text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            if ast.unparse(node.value) not in ("self", "cls", "super()", "os"):
                yield node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr", "delattr"):
            text = node.args[1].value if isinstance(node.args[1], ast.Constant) else ""
            if is_private(str(text)):
                yield str(text)


def inherited(module: str, tree: ast.Module) -> Iterator[str]:
    """Yield the private names of a library's class that a class of ours defines, sets or asks for."""
    dotted = f"finesweep.{module.replace('/', '.')}"
    for node in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.bases):
        ours = {child.name for child in node.body if isinstance(child, ast.FunctionDef)}
        for child in ast.walk(node):
            if isinstance(child, ast.Attribute) and ast.unparse(child.value) in ("self", "super()"):
                ours.add(child.attr)
        if not any(map(is_private, ours)):
            continue
        kind = getattr(importlib.import_module(dotted), node.name, None)
        bases = [base for base in getattr(kind, "__mro__", ()) if base.__module__.split(".")[0] in LIBRARIES]
        theirs = {name for base in bases for name in (*vars(base), *set_in(base))}
        yield from (name for name in ours & theirs if is_private(name))


def set_in(kind: type) -> Iterator[str]:
    """Yield the attributes that a class's code sets on ``self``."""
    yield from re.findall(r"self\.(\w+)[^=\n]*=", inspect.getsource(kind))


def used() -> set[Use]:
    known = own_names()
    found: set[Use] = set()
    for module, tree in modules():
        names = {*imported(tree), *(name for name in named(tree) if name not in known), *inherited(module, tree)}
        found |= {(name, module) for name in names}
    return found


def listed() -> dict[Use, tuple[str, str]]:
    """Return why a name is used and which test notices a change, as the page has it."""
    rows = re.findall(
        r"^\| `(\w+)` \| `([\w/]+)` \| (.+?) \| (.+?) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    return {(name, module): (why, test) for name, module, why, test in rows}


@pytest.mark.torch
def test_every_private_name_that_is_used_is_listed_and_no_other() -> None:
    pytest.importorskip("ray")
    assert used() == set(listed())


def test_every_name_has_a_reason_and_tests_that_exist() -> None:
    for use, (why, tests) in listed().items():
        assert len(why) > 20, use
        found = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", tests)
        assert found, use
        for file, name in found:
            assert f"def {name}(" in (REPOSITORY / file).read_text(encoding="utf-8"), (use, file, name)


def test_the_scan_finds_what_it_looks_for() -> None:
    code = """
import ray._private.worker
from optuna.storages import _CachedStorage
import transformers
trainer._tr_loss = 1
getattr(trainer, "_original_forward", None)
self._own, os._exit, ours.public
"""
    tree = ast.parse(code)
    assert set(imported(tree)) == {"worker", "_CachedStorage"}
    assert set(named(tree)) == {"_tr_loss", "_original_forward"}
