"""Writes a first search space for a data file: ``sweep init``."""
