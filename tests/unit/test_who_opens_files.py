"""Files from outside are opened by ``regular_file`` alone; here stands who opens others, and why."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "src" / "finesweep"

OPENERS = frozenset(
    (
        *("open", "read_text", "read_bytes", "read_csv", "read_json", "read_parquet", "read_table", "ParquetFile"),
        *("from_pretrained", "from_file", "load_file", "safe_open", "load_from_disk", "from_json_file", "memory_map"),
        *("pipeline", "load_dataset", "load_dataset_builder", "fromfile", "memmap", "genfromtxt", "loadtxt"),
    )
)
"""Names of functions and methods that open a path, whatever they are called on."""

OURS = frozenset(("regular_file", "stored", "atomic", "parquet_file"))
"""Modules whose functions of these names open only regular files."""

THE_KERNEL = "a file of the kernel, by a fixed name"
PACKAGE = "a file that comes with the package, or a regular one of the same size"
SCRATCH = "a file in a private temporary folder of this process"
CHECKED = "a library opens it after check_folder, open_regular or tensor digests have passed it"
NO_FILE = "opens no file: a pipe, a web page, a folder of claims, a descriptor that is open"

ELSEWHERE = {
    "regular_file": {"open": "this is the door", "read_bytes": "its own"},
    "atomic": {"open": "a new file under a name of its own, made to be renamed (x); a folder, to sync it"},
    "backends.database": {"open": NO_FILE},
    "backends.journal": {"open": "a descriptor that open_own has opened"},
    "backends.optuna": {"open": NO_FILE},
    "backends.ray_cluster": {"open": "the lock in the private folder of a cluster of our own"},
    "backends.ray_search": {"open": NO_FILE},
    "backends.study": {"open": NO_FILE},
    "claims": {"read_text": THE_KERNEL},
    "cli.internal": {"open": NO_FILE},
    "data_hub": {"load_dataset_builder": CHECKED},
    "display": {"open": "/dev/null"},
    "dry_run": {"open": SCRATCH, "read_text": SCRATCH},
    "dry_run_steps": {"read_text": SCRATCH},
    "examples": {"read_bytes": PACKAGE, "read_text": PACKAGE},
    "machine": {"read_text": THE_KERNEL},
    "modeling": {"load_from_disk": CHECKED},
    "packed_file": {"open": "a member of an archive that open_regular has opened"},
    "pretrained": {"from_pretrained": CHECKED, "safe_open": CHECKED},
    "parquet_file": {"ParquetFile": CHECKED, "read_text": THE_KERNEL},
    "planning": {"open": SCRATCH},
    "ray_dashboard": {"open": NO_FILE},
    "ray_driver": {"open": NO_FILE},
    "ray_link": {"open": SCRATCH},
    "signals": {"open": "/dev/tty, to see whether the terminal is gone"},
    "resume": {"load_file": CHECKED},
    "summary": {"open": "/dev/null"},
    "survey": {"open": NO_FILE},
    "verification": {"from_pretrained": CHECKED, "pipeline": CHECKED},
    "watchdog": {"read_text": THE_KERNEL},
    "worker": {"open": NO_FILE},
}
"""Module, what it calls, and why that opens nothing that anybody else may have written unchecked."""


def _imported_from_us(tree: ast.Module) -> set[str]:
    """Return the names that a module imports from those that open only regular files."""
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").removeprefix("finesweep.") in OURS
        for alias in node.names
    }


def _opens(file: Path) -> Counter[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    checked = _imported_from_us(tree)
    found: Counter[str] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            is_ours = name in checked and isinstance(node.func, ast.Name)
            if name in OPENERS and not is_ours:
                found[name] += 1
    return found


FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}


@pytest.mark.parametrize("module", FILES)
def test_module_opens_files_only_as_listed(module: str) -> None:
    found = set(_opens(FILES[module]))
    listed = set(ELSEWHERE.get(module, {}))
    assert found <= listed, f"{module} calls {sorted(found - listed)}; open it with regular_file, or say why not here"
    assert listed <= found, f"{module} no longer calls {sorted(listed - found)}"


def test_every_listed_module_exists() -> None:
    assert ELSEWHERE.keys() <= FILES.keys()
