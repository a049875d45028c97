"""Writes a sweep's page: ``report.html``, one file that opens offline and sends no request.

It shows what ``results.board`` has read and reads nothing of the sweep itself. Charts are Optuna's where it has them;
the templates and their escaping are Jinja's.
"""

from finesweep.report.page import write_report

__all__ = ["write_report"]
