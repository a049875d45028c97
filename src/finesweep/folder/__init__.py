"""Reads and writes a sweep's folder: its manifest, the claims on its trials, and their records.

The folder is the contract between all processes of a sweep. ``SweepFolder`` has the paths that several packages use.
Files of a single package are named there: a lock, a temporary folder, a log or a script of a cluster's jobs. Nothing
here decides what to train, to prune or to show.
"""

from finesweep.folder.checked_files import CheckedFiles
from finesweep.folder.claims import BorrowedLease, Claim, Holder, Lease
from finesweep.folder.manifest import Manifest, Repeat, Run, changes
from finesweep.folder.model_facts import Loading, ModelFacts
from finesweep.folder.row_scores import RowScores
from finesweep.folder.shared_folder import is_as_written, new_token, open_run
from finesweep.folder.sweep_folder import SweepFolder

__all__ = [
    "BorrowedLease",
    "CheckedFiles",
    "Claim",
    "Holder",
    "Lease",
    "Loading",
    "Manifest",
    "ModelFacts",
    "Repeat",
    "RowScores",
    "Run",
    "SweepFolder",
    "changes",
    "is_as_written",
    "new_token",
    "open_run",
]
