"""Defines the command line."""

from finesweep.cli.command_line import main

__all__ = ["main"]
