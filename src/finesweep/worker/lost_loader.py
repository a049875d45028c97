"""Recognizes the loss of a process that loads a trial's data, which is no fault of the trial.

Such a process is mostly killed because memory runs out. torch names the cause only if it learns of the death first:
as often the connection to the process breaks before, which raises an error that does not name the process.
"""

from __future__ import annotations

import re
import signal
import traceback

REASON = "a process that loads the data died without a message (out of memory?)"
_NAMED_BY_TORCH = re.compile(r"DataLoader worker \(pid\S* [\d, ]+\) (exited unexpectedly|is killed by signal: Killed)")
_CONNECTION_MODULES = ("multiprocessing.connection", "multiprocessing.reduction")


def is_loss_of_loader(error: BaseException) -> bool:
    """Return whether an error of a training loop means that a process that loads the data is gone.

    Errors that are raised inside such a process, by a data set or a collator, are the trial's own: torch raises them
    again by other ways.
    """
    if _NAMED_BY_TORCH.match(str(error)):
        return True
    return isinstance(error, OSError | EOFError) and _module_that_raised(error) in _CONNECTION_MODULES


def ignore_further_losses() -> None:
    """Keep torch from raising once more, in the middle of any later line, when it learns of the death.

    Call it in the main thread, once training has ended: torch looks after its processes in a signal handler.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _module_that_raised(error: BaseException) -> str:
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return str(frames[-1].f_globals.get("__name__", "")) if frames else ""
