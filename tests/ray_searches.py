"""Carries out searches with Ray in a process of its own: Ray's threads and signals stay out of the tests', which fork.

The cluster is started with the first search and used by all that follow.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from made_profiles import settled

AT_A_TIME = 2


class RaySearches:
    """Runs functions in a process that is connected to Ray."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Be nothing where tests are sent that refer to this."""
        return object, ()

    def run(self, function: Callable[[], object]) -> None:
        """Call a function there, which is pickled with everything it refers to; raise what it raises."""
        from ray import cloudpickle

        if self._process is None:
            self._start()
        self._connection.send_bytes(cloudpickle.dumps(function))
        error, trace = cloudpickle.loads(self._connection.recv_bytes())
        if error is not None:
            error.add_note(trace)
            raise error

    def _start(self) -> None:
        self._connection, theirs = multiprocessing.Pipe()
        command = [sys.executable, __file__, str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=(theirs.fileno(),))
        theirs.close()

    def close(self) -> None:
        """End the process, and Ray with it; the next search starts another one."""
        if self._process is not None:
            self._connection.close()
            self._process.wait(timeout=60)
            self._process = None


def serve(connection: multiprocessing.connection.Connection) -> None:
    """Call what is sent until nobody sends any more."""
    from finesweep.backends.ray.cluster import connected

    with connected(settled(workers=AT_A_TIME)):
        from ray import cloudpickle

        while True:
            try:
                sent = connection.recv_bytes()
            except EOFError:
                return
            answer: tuple[Exception | None, str] = (None, "")
            try:
                cloudpickle.loads(sent)()
            except Exception as error:  # noqa: BLE001 - raised where the function came from
                answer = (error, traceback.format_exc())
            connection.send_bytes(cloudpickle.dumps(answer))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    serve(multiprocessing.connection.Connection(int(sys.argv[1])))
