"""Files from outside are opened by ``regular_file`` alone; a list names the modules that open others, and why."""

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2] / "src" / "finesweep"

OPENERS = frozenset(
    (
        *("open", "read_text", "read_bytes", "read_csv", "read_json", "read_parquet", "read_table", "ParquetFile"),
        *("from_pretrained", "from_file", "load_file", "safe_open", "load_from_disk", "from_json_file", "memory_map"),
        *("pipeline", "load_dataset", "load_dataset_builder", "fromfile", "memmap", "genfromtxt", "loadtxt"),
    )
)
"""Names of functions and methods that open a path, whatever they are called on."""

OURS = frozenset(("files", "files.regular_file", "files.checked_json", "files.atomic", "files.parquet"))
"""Modules whose functions of these names open only regular files."""

THE_KERNEL = "a file of the kernel, by a fixed name"
PACKAGE = "a file that comes with the package, or a regular one of the same size"
PACKAGED = "a file that comes with this package or with Plotly's"
SCRATCH = "a file in a private temporary folder of this process"
CHECKED = "a library opens it after check_folder, open_regular or tensor digests have passed it"
NO_FILE = "opens no file: a pipe, a web page, a folder of claims, a descriptor that is open"

ELSEWHERE = {
    "files.regular_file": {"open": "this is the door", "read_bytes": "its own"},
    "files.atomic": {"open": "a new file under a name of its own, made to be renamed (x); a folder, to sync it"},
    "files.owned_folder": {
        "open": "the lock in a private folder: made there, or not followed if a link and of this user"
    },
    "backends.optuna.backend": {"open": NO_FILE},
    "backends.ray.search": {"open": NO_FILE},
    "folder.claims": {"read_text": THE_KERNEL},
    "folder.state_memory": {"read_text": THE_KERNEL},
    "folder.waiting_states": {"open": "a new file in a new folder, made to be renamed (x)"},
    "cli.internal": {"open": NO_FILE},
    "data.hub_datasets": {"load_dataset_builder": CHECKED},
    "display.display": {"open": "/dev/null"},
    "sweep.dry_run": {"open": SCRATCH, "read_text": SCRATCH},
    "worker.dry_run_steps": {"read_text": SCRATCH},
    "propose.examples": {"read_bytes": PACKAGE, "read_text": PACKAGE},
    "host.machine": {"read_text": THE_KERNEL},
    "host.timeline": {
        "open": "this process's own file in a private temporary folder of the command",
        "read_text": "such a file; one of the kernel",
    },
    "report.page": {"read_text": PACKAGED, "read_bytes": PACKAGED},
    "training.tokens": {"load_from_disk": CHECKED},
    "data.packed_file": {"open": "a member of an archive that open_regular has opened"},
    "model.pretrained": {"from_pretrained": CHECKED, "safe_open": CHECKED},
    "files.parquet": {"ParquetFile": CHECKED, "read_text": THE_KERNEL},
    "sweep.plan": {"open": SCRATCH},
    "launch.ray.dashboard": {"open": NO_FILE},
    "launch.ray.connection_process": {"open": NO_FILE},
    "host.signals": {"open": "/dev/tty, to see whether the terminal is gone"},
    "training.saved_state": {"load_file": CHECKED},
    "cli.summary": {"open": "/dev/null"},
    "worker.measure_for_plan": {"open": NO_FILE},
    "worker.prove_winner": {"from_pretrained": CHECKED, "pipeline": CHECKED},
    "host.process_memory": {"read_text": THE_KERNEL},
    "worker.worker": {"open": NO_FILE},
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


def test_each_module_opens_files_only_as_listed() -> None:
    wrong = []
    for module, file in FILES.items():
        found, listed = set(_opens(file)), set(ELSEWHERE.get(module, {}))
        wrong += [f"{module} calls {name}; open it with regular_file, or say why not here" for name in found - listed]
        wrong += [f"{module} no longer calls {name}" for name in listed - found]
    assert not wrong, "\n".join(sorted(wrong))


def test_every_listed_module_exists() -> None:
    assert ELSEWHERE.keys() <= FILES.keys()
