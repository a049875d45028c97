"""Reads and writes files safely, also files that other users have written.

Only regular files are opened, without waiting, up to a size. A file is replaced as a whole, so that its readers see the
old one or the new one. What is read is data: nothing here unpickles or runs it. Nothing here knows which files a sweep
has; that is ``folder``.
"""

from finesweep.files.atomic import create, exclusive, sync_all, write_failure, write_json, write_text, writing
from finesweep.files.checked_json import Damaged, as_kind, open_log, read_as, refuse_all_but_files
from finesweep.files.permissions import Shared
from finesweep.files.regular_file import (
    check_folder_name,
    last_lines,
    last_words,
    open_own,
    open_regular,
    read_bytes,
    read_text,
)

__all__ = [
    "Damaged",
    "Shared",
    "as_kind",
    "check_folder_name",
    "create",
    "exclusive",
    "last_lines",
    "last_words",
    "open_log",
    "open_own",
    "open_regular",
    "read_as",
    "read_bytes",
    "read_text",
    "refuse_all_but_files",
    "sync_all",
    "write_failure",
    "write_json",
    "write_text",
    "writing",
]
