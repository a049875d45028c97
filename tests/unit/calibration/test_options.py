"""What is chosen follows from what was measured: the most work, the fewest workers for it, and what fits."""

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
    TIE,
    Calibration,
    Option,
    Speed,
    applied,
    carried_out,
    chosen,
    in_words,
    named,
    options,
)
from finesweep.errors import SweepError
from finesweep.host.machine import Machine
from finesweep.launch.profile import Profile
from finesweep.trial import TrialInterrupted

LAPTOP = Machine(cores=8, gpus=(), memory_gb=16.0)
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


def test_a_worker_for_each_core_is_held_against_fewer_with_more_threads():
    assert shares(LAPTOP) == [(8, 1, 0), (4, 2, 0), (2, 4, 0), (1, 8, 0)]
    assert shares(Machine(6, (), 16.0)) == [(6, 1, 0), (3, 2, 0), (1, 6, 0)]
    assert shares(Machine(2, (), 16.0)) == [(2, 1, 0), (1, 2, 0)]


def test_there_are_no_more_workers_than_trials_and_many_only_for_many_trials():
    assert shares(LAPTOP, trials=3) == [(2, 4, 0), (1, 8, 0)]
    wide = Machine(64, (), 512.0)
    assert shares(wide, trials=40)[0] == (8, 8, 0)
    assert shares(wide, trials=200)[0] == (32, 2, 0)


def test_a_gpu_takes_one_trial_after_the_other_as_long_as_cores_feed_them():
    assert shares(BOX) == [(2 * count, 64 // (2 * count), count) for count in range(1, MOST_PER_GPU + 1)]
    assert shares(Machine(4, ("0", "1"), 64.0)) == [(2, 2, 1), (4, 1, 2)]
    assert shares(Machine(1, ("0",), 64.0)) == [(1, 1, 1)]
    assert shares(BOX, trials=4) == [(2, 32, 1), (4, 16, 2)]
    assert shares(BOX, threads_per_worker=3, memory_gb=60.0) == [(2, 3, 1), (4, 3, 2)]


@pytest.mark.parametrize(
    "keys",
    [
        {"workers": 3},
        {"threads_per_worker": 2},
        {"gpus_per_trial": 1, "trials_per_gpu": 2},
        {"memory_gb": 200.0, "gpus_per_trial": 0},
    ],
)
def test_where_something_is_said_there_is_less_than_two_to_choose_from(keys):
    assert len(shares(BOX if "gpus_per_trial" in keys else LAPTOP, **keys)) < 2


def test_one_core_or_one_trial_leave_nothing_to_choose():
    assert len(shares(Machine(1, (), 16.0))) == 1
    assert len(shares(LAPTOP, trials=1)) == 1
    assert len(shares(BOX, trials=2)) == 1


OPTIONS = options(Profile(), LAPTOP, 100)
GPU_OPTIONS = options(Profile(), BOX, 100)


def found(*examples: float | None, among=OPTIONS) -> list[Speed]:
    return [Speed(option, value) for option, value in zip(among, examples, strict=False)]


@pytest.mark.parametrize(
    ("examples", "workers"),
    [((400, 300, 200, 100), 8), ((400, 390, 200, 100), 4), ((400, 390, 381, 379), 2), ((None, 390, 500, 100), 2)],
)
def test_the_most_examples_win_and_of_those_that_come_near_the_fewest_workers(examples, workers):
    option = chosen(found(*examples), OPTIONS)
    assert option is not None
    assert option.workers == workers


def test_only_what_may_be_chosen_now_is_chosen():
    few = options(Profile(), LAPTOP, 3)
    option = chosen(found(400, 300, 200, 100), few)
    assert (option and option.workers) == 2
    assert chosen(found(400), few) is None
    assert chosen([], OPTIONS) is None


@pytest.mark.parametrize(
    ("examples", "per_gpu"),
    [((100, 190, 250, 260, 500), 3), ((100, 109), 1), ((100, None, 300), 1), ((100, 111, 123), 3)],
)
def test_each_trial_more_on_a_gpu_must_be_worth_it(examples, per_gpu):
    option = chosen(found(*examples, among=GPU_OPTIONS), GPU_OPTIONS)
    assert option is not None
    assert option.per_gpu == per_gpu
    assert option.workers == 2 * per_gpu


RATES = st.lists(st.one_of(st.none(), st.floats(1, 1e6)), min_size=1, max_size=4)


@given(RATES)
def test_nothing_that_was_measured_is_much_better_than_what_is_chosen(rates):
    speeds = found(*rates)
    option = chosen(speeds, OPTIONS)
    known = {one.option: one.examples_per_second for one in speeds if one.examples_per_second is not None}
    assert (option is None) == (not known)
    if option is not None:
        assert known[option] >= TIE * max(known.values())
        assert all(known[one] < TIE * max(known.values()) for one in known if one.workers < option.workers)


@given(st.lists(st.one_of(st.none(), st.floats(1, 1e6)), min_size=1, max_size=MOST_PER_GPU))
def test_a_gpu_has_as_many_trials_as_gain_a_tenth_each(rates):
    option = chosen(found(*rates, among=GPU_OPTIONS), GPU_OPTIONS)
    assert (option is None) == all(rate is None for rate in rates)
    if option is not None and rates[0] is not None:
        taken = [rate or 0.0 for rate in rates[: option.per_gpu]]
        assert all(after >= GAIN * before for before, after in itertools.pairwise(taken))


def test_a_profile_runs_what_was_chosen():
    profile = Profile().settled(BOX, 100)
    shared = applied(profile, Option(6, 10, 3))
    assert (shared.workers, shared.threads_per_worker, shared.trials_per_gpu) == (6, 10, 3)
    assert applied(Profile().settled(LAPTOP, 100), Option(4, 2)).trials_per_gpu == 1


def test_what_was_chosen_is_said_with_what_it_was_held_against():
    two = [Speed(Option(2, 1), 410.4), Speed(Option(1, 2), 300.0)]
    assert in_words(two, two[0].option) == "2 workers with 1 thread each: 410 examples/s, against 300 with 1 x 2"
    assert in_words(two, two[1].option) == "1 worker with 2 threads: 300 examples/s, against 410 with 2 x 1"
    gpus = [Speed(Option(2, 8, 1), 2300.0), Speed(Option(4, 4, 2), 4100.0), Speed(Option(6, 2, 3), None, "too large")]
    said = "2 trials at a time on each GPU: 4,100 examples/s, against 2,300 with 1"
    assert in_words(gpus, gpus[1].option) == said
    assert named(Profile().settled(LAPTOP, 100)) == "8 workers with 1 thread each"
    assert named(Profile().settled(BOX, 100)) == "1 trial at a time on each GPU"


def test_what_is_measured_is_chosen_from():
    bench = Bench({(1, 8): 800.0, (2, 4): 700.0, (4, 2): 300.0, (8, 1): 100.0})
    done = carried_out(question(LAPTOP), bench, 0.5)
    assert done.is_done
    assert done.remark is None
    assert chosen(done.speeds, done.options) == Option(8, 1)
    assert bench.asked == [(1, 8), (2, 4), (4, 2), (1, 8), (2, 4)], "a hopeless one stops it; the two best go twice"


def test_what_disturbs_one_measurement_does_not_decide():
    class Disturbed(Bench):
        def __call__(self, load: Load, threads: int, processes: int, within: float) -> Measurement | Misfit:
            found = super().__call__(load, threads, processes, within)
            is_first = self.asked == [(1, 2)]
            return measurement(150.0) if is_first else found

    bench = Disturbed({(1, 2): 400.0, (2, 1): 200.0})
    done = carried_out(question(Machine(2, (), 16.0)), bench, 0.5)
    assert chosen(done.speeds, done.options) == Option(2, 1)


def test_on_a_gpu_the_first_that_is_not_worth_it_is_the_last_that_is_measured():
    bench = Bench({(32, 1): 1000.0, (16, 2): 1900.0, (10, 3): 2000.0})
    done = carried_out(question(BOX), bench, 0.5)
    assert [processes for _, processes in bench.asked[:3]] == [1, 2, 3]
    assert all(processes <= 3 for _, processes in bench.asked)
    assert (chosen(done.speeds, done.options) or done.options[0]).per_gpu == 2


def test_what_does_not_fit_into_memory_is_not_even_tried():
    bench = Bench({(1, 8): 800.0, (2, 4): 700.0, (4, 2): 500.0, (8, 1): 1.0}, own_mb=2_500.0)
    done = carried_out(question(LAPTOP), bench, 0.5)
    assert (1, 8) not in bench.asked
    assert done.speeds[0] == Speed(Option(8, 1), None, "8 workers would take 24.0 GB of memory")
    assert chosen(done.speeds, done.options) == Option(4, 2)


def test_a_sweep_that_is_too_short_is_not_measured():
    bench = Bench({(1, 8): 800.0, (2, 4): 700.0})
    done = carried_out(question(LAPTOP, examples=5_000), bench, 0.5)
    assert (done.is_done, done.speeds, bench.asked) == (True, (), [])
    assert done.remark == "the sweep is short (8 s)"


@pytest.mark.parametrize("calm", [0, 1, 2])
def test_on_a_machine_that_is_busy_with_other_things_nothing_is_chosen(calm):
    """What is measured there is chance: a worker less or more gets a moment of a core, or not."""
    shares = iter([1.0] * calm + [0.3] * 9)

    def bench(load: Load, threads: int, processes: int, within: float) -> Measurement | Misfit:
        return measurement(100.0 * processes, share=next(shares) if threads == 1 else 0.5)

    done = carried_out(question(Machine(2, (), 16.0)), bench, 0.5)
    if calm < 2:
        assert (done.speeds, done.remark) == ((), "the machine is busy with other things")
    else:
        assert chosen(done.speeds, done.options) == Option(2, 1), "the first time was good enough"


def test_a_process_that_waits_for_its_gpu_is_not_disturbed():
    done = carried_out(question(Machine(4, ("0",), 64.0)), lambda *_: measurement(100.0, share=0.1), 0.5)
    assert (chosen(done.speeds, done.options) or Option(0, 0)).per_gpu == 1


@pytest.mark.parametrize(
    ("answer", "remark"),
    [(Misfit("it needs more memory than there is"), "it needs more memory than there is"), (SweepError("no"), "no")],
)
def test_where_nothing_can_be_measured_it_is_said_why(answer, remark):
    def bench(*_) -> Measurement | Misfit:
        if isinstance(answer, SweepError):
            raise answer
        return answer

    done = carried_out(question(LAPTOP), bench, 0.5)
    assert (done.is_done, done.speeds, done.remark) == (True, (), remark)


def test_where_only_the_first_could_be_measured_the_others_say_why():
    def bench(load: Load, threads: int, processes: int, within: float) -> Measurement | Misfit:
        if load.sizes:
            return measurement(100.0)
        raise SweepError("a few steps of training took longer than 3 s")

    done = carried_out(question(LAPTOP), bench, 0.5)
    assert chosen(done.speeds, done.options) is None
    assert done.remark == "a few steps of training took longer than 3 s"


def test_who_is_told_to_stop_finds_nothing_out():
    def bench(*_) -> Measurement | Misfit:
        raise TrialInterrupted("stopped")

    with pytest.raises(TrialInterrupted, match="stopped"):
        carried_out(question(LAPTOP), bench, 0.5)
