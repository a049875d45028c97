"""What is chosen follows from what was measured: each further trial on a GPU must be worth it, and must fit."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep.calibration.measurement import Load, Measurement, Misfit
from finesweep.calibration.options import (
    GAIN,
    MOST_PER_GPU,
    Calibration,
    Option,
    Speed,
    against,
    applied,
    carried_out,
    chosen,
    options,
)
from finesweep.errors import SweepError
from finesweep.host.machine import Machine
from finesweep.launch.profile import Profile
from finesweep.trial import TrialInterrupted

LAPTOP = Machine(cores=8, gpus=(), memory_gb=16.0)
CARD = Machine(cores=8, gpus=("0",), memory_gb=16.0)
BOX = Machine(cores=64, gpus=("0", "1"), memory_gb=256.0)


def shares(machine: Machine, trials: int = 100, **keys) -> list[tuple[int, int, int]]:
    return [(one.workers, one.threads, one.per_gpu) for one in options(Profile(**keys), machine, trials)]


def measurement(examples: float, *, own_mb: float = 100.0, share: float = 1.0) -> Measurement:
    return Measurement(examples, 10 * examples, None, 0.1, 500.0, own_mb, 0.0, 1.0, share)


@dataclass
class Bench:
    """Measures by a table: examples per second by threads and processes; what is not in it does not fit."""

    table: dict[tuple[int, int], float]
    alone: float = 100.0
    own_mb: float = 100.0
    asked: list[tuple[int, int]] = field(default_factory=list)

    def __call__(self, load: Load, threads: int, processes: int, within: float) -> Measurement | Misfit:
        if load.sizes:
            return measurement(self.alone, own_mb=self.own_mb)
        self.asked.append((threads, processes))
        found = self.table.get((threads, processes))
        return measurement(found) if found else Misfit("it needs more memory than the GPU has")


def question(machine: Machine, trials: int = 100, examples: float = 1e7, **keys) -> Calibration:
    return Calibration(1, "here", machine, options(Profile(**keys), machine, trials), {}, examples, trials)


def test_a_gpu_takes_one_trial_after_the_other_as_long_as_cores_feed_them():
    assert shares(BOX) == [(2 * count, 64 // (2 * count), count) for count in range(1, MOST_PER_GPU + 1)]
    assert shares(Machine(4, ("0", "1"), 64.0)) == [(2, 2, 1), (4, 1, 2)]
    assert shares(Machine(1, ("0",), 64.0)) == [(1, 1, 1)]
    assert shares(BOX, trials=4) == [(2, 32, 1), (4, 16, 2)]
    assert shares(BOX, threads_per_worker=3, memory_gb=60.0) == [(2, 3, 1), (4, 3, 2)]


@pytest.mark.parametrize(
    "keys",
    [{"workers": 3}, {"gpus_per_trial": 1, "trials_per_gpu": 2}, {"gpus_per_trial": 0}, {"memory_gb": 200.0}],
)
def test_where_something_is_said_there_is_nothing_to_choose_from(keys):
    assert len(shares(BOX, **keys)) < 2


def test_cores_alone_or_one_trial_each_leave_nothing_to_choose():
    assert shares(LAPTOP) == []
    assert len(shares(CARD, trials=1)) == 1
    assert len(shares(BOX, trials=2)) == 1


OPTIONS = options(Profile(), BOX, 100)


def found(*examples: float | None) -> list[Speed]:
    return [Speed(option, value) for option, value in zip(OPTIONS, examples, strict=False)]


def test_only_what_may_be_chosen_now_is_chosen():
    few = options(Profile(), BOX, 4)
    option = chosen(found(100, 200, 400, 800), few)
    assert option is not None
    assert (option.workers, option.per_gpu) == (4, 2)
    assert chosen(found()[:0], few) is None
    assert chosen([Speed(OPTIONS[5], 400)], few) is None


@pytest.mark.parametrize(
    ("examples", "per_gpu"),
    [((100, 190, 250, 260, 500), 3), ((100, 109), 1), ((100, None, 300), 1), ((100, 111, 123), 3)],
)
def test_each_trial_more_on_a_gpu_must_be_worth_it(examples, per_gpu):
    option = chosen(found(*examples), OPTIONS)
    assert option is not None
    assert option.per_gpu == per_gpu
    assert option.workers == 2 * per_gpu


@given(st.lists(st.one_of(st.none(), st.floats(1, 1e6)), min_size=1, max_size=MOST_PER_GPU))
def test_a_gpu_has_as_many_trials_as_gain_a_tenth_each(rates):
    option = chosen(found(*rates), OPTIONS)
    assert (option is None) == all(rate is None for rate in rates)
    if option is not None and rates[0] is not None:
        taken = [rate or 0.0 for rate in rates[: option.per_gpu]]
        assert all(after >= GAIN * before for before, after in itertools.pairwise(taken))


def test_a_profile_runs_what_was_chosen():
    profile = Profile().settled(BOX, 100)
    shared = applied(profile, Option(6, 10, 3))
    assert (shared.workers, shared.threads_per_worker, shared.trials_per_gpu) == (6, 10, 3)


def test_what_was_chosen_is_said_with_what_it_was_held_against():
    gpus = [Speed(Option(2, 8, 1), 2300.4), Speed(Option(4, 4, 2), 4100.0), Speed(Option(6, 2, 3), None, "too large")]
    assert against(gpus, gpus[1].option) == "4,100 examples/s, against 2,300 with 1"
    assert against(gpus[:1], gpus[0].option) == "2,300 examples/s"
    assert str(Profile().settled(LAPTOP, 100)) == "8 workers with 1 thread each"
    assert str(Profile().settled(LAPTOP, 1)) == "1 worker with 8 threads"
    assert str(Profile().settled(BOX, 100)) == "1 trial at a time on each GPU"


def test_what_disturbs_one_measurement_does_not_decide():
    class Disturbed(Bench):
        def __call__(self, load: Load, threads: int, processes: int, within: float) -> Measurement | Misfit:
            found = super().__call__(load, threads, processes, within)
            is_first = self.asked.count((4, 2)) == 1 and processes == 2
            return measurement(330.0) if is_first else found

    bench = Disturbed({(8, 1): 300.0, (4, 2): 500.0, (2, 3): 310.0})
    done = carried_out(question(CARD), bench, 0.5)
    assert (chosen(done.speeds, done.options) or done.options[0]).per_gpu == 2
    assert max(speed.examples_per_second or 0 for speed in done.speeds) == 500


def test_on_a_gpu_the_first_that_is_not_worth_it_is_the_last_that_is_measured():
    bench = Bench({(32, 1): 1000.0, (16, 2): 1900.0, (10, 3): 2000.0})
    done = carried_out(question(BOX), bench, 0.5)
    assert [processes for _, processes in bench.asked[:3]] == [1, 2, 3]
    assert all(processes <= 3 for _, processes in bench.asked)
    assert (chosen(done.speeds, done.options) or done.options[0]).per_gpu == 2


def test_what_does_not_fit_into_memory_is_not_even_tried():
    bench = Bench(
        {(8, 1): 100.0, (4, 2): 200.0, (2, 3): 300.0, (2, 4): 400.0, (1, 5): 500.0, (1, 6): 600.0}, own_mb=2_500.0
    )
    done = carried_out(question(CARD), bench, 0.5)
    assert (1, 6) not in bench.asked
    assert done.speeds[5] == Speed(Option(6, 1, 6), None, "6 workers would take 18.0 GB of memory")
    assert chosen(done.speeds, done.options) == Option(5, 1, 5)


def test_a_sweep_that_is_too_short_is_not_measured():
    bench = Bench({(8, 1): 800.0, (4, 2): 700.0})
    done = carried_out(question(CARD, examples=5_000), bench, 0.5)
    assert (done.is_done, done.speeds, bench.asked) == (True, (), [])
    assert done.remark == "the sweep is short (8 s)"


def test_a_process_that_waits_for_its_gpu_is_measured_all_the_same():
    done = carried_out(question(Machine(4, ("0",), 64.0)), lambda *_: measurement(100.0, share=0.1), 0.5)
    assert (chosen(done.speeds, done.options) or Option(0, 0, 0)).per_gpu == 1


@pytest.mark.parametrize(
    ("answer", "remark"),
    [(Misfit("it needs more memory than there is"), "it needs more memory than there is"), (SweepError("no"), "no")],
)
def test_where_nothing_can_be_measured_it_is_said_why(answer, remark):
    def bench(*_) -> Measurement | Misfit:
        if isinstance(answer, SweepError):
            raise answer
        return answer

    done = carried_out(question(CARD), bench, 0.5)
    assert (done.is_done, done.speeds, done.remark) == (True, (), remark)


def test_where_only_the_first_could_be_measured_the_others_say_why():
    def bench(load: Load, threads: int, processes: int, within: float) -> Measurement | Misfit:
        if load.sizes:
            return measurement(100.0)
        raise SweepError("a few steps of training took longer than 3 s")

    done = carried_out(question(CARD), bench, 0.5)
    assert chosen(done.speeds, done.options) is None
    assert done.remark == "a few steps of training took longer than 3 s"


def test_a_worker_that_is_told_to_stop_finds_nothing_out():
    def bench(*_) -> Measurement | Misfit:
        raise TrialInterrupted("stopped")

    with pytest.raises(TrialInterrupted, match="stopped"):
        carried_out(question(CARD), bench, 0.5)
