"""What becomes of a trial whose process ended: retried, given up, or left as it is."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep.trial import TrialState
from finesweep.worker.retry_rule import CRASHES, Ending, Limit, decide_retry

FAILED, INTERRUPTED = TrialState.FAILED, TrialState.INTERRUPTED
KILLED = Ending(-signal.SIGKILL)
OVER_TIME = Limit("it took longer than the 30 minutes of `limits.trial_minutes`")
STALLED = Limit("it made no progress", is_fault=True)


@pytest.mark.parametrize("state", [state for state in TrialState if state.finished])
@pytest.mark.parametrize("ending", [Ending(0), KILLED, Ending(-signal.SIGSEGV), Ending(0, limit=OVER_TIME)])
def test_a_result_that_was_recorded_stands_however_its_process_ended(state, ending):
    assert decide_retry(ending, state, (), 2) is None


def test_an_interruption_that_was_recorded_stands():
    assert decide_retry(Ending(0, asked=True), INTERRUPTED, (), 2) is None


def test_a_kill_is_forgiven_twice_and_counted():
    first = decide_retry(KILLED, None, (), 2)
    assert (first.state, len(first.faults)) == (INTERRUPTED, 1)
    assert first.reason.endswith("to be retried (1 of 2 retries)")
    second = decide_retry(KILLED, None, first.faults, 2)
    assert (second.state, len(second.faults)) == (INTERRUPTED, 2)
    third = decide_retry(KILLED, None, second.faults, 2)
    assert (third.state, len(third.faults)) == (FAILED, 3)
    assert third.reason.endswith("given up after 3 such faults")


def test_without_retries_a_kill_is_a_failure_at_once():
    decision = decide_retry(KILLED, None, (), 0)
    assert (decision.state, decision.reason) == (FAILED, decision.faults[0])


@pytest.mark.parametrize("number", CRASHES)
def test_a_crash_of_the_program_is_not_tried_again(number):
    decision = decide_retry(Ending(-number), None, (), 2)
    assert (decision.state, decision.faults) == (FAILED, ())
    assert decision.reason == f"the trial's process crashed with {number.name}"


def test_an_exit_without_a_record_is_not_tried_again():
    decision = decide_retry(Ending(3), None, (), 2)
    assert (decision.state, decision.reason) == (FAILED, "the trial's process ended with exit code 3 without a record")


def test_a_record_that_was_lost_since_it_was_written_is_made_again():
    decision = decide_retry(Ending(0), None, (), 2)
    assert (decision.state, len(decision.faults)) == (INTERRUPTED, 1)
    assert "its record is gone or damaged" in decision.reason


def test_what_the_kernel_killed_for_memory_is_called_so():
    assert "the machine ran out of memory" in decide_retry(Ending(-9, out_of_memory=True), None, (), 2).reason
    assert "which finesweep did not send (out of memory?)" in decide_retry(KILLED, None, (), 2).reason
    assert "memory" not in decide_retry(Ending(-signal.SIGHUP, out_of_memory=True), None, (), 2).reason


def test_a_limit_is_a_failure_and_a_stall_is_tried_again():
    for recorded in (None, INTERRUPTED):  # it may have saved its state when it was told to stop
        over = decide_retry(Ending(-9, limit=OVER_TIME), recorded, (), 2)
        assert (over.state, over.reason, over.faults) == (FAILED, OVER_TIME.reason, ())
        stalled = decide_retry(Ending(-9, limit=STALLED), recorded, (), 2)
        assert (stalled.state, stalled.faults) == (INTERRUPTED, (STALLED.reason,))


def test_a_trial_that_was_told_to_stop_and_was_killed_is_no_fault():
    decision = decide_retry(Ending(-9, asked=True), None, ("earlier",), 2)
    assert (decision.state, decision.faults) == (INTERRUPTED, ("earlier",))


def test_a_folder_that_cannot_be_written_is_no_fault_of_the_trial():
    decision = decide_retry(Ending(2, complaint="the disk is full"), None, (), 0)
    assert (decision.state, decision.reason, decision.faults) == (INTERRUPTED, "the disk is full", ())


ENDINGS = st.builds(
    Ending,
    st.sampled_from([0, 1, 2, -9, -11, -1, -15]),
    st.just(1.0),
    st.booleans(),
    st.sampled_from([None, OVER_TIME, STALLED]),
    st.sampled_from([None, "full"]),
    st.booleans(),
)
STATES = st.sampled_from([None, *(state for state in TrialState if state.finished or state is INTERRUPTED)])


@given(ENDINGS, STATES, st.lists(st.just("fault"), max_size=4), st.integers(0, 4))
def test_a_verdict_never_forgets_a_fault_nor_forgives_too_many(ending, recorded, faults, retries):
    decision = decide_retry(ending, recorded, faults, retries)
    if decision is None:
        assert recorded is not None
        return
    assert decision.state in (FAILED, INTERRUPTED)
    assert list(decision.faults[: len(faults)]) == faults
    if len(decision.faults) > len(faults):
        assert (decision.state is FAILED) == (len(decision.faults) > retries)
