"""Measures how fast trials train on this machine, and chooses how many run at a time.

``bench`` measures in forks of a warm worker and imports torch; it is imported by its path. Nothing here starts or ends
workers.
"""

from finesweep.calibration.calibration_file import ChosenProfile
from finesweep.calibration.measurement import Load, Measurement, Misfit
from finesweep.calibration.options import Calibration
from finesweep.calibration.plan_measurement import BATCH, BatchMeasurement, PlanMeasurement

__all__ = [
    "BATCH",
    "BatchMeasurement",
    "Calibration",
    "ChosenProfile",
    "Load",
    "Measurement",
    "Misfit",
    "PlanMeasurement",
]
