"""Carries a sweep out: checks, prepares, starts workers, waits, collects."""
