"""How finesweep starts Python: in one way, which imports nothing from the current folder."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import finesweep
from finesweep.host.python_process import own_command

SOURCES = sorted(Path(finesweep.__file__).parent.rglob("*.py"))


def calls(tree: ast.AST, *names: str) -> Iterator[ast.Call]:
    found = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    yield from (call for call in found if ast.unparse(call.func) in names)


def test_a_command_of_its_own_has_a_safe_path() -> None:
    assert own_command("run", "a b") == [sys.executable, "-P", "-m", "finesweep", "run", "a b"]
    assert own_command(python="python3", module="finesweep.launch.ray.driver") == [
        "python3",
        "-P",
        "-m",
        "finesweep.launch.ray.driver",
    ]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_only_one_module_writes_down_how_python_is_started(source: Path) -> None:
    tree = ast.parse(source.read_text(encoding="utf-8"))
    listed = (item for node in ast.walk(tree) if isinstance(node, ast.List | ast.Tuple) for item in node.elts)
    words = {item.value for item in listed if isinstance(item, ast.Constant)}
    assert source.stem == "python_process" or not words & {"-m", "-c", "-P"}
    bare = [call for call in calls(tree, "subprocess.Popen") if not any(word.arg == "env" for word in call.keywords)]
    assert not bare, "give it an environment from finesweep.host.python_process"
    started_by_name = calls(tree, "os.system", "os.popen", "os.execv", "os.spawnv", "multiprocessing.Process")
    assert not list(started_by_name)
    contexts = [ast.unparse(call) for call in calls(tree, "multiprocessing.get_context")]
    assert set(contexts) <= {"multiprocessing.get_context('fork')"}, "a fork imports nothing anew"
