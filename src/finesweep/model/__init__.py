"""Finds and checks the model that a spec names, and loads it whole or not at all."""
