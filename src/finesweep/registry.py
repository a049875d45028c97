"""Lists the tasks, backends, launchers and submitters by name, and imports each when it is used.

Listing the names imports nothing. The modules named here are light to import: they import heavy libraries inside their
functions.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from finesweep.errors import did_you_mean


class UnknownName(KeyError):
    """A name that is not in a table; the message lists the choices."""

    def __init__(self, kind: str, name: str, known: tuple[str, ...]) -> None:
        self.hint = did_you_mean(name, known)
        self.message = f"no {kind} is called {name!r}; there are {', '.join(known)}"
        super().__init__(self.message)


class Registry:
    """An explicit table from names to objects.

    Args:
        kind: What an entry is, for messages.
        entries: ``module:attribute`` by name.
    """

    def __init__(self, kind: str, entries: Mapping[str, str]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    @property
    def names(self) -> tuple[str, ...]:
        """The names in the order in which they are shown."""
        return tuple(self._entries)

    def load(self, name: str) -> Any:
        """Import and return the object of a name.

        Raises:
            UnknownName: The table has no such name.
        """
        if name not in self._entries:
            raise UnknownName(self.kind, name, self.names)
        module, attribute = self._entries[name].split(":")
        return getattr(importlib.import_module(module), attribute)


TASKS = Registry(
    "task",
    {
        "text-classification": "finesweep.tasks.text_classification:TextClassification",
        "multi-label-classification": "finesweep.tasks.multi_label_classification:MultiLabelClassification",
        "text-regression": "finesweep.tasks.text_regression:TextRegression",
    },
)
BACKENDS = Registry(
    "backend",
    {"optuna": "finesweep.backends.optuna.backend:OptunaBackend", "ray": "finesweep.backends.ray.backend:RayBackend"},
)
LAUNCHERS = Registry(
    "launcher",
    {"local": "finesweep.launch.local:LocalLauncher", "ray": "finesweep.launch.ray.launcher:RayLauncher"},
)
"""Launchers start workers and stay with them: ``sweep run``."""

SUBMITTERS = Registry(
    "launcher",
    {"slurm": "finesweep.launch.slurm.submitter:SlurmSubmitter", "ray": "finesweep.launch.ray.submitter:RaySubmitter"},
)
"""Submitters hand a whole sweep to a cluster, and the command ends: ``sweep submit``."""

PROFILES = Registry(
    "launcher",
    {
        "local": "finesweep.launch.profile:Profile",
        "slurm": "finesweep.launch.slurm.profile:SlurmProfile",
        "ray": "finesweep.launch.ray.profile:RayProfile",
    },
)
"""Classes with the keys of a launch profile, by launcher. Every launcher and submitter needs a line here."""
