"""Reads data files and Hub data sets into clean rows with encoded labels."""
