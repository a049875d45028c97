"""Turns a spec YAML into checked, frozen values, and derives the settings of each trial from them.

Every problem in the YAML is reported at once, with its line and the nearest fix. Data, models and results are never
looked at here: ``sweep.preflight`` does that.
"""

from finesweep.spec.automatic import automatic_sampler, automatic_stop
from finesweep.spec.draft import Draft, LoadedSpec, in_order
from finesweep.spec.known_good import may_start_well
from finesweep.spec.planned_trials import trials_wanted, used_up
from finesweep.spec.search_space import Parameter, SearchSpace
from finesweep.spec.sections import (
    AUTO,
    LEARNING,
    ON_RUNGS,
    BudgetSpec,
    ConfirmSpec,
    DataSpec,
    ModelSpec,
    Quoting,
    ScratchModelSpec,
    StopSpec,
    SweepSpec,
    WarmStart,
    is_name,
)
from finesweep.spec.training_arguments import TRAINING_FIELDS
from finesweep.spec.trial_length import TrialLength, Workload
from finesweep.spec.trial_settings import TrialSettings
from finesweep.spec.yaml_source import KeyPath, YamlSource

__all__ = [
    "AUTO",
    "LEARNING",
    "ON_RUNGS",
    "TRAINING_FIELDS",
    "BudgetSpec",
    "ConfirmSpec",
    "DataSpec",
    "Draft",
    "KeyPath",
    "LoadedSpec",
    "ModelSpec",
    "Parameter",
    "Quoting",
    "ScratchModelSpec",
    "SearchSpace",
    "StopSpec",
    "SweepSpec",
    "TrialLength",
    "TrialSettings",
    "WarmStart",
    "Workload",
    "YamlSource",
    "automatic_sampler",
    "automatic_stop",
    "in_order",
    "is_name",
    "may_start_well",
    "trials_wanted",
    "used_up",
]
