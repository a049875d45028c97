"""Defines the command line: ``sweep`` and its subcommands, their options, what they print, their exit codes.

Each command calls one function of ``sweep``, ``display``, ``results`` or ``propose``. Nothing is decided here.
"""

from finesweep.cli.command_line import main

__all__ = ["main"]
