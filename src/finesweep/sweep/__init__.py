"""Runs a sweep: checks it, prepares its folder, starts workers, waits for them, collects the winner.

Each command of ``cli`` calls one function here. Nothing here trains: this package never imports ``worker``. Its modules
are imported by their path, inside functions, so that a command imports only what it needs.
"""
