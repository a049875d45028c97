"""What the package asks for is what it imports, and constraints.txt pins a version inside every range."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NEEDED = [Requirement(text) for text in PROJECT["dependencies"]]
FOR_TESTS = [Requirement(text) for text in PROJECT["optional-dependencies"]["test"]]
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))
IMPORTED_AS = {"pyyaml": "yaml", "scikit-learn": "sklearn"}
COMES_WITH = {"httpx2": "huggingface_hub"}
"""Imported to tell the errors of another package apart, which brings it along."""


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported() -> set[str]:
    """Return the third-party packages that the package imports anywhere."""
    found = set()
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"finesweep"}


def test_a_range_has_both_ends_and_holds_the_tested_version() -> None:
    pins = {canonical(name): version for name, version in PINS.items()}
    for requirement in [*NEEDED, *FOR_TESTS]:
        assert requirement.specifier.contains(pins[canonical(requirement.name)]), requirement.name
        operators = {specifier.operator for specifier in requirement.specifier}
        ends = {">="} if requirement.name.startswith("types-") else {">=", "<"}
        assert operators == ends, requirement.name


def test_what_is_imported_is_asked_for_and_nothing_else():
    asked = {IMPORTED_AS.get(requirement.name, requirement.name) for requirement in NEEDED}
    assert imported() - set(COMES_WITH) == asked


def test_every_dependency_has_a_line_on_what_it_is_for():
    page = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8")
    listed = {canonical(name) for name in re.findall(r"^\| ([\w.-]+)(?:\[\w+\])? +\|", page, re.MULTILINE)}
    assert listed - {"package"} == {canonical(requirement.name) for requirement in NEEDED}


def test_every_python_that_is_claimed_may_install_it():
    claimed = {text.rpartition(" ")[2] for text in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", text)}
    assert all(SpecifierSet(PROJECT["requires-python"]).contains(version) for version in claimed)
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in claimed


def test_constraints_are_pins_alone_and_none_is_for_one_kind_of_machine():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert len(pins) == len(PINS) == len({canonical(name) for name in PINS})
    assert not [version for version in PINS.values() if "+" in version]
    assert not {"finesweep", "pip", "setuptools"} & set(PINS)
