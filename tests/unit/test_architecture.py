"""The package's shape: imports go down only, nothing heavy is imported early, nothing grows too long."""

import ast
import functools
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "src" / "finesweep"

PACKAGES = (
    *("__init__", "errors", "trial", "hub", "registry", "host", "text", "files", "activity", "tasks", "spec", "data"),
    *("folder", "references", "pruning", "confidence", "forecast", "launch", "model", "training", "backends"),
    *("calibration", "doctor", "results", "report", "worker", "display", "propose", "sweep", "cli", "__main__"),
)
"""Packages and loose modules, lowest first; a package imports from those before it."""

STRANGERS = (
    *(("sweep", "worker"), ("backends.optuna", "backends.ray")),
    *(("launch.slurm", "launch.ray"), ("launch.ray", "launch.slurm"), ("launch.local", "launch.ray")),
)
"""Packages of which the first does not know the second; a command and its workers meet in the folder alone."""

HEAVY = frozenset(
    {"torch", "transformers", "datasets", "optuna", "plotly", "ray", "pandas", "sklearn", "scipy", "tokenizers"}
)
EARLY = {
    "data.loader": {"pandas"},
    "data.cleaning": {"pandas"},
    "backends.search_driver": {"transformers"},
    "backends.optuna.drawing": {"optuna"},
    "backends.optuna.export": {"optuna"},
    "backends.optuna.gaussian": {"optuna"},
    "backends.optuna.proposals": {"optuna"},
    "backends.ray.scheduler": {"ray"},
    "backends.ray.search": {"ray"},
    "backends.optuna.study": {"optuna"},
    "report.optuna_charts": {"optuna"},
    "report.study": {"optuna"},
    "training.tokens": {"datasets", "pandas"},
    "model.pretrained": {"torch", "transformers"},
    "training.rng_state": {"torch"},
    "training.tensor_json": {"torch"},
    "training.saved_state": {"torch"},
    "training.batching": {"torch"},
    "training.precision": {"torch"},
    "training.evaluation": {"torch"},
    "training.target_scale": {"torch"},
    "training.trainer": {"transformers"},
    "training.fine_tuning": {"torch", "transformers"},
    "training.callback": {"transformers"},
    "training.rehearsal": {"torch"},
    "worker.worker": {"datasets", "torch", "transformers"},
    "worker.attempt": {"torch"},
    "calibration.bench": {"torch", "transformers"},
    "worker.trial_process": {"torch"},
    "worker.prove_winner": {"pandas", "torch", "transformers"},
}
"""Modules that import something heavy when they are imported, because they are of no use without it."""

FACES = (
    *("host", "text", "files", "tasks", "spec", "data", "folder", "references", "pruning", "confidence", "forecast"),
    *("launch", "launch.slurm", "launch.ray", "model", "training", "backends", "backends.optuna", "backends.ray"),
    *("calibration", "doctor", "results", "report", "worker", "display", "propose", "sweep", "cli"),
)
"""Packages. What the ``__init__`` of one exports is imported from there; all are light to import."""

NOT_FOR_A_FACE = HEAVY | {"numpy", "pyarrow", "huggingface_hub"}
"""Packages that no face needs."""

LIGHT = (
    *FACES,
    "cli.command_line",
    "spec.reader",
    "spec.json_schema",
    "report.page",
    "results.leaderboard",
    "display.status",
    "folder.sweep_folder",
    "results.ranking",
    "launch.profile",
)
"""Modules that must work, with all they import at once, on a machine without torch."""

UNSAFE_CALLS = {
    "yaml.load",
    "yaml.load_all",
    "yaml.full_load",
    "yaml.unsafe_load",
    "pickle.load",
    "pickle.loads",
    "torch.load",
    "torch.jit.load",
    "torch.hub.load",
    "joblib.load",
    "marshal.load",
    "marshal.loads",
    "shelve.open",
    "os.system",
    "eval",
    "exec",
}
UNPICKLERS = {"read_pickle", "unsafe_load", "full_load", "Unpickler"}
"""Methods and functions that run what they read, whatever they are called on."""

UNPICKLING_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle"}
"""Modules that are of no use but to read such files."""
MAX_FUNCTION_LINES = 50
MAX_FILE_LINES = 400


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(parts) or "finesweep"


MODULES = {_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def _check(rule: str, find: Callable[[str], Iterable[object]], modules: Iterable[str] = MODULES) -> None:
    """Fail with everything that breaks a rule, a line each, if ``find`` yields anything for any module."""
    wrong = [f"{module}: {fault}" for module in modules for fault in sorted(map(str, find(module)))]
    assert not wrong, "\n".join([rule, *wrong])


@functools.cache
def _tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def _statements(module: str, *, early: bool) -> Iterator[ast.stmt]:
    """Yield all statements, or only those that run when the module is imported."""
    waiting: list[ast.AST] = [_tree(module)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.stmt):
            yield node
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        is_for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not (early and (is_function or is_for_types)):
            waiting += ast.iter_child_nodes(node)


def _imported(module: str, *, early: bool) -> Iterator[str]:
    """Yield the dotted name of everything that is imported."""
    for node in _statements(module, early=early):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _inside(module: str, *, early: bool = False) -> set[str]:
    """Return the package's modules that a module imports."""
    found = set()
    for name in _imported(module, early=early):
        if name.split(".")[0] == "finesweep":
            short = name.removeprefix("finesweep").lstrip(".")
            while short and short not in MODULES:
                short = short.rpartition(".")[0]
            found.add(short or "finesweep")
    return found - {module}


def _outside(module: str) -> set[str]:
    return {name.split(".")[0] for name in _imported(module, early=True)} & HEAVY


def _place(module: str) -> int:
    part = module.split(".")[0] if module != "finesweep" else "__init__"
    assert part in PACKAGES, f"{module}: give its package a place in tests/unit/test_architecture.py"
    return PACKAGES.index(part)


def test_imports_go_down_only() -> None:
    def above(module: str) -> list[str]:
        return sorted(other for other in _inside(module) if _place(other) > _place(module))

    _check("a module imports from no package above its own", above)


@pytest.mark.parametrize(("package", "other"), STRANGERS)
def test_strangers_do_not_know_each_other(package: str, other: str) -> None:
    known = {f"{module} -> {near}" for module in MODULES if _is_in(module, package) for near in _inside(module)}
    assert not {arrow for arrow in known if _is_in(arrow.partition(" -> ")[2], other)}


def _is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def test_a_new_package_is_told_to_take_a_place() -> None:
    with pytest.raises(AssertionError, match="give its package a place"):
        _place("package_that_is_not_listed")


def test_every_package_in_the_list_exists() -> None:
    known = {module.split(".")[0] for module in MODULES if module != "finesweep"}
    assert set(PACKAGES) == known | {"__init__"}


def test_no_imports_go_in_a_circle() -> None:
    waiting = {module: _inside(module) for module in MODULES}
    while ready := [module for module, needs in waiting.items() if not needs & waiting.keys()]:
        for module in ready:
            del waiting[module]
    assert not waiting, f"in a circle, or waiting for one: {sorted(waiting)}"


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    def unlisted(module: str) -> set[str]:
        return _outside(module) ^ EARLY.get(module, set())

    _check("EARLY lists what a module imports at once, and nothing else", unlisted)
    assert EARLY.keys() <= MODULES.keys()


def test_a_light_module_draws_in_nothing_heavy() -> None:
    _check("a light module draws in no module that imports something heavy", _heavy_ones_reached, LIGHT)


def _heavy_ones_reached(module: str) -> set[str]:
    reached, waiting = set(), {module}
    while waiting:
        waiting |= {module.rpartition(".")[0] for module in waiting} & set(FACES)
        reached |= waiting
        waiting = {other for near in waiting for other in _inside(near, early=True)} - reached
    return reached & EARLY.keys()


def _exports(package: str) -> set[str]:
    """Return the names that a face exports."""
    lists = [n for n in _tree(package).body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"]
    return set(ast.literal_eval(lists[0].value)) if lists else set()


def test_a_package_is_used_through_its_face() -> None:
    _check("a name that a package exports is imported from the package", _imported_from_behind_a_face)


def _imported_from_behind_a_face(module: str) -> Iterator[str]:
    for node in _statements(module, early=False):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("finesweep."):
            package, _, rest = str(node.module).removeprefix("finesweep.").partition(".")
            behind = {alias.name for alias in node.names} & _exports(package) if rest else set()
            if behind and not _is_in(module, package):
                yield f"from finesweep.{package} import {', '.join(sorted(behind))}"


def test_a_face_exports_no_name_that_a_module_has() -> None:
    def doubled(package: str) -> set[str]:
        return {f"{package}.{name}" for name in _exports(package)} & MODULES.keys()

    _check("an exported name is no module's", doubled, FACES)


def test_every_face_is_listed_and_says_what_the_package_is_for() -> None:
    packages = {module for module, path in MODULES.items() if path.name == "__init__.py"} - {"finesweep"}
    assert set(FACES) == packages
    assert {package.split(".")[0] for package in FACES} <= set(PACKAGES)


def test_every_package_has_its_folder_of_unit_tests() -> None:
    folders = {package: Path(__file__).parent / package.replace(".", "/") for package in FACES}
    assert not [package for package, folder in folders.items() if not list(folder.rglob("test_*.py"))]


def test_all_faces_work_without_anything_heavy() -> None:
    code = f"import sys; sys.modules.update(dict.fromkeys({sorted(NOT_FOR_A_FACE)}))\n"
    code += "".join(f"import finesweep.{package}\n" for package in FACES)
    subprocess.run([sys.executable, "-P", "-c", code], check=True, timeout=120)


def test_nothing_is_called_that_runs_what_it_reads() -> None:
    _check("nothing runs what it reads", _unsafe)


def _unsafe(module: str) -> Iterator[str]:
    """Yield calls, imports and switches that may run what is read."""
    calls = {ast.unparse(node.func) for node in ast.walk(_tree(module)) if isinstance(node, ast.Call)}
    yield from calls & UNSAFE_CALLS
    yield from {call.rpartition(".")[2] for call in calls} & UNPICKLERS
    yield from {name.split(".")[0] for name in _imported(module, early=False)} & UNPICKLING_MODULES
    switches = {node.arg for node in ast.walk(_tree(module)) if isinstance(node, ast.keyword) and node.arg}
    yield from switches & {"shell", "allow_pickle"}


def _swallows_everything(node: ast.ExceptHandler) -> bool:
    """Whether this catches every error and does not simply pass it on after cleaning up."""
    is_broad = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
    last = node.body[-1]
    return is_broad and not (isinstance(last, ast.Raise) and last.exc is None)


def _broad(module: str) -> list[ast.ExceptHandler]:
    return [n for n in ast.walk(_tree(module)) if isinstance(n, ast.ExceptHandler) and _swallows_everything(n)]


def test_every_error_is_caught_in_one_place_only() -> None:
    places = [f"{module}:{n.lineno}" for module in MODULES for n in _broad(module)]
    assert len(places) == 1, f"around one trial, and nowhere else: {places}"


def _public(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.AST]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not child.name.startswith("_"):
            yield f"{prefix}.{child.name}", child
            if isinstance(child, ast.ClassDef):
                yield from _public(child, f"{prefix}.{child.name}")


def test_every_public_name_has_a_docstring() -> None:
    def bare(module: str) -> Iterator[str]:
        named = [("the module", _tree(module)), *_public(_tree(module), module)]
        yield from (name for name, node in named if not ast.get_docstring(node))  # type: ignore[arg-type]

    _check("each module, class and function has a docstring, unless its name begins with _", bare)


def _names(module: str) -> Iterator[str]:
    """Yield the public classes and types that a module defines."""
    for node in _tree(module).body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id


def test_a_class_or_type_has_a_name_of_its_own() -> None:
    places: dict[str, list[str]] = {}
    for module in MODULES:
        for name in _names(module):
            if name[0].isupper() and not name.isupper():
                places.setdefault(name, []).append(module)
    assert not {name: modules for name, modules in places.items() if len(modules) > 1}


def _body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_no_function_is_long() -> None:
    def long(module: str) -> Iterator[str]:
        functions = [n for n in ast.walk(_tree(module)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        yield from (f"{f.name}: {_body_lines(f)} lines" for f in functions if _body_lines(f) > MAX_FUNCTION_LINES)

    _check(f"the body of a function has at most {MAX_FUNCTION_LINES} lines", long)


def test_no_file_is_long() -> None:
    lines = {module: path.read_text(encoding="utf-8").count("\n") for module, path in MODULES.items()}
    assert not {module: count for module, count in lines.items() if count > MAX_FILE_LINES}
