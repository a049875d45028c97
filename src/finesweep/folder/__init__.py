"""Reads and writes a sweep's folder: spec, claims, records, locks, disk space."""
