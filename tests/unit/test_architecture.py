"""The package's shape: imports go down only, nothing heavy is imported early, nothing grows too long."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "src" / "finesweep"

LAYERS = (
    "finesweep trial errors activity regular_file permissions",
    """
    regular_file loaded_spec
    naive yaml_source training_fields search_space registry spec spec_reader spec_schema overrides space_rules wording
    profile slurm_profile storage_url machine settings plan schedule readable pruning patience forecast pace outlook
    """,
    """
    run_dir records folders stored claims disk manifest atomic ownership environment scratch commands shared_folder
    checked_files lost_records ray_nodes ray_worker ray_driver ray_link ray_dashboard ray_profile
    """,
    """
    hub data loaded_data data_hub data_reading parquet_file packed_file data_rows data_splits table_header label_column
    delimited csv_records labelled_lines
    model_source model_folder model_code model_settings
    pretrained head load_check
    weights_file text_length truncation
    scratch_model modeling guard randomness tensor_json resume batching precision evaluation target_scale fine_tuner
    watching training tasks backends launchers submitters
    """,
    """
    measurement measuring calibration calibrating survey estimate
    worker run_limits attempt comparison trial_process endings watchdog rehearsal contenders leaderboard
    leaderboard_facts ranking winner
    model_card
    verification dry_run_steps display announcer screen fitting time_left savings status
    """,
    """
    dry_run
    preflight preparing preparation apart planning plan_screen sweep submission open_sweep signals shutdown supervisor
    summary
    init_spec data_look data_columns other_tasks sibling_files proposal starting_model examples
    """,
    "cli __main__",
)
"""Modules and packages by layer, lowest first; a module imports from its own layer and those below."""

SIBLINGS = frozenset({"tasks", "backends", "launchers", "submitters"})
"""Packages of which none knows another."""

HEAVY = frozenset({"torch", "transformers", "datasets", "optuna", "ray", "pandas", "sklearn", "scipy", "tokenizers"})
EARLY = {
    "data": {"pandas"},
    "data_rows": {"pandas"},
    "backends.database": {"optuna"},
    "backends.driver": {"transformers"},
    "backends.journal": {"optuna"},
    "backends.marks": {"optuna"},
    "backends.proposals": {"optuna"},
    "backends.ray_scheduler": {"ray"},
    "backends.ray_search": {"optuna", "ray"},
    "backends.study": {"optuna"},
    "modeling": {"datasets", "pandas", "transformers"},
    "pretrained": {"torch", "transformers"},
    "randomness": {"torch"},
    "tensor_json": {"torch"},
    "resume": {"torch"},
    "batching": {"torch"},
    "precision": {"torch"},
    "evaluation": {"torch"},
    "target_scale": {"torch"},
    "fine_tuner": {"transformers"},
    "training": {"torch", "transformers"},
    "watching": {"transformers"},
    "rehearsal": {"torch"},
    "worker": {"datasets", "torch", "transformers"},
    "attempt": {"torch"},
    "measuring": {"torch", "transformers"},
    "trial_process": {"torch"},
    "verification": {"pandas", "torch", "transformers"},
}
"""Modules that import something heavy when they are imported, because they are of no use without it."""

LIGHT = ("cli", "spec_reader", "spec_schema", "leaderboard", "status", "run_dir", "ranking", "profile")
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
every_module = pytest.mark.parametrize("module", MODULES)


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


def _layer(module: str) -> int:
    part = module.split(".")[0]
    layers = [number for number, names in enumerate(LAYERS) if part in names.split()]
    assert layers, f"{module}: give it a layer in tests/unit/test_architecture.py"
    return layers[0]


@every_module
def test_imports_go_down_only(module: str) -> None:
    up = sorted(other for other in _inside(module) if _layer(other) > _layer(module))
    assert not up, f"{module} (layer {_layer(module)}) imports {up} from above"


@every_module
def test_siblings_do_not_know_each_other(module: str) -> None:
    package = module.split(".")[0]
    others = {other.split(".")[0] for other in _inside(module)} & SIBLINGS - {package}
    assert package not in SIBLINGS or not others


def test_an_unknown_module_is_told_to_take_a_layer() -> None:
    with pytest.raises(AssertionError, match="give it a layer"):
        _layer("module_that_nobody_knows")


def test_every_module_in_the_layers_exists() -> None:
    known = {module.split(".")[0] for module in MODULES}
    assert set(" ".join(LAYERS).split()) <= known


def test_no_imports_go_in_a_circle() -> None:
    waiting = {module: _inside(module) for module in MODULES}
    while ready := [module for module, needs in waiting.items() if not needs & waiting.keys()]:
        for module in ready:
            del waiting[module]
    assert not waiting, f"in a circle, or waiting for one: {sorted(waiting)}"


@every_module
def test_nothing_heavy_is_imported_before_it_is_needed(module: str) -> None:
    assert _outside(module) == EARLY.get(module, set())


@pytest.mark.parametrize("module", LIGHT)
def test_a_light_module_draws_in_nothing_heavy(module: str) -> None:
    reached, waiting = set(), {module}
    while waiting:
        reached |= waiting
        waiting = {other for near in waiting for other in _inside(near, early=True)} - reached
    assert not reached & EARLY.keys()


@every_module
def test_nothing_is_called_that_runs_what_it_reads(module: str) -> None:
    calls = {ast.unparse(node.func) for node in ast.walk(_tree(module)) if isinstance(node, ast.Call)}
    assert not calls & UNSAFE_CALLS
    assert not {call.rpartition(".")[2] for call in calls} & UNPICKLERS
    assert not {name.split(".")[0] for name in _imported(module, early=False)} & UNPICKLING_MODULES
    switches = {node.arg for node in ast.walk(_tree(module)) if isinstance(node, ast.keyword)}
    assert not switches & {"shell", "allow_pickle"}


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


@every_module
def test_every_public_name_has_a_docstring(module: str) -> None:
    assert ast.get_docstring(_tree(module)), f"{module}: open with one sentence on what it owns"
    bare = [name for name, node in _public(_tree(module), module) if not ast.get_docstring(node)]  # type: ignore[arg-type]
    assert not bare


def _body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@every_module
def test_no_function_is_long(module: str) -> None:
    functions = [n for n in ast.walk(_tree(module)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert not [f"{f.name}: {_body_lines(f)} lines" for f in functions if _body_lines(f) > MAX_FUNCTION_LINES]


@every_module
def test_no_file_is_long(module: str) -> None:
    lines = MODULES[module].read_text(encoding="utf-8").count("\n")
    assert lines <= MAX_FILE_LINES
