"""Runs a sweep: checks it, prepares its folder, starts workers, waits for them, collects the winner.

The commands of ``cli`` that check, run, submit or plan a sweep call functions here. Nothing here trains: this package
never imports ``worker``. Its modules are imported by their path, inside functions, so that a command imports only what
it needs.
"""
