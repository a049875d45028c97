"""Decides about a trial whose process has ended: which ends are results, and which trials are retried.

The key ``retries`` of the profile says how often a trial is retried after a kill or a standstill.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass

from finesweep.trial import TrialState

CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGTRAP})
"""Signals by which a program ends itself; the same program would do so again on the same data."""


@dataclass(frozen=True)
class Limit:
    """A limit that a trial has exceeded.

    Attributes:
        reason: The limit and the excess, for the user.
        is_fault: Whether it says nothing about the trial itself, so that the trial is retried.
    """

    reason: str
    is_fault: bool = False


@dataclass(frozen=True)
class Ending:
    """How a trial's process ended.

    Attributes:
        exit_code: Negative: the signal that ended it.
        seconds: How long it ran.
        asked: Whether its worker stopped it, because the worker was asked to stop.
        limit: The limit that it exceeded, so that its worker ended it; None if it exceeded none.
        complaint: Its error about the sweep's folder; None if the folder could be written.
        out_of_memory: Whether the kernel has killed any process for lack of memory while it ran.
    """

    exit_code: int
    seconds: float = 0.0
    asked: bool = False
    limit: Limit | None = None
    complaint: str | None = None
    out_of_memory: bool = False


@dataclass(frozen=True)
class RetryDecision:
    """Content of a trial's record that the worker writes.

    Attributes:
        state: Its state.
        reason: Explanation on one line.
        faults: All infrastructure faults so far.
    """

    state: TrialState
    reason: str
    faults: tuple[str, ...]


def decide_retry(
    ending: Ending, recorded: TrialState | None, faults: Sequence[str], retries: int
) -> RetryDecision | None:
    """Return the record's content for an attempt whose process did not write a valid one.

    Args:
        ending: How the process ended.
        recorded: State of the record that the attempt wrote, None if it wrote none.
        faults: Faults that ended earlier attempts.
        retries: Number of faults after which the trial is still retried.

    Returns:
        The decision, None if the attempt's own record stands.
    """
    # A final record stands: the trial had ended before its process was ended. A record of an interruption does not,
    # if a limit was the reason.
    if recorded is not None and (recorded.finished or ending.limit is None):
        return None
    known = tuple(faults)
    if ending.complaint is not None:
        return RetryDecision(TrialState.INTERRUPTED, ending.complaint, known)
    if ending.limit is not None:
        return (
            after_fault(ending.limit.reason, known, retries) if ending.limit.is_fault else _failed(ending.limit, known)
        )
    if ending.asked:
        return RetryDecision(TrialState.INTERRUPTED, "stopped before it could save its state", known)
    if ending.exit_code < 0 and -ending.exit_code not in CRASHES:
        return after_fault(_killed(ending), known, retries)
    if ending.exit_code == 0:
        return after_fault(
            "the trial's process ended without an error, but its record is gone or damaged", known, retries
        )
    return RetryDecision(TrialState.FAILED, _crashed(ending.exit_code), known)


def _failed(limit: Limit, known: tuple[str, ...]) -> RetryDecision:
    return RetryDecision(TrialState.FAILED, limit.reason, known)


def after_fault(reason: str, known: Sequence[str], retries: int) -> RetryDecision:
    """Return the record's content for an attempt that an infrastructure fault has ended.

    Args:
        reason: The fault, for the user.
        known: Faults that ended earlier attempts.
        retries: Number of faults after which the trial is still retried.
    """
    faults = (*known, reason)
    if len(faults) > retries:
        return RetryDecision(TrialState.FAILED, given_up(faults), faults)
    return RetryDecision(
        TrialState.INTERRUPTED, f"{reason}; to be retried ({len(faults)} of {retries} retries)", faults
    )


def given_up(faults: Sequence[str]) -> str:
    """Return why a trial is not retried."""
    return faults[-1] if len(faults) == 1 else f"{faults[-1]}; given up after {len(faults)} such faults"


def _killed(ending: Ending) -> str:
    name = signal.Signals(-ending.exit_code).name
    if name != "SIGKILL":
        return f"the trial's process was killed by {name}"
    if ending.out_of_memory:
        return "the trial's process was killed by SIGKILL: the machine ran out of memory"
    return "the trial's process was killed by SIGKILL, which finesweep did not send (out of memory?)"


def _crashed(code: int) -> str:
    if code < 0:
        return f"the trial's process crashed with {signal.Signals(-code).name}"
    return f"the trial's process ended with exit code {code} without a record"
