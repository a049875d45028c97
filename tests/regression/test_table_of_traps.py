"""The table of what the libraries get wrong and which test shows that finesweep does not.

A test in this folder carries its trap's number in its name (``test_t01_...``). What a conformance test,
an end-to-end test or a unit test proves already is named in ``ELSEWHERE`` and not proved twice. The
versions: transformers 5.23, optuna 5.0, ray 2.60, accelerate 1.15, torch 2.13.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import named_tests

HERE = Path(__file__).parent
TESTS = HERE.parent

TRAPS = {
    1: "A NaN training loss is logged as 0; NaN evaluation batches are left out of the mean",
    2: "An infinite objective is a result; pruners overlook NaN",
    3: "ASHA never stops a NaN trial; a lone NaN trial is the best",
    4: "A trial is worth its last evaluation",
    5: "The objective is the sum of all metrics, minimised",
    6: "Unknown names in the space do nothing and are reported as winning parameters",
    7: "Values are cast to the type of the default: 0.06 warm-up steps become 0",
    8: "Parameters leak from one trial into the next",
    9: "The seed takes effect one trial late; the default spaces search it",
    10: "Label smoothing and NEFTune have no effect when they are searched",
    11: "eval_loss is multiplied by the number of devices; accumulation scales the training loss",
    12: "Trials of other batch sizes report at other points and are compared all the same",
    13: "YAML reads 1e-5 as text, no as a boolean, and keeps the last of two equal keys",
    14: "A seeded sampler draws the same parameters in every process; a grid repeats points",
    15: "One exception, or a first trial without result, ends the search",
    16: "The winner is not saved",
    17: "The budget is per call: three trials run twice are six",
    18: "Trials in threads over one Trainer crash",
    19: "Data parallel training deadlocks at the first pruned trial",
    20: "The previous model is still in memory when the next one is made",
    21: "Several visible devices turn on DataParallel and change the batch size",
    22: "auto_find_batch_size leaves another batch size in the records than was used",
    23: "Every checkpoint holds optimizer state; pruned trials keep theirs",
    24: "A time limit is looked at between trials only",
    25: "A trial that SIGTERM cut short is recorded as COMPLETE",
    26: "A killed trial stays RUNNING for ever and repels the sampler",
    27: "All trials share the first one's TensorBoard folder",
    28: "Relative paths break when the working directory changes",
    29: "The whole Trainer is pickled, model included",
    30: "Ray counts the machine's cores; one failed trial raises at the very end",
    31: "bf16 on a CPU without it is 14 times slower",
    32: "Several processes with several threads each wait for each other",
}

ELSEWHERE = {
    3: [
        "e2e/test_ray_backend.py::test_forty_trials_do_not_hang_and_a_nan_never_wins",
        "e2e/test_ray_backend.py::test_when_every_trial_fails_it_says_why",
    ],
    14: ["conformance/test_backends.py::test_parameters_lie_in_the_space_and_differ_and_the_budget_is_met"],
    15: [
        "conformance/test_backends.py::test_first_trials_that_end_badly_are_recorded_and_the_next_ones_run",
        "e2e/test_broken_trials.py::test_without_a_single_complete_trial_the_reasons_are_grouped",
    ],
    16: [
        "e2e/test_run.py::test_the_winner_loads_with_the_stock_pipeline_and_beats_the_majority",
        "e2e/test_faults.py::test_a_corrupted_contender_is_no_winner",
    ],
    17: ["e2e/test_run.py::test_the_same_command_again_finds_nothing_to_do"],
    23: ["e2e/test_run.py::test_only_the_winners_weights_are_kept"],
    24: ["e2e/test_workers.py::test_hours_end_all_workers_in_the_middle_of_their_trials"],
    25: ["e2e/test_signals.py::test_a_signal_saves_the_states_of_all_trials"],
    26: ["conformance/test_backends.py::test_a_killed_search_goes_on_with_the_same_parameters_and_without_zombies"],
    27: ["e2e/test_run.py::test_every_trial_has_its_record_its_log_and_its_scalars"],
    29: [
        "conformance/test_backends.py::test_the_driver_carries_no_model",
        "conformance/test_backends.py::test_what_is_sent_to_an_actor_is_a_few_kilobytes",
    ],
    30: [
        "e2e/test_ray_backend.py::test_a_cluster_of_our_own_is_out_of_others_reach_and_imports_nothing_from_here",
        "conformance/test_backends.py::test_first_trials_that_end_badly_are_recorded_and_the_next_ones_run",
    ],
    32: ["conformance/test_launchers.py::test_each_local_worker_sees_one_gpu_and_has_its_share_of_threads"],
}

UNNUMBERED = {
    "A folder without tokenizer gets one of five words": "unit/model/test_folder_check.py::test_missing_files",
    "Timings of the evaluation count as metrics": (
        "e2e/test_run.py::test_the_leaderboard_ranks_every_trial_by_its_best_evaluation"
    ),
    "A sampler that is told FAIL forgets where trials diverged": (
        "conformance/test_backends.py::test_a_diverged_trial_stays_in_the_samplers_memory"
    ),
}

NOT_MET = {
    19: "a trial is one process on one device",
}
"""Traps that nothing here can step into as it is."""


def _traps_of(name: str) -> list[int]:
    prefix = re.match(r"test((_t\d\d)+)_", name)
    return [int(number) for number in re.findall(r"\d\d", prefix[1])] if prefix else []


def test_every_trap_is_shown_cured_or_out_of_reach():
    here = {
        trap for file in HERE.glob("test_traps_*.py") for name in named_tests.tests_in(file) for trap in _traps_of(name)
    }
    assert here | ELSEWHERE.keys() | NOT_MET.keys() == TRAPS.keys()
    assert not NOT_MET.keys() & (here | ELSEWHERE.keys())


@pytest.mark.parametrize("test", [*(test for tests in ELSEWHERE.values() for test in tests), *UNNUMBERED.values()])
def test_what_is_proved_elsewhere_is_still_there(test):
    file, name = test.split("::")
    assert name in named_tests.tests_in(TESTS / file)
