"""Keeps what a run has measured: how many trials at a time suit the GPUs of this machine.

The command asks before it starts its workers. Once they are warm, one of them measures while the others wait; the
command then starts or ends workers by what was found. It is kept in ``calibration.json``, so that the next run on
the same machine need not measure.
"""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from finesweep.calibration import options
from finesweep.calibration.options import Calibration, Option, chosen
from finesweep.files import Damaged, read_as, write_json
from finesweep.files.atomic import alone
from finesweep.folder import Run, SweepFolder
from finesweep.forecast import expected_examples
from finesweep.host.machine import Machine
from finesweep.launch import SettledProfile
from finesweep.registry import BACKENDS
from finesweep.spec import SweepSpec
from finesweep.trial import TrialInterrupted

KEPT = 20
WAIT_SECONDS = 0.1


@dataclass(frozen=True)
class _File:
    """What ``calibration.json`` holds, the newest last."""

    calibrations: tuple[Calibration, ...] = ()


def launch(
    folder: SweepFolder, spec: SweepSpec, settled: SettledProfile, machine: Machine, trials: int, rows: int
) -> tuple[SettledProfile, Calibration | None]:
    """Return a run's profile, and what its workers measure before they begin; None where that is no question.

    Args:
        folder: The sweep's folder, in which earlier runs may have found it out.
        spec: The sweep's spec.
        settled: The launch profile by the rule.
        machine: Where the workers will run.
        trials: How many trials are left.
        rows: Training rows.
    """
    asked = settled.asked
    among = options.options(asked, machine, trials)
    if asked.launcher != "local" or BACKENDS.load(spec.search.backend).coordinates or len(among) < 2:
        return settled, None
    host = socket.gethostname()
    if (found := known(folder, host, machine, among)) is not None:
        option = chosen(found.speeds, among)
        assert option is not None
        return options.applied(settled, option), None
    examples = expected_examples(spec, rows, trials, pruned=True).middle
    load = spec.search_space.untuned({})
    return settled, Calibration(0, host, machine, among, load, examples, trials)


def known(folder: SweepFolder, host: str, machine: Machine, among: Sequence[Option]) -> Calibration | None:
    """Return what an earlier run has found of this machine that answers the same question, None if none has."""
    for one in reversed(_read(folder)):
        answers = one.is_done and (one.host, one.machine) == (host, machine) and set(among) <= set(one.options)
        if answers and chosen(one.speeds, among) is not None:
            return one
    return None


def of_run(folder: SweepFolder, run: int) -> Calibration | None:
    """Return what a run wants to know, or has found out; None if it never asked."""
    return next((one for one in reversed(_read(folder)) if one.run == run), None)


def write(folder: SweepFolder, calibration: Calibration) -> None:
    """Write what a run wants to know, or has found out, in the place of what it wrote before.

    Raises:
        FolderError: The folder cannot be written.
    """
    with folder.locked():
        others = [one for one in _read(folder) if one.run != calibration.run]
        write_json(folder.calibration_file, dataclasses.asdict(_File((*others, calibration)[-KEPT:])))


def _read(folder: SweepFolder) -> tuple[Calibration, ...]:
    """Read what is known; what cannot be read can be measured again."""
    with contextlib.suppress(Damaged, FileNotFoundError):
        return read_as(_File, folder.calibration_file).calibrations
    return ()


@dataclass(frozen=True)
class ChosenProfile:
    """How many workers a run has, and why.

    Attributes:
        profile: The run's profile.
        note: One line for a person.
    """

    profile: SettledProfile
    note: str


def by_rule(settled: SettledProfile, why: str) -> ChosenProfile:
    """Return the outcome where nothing could be measured.

    Args:
        settled: The run's profile, whose numbers nothing was measured for.
        why: Why not.
    """
    return ChosenProfile(settled, f"{settled}; nothing was measured, since {why}.")


def chosen_profile(folder: SweepFolder, run: int, settled: SettledProfile) -> ChosenProfile | None:
    """Return what a run's workers have found out, None as long as they have not.

    Args:
        folder: The sweep's folder.
        run: Number of the run.
        settled: Its profile, whose numbers nothing was measured for.
    """
    found = of_run(folder, run)
    if found is None:
        return by_rule(settled, "calibration.json is gone")
    if not found.is_done:
        return None
    if (option := chosen(found.speeds, found.options)) is None:
        return by_rule(settled, found.remark or "nothing fits")
    profile = options.applied(settled, option)
    return ChosenProfile(profile, f"{profile}: {options.against(found.speeds, option)}.")


def awaited(
    folder: SweepFolder, run: Run, find_out: Callable[[Calibration], Calibration], stopping: Callable[[], bool]
) -> Run:
    """Return a worker's run once its number of workers is known; one of them measures it.

    Args:
        folder: The sweep's folder.
        run: The run when the worker was started.
        find_out: Measures.
        stopping: Whether to end at once, with the run as it is.
    """
    while run.measures and not stopping():
        asked = of_run(folder, run.number)
        if asked is not None and not asked.is_done:
            with alone(folder.data / ".calibration") as is_first:
                if is_first and (asked := of_run(folder, run.number)) is not None and not asked.is_done:
                    with contextlib.suppress(TrialInterrupted):
                        write(folder, find_out(asked))
                    continue
        time.sleep(WAIT_SECONDS)
        run = next((one for one in folder.runs() if one.number == run.number), run)
    return run
