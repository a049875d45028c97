"""Tries a sweep's model on two rows before training: with the fixed settings, and with each end of the searched ones.

It finds models that cannot be made, trained, evaluated, saved or asked. A separate process does it, so that the
libraries' memory and crashes stay out of the command.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finesweep import activity
from finesweep.errors import Problem, signal_name
from finesweep.files import last_words, write_json
from finesweep.folder import Manifest, SweepFolder, sweep_folder
from finesweep.host.machine import usable_cores
from finesweep.host.process_ahead import ProcessAhead
from finesweep.host.python_process import child_environment, own_command
from finesweep.host.temporary_folders import temporary_folder
from finesweep.host.timeline import phase
from finesweep.spec import KeyPath, ScratchModelSpec, SearchSpace, SweepSpec, TrialSettings
from finesweep.sweep.preflight import Checked
from finesweep.trial import Params, Value

if TYPE_CHECKING:
    import pandas as pd

WriteFew = Callable[[Checked, SweepFolder, Manifest], Manifest]

LONGEST = 1_024
"""Maximum tokens of a tried input."""

MOST_VARIANTS = 200
"""Maximum number of tried configurations."""

SECONDS = 900
"""Timeout of the whole dry run in seconds."""

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
    """One configuration to try.

    Attributes:
        place: Place in the YAML that is blamed for its fault.
        params: The parameters of a trial with it.
    """

    place: KeyPath
    params: Params


@contextlib.contextmanager
def started_ahead(spec: SweepSpec) -> Iterator[ProcessAhead | None]:
    """Start the process of the dry run while data and model are checked; it has ended when the block ends.

    There is none where the model is not tried, or where the checks need the only core.

    Args:
        spec: The sweep's spec.
    """
    ahead = None
    if not _is_tried(spec) and usable_cores() > 1:
        with contextlib.suppress(OSError), phase("start the dry run ahead"):
            ahead = ProcessAhead("try-model", child_environment())
    try:
        yield ahead
    finally:
        if ahead is not None:
            ahead.end()


def problems(
    checked: Checked, write: WriteFew, memory_gb: float | None, ahead: ProcessAhead | None = None
) -> Sequence[Problem]:
    """Try a model, and return its problems.

    Args:
        checked: A spec with checked data and model, and with its rows.
        write: Writes the rows, and a model made from scratch, into a folder.
        memory_gb: Memory of the machine that trains, in units of 1e9 bytes; None if that is another machine.
        ahead: From ``started_ahead``, to become the process.
    """
    spec = checked.loaded.spec
    # Code that comes with a model runs only in trials.
    if _is_tried(spec) or "auto_map" in checked.model.config:
        return []
    activity.tell("dry run: taking two rows through the model")
    tried = variants(spec, checked.planned, checked.model.max_tokens)
    blamed = dict(_set_in_every_trial(spec))
    with temporary_folder("finesweep-try-") as temporary:
        folder = Path(temporary)
        _prepare(checked, write, folder / "sweep")
        asked = {"params": [one.params for one in tried], "settings": list(blamed), "memory_gb": memory_gb}
        write_json(folder / ASKED, asked)
        faults = _carried_out(folder, ahead)
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
    """Return whether finesweep's own tests cover a model: one from scratch that differs from theirs only in size."""
    model = spec.model
    if not isinstance(model, ScratchModelSpec) or any(name.startswith(_PREFIX) for name in (*spec.space, *spec.fixed)):
        return False
    return model.config in _TRIED_TYPES and model.settings.keys() <= _TRIED_SETTINGS and _is_moderate(model.settings)


def _is_moderate(sizes: Mapping[str, Any]) -> bool:
    return all(type(size) is int and size <= 4_096 for size in sizes.values())


def variants(spec: SweepSpec, planned: Sequence[Params], max_tokens: int) -> list[Variant]:
    """Return the configurations to try: the first one, and each end or choice of a searched ``model.*``."""
    names = [name for name in spec.space if name.startswith(_PREFIX)]
    first = dict(planned[0]) if planned else {name: next(iter(spec.space[name].ends().values())) for name in names}
    length = {_LENGTH: min(TrialSettings.of(spec, first, max_tokens).max_length, LONGEST)}
    found = [Variant(("model",), {**first, **length})]
    for name in names:
        needed = _conditions(spec.search_space, name)
        for key, value in spec.space[name].ends().items():
            if first.get(name) != value or type(first.get(name)) is not type(value):
                found.append(Variant(("space", name, *key), {**first, **length, **needed, name: value}))
    return found[:MOST_VARIANTS]


def _conditions(space: SearchSpace, name: str) -> dict[str, Value]:
    """Return values of other parameters with which a parameter exists."""
    found: dict[str, Value] = {}
    for other, wanted in (space.parameters[name].when or {}).items():
        found |= {**_conditions(space, other), other: wanted[0] if isinstance(wanted, list) else wanted}
    return found


def _set_in_every_trial(spec: SweepSpec) -> Iterator[tuple[str, KeyPath]]:
    """Yield the fields of the model's config that are equal in all trials, with their places in the YAML."""
    if isinstance(spec.model, ScratchModelSpec):
        yield from ((name, ("model", name)) for name in spec.model.settings)
    for name in spec.fixed:
        if name.startswith(_PREFIX):
            yield name.removeprefix(_PREFIX), ("fixed", name)


def _prepare(checked: Checked, write: WriteFew, path: Path) -> None:
    """Write a sweep's folder with two rows of each split: the longest, and the shortest with another label."""
    frames = {split: _ends_of(frame) for split, frame in checked.data.frames.items() if split != "test"}
    few = dataclasses.replace(checked, data=dataclasses.replace(checked.data, frames=frames))
    folder = sweep_folder.make_folders(path)
    manifest = write(few, folder, few.manifest())
    write_json(folder.spec_file, manifest.to_json())


def _ends_of(rows: pd.DataFrame) -> pd.DataFrame:
    length = sum(rows[name].str.len() for name in ("text", "text_pair") if name in rows)
    longest = length.idxmax()
    labels = rows["label"].map(str)  # pandas cannot compare lists elementwise
    others = length[labels != labels[longest]]
    return rows.loc[[(length if others.empty else others).idxmin(), longest]].reset_index(drop=True)


def _carried_out(folder: Path, ahead: ProcessAhead | None) -> Sequence[Mapping[str, Any]]:
    log = folder / "log"
    try:
        with log.open("wb") as stream:
            code = _exit_code(folder, ahead, stream.fileno())
    except subprocess.TimeoutExpired:
        return _ended(folder, f"two rows took longer than {SECONDS} s")
    if code < 0:
        killed = f"the process that tried two rows was killed by {signal_name(-code)}"
        return _ended(folder, killed, "mostly the system does that, when memory runs out")
    if code:
        return _ended(folder, f"two rows could not be tried: {last_words(log, code)}")
    return _faults(folder)[1]


def _exit_code(folder: Path, ahead: ProcessAhead | None, log: int) -> int:
    """Wait for the process that tries the model; after ``SECONDS``, and after any error, it is killed."""
    command = own_command("try-model", str(folder))
    # Libraries that were imported since may have changed this process's environment, which is not the child's concern.
    if ahead is not None and ahead.carry_out(command, None, log):
        process = ahead.process
    else:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**child_environment(), "TMPDIR": str(folder)},
        )
    try:
        return process.wait(SECONDS)
    finally:
        process.kill()
        process.wait()


def _ended(folder: Path, message: str, hint: str = "") -> Sequence[Mapping[str, Any]]:
    """Return the faults found until the process ended, and one for its end."""
    number, faults = _faults(folder) if (folder / ANSWER).is_file() else (0, [])
    return [*faults, {"number": number, "setting": None, "message": message, "hint": hint}]


def _faults(folder: Path) -> tuple[int, list[Mapping[str, Any]]]:
    """Return the number of the configuration that is being tried, and the faults so far."""
    found = json.loads((folder / ANSWER).read_text(encoding="utf-8"))
    return found["number"], found["faults"]
