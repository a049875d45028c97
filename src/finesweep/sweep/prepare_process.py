"""Owns checking and preparing a sweep apart from the command that runs it.

Reading the data and the model takes hundreds of megabytes of libraries. They are loaded by a process that ends before
training starts, so that the command, which stays for as long as the sweep runs, remains small.
"""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from finesweep.files import permissions
from finesweep.folder import sweep_lock
from finesweep.folder.manifest import Manifest
from finesweep.folder.sweep_folder import SweepFolder
from finesweep.host.signals import STOPS
from finesweep.launch.profile import Profile
from finesweep.sweep import prepare
from finesweep.sweep.child_process import Apart, Link
from finesweep.sweep.preflight import Checked
from finesweep.sweep.prepare import Request
from finesweep.sweep.session import OpenSweep


class Preparation:
    """Checks a request, and then makes its folder if that is not there yet.

    The process is forked when this is made; it ends with the block, if not before.

    Args:
        request: What the user asked for.
        profile: Its launch profile, as it was written.
    """

    def __init__(self, request: Request, profile: Profile) -> None:
        self._request, self._profile = request, profile
        self._apart = Apart("the process that checks and prepares", functools.partial(_steps, request, profile))

    def __enter__(self) -> Preparation:
        """Begin."""
        return self

    def __exit__(self, *error: Any) -> None:
        """End the process."""
        self._apart.__exit__(*error)

    def checked(self) -> Checked:
        """Return the spec, checked, without its rows; see ``prepare``.

        Raises:
            SpecError, FolderError, LaunchError, MissingExtra: What the check has found, or what has ended it.
        """
        checked: Checked = self._apart.hear()
        return checked

    def open_folder(
        self, path: Path, checked: Checked, lock: int, waiting: Callable[[], AbstractContextManager[None]]
    ) -> OpenSweep:
        """Open the sweep's folder and begin a run; see ``preparing.open_folder``.

        Args:
            path: The folder.
            checked: What ``checked`` has returned.
            lock: The lock on the folder. Both processes hold it while there is something to write.
            waiting: Opens the block in which this process waits for the other one, and which a signal may end: a
                folder without its manifest is written anew by the next run.

        Raises:
            FolderError: The folder is another sweep's, or cannot be written.
            LaunchError: Something has killed the process.
        """

        def write(folder: SweepFolder, manifest: Manifest) -> Manifest:
            self._apart.tell((folder.path, manifest), lock)
            with waiting():
                written: Manifest = self._apart.hear()
            return written

        return prepare.open_folder(path, checked, self._request, self._profile, write=write)


def _steps(request: Request, profile: Profile, link: Link) -> None:
    loaded = prepare.load(request, profile)
    if not request.join:
        sweep_lock.refuse_owned(prepare.path_of(loaded, request))  # before minutes are spent on large data
    checked = prepare.checked_spec(loaded, request, profile)
    if not prepare.is_prepared(loaded, request):
        prepare.try_model(checked, profile)
    # From here on the command, not a signal, says when this ends: it may be about to say what it was asked.
    for number in (*STOPS, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    link.tell(checked.without_rows())
    (path, manifest), _ = link.hear()
    permissions.follow(path)
    link.tell(prepare.write_prepared(checked, SweepFolder(path), manifest))
