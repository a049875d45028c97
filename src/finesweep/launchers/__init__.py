"""Owns what a launcher is: where workers run.

A launcher is one file here and one line in ``finesweep.registry.LAUNCHERS``.
"""
