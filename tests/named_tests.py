"""Reads which tests there are, for the tables that say where something is shown."""

import ast
from pathlib import Path


def tests_in(file: Path) -> set[str]:
    """Return the names of a file's test functions, and of its other functions."""
    return {node.name for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}
