"""Keeps the measurements of a run: how many trials at a time suit the GPUs of this machine.

The command writes the question before it starts its workers. When they are warm, one of them measures while the others
wait. The command then starts or ends workers by the result. ``calibration.json`` keeps it, so that the next run on the
same machine need not measure.
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
    """Content of ``calibration.json``, the newest last."""

    calibrations: tuple[Calibration, ...] = ()


def launch(
    folder: SweepFolder, spec: SweepSpec, settled: SettledProfile, machine: Machine, trials: int, rows: int
) -> tuple[SettledProfile, Calibration | None]:
    """Return a run's profile, and the question that its workers measure first; None if there is no question.

    Args:
        folder: The sweep's folder, in which earlier runs may have the answer.
        spec: The sweep's spec.
        settled: The launch profile, settled without measuring.
        machine: The machine of the workers.
        trials: Number of trials left.
        rows: Training rows.
    """
    asked = settled.asked
    among = options.options(asked, machine, trials)
    if asked.launcher != "local" or BACKENDS.load(spec.search.backend).single_worker or len(among) < 2:
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
    """Return an earlier run's result on this machine that answers the same question, None if there is none."""
    for one in reversed(_read(folder)):
        answers = one.is_done and (one.host, one.machine) == (host, machine) and set(among) <= set(one.options)
        if answers and chosen(one.speeds, among) is not None:
            return one
    return None


def of_run(folder: SweepFolder, run: int) -> Calibration | None:
    """Return a run's question or result; None if it had no question."""
    return next((one for one in reversed(_read(folder)) if one.run == run), None)


def write(folder: SweepFolder, calibration: Calibration) -> None:
    """Write a run's question or result, replacing the earlier one.

    Raises:
        FolderError: The folder cannot be written.
    """
    with folder.claims.locked():
        others = [one for one in _read(folder) if one.run != calibration.run]
        write_json(folder.calibration_file, dataclasses.asdict(_File((*others, calibration)[-KEPT:])))


def _read(folder: SweepFolder) -> tuple[Calibration, ...]:
    """Return all entries; an unreadable file counts as empty, since it can be measured again."""
    with contextlib.suppress(Damaged, FileNotFoundError):
        return read_as(_File, folder.calibration_file).calibrations
    return ()


@dataclass(frozen=True)
class ChosenProfile:
    """Number of workers of a run, and the reason.

    Attributes:
        profile: The run's profile.
        note: Explanation on one line.
    """

    profile: SettledProfile
    note: str


def by_rule(settled: SettledProfile, why: str) -> ChosenProfile:
    """Return the choice if nothing could be measured.

    Args:
        settled: The run's profile, settled without measuring.
        why: Why nothing was measured.
    """
    return ChosenProfile(settled, f"{settled}; nothing was measured, since {why}.")


def chosen_profile(folder: SweepFolder, run: int, settled: SettledProfile) -> ChosenProfile | None:
    """Return the choice that follows from the workers' result, None until they have one."""
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
    """Return a worker's run once its number of workers is known; one worker measures it.

    Args:
        folder: The sweep's folder.
        run: The run when the worker was started.
        find_out: Measures.
        stopping: Returns whether to end at once, with the run as it is.
    """
    while run.measures and not stopping():
        asked = of_run(folder, run.number)
        if asked is not None and not asked.is_done:
            with alone(folder.data / ".calibration") as is_first:
                # Read again under the lock: another worker may have measured meanwhile.
                if is_first and (asked := of_run(folder, run.number)) is not None and not asked.is_done:
                    with contextlib.suppress(TrialInterrupted):
                        write(folder, find_out(asked))
                    continue
        time.sleep(WAIT_SECONDS)
        run = next((one for one in folder.runs() if one.number == run.number), run)
    return run
