"""Sets what every test relies on, however busy the machine is."""

from __future__ import annotations

from hypothesis import settings

# Hypothesis fails an example that takes longer than 0.2 s, which any example may on a busy machine.
settings.register_profile("finesweep", deadline=None)
settings.load_profile("finesweep")
