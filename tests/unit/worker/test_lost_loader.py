"""The loss of a process that loads the data, by whatever error it shows."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from finesweep.worker.lost_loader import is_loss_of_loader

pytestmark = pytest.mark.torch
# torch's signal handler raises in any line of a process whose loader died, so each loader has a process of its own.
LOADERS = """
import json, os, signal, sys, time
from multiprocessing import reduction
import torch
from torch.utils.data import DataLoader
from finesweep.worker.lost_loader import ignore_further_losses, is_loss_of_loader

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def collate(rows):
    if sys.argv[1] == "killed between batches" and rows[0] >= 8:
        die()
    if sys.argv[1] == "killed while it sends":
        reduction.send_handle = die
    if sys.argv[1] == "raises":
        raise EOFError(f"row {rows[0]} ends early")
    return {name: torch.tensor(rows) for name in "abcd"}

def end_of_loader():
    try:
        list(DataLoader(list(range(32)), batch_size=4, num_workers=2, collate_fn=collate))
    except Exception as error:
        ignore_further_losses()
        time.sleep(0.1)
        return is_loss_of_loader(error), repr(error)
    return None, ""

for _ in range(int(sys.argv[2])):
    if not os.fork():
        print(json.dumps(end_of_loader()), flush=True)
        os._exit(0)
    os.wait()
"""


def ends_of_loaders(tmp_path: Path, fault: str, count: int) -> list[tuple[bool | None, str]]:
    """Return what loaders in processes of their own raise: whether it is seen as a loss, and the error."""
    script = tmp_path / "loaders.py"
    script.write_text(LOADERS)
    ran = subprocess.run([sys.executable, script, fault, str(count)], capture_output=True, text=True, check=True)
    return [tuple(json.loads(line)) for line in ran.stdout.splitlines()]


@pytest.mark.parametrize(("fault", "count"), [("killed between batches", 2), ("killed while it sends", 6)])
def test_a_killed_loader_is_lost_however_its_death_shows(tmp_path: Path, fault: str, count: int) -> None:
    """If it sends, torch names the process or the connection breaks first. That is a race, so it is tried often."""
    ends = ends_of_loaders(tmp_path, fault, count)
    assert len(ends) == count, "an error was raised again, after training"
    assert [error for lost, error in ends if not lost] == []


def test_an_error_in_a_loader_is_the_trials_own(tmp_path: Path) -> None:
    assert [lost for lost, _ in ends_of_loaders(tmp_path, "raises", 1)] == [False]


@pytest.mark.parametrize("error", [EOFError(), ConnectionResetError(), RuntimeError("DataLoader timed out")])
def test_other_errors_are_the_trials_own(error: Exception) -> None:
    assert not is_loss_of_loader(error)
