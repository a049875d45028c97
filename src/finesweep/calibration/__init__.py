"""Measures how fast trials train here, and chooses how many run at a time."""
