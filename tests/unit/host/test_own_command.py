"""How finesweep starts Python: in one way, which imports nothing from the current folder."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import finesweep
from finesweep.host.python_process import own_command

SOURCES = sorted(Path(finesweep.__file__).parent.rglob("*.py"))


def calls(tree: ast.AST, *names: str) -> Iterator[ast.Call]:
    found = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    yield from (call for call in found if ast.unparse(call.func) in names)


def test_a_command_of_its_own_has_a_safe_path() -> None:
    assert own_command("run", "a b") == [sys.executable, "-P", "-m", "finesweep", "run", "a b"]
    assert own_command(python="python3", module="finesweep.launch.ray.connection_process") == [
        "python3",
        "-P",
        "-m",
        "finesweep.launch.ray.connection_process",
    ]


def test_only_one_module_writes_down_how_python_is_started() -> None:
    wrong = [f"{source}: {fault}" for source in SOURCES for fault in other_ways_to_start(source)]
    assert not wrong, "\n".join(wrong)


def other_ways_to_start(source: Path) -> Iterator[str]:
    """Yield what starts Python, or any process, in a way of its own."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    listed = (item for node in ast.walk(tree) if isinstance(node, ast.List | ast.Tuple) for item in node.elts)
    words = {item.value for item in listed if isinstance(item, ast.Constant)}
    if source.stem != "python_process" and words & {"-m", "-c", "-P"}:
        yield "it writes down switches of Python; use own_command"
    for call in calls(tree, "subprocess.Popen"):
        if not any(word.arg == "env" for word in call.keywords):
            yield f"line {call.lineno}: give Popen an environment from finesweep.host.python_process"
    for call in calls(tree, "os.system", "os.popen", "os.execv", "os.spawnv", "multiprocessing.Process"):
        yield f"line {call.lineno}: {ast.unparse(call.func)}"
    for call in calls(tree, "multiprocessing.get_context"):
        if ast.unparse(call) != "multiprocessing.get_context('fork')":
            yield f"line {call.lineno}: {ast.unparse(call)}; a fork alone imports nothing anew"
