"""What a real sbatch makes of texts that want to be code: nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.slurm_cluster import SlurmCluster
from e2e.conftest import Project

pytestmark = pytest.mark.cluster

EVIL = [
    {
        "partition": "a b; touch PWNED",
        "account": "$(touch PWNED)",
        "qos": "x'\ntouch PWNED\n#",
        "constraint": 'x" --wrap="touch PWNED',
        "options": {"reservation": "%j"},
    },
    {"partition": "--wrap=x", "options": {"mail-user": "a\\"}},
]
AWKWARD = "a b; touch PWNED, $(touch PWNED), `touch PWNED`, it's #1 & <all> of {it}"


@pytest.fixture
def own(project: Project, slurm: SlurmCluster) -> Iterator[Project]:
    """Yield a project in which no file of that name may appear."""
    yield project
    slurm.call("scancel", "--user", str(os.getuid()))
    assert not [file for file in project.path.rglob("*PWNED*") if file.name == "PWNED"]


def test_slurm_is_given_no_code(own: Project, slurm: SlurmCluster) -> None:
    before = slurm.queue().keys()
    for keys in EVIL:
        own.write("slurm.yaml", json.dumps({"launcher": "slurm", **keys}))
        said = "".join(own.sweep("submit", "spec.yaml", "--on", "slurm.yaml", code=2, env=slurm.environment))
        assert said.count("is not allowed") == len(keys)
    own.write("slurm.yaml", "launcher: slurm\nsetup: [touch PWNED]\n")
    own.sweep("submit", "spec.yaml", "--on", "slurm.yaml", code=2, env=slurm.environment)
    # Jobs that ended minutes ago may be forgotten meanwhile.
    assert slurm.queue().keys() <= before


def test_a_folder_of_any_name_is_one_word_to_slurm(own: Project, slurm: SlurmCluster) -> None:
    setup = "setup: [\"export GREETING='set up'; echo $GREETING by $SLURM_JOB_NAME\"]\n"
    own.write("slurm.yaml", f"launcher: slurm\nworkers: 1\n{setup}")
    results = ("--results", AWKWARD, "--set", "budget.trials=1", "--allow-setup")
    out, _ = own.sweep("submit", "spec.yaml", "--on", "slurm.yaml", *results, env=slurm.environment)
    collect = out.partition("\nJob ")[2].partition(" ")[0]
    slurm.wait(lambda: slurm.queue(collect)[collect] in ("COMPLETED", "FAILED"), "the last job has ended")
    folder = own.path / AWKWARD / "spec"
    assert (folder / "winner").is_dir(), [log.read_text() for log in folder.glob("logs/[cw]*.log")]
    assert "set up by finesweep-spec\n" in (folder / "logs/worker-0001-1.log").read_text()
    assert [file.name for file in own.path.iterdir() if file.is_dir()] == [AWKWARD]
    assert not list(Path(own.path, AWKWARD).glob("PWNED*"))


def test_a_folder_whose_name_slurm_would_expand_is_refused(own: Project, slurm: SlurmCluster) -> None:
    own.write("slurm.yaml", "launcher: slurm\nworkers: 1\n")
    before = slurm.queue().keys()
    arguments = ("submit", "spec.yaml", "--on", "slurm.yaml", "--results", 'a"b%j')
    _, err = own.sweep(*arguments, code=2, env=slurm.environment)
    assert 'Slurm takes no path with ", % in it' in err
    # Jobs that ended minutes ago may be forgotten meanwhile.
    assert slurm.queue().keys() <= before
