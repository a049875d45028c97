"""The table of attacks and which test shows that each comes to nothing.

Trusted are the user's command line and what it allows. A YAML may choose a model and rows, and run no
code; model folders, Hub repositories, rows, and results folders that somebody else sent are not trusted.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import named_tests

TESTS = Path(__file__).parents[1]

ATTACKS = {
    1: "a YAML tag that calls a function",
    2: "a YAML that grows when it is read: aliases, depth, digits, size",
    3: "weights that are a pickle",
    5: "a config, at any depth, that turns on code which comes with the model",
    6: "a config that names an attention kernel on the Hub",
    7: "an index of weights that leads out of the folder",
    9: "pickles of the Trainer in a results folder",
    10: "pickles of the search in a results folder",
    11: "snapshots of a study in Redis, which are pickles",
    13: "a line break in a Slurm option",
    14: "commands in a YAML that a cluster runs",
    15: "shell syntax and `%` in names",
    17: "names that are paths",
    18: "training arguments that write, send or load",
    19: "addresses in place of files",
    21: "cells that a spreadsheet takes for formulas",
    22: "HTML and links in texts",
    23: "escape sequences in texts",
    25: "NaN in JSON",
    26: "the user's token in the winner's folder",
    27: "a database address with its password in logs",
    29: "a dashboard on an open port",
    30: "Ray's dashboard on an open port",
    31: "a storage server without authentication",
    33: "temporary names that can be guessed, files that are links",
    34: "locks and logs that are links",
    35: "archives that unpack elsewhere",
    37: "data sets with a loading script",
    38: "a revision that moves between trials",
    39: "a model whose name is nearly that of another",
    41: "templates in a YAML",
    42: "texts on which a pattern takes for ever",
    43: "a million small files",
    44: "an address in a results folder that credentials are to be sent to",
    45: "Python files in the current folder that bear the names of modules",
}

YAML, MODEL = "security/test_attacks_by_yaml.py::", "security/test_attacks_by_a_model_folder.py::"
PROFILE, HERE = "security/test_attacks_by_a_profile.py::", "security/test_attacks_by_the_current_folder.py::"
RESULTS, OWN, DATA = (
    "security/test_attacks_by_a_results_folder.py::",
    "security/test_own_code.py::",
    "security/test_attacks_by_data.py::",
)

SHOWN = {
    1: [
        YAML + "test_a_yaml_runs_nothing",
        "unit/spec/test_yaml_source.py::test_a_file_that_is_no_plain_mapping_is_refused",
    ],
    2: [
        YAML + "test_a_yaml_runs_nothing",
        "unit/spec/test_yaml_source.py::test_hostile_text_costs_no_more_than_its_length",
    ],
    3: [
        MODEL + "test_s3_pickled_weights_are_refused_and_not_opened",
        MODEL + "test_s3_pickles_beside_the_weights_are_left_alone",
        "unit/test_architecture.py::test_nothing_is_called_that_runs_what_it_reads",
    ],
    5: [
        YAML + "test_a_yaml_runs_nothing",
        MODEL + "test_a_config_runs_nothing",
        MODEL + "test_trust_is_no_leave_for_pickles_or_kernels",
        OWN + "test_its_code_is_run_only_where_the_command_line_says_so",
        OWN + "test_the_leave_is_not_kept_for_the_next_run",
        OWN + "test_code_in_a_results_folder_is_not_run_whoever_is_trusted",
        OWN + "test_a_model_on_the_hub_is_treated_like_a_folder",
        RESULTS + "test_a_manifest_gives_no_leave_to_run_code",
        RESULTS + "test_a_run_of_another_number_is_nobodys",
    ],
    6: [
        MODEL + "test_a_config_runs_nothing",
        MODEL + "test_a_folder_that_changed_since_it_was_checked_is_not_loaded",
        MODEL + "test_s6_a_process_that_loads_models_takes_no_kernel_from_the_hub",
        YAML + "test_a_yaml_runs_nothing",
    ],
    7: [
        MODEL + "test_s7_an_index_does_not_lead_out_of_the_folder",
        "unit/model/test_weights.py::test_shards_outside_the_folder_are_refused",
    ],
    9: [RESULTS + "test_s9_s10_no_pickle_in_a_folder_is_loaded"],
    10: [
        RESULTS + "test_s9_s10_no_pickle_in_a_folder_is_loaded",
        RESULTS + "test_s10_a_claim_that_is_a_pickle_is_not_loaded",
    ],
    13: [
        PROFILE + "test_s13_s15_no_value_becomes_code",
        PROFILE + "test_s13_no_name_of_an_option_does_more_than_it_says",
        "unit/launch/slurm/test_profile.py::test_no_text_can_be_more_than_a_value",
        "unit/launch/slurm/test_script.py::test_the_scripts_hold_the_folder_as_one_word",
        "cluster/test_slurm_attacks.py::test_slurm_is_given_no_code",
    ],
    14: [
        PROFILE + "test_s14_code_in_a_profile_runs_only_where_the_user_says_so",
        PROFILE + "test_s14_a_line_of_code_is_one_line_also_for_those_who_allow_it",
        PROFILE + "test_s14_a_way_around_the_users_own_folder_is_none",
    ],
    15: [
        YAML + "test_a_yaml_runs_nothing",
        PROFILE + "test_s13_s15_no_value_becomes_code",
        PROFILE + "test_s15_a_name_on_the_command_line_is_checked_like_those_of_a_yaml",
        "unit/launch/slurm/test_script.py::test_a_folder_that_slurm_reads_in_its_own_way_is_refused",
        "cluster/test_slurm_attacks.py::test_a_folder_of_any_name_is_one_word_to_slurm",
    ],
    17: [
        YAML + "test_a_yaml_runs_nothing",
        YAML + "test_the_command_line_is_checked_like_the_yaml",
        RESULTS + "test_a_manifest_that_is_none_is_refused",
    ],
    18: [YAML + "test_a_yaml_runs_nothing", RESULTS + "test_a_manifest_that_is_none_is_refused"],
    19: [
        YAML + "test_s19_an_address_is_not_fetched",
        YAML + "test_s19_a_place_that_is_no_data_file_is_not_shown",
        RESULTS + "test_s19_rows_of_a_folder_hold_numbers_and_fetch_nothing",
        "unit/data/test_hub_datasets.py::test_an_unusable_data_set_is_one_message",
    ],
    21: [
        RESULTS + "test_s21_texts_of_a_folder_are_no_formulas",
        "unit/results/test_leaderboard.py::test_csv_texts_are_no_formulas",
        "unit/results/test_leaderboard.py::test_csv_numbers_stay_numbers_in_full_precision",
    ],
    22: ["unit/results/test_leaderboard.py::test_markdown_cells_show_text_as_it_is"],
    23: [
        DATA + "test_s23_labels_are_shown_without_what_they_do",
        DATA + "test_s23_columns_in_an_error_are_shown_without_what_they_do",
        DATA + "test_s23_paths_and_settings_in_an_error_are_shown_without_what_they_do",
        RESULTS + "test_s23_texts_of_a_folder_do_nothing_to_a_terminal",
        "unit/display/test_live_table.py::test_parameters_cannot_draw",
    ],
    25: [
        RESULTS + "test_s25_what_is_written_is_json_that_everybody_reads",
        "unit/results/test_leaderboard.py::test_json_has_no_nan",
    ],
    26: [
        OWN + "test_s26_the_users_token_is_nowhere_in_the_folder",
        "unit/test_hub.py::test_a_token_is_sent_but_never_shown",
    ],
    33: [
        RESULTS + "test_s33_a_file_that_is_a_link_is_not_written_through",
        RESULTS + "test_s33_temporary_names_cannot_be_guessed",
    ],
    34: [
        RESULTS + "test_a_folder_that_is_a_link_is_not_followed",
        RESULTS + "test_s34_a_link_deeper_in_a_folder_ends_a_run",
        RESULTS + "test_s34_a_lock_beside_the_folder_that_is_a_link_is_not_followed",
        RESULTS + "test_s34_a_lock_of_the_claims_that_is_a_link_is_not_followed",
        RESULTS + "test_s34_a_claim_that_is_a_link_is_not_written_through",
        RESULTS + "test_s34_an_exported_study_is_not_written_through_a_link",
        "unit/files/test_checked_json.py::test_a_log_is_appended_to_and_never_through_a_link",
    ],
    37: ["unit/data/test_hub_datasets.py::test_s37_a_loading_script_is_refused_and_not_run"],
    38: [
        "unit/model/test_source.py::test_hub_snapshots_are_named_by_their_commit",
        OWN + "test_code_that_has_changed_is_another_sweeps",
    ],
    41: ["unit/spec/test_reader.py::test_nothing_in_a_yaml_is_a_template"],
    42: ["unit/spec/test_reader.py::test_validation_is_linear_in_hostile_text"],
    43: ["e2e/test_run.py::test_only_the_winners_weights_are_kept"],
    44: [
        RESULTS + "test_s44_an_address_in_a_folder_gets_no_credentials",
        "unit/launch/ray/test_dashboard.py::test_a_dashboard_that_only_a_folder_names_is_told_nothing",
        "unit/folder/test_shared_folder.py::test_addresses_that_were_changed_in_the_folder_are_refused",
    ],
    45: [
        HERE + "test_a_command_imports_nothing_from_the_current_folder",
        HERE + "test_no_command_imports_from_the_current_or_the_specs_folder",
        "unit/host/test_python_process.py::test_an_empty_entry_of_pythonpath_goes_and_what_is_named_stays",
        "unit/host/test_own_command.py::test_only_one_module_writes_down_how_python_is_started",
    ],
}

UNNUMBERED = {
    "A record, a run or a claim that is nested, huge, a pipe, a device or of other types": (
        RESULTS + "test_a_record_that_is_none_is_set_aside",
        RESULTS + "test_a_record_whose_fields_are_none_is_set_aside",
        RESULTS + "test_what_would_be_waited_for_is_not_read",
        RESULTS + "test_a_claim_of_any_content_is_a_claim",
    ),
}

OUT_OF_REACH = {
    11: "there is no Redis backend",
    27: "there is no database; the study is in memory",
    29: "no dashboard is started or shipped",
    30: "there is no Ray yet",
    31: "there is no storage server",
    35: "nothing is unpacked",
    39: "the id and the commit that are used are shown before a trial starts; whose they are nobody can check",
}
"""Attacks on what is not there."""


def test_every_attack_is_shown_to_fail_or_out_of_reach() -> None:
    assert SHOWN.keys() | OUT_OF_REACH.keys() == ATTACKS.keys()
    assert not SHOWN.keys() & OUT_OF_REACH.keys()


@pytest.mark.parametrize("test", sorted({test for tests in (*SHOWN.values(), *UNNUMBERED.values()) for test in tests}))
def test_what_shows_it_is_there(test: str) -> None:
    file, name = test.split("::")
    assert name in named_tests.tests_in(TESTS / file)


def test_every_attack_here_is_in_the_table() -> None:
    here = {
        f"security/{file.name}::{name}"
        for file in Path(__file__).parent.glob("test_*.py")
        for name in named_tests.tests_in(file)
        if name.startswith(("test_s1", "test_s2", "test_s3"))
    }
    assert here <= {test for tests in SHOWN.values() for test in tests}
