"""Writes a first spec for a data file: ``sweep init``.

Columns, task, model, ranges and budget are guessed here, each with its reason, and nowhere else. It never trains, never
loads a model's weights, and never overwrites a file.
"""
