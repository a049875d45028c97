"""Tries a sweep's model on two rows before anything is spent: for the fixed settings, and for each end of the others.

What fails here would fail in trials: a model that cannot be made, trained, evaluated, saved or asked. A process of its
own does it, so that neither the libraries' memory nor a crash of theirs is the command's.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finesweep import activity, run_dir
from finesweep.atomic import write_json
from finesweep.commands import own_command
from finesweep.environment import child_environment
from finesweep.errors import Problem, signal_name
from finesweep.manifest import Manifest
from finesweep.preflight import Checked
from finesweep.run_dir import RunDir
from finesweep.scratch import scratch_folder
from finesweep.search_space import Parameter, SearchSpace
from finesweep.settings import Settings
from finesweep.spec import ScratchModelSpec, SweepSpec
from finesweep.trial import Params, Value
from finesweep.yaml_source import KeyPath

if TYPE_CHECKING:
    import pandas as pd

Write = Callable[[Checked, RunDir, Manifest], Manifest]

LONGEST = 1_024
"""Tokens of an input that is tried, at most."""

MOST_VARIANTS = 200
"""Settings that are tried, at most."""

SECONDS = 900
"""How long all that may take."""

ASKED, ANSWER = "asked.json", "answer.json"

_PREFIX = "model."
_LENGTH = "data.max_length"
_TRIED_TYPES = ("albert", "bert", "distilbert", "electra", "roberta")
_TRIED_SETTINGS = frozenset(
    (
        *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "embedding_size"),
        *("dim", "n_layers", "n_heads", "hidden_dim", "max_position_embeddings"),
    )
)


@dataclass(frozen=True)
class Variant:
    """One configuration that is tried.

    Attributes:
        place: What a fault of it is blamed on.
        params: The parameters of a trial that has it.
    """

    place: KeyPath
    params: Params


def problems(checked: Checked, write: Write, memory_gb: float | None) -> Sequence[Problem]:
    """Try a model, and return what fails.

    Args:
        checked: A spec whose data and model have been looked at; with its rows.
        write: Writes the rows, and the model where it is made from scratch, into a folder.
        memory_gb: Memory of the machine that trains, in units of 1e9 bytes; None if that is another machine.
    """
    spec = checked.loaded.spec
    # Code that comes with a model runs where trials do, and not before.
    if _is_tried(spec) or "auto_map" in checked.model.config:
        return []
    activity.tell("trying the model on two rows")
    tried = variants(spec, checked.plan, checked.model.max_tokens)
    blamed = dict(_set_in_every_trial(spec))
    with scratch_folder("finesweep-try-") as scratch:
        folder = Path(scratch)
        _prepare(checked, write, folder / "sweep")
        asked = {"params": [one.params for one in tried], "settings": list(blamed), "memory_gb": memory_gb}
        write_json(folder / ASKED, asked)
        faults = _carried_out(folder)
    activity.tell("")
    places = [one.place for one in tried]
    return [_problem(checked, fault, places, blamed) for fault in faults]


def _problem(
    checked: Checked, fault: Mapping[str, Any], places: Sequence[KeyPath], blamed: Mapping[str, KeyPath]
) -> Problem:
    place = blamed.get(fault["setting"] or "", places[fault["number"]])
    name = f"{checked.model.name}: " if place[0] == "model" else ""
    return Problem(checked.loaded.source.where(*place), f"{name}{fault['message']}", fault["hint"])


def _is_tried(spec: SweepSpec) -> bool:
    """Say whether finesweep's own tests have tried a model: one from scratch that differs from them in size only."""
    model = spec.model
    if not isinstance(model, ScratchModelSpec) or any(name.startswith(_PREFIX) for name in (*spec.space, *spec.fixed)):
        return False
    return model.config in _TRIED_TYPES and model.settings.keys() <= _TRIED_SETTINGS and _is_moderate(model.settings)


def _is_moderate(sizes: Mapping[str, Any]) -> bool:
    return all(type(size) is int and size <= 4_096 for size in sizes.values())


def variants(spec: SweepSpec, plan: Sequence[Params], max_tokens: int) -> list[Variant]:
    """Return what is tried: the first configuration, and each end or choice of a searched ``model.*`` beside it."""
    names = [name for name in spec.space if name.startswith(_PREFIX)]
    first = dict(plan[0]) if plan else {name: next(_ends(spec.space[name]))[1] for name in names}
    length = {_LENGTH: min(Settings.of(spec, first, max_tokens).max_length, LONGEST)}
    found = [Variant(("model",), {**first, **length})]
    for name in names:
        needed = _conditions(SearchSpace(spec.space), name)
        for key, value in _ends(spec.space[name]):
            if first.get(name) != value or type(first.get(name)) is not type(value):
                found.append(Variant(("space", name, *key), {**first, **length, **needed, name: value}))
    return found[:MOST_VARIANTS]


def _ends(parameter: Parameter) -> Iterator[tuple[KeyPath, Value]]:
    if parameter.choices is not None:
        yield from ((("choices", number), choice) for number, choice in enumerate(parameter.choices))
        return
    for key, end in (("low", parameter.low), ("high", parameter.high)):
        assert end is not None
        yield (key,), end if parameter.is_integer else float(end)


def _conditions(space: SearchSpace, name: str) -> dict[str, Value]:
    """Return values of other parameters with which a parameter is there."""
    found: dict[str, Value] = {}
    for other, wanted in (space.parameters[name].when or {}).items():
        found |= {**_conditions(space, other), other: wanted[0] if isinstance(wanted, list) else wanted}
    return found


def _set_in_every_trial(spec: SweepSpec) -> Iterator[tuple[str, KeyPath]]:
    """Yield the fields of the model's config that all trials share, with the place in the YAML that says so."""
    if isinstance(spec.model, ScratchModelSpec):
        yield from ((name, ("model", name)) for name in spec.model.settings)
    for name in spec.fixed:
        if name.startswith(_PREFIX):
            yield name.removeprefix(_PREFIX), ("fixed", name)


def _prepare(checked: Checked, write: Write, path: Path) -> None:
    """Write a sweep's folder with two rows of each split: the longest, and the shortest with another label."""
    frames = {split: _ends_of(frame) for split, frame in checked.data.frames.items() if split != "test"}
    few = dataclasses.replace(checked, data=dataclasses.replace(checked.data, frames=frames))
    folder = run_dir.make_folders(path)
    manifest = write(few, folder, few.manifest())
    write_json(folder.spec_file, dataclasses.asdict(manifest))


def _ends_of(rows: pd.DataFrame) -> pd.DataFrame:
    length = sum(rows[name].str.len() for name in ("text", "text_pair") if name in rows)
    longest = length.idxmax()
    others = length[rows["label"] != rows["label"][longest]]
    return rows.loc[[(length if others.empty else others).idxmin(), longest]].reset_index(drop=True)


def _carried_out(folder: Path) -> Sequence[Mapping[str, Any]]:
    log = folder / "log"
    with log.open("wb") as stream:
        try:
            done = subprocess.run(
                own_command("try-model", str(folder)),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env={**child_environment(), "TMPDIR": str(folder)},
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return _ended(folder, f"two rows took longer than {SECONDS} s")
    if done.returncode < 0:
        killed = f"the process that tried two rows was killed by {signal_name(-done.returncode)}"
        return _ended(folder, killed, "mostly the system does that, when memory runs out")
    if done.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return _ended(folder, f"two rows could not be tried: {lines[-1] if lines else f'exit code {done.returncode}'}")
    return _faults(folder)[1]


def _ended(folder: Path, message: str, hint: str = "") -> Sequence[Mapping[str, Any]]:
    """Return the faults that were found until the process ended, and its end."""
    number, faults = _faults(folder) if (folder / ANSWER).is_file() else (0, [])
    return [*faults, {"number": number, "setting": None, "message": message, "hint": hint}]


def _faults(folder: Path) -> tuple[int, list[Mapping[str, Any]]]:
    """Return what is being tried, and what has failed."""
    found = json.loads((folder / ANSWER).read_text(encoding="utf-8"))
    return found["number"], found["faults"]
