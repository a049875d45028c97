"""What a sweep will take follows from what was measured: more work takes longer, and what does not fit is named."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finesweep.calibration.measurement import Load, Measurement
from finesweep.calibration.plan_measurement import BatchMeasurement, PlanMeasurement
from finesweep.cli.plan_screen import lines
from finesweep.forecast.course import Span
from finesweep.launch.profile import Limits, Profile
from finesweep.launch.slurm.profile import SlurmProfile
from finesweep.spec.search_space import Parameter
from finesweep.spec.sections import ConfirmSpec, SweepSpec
from finesweep.sweep.plan_costs import PlanInputs, estimated
from finesweep.worker.measure_for_plan import MOST_SECONDS, batch_sizes, loads
from made_specs import made_spec


def spec(pruner: str = "none", batch: object = None, **sections) -> SweepSpec:
    space = {
        "learning_rate": {"low": 1e-5, "high": 5e-5, "log": True},
        "num_train_epochs": {"choices": [2]},
        "per_device_train_batch_size": batch or {"choices": [8, 32]},
    }
    values = {
        "space": {name: axis for name, axis in space.items() if axis != "absent"},
        "search": {"pruner": pruner},
        "budget": {"trials": 10},
        "evaluation": {"rows": 200},
    }
    return made_spec(**{**values, **sections})


def measurement(examples: float, **changes) -> Measurement:
    values = {
        "examples_per_second": examples,
        "tokens_per_second": 10 * examples,
        "rows_per_second": 3 * examples,
        "fixed_seconds": 0.5,
        "memory_mb": 700.0,
        "own_memory_mb": 300.0,
        "gpu_memory_mb": 0.0,
        "weights_mb": 100.0,
        "processes": 2,
    }
    return Measurement(**{**values, **changes})


def inputs(sweep: SweepSpec | None = None, **changes) -> PlanInputs:
    values = {
        "spec": sweep or spec(),
        "profile": Profile(),
        "rows": {"train": 1000, "validation": 200},
        "trials": 10,
        "prepared_bytes": 5e6,
        "free_bytes": 1e12,
        "memory_gb": 16.0,
        "check_seconds": 4.0,
    }
    return PlanInputs(**{**values, **changes})


def measured(*each: BatchMeasurement, **changes) -> PlanMeasurement:
    found = each or (BatchMeasurement(8, measurement(100.0)), BatchMeasurement(32, measurement(300.0)))
    return PlanMeasurement(
        **{
            "workers": 2,
            "threads": 1,
            "per_gpu": 0,
            "note": "",
            "warm_seconds": 5.0,
            "worker_mb": 400.0,
            "each": found,
            **changes,
        }
    )


def test_hours_are_those_of_the_whole_command():
    """20,000 examples at 150 a second on average over the batch sizes, and what is beside them."""
    hours = estimated(inputs(), measured()).hours
    assert hours is not None
    trained = 20_000 * (1 / 100 + 1 / 300) / 2
    evaluated = 10 * 2 * 200 * (1 / 300 + 1 / 900) / 2
    fixed = 10 * (0.5 + 0.2) / 2
    once = 200 * (1 / 150 + 1 / 450) / 2
    work = trained + evaluated + fixed
    ends = 4 + 2 * 5
    assert hours.low * 3600 == pytest.approx(ends + 0.85 * (work + once), rel=0.02)
    assert hours.middle * 3600 == pytest.approx(ends + work + once + work / 10 * 0.5, rel=0.02)
    assert hours.high * 3600 == pytest.approx(ends + 1.25 * (work + once + work / 10), rel=0.02)


def test_what_one_gpu_does_is_done_by_all_of_them():
    one = estimated(inputs(), measured()).hours
    four = estimated(inputs(), measured(workers=8, per_gpu=2)).hours
    assert one is not None
    assert four is not None
    assert four.low * 3600 - 14 == pytest.approx((one.low * 3600 - 14) / 4, rel=0.05)


@settings(deadline=None, max_examples=20)
@given(factor=st.floats(1.1, 100), pruner=st.sampled_from(["none", "median", "halving", "asha"]))
def test_who_is_faster_is_done_sooner_and_pruning_takes_no_longer(factor, pruner):
    slow = inputs(spec(pruner))
    quick = tuple(BatchMeasurement(batch, measurement(factor * speed)) for batch, speed in ((8, 100.0), (32, 300.0)))
    one, other = estimated(slow, measured()), estimated(slow, measured(*quick))
    assert one.hours is not None
    assert other.hours is not None
    assert one.hours_unpruned is not None
    assert one.hours.low <= one.hours.middle <= one.hours.high
    assert other.hours.middle < one.hours.middle
    if pruner != "halving":  # which begins some of its trials several times
        assert one.hours.middle <= one.hours_unpruned.middle


def test_the_middle_of_a_range_stands_for_half_of_the_trials():
    sizes = {"low": 8, "high": 64}
    assert batch_sizes(spec(batch=sizes)) == (8, 36, 64)
    found = measured(
        *(BatchMeasurement(batch, measurement(speed)) for batch, speed in ((8, 100.0), (36, 200.0), (64, 400.0)))
    )
    hours = estimated(inputs(spec(batch=sizes)), found).hours
    even = estimated(inputs(spec(batch={"choices": [8, 36, 64]})), found).hours
    assert hours is not None
    assert even is not None
    assert hours.low < even.low


def test_what_is_measured_is_every_batch_size_with_the_longest_inputs():
    lengths = {"data.max_length": {"choices": [32, 128, 64]}}
    space = {"per_device_train_batch_size": {"choices": [32, 8]}, **lengths}
    small, large = loads(spec(space=space))
    assert small == Load({"per_device_train_batch_size": 8, "data.max_length": 128}, seconds=MOST_SECONDS)
    assert large.params["per_device_train_batch_size"] == 32
    assert [load.params for load in loads(spec(batch="absent", fixed={"per_device_train_batch_size": 4}))] == [
        {"learning_rate": pytest.approx(2.236e-5, rel=0.01), "num_train_epochs": 2}
    ]
    assert batch_sizes(spec(batch="absent")) == (8,)
    assert batch_sizes(spec(batch={"low": 8, "high": 8})) == (8,)


def test_memory_is_that_of_all_workers():
    memory = estimated(inputs(), measured()).memory
    assert memory is not None
    assert (memory.trial_gb, memory.worker_gb) == (0.7, pytest.approx(0.7))
    assert memory.total_gb == pytest.approx(2 * 0.7 + 0.1)


def test_disk_holds_weights_in_flight_and_states_of_those_that_wait():
    plain = estimated(inputs(), measured()).disk
    assert plain is not None
    assert plain.weights_gb == pytest.approx(0.1 * (1 + 2 + 1))
    assert plain.states_gb == pytest.approx(0.1 * 4 * 2)
    halved = estimated(inputs(spec("halving")), measured()).disk
    assert halved is not None
    assert halved.states_gb == pytest.approx(0.1 * 4 * 10)
    assert halved.total_gb == pytest.approx(halved.data_gb + halved.weights_gb + halved.states_gb + halved.logs_gb)


def test_states_of_trials_that_wait_have_a_limit_that_is_told():
    def disk(states_gb: float | None, free: float, pruner: str = "halving"):
        profile = Profile(limits=Limits(states_gb=states_gb))
        found = estimated(inputs(spec(pruner), profile=profile, free_bytes=free), measured())
        assert found.disk is not None
        return found.disk, [line.strip() for line in lines(found) if "limits.states_gb" in line]

    each = 0.1 * 4
    for states_gb, free, limit in ((None, 1e12, 10.0), (None, 2e10, 2.0), (1.0, 1e12, 1.0), (0.0, 1e12, 0.0)):
        found, told = disk(states_gb, free)
        assert found.states_limit_gb == limit
        # Two workers may each be writing one.
        assert found.states_gb == pytest.approx(min(10 * each, limit + 2 * each))
        size = f"{limit:.1f} GB" if limit else "0.0 MB"
        assert told == [f"trials that wait keep states of {size} at most (limits.states_gb); others start again"]
    assert disk(1.0, 1e12, "median")[0] == disk(None, 1e12, "median")[0]
    assert disk(1.0, 1e12, "median")[1] == []


def test_states_that_lie_in_memory_take_no_disk_and_are_told() -> None:
    found = estimated(inputs(spec("halving"), states_memory_bytes=2e9), measured())
    assert found.disk is not None
    # Five of ten have a place in memory.
    assert found.disk.states_gb == pytest.approx(0.4 * 5)
    told = (
        "trials that wait keep states of up to 2.0 GB in memory (limits.states) and then 8.0 GB on disk; "
        "others start again"
    )
    on_screen = [line.strip() for line in lines(found)]
    assert told in on_screen
    stopped = "if the sweep is stopped, those in memory move to disk, as far as there is room"
    assert stopped in on_screen
    all_there = [
        line.strip() for line in lines(estimated(inputs(spec("halving"), states_memory_bytes=1e10), measured()))
    ]
    assert "trials that wait keep states of up to 10.0 GB in memory (limits.states); others start again" in all_there
    assert stopped not in [line.strip() for line in lines(estimated(inputs(spec("halving")), measured()))]


def test_who_has_too_little_disk_may_keep_fewer_states():
    profile = Profile(limits=Limits(disk_gb=1.0))
    (problem,) = estimated(inputs(spec("halving"), profile=profile), measured()).problems
    assert problem.endswith("would do, or a smaller limits.states_gb)")


def test_disk_holds_the_best_seed_of_each_confirmed_trial():
    """Three tied trials and the untuned default, beside what the search keeps."""
    plain = estimated(inputs(), measured()).disk
    found = estimated(inputs(spec().model_copy(update={"confirm": ConfirmSpec(top=3, seeds=4)})), measured()).disk
    assert plain is not None
    assert found is not None
    assert found.weights_gb - plain.weights_gb == pytest.approx(0.1 * 4)
    assert found.states_gb == plain.states_gb
    assert found.logs_gb == pytest.approx(plain.logs_gb * 26 / 10)


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"patience": "none"}, 1),
        ({"patience": "none", "epochs": {"low": 2, "high": 4}}, 3),
        ({"patience": "none", "epochs": {"low": 2.0, "high": 4.0}}, 10),
        ({"patience": "none", "epochs": {"low": 2, "high": 4}, "keep_best": 2}, 6),
        ({"patience": "auto"}, 10),
    ],
)
def test_disk_holds_the_weights_of_each_cost_that_may_win(fields, kept):
    sweep = spec(patience=fields["patience"], prefer="cheapest-tied")
    if "epochs" in fields:
        axis = Parameter(**fields["epochs"])
        sweep = sweep.model_copy(update={"space": {**sweep.space, "num_train_epochs": axis}})
    profile = Profile(keep_best=fields.get("keep_best", 1))
    disk = estimated(inputs(sweep, profile=profile), measured()).disk
    assert disk is not None
    assert disk.weights_gb == pytest.approx(0.1 * (min(kept + 2, 10) + 1))


def test_what_fits_is_no_problem():
    estimate = estimated(inputs(profile=Profile(memory_gb=1.0, limits=Limits(disk_gb=5.0))), measured())
    assert estimate.problems == ()
    assert list(lines(estimate))[-1] == "Everything fits."


@pytest.mark.parametrize(
    ("changes", "found", "problem"),
    [
        (
            {},
            measured(
                BatchMeasurement(8, measurement(9.0)),
                BatchMeasurement(32, misfit="it needs more memory than the GPU has"),
            ),
            (
                "per_device_train_batch_size: 32 does not fit: it needs more memory than the GPU has "
                "(8 fits, and with gradient_accumulation_steps: 4 it is the same batch)"
            ),
        ),
        (
            {},
            measured(BatchMeasurement(8, misfit="it needs more memory than there is")),
            (
                "per_device_train_batch_size: 8 does not fit: it needs more memory than there is "
                "(a smaller batch, a shorter data.max_length or a smaller model may)"
            ),
        ),
        (
            {"profile": Profile(memory_gb=0.8)},
            measured(BatchMeasurement(8, measurement(9.0)), BatchMeasurement(20, measurement(9.0, memory_mb=910.0))),
            (
                "per_device_train_batch_size: 20 takes 0.91 GB, more than memory_gb: 0.8 "
                "(memory_gb: 1.1 would do, or 8 fits)"
            ),
        ),
        (
            {"memory_gb": 1.0},
            measured(),
            "2 workers take 1.5 GB of memory, and the machine has 1.0 (workers: 1 fit)",
        ),
        (
            {"profile": Profile(keep_best=3, limits=Limits(disk_gb=1.0))},
            measured(),
            (
                "the folder takes 1.41 GB at its peak, more than limits.disk_gb: 1 "
                "(limits: {disk_gb: 1.6} would do, or a smaller keep_best)"
            ),
        ),
        ({"free_bytes": 1e9}, measured(), "the folder takes 1.21 GB at its peak, and 1 GB are free (make room)"),
    ],
)
def test_what_does_not_fit_is_named_with_the_nearest_fix(changes, found, problem):
    estimate = estimated(inputs(**changes), found)
    assert estimate.problems == (problem,)
    assert f"  problem   {problem}" in lines(estimate)


def test_where_nothing_fits_no_time_is_told():
    estimate = estimated(inputs(), measured(BatchMeasurement(8, misfit="it needs more memory than there is")))
    assert (estimate.hours, estimate.memory, estimate.disk) == (None, None, None)
    assert not any("time" in line for line in lines(estimate))


def test_a_person_reads_ranges_and_what_ends_the_sweep_first():
    estimate = dataclasses.replace(
        estimated(inputs(spec("median")), measured()), hours=Span(1, 2, 3), hours_unpruned=Span(4, 5, 6)
    )
    shown = list(lines(dataclasses.replace(estimate, budget_hours=2.0)))
    assert "  workers   2 with 1 thread each" in shown
    assert "  time      4.0 to 6.0 h for 10 trials without pruning, 1.0 to 3.0 h with median" in shown
    assert "            the budget of 2 hours may end it before all 10 trials" in shown
    assert "            the budget of 0.5 hours ends it before all 10 trials" in lines(
        dataclasses.replace(estimate, budget_hours=0.5)
    )
    assert not any("budget" in line for line in lines(dataclasses.replace(estimate, budget_hours=4.0)))


@pytest.mark.parametrize(("model", "factor"), [({"name": "org/encoder"}, 3), ({"config": "bert"}, 2)])
def test_plan_names_the_share_that_halving_promotes(model, factor):
    estimate = estimated(inputs(spec("halving", model=model)), measured())
    assert estimate.factor == factor
    assert sum(f"with halving (1 in {factor})" in line for line in lines(estimate)) == 2
    assert estimated(inputs(spec("median", model=model)), measured()).factor is None


def test_who_measured_beside_others_is_told():
    each = (BatchMeasurement(8, measurement(100.0, share=0.97)), BatchMeasurement(32, measurement(300.0, share=0.4)))
    estimate = estimated(inputs(), measured(*each))
    assert estimate.busy_share == pytest.approx(0.6)
    assert any("other processes used the cores for 60% of the time" in line for line in lines(estimate))
    calm = estimated(inputs(), measured(*(BatchMeasurement(8, measurement(100.0, share=0.97)),)))
    assert not any("others" in line for line in lines(calm))
    assert estimated(inputs(), measured(*each, threads=2)).busy_share is None
    assert estimated(inputs(), measured(*each, per_gpu=1)).busy_share is None


def test_who_plans_for_another_machine_is_told_that_it_was_measured_here() -> None:
    elsewhere = estimated(inputs(profile=SlurmProfile(launcher="slurm", workers=2)), measured())
    assert "            measured on this machine; with launcher: slurm they run on others" in list(lines(elsewhere))
    assert not any("this machine" in line for line in lines(estimated(inputs(), measured())))


def test_confirmation_takes_its_trainings_beside_the_budget():
    """Three tied trials and the untuned default with four seeds each: 16 trainings of 2,000 examples."""
    plain = estimated(inputs(), measured())
    found = estimated(inputs(spec().model_copy(update={"confirm": ConfirmSpec(top=3, seeds=4)})), measured())
    assert plain.confirmation is None
    assert found.hours == plain.hours
    cost = found.confirmation
    assert cost is not None
    assert cost.trainings == 16
    assert cost.examples.middle == pytest.approx(32_000, rel=0.02)
    trained = 32_000 * (1 / 100 + 1 / 300) / 2
    evaluated = 16 * 2 * 200 * (1 / 300 + 1 / 900) / 2
    fixed = 16 * (0.5 + 0.2) / 2
    once = 200 * (1 / 150 + 1 / 450) / 2
    assert cost.hours is not None
    assert cost.hours.low * 3600 == pytest.approx(2 * 5 + 0.85 * (trained + evaluated + fixed + once), rel=0.02)
    shown = next(line for line in lines(found) if line.startswith("  confirm "))
    assert shown.startswith("  confirm   besides at most 16 trainings, about 32,000 examples, ")
    assert not any(line.startswith("  confirm ") for line in lines(plain))


def test_confirmation_uses_no_more_workers_than_it_has_candidates():
    confirmed = inputs(spec().model_copy(update={"confirm": ConfirmSpec(top=1, seeds=2)}))
    few, many = (estimated(confirmed, measured(workers=2 * gpus, per_gpu=2)) for gpus in (1, 4))
    assert few.confirmation == many.confirmation


def test_small_sweep_has_no_more_candidates_than_trials():
    small = spec().model_copy(update={"confirm": ConfirmSpec(top=10, seeds=2)})
    cost = estimated(inputs(small, trials=2), measured()).confirmation
    assert cost is not None
    assert cost.trainings == 4
