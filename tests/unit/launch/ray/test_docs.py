"""The page on Ray and the files beside it: what can be said of them without a cluster."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from finesweep.launch import profile
from finesweep.launch.profile import Profile
from finesweep.launch.ray.profile import RayProfile

ROOT = Path(__file__).parents[4]
PAGE = (ROOT / "docs/ray.md").read_text(encoding="utf-8")
SCRIPT = ROOT / "docs/ray_on_slurm.sbatch"
MANIFESTS: list[Any] = list(yaml.safe_load_all((ROOT / "docs/kuberay.yaml").read_text(encoding="utf-8")))
OWN = {name: field for name, field in RayProfile.model_fields.items() if name not in Profile.model_fields}


def manifest(kind: str) -> Any:
    (found,) = (one for one in MANIFESTS if one["kind"] == kind)
    return found


def test_the_page_explains_every_key_with_its_default():
    (table,) = re.findall(r"^\| key \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    rows = [[cell.strip(" `") for cell in line.split("|")] for line in table.splitlines()]
    shown = {name: "-" if field.default in (None, {}) else field.default for name, field in OWN.items()}
    assert {row[1]: row[3] for row in rows} == shown


@pytest.mark.parametrize("example", re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
def test_the_examples_of_the_page_load(tmp_path, example):
    file = tmp_path / "ray.yaml"
    file.write_text(example)
    assert isinstance(profile.load(file), RayProfile)


def test_the_shipped_profile_shows_every_key_of_its_own():
    text = (ROOT / "sweeps/ray.yaml").read_text(encoding="utf-8")
    assert set(OWN) <= set(re.findall(r"^(?:# )?(\w+):", text, re.MULTILINE))
    assert isinstance(profile.load(ROOT / "sweeps/ray.yaml"), RayProfile)


def test_the_script_for_slurm_is_one_that_bash_reads():
    assert subprocess.run(["bash", "-n", str(SCRIPT)], capture_output=True, timeout=120).stderr == b""
    options = re.findall(r"^#SBATCH --([\w-]+)", SCRIPT.read_text(encoding="utf-8"), re.MULTILINE)
    assert {"nodes", "ntasks-per-node", "cpus-per-task", "time", "requeue", "signal"} <= set(options)


def test_the_profile_that_the_script_writes_loads(tmp_path):
    (written,) = re.findall(r"<< END\n(.*?)^END$", SCRIPT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    variables = "SLURM_JOB_NUM_NODES=3 SLURM_CPUS_PER_TASK=8 host=10.0.0.1 port=6401 gpus=1"
    shell = f"{variables}\ncat << END\n{written}END\n"
    found = subprocess.run(["bash", "-u"], input=shell, capture_output=True, text=True, timeout=120, check=True)
    (tmp_path / "ray.yaml").write_text(found.stdout)
    loaded = profile.load(tmp_path / "ray.yaml")
    assert isinstance(loaded, RayProfile)
    assert (loaded.address, loaded.workers, loaded.threads_per_worker, loaded.gpus_per_trial) == (
        "10.0.0.1:6401",
        6,
        4,
        1,
    )


def test_a_cluster_without_a_token_is_in_no_file():
    assert manifest("RayCluster")["spec"]["authOptions"] == {"mode": "token"}
    assert "export RAY_AUTH_MODE=token" in SCRIPT.read_text(encoding="utf-8")


def test_all_pods_see_the_same_volume_under_the_same_path():
    spec = manifest("RayCluster")["spec"]
    pods = [group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]
    mounts = [container["volumeMounts"] for pod in pods for container in pod["containers"]]
    assert mounts == [[{"name": "sweeps", "mountPath": "/sweeps"}]] * len(pods)
    claims = {volume["persistentVolumeClaim"]["claimName"] for pod in pods for volume in pod["volumes"]}
    assert claims == {manifest("PersistentVolumeClaim")["metadata"]["name"]}
    assert manifest("PersistentVolumeClaim")["spec"]["accessModes"] == ["ReadWriteMany"]
    assert len({container["image"] for pod in pods for container in pod["containers"]}) == 1


def test_the_job_runs_a_sweep_on_the_cluster_of_the_same_file():
    job = manifest("RayJob")["spec"]
    assert job["clusterSelector"] == {"ray.io/cluster": manifest("RayCluster")["metadata"]["name"]}
    assert job["entrypoint"].startswith("sweep run /sweeps/my.yaml --on /sweeps/ray.yaml --results /sweeps/")
    assert yaml.safe_load(job["runtimeEnvYAML"]) == {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60"}}


def test_the_versions_are_those_of_the_tested_installation():
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    (ray,) = re.findall(r"^ray==(\S+)$", pins, re.MULTILINE)
    assert manifest("RayCluster")["spec"]["rayVersion"] == ray
    assert f"ray[default]=={ray}" in PAGE
