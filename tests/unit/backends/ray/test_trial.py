"""What travels between the search and a trial, and what a trial does when its actor prunes it or is gone."""

from __future__ import annotations

import json
import multiprocessing
import sys
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep.backends.ray import trial as ray_trial
from finesweep.folder.claims import Claim
from finesweep.trial import AttemptOutdated, Evaluation, Report, TrialPruned, TrialRecord, TrialState
from made_specs import made_spec

SPEC = made_spec(search={"pruner": "asha", "backend": "ray"})
FORK = multiprocessing.get_context("fork")
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


def pruned(reason: str) -> TrialRecord:
    return TrialRecord(0, 1, TrialState.PRUNED, {}, 0.0, 1.0, "log", "host", reason=reason, objective=0.5)


@given(
    claim=st.builds(
        Claim,
        st.integers(0, 9999),
        st.integers(1, 99),
        st.integers(1, 99),
        st.lists(st.text()).map(tuple),
        st.sampled_from([1, 2]),
    ),
    params=st.dictionaries(st.text(), VALUES),
)
def test_a_claim_and_its_parameters_arrive_as_they_were_sent(claim, params):
    """Ray would resolve what looks like a search space of its own, such as {"grid_search": ...}."""
    config = ray_trial.config_of(claim, params)
    assert list(config) == ["claimed"]
    assert ray_trial._claimed(config) == (claim, params)


@pytest.fixture
def reports(monkeypatch) -> list:
    """Stand in for Ray in the actor: what is reported is kept, and the third report ends the trial."""
    told: list = []

    def report(values) -> None:
        told.append(values)
        if len(told) == 3:
            raise SystemExit(0)

    tune = types.SimpleNamespace(report=report)
    monkeypatch.setitem(sys.modules, "ray", types.SimpleNamespace(tune=tune))
    monkeypatch.setitem(sys.modules, "ray.tune", tune)
    return told


def attended(body, line) -> int:
    process = FORK.Process(target=body)
    process.start()
    while process.is_alive():
        line.attend()
        process.join(timeout=0.01)
    return process.exitcode or 0


def test_evaluations_are_reported_once_each_on_the_axis_until_the_trial_is_pruned(reports):
    """A broken epoch's end is no rung; what the trial raises in the end carries the record that Ray has."""
    line = ray_trial._Line(SPEC, list)

    def report(epoch: float) -> None:
        line.report(Report(Evaluation(int(epoch), epoch, int(epoch * 100), {}, 0.5), 0.5, False, lambda: pruned("")))

    def trial() -> None:
        for epoch in (1.0, 2.0, 2.0, 2.5):
            report(epoch)
        with pytest.raises(TrialPruned, match=r"asha: eval_loss 0\.5000 after 300 examples; no other") as caught:
            report(3.0)
        assert caught.value.record == pruned(str(caught.value))

    assert attended(trial, line) == 0
    assert [values["step"] for values in reports] == [1, 2, 3]
    assert line.is_pruned
    assert json.loads(reports[2]["pruned"])["reason"] == "asha: eval_loss 0.5000 after 300 examples"
    line.close()


def test_a_trial_whose_actor_dies_before_it_answers_writes_nothing(reports):
    """It may have been stopped here, and its record be written already; it must not be replaced."""
    line = ray_trial._Line(SPEC, list)
    receiver, sender = FORK.Pipe(duplex=False)

    def trial() -> None:
        with pytest.raises(AttemptOutdated, match="is gone"):
            line.report(Report(Evaluation(1, 1.0, 100, {}, 0.5), 0.5, False, lambda: pruned("")))
        sender.send_bytes(b"outdated")

    def actor() -> None:
        FORK.Process(target=trial).start()
        line.close()
        line._trials.close()
        import os

        os._exit(1)

    process = FORK.Process(target=actor)
    process.start()
    line.close()
    assert receiver.poll(30)
    assert receiver.recv_bytes() == b"outdated"
    process.join()
