"""Trains one trial with transformers."""
