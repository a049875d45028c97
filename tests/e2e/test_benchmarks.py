"""What the benchmarks measure holds: a trial's fixed cost, and the same trials whoever runs them."""

from __future__ import annotations

import pytest
from benchmarks import fixed_cost, throughput

MOST = 0.5
"""A trial in a process of its own may cost half of what it costs the stock call without one."""


@pytest.mark.slow
def test_a_trial_has_at_most_half_the_fixed_cost_of_the_stock_call(capsys):
    """Measured in turns, on the medians; once more where something else took the machine away from one of them."""
    costs = fixed_cost.measure(rounds=2, trials=3)
    if fixed_cost.ratio(costs) > MOST:
        costs = fixed_cost.measure(rounds=4, trials=3)
    with capsys.disabled():
        print("\n" + fixed_cost.report(costs))  # noqa: T201
    assert fixed_cost.ratio(costs) <= MOST


@pytest.mark.slow
def test_the_trials_are_the_same_with_one_worker_and_with_two(capsys):
    sweeps = throughput.measure(repetitions=1, trials=4)
    with capsys.disabled():
        print("\n" + throughput.report(sweeps))  # noqa: T201
    assert throughput.differences(sweeps) == []
