"""A private Slurm of one machine: several nodes on loopback, with a key and a socket of its own; nothing is left."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cluster.ports import free_ports

NODES, CPUS = 3, 2
INSTALL = "apt-get install --no-install-recommends slurm-wlm munge"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "srun")
SYSTEM_PATH = os.pathsep.join(["/usr/sbin", "/sbin", os.environ.get("PATH", "")])

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# Slurm starts a job again only when its credential has expired; the least that it takes is five seconds.
AuthInfo=socket={path}/run/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={path}/state
SlurmdSpoolDir={path}/spool/%n
SlurmctldPidFile={path}/run/slurmctld.pid
SlurmdPidFile={path}/run/slurmd.%n.pid
SlurmctldLogFile={path}/log/slurmctld.log
SlurmdLogFile={path}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,sched_min_interval=0
SlurmdParameters=config_overrides
ReturnToService=1
SlurmdTimeout=4
SlurmctldTimeout=10
InactiveLimit=0
KillWait=30
MinJobAge={remembered}
JobRequeue=1
"""


def missing() -> list[str]:
    """Return the programs that a private Slurm needs and that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=SYSTEM_PATH) is None]


@dataclass
class SlurmCluster:
    """Daemons of one Slurm, each known by its pid.

    Attributes:
        path: Holds its configuration, state, sockets and logs.
        remembered: Seconds for which the queue lists a job that has ended.
    """

    path: Path
    remembered: int = 300
    ports: list[int] = field(default_factory=lambda: free_ports(1 + NODES))

    @property
    def nodes(self) -> list[str]:
        """The names of the nodes."""
        return [f"n{number}" for number in range(1, NODES + 1)]

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to talk to this cluster, and to no other."""
        return {"SLURM_CONF": str(self.path / "etc/slurm.conf"), "PATH": SYSTEM_PATH}

    def start(self) -> None:
        """Start all daemons; return when every node is idle."""
        # munged wants the way to its socket open to everybody, and nobody else able to change it.
        self.path.chmod(0o755)
        for name in ("etc", "state", "spool", "log", "run"):
            (self.path / name).mkdir()
            (self.path / name).chmod(0o755)
        key = self.path / "etc/munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        run = self.path / "run"
        self._daemon(
            *("munged", f"--key-file={key}", f"--socket={run}/munge.socket", f"--pid-file={run}/munged.pid"),
            *(f"--log-file={self.path}/log/munged.log", f"--seed-file={self.path}/state/munge.seed"),
        )
        self._configure()
        self._daemon("slurmctld")
        for node in self.nodes:
            self.start_node(node)
        self.wait(lambda: self._pid("slurmctld") and len(self.idle()) == NODES, "every node is idle", 60)

    def stop(self) -> None:
        """End the jobs and the daemons, and whatever they have left."""
        if self._pid("slurmctld"):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.call("scancel", "--user", str(os.getuid()), timeout=10)
        for name in ("slurmctld", *(f"slurmd.{node}" for node in self.nodes)):
            self._end(name, signal.SIGTERM)
        for pid in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._end("munged", signal.SIGTERM)
        shutil.rmtree(self.path, ignore_errors=True)

    def start_node(self, node: str) -> None:
        """Start a node's daemon; what it knew before it was killed is gone, as after a reboot."""
        shutil.rmtree(self.path / "spool" / node, ignore_errors=True)
        (self.path / "spool" / node).mkdir()
        self._daemon("slurmd", "-N", node)

    def kill_daemon(self, node: str) -> None:
        """Kill a node's daemon alone: its jobs live on, and the controller takes the node for dead."""
        self._end(f"slurmd.{node}", signal.SIGKILL)

    def revive(self) -> None:
        """Bring nodes back whose daemon was killed, and wait until all are idle."""
        for node in self.nodes:
            if not self._pid(f"slurmd.{node}"):
                self.start_node(node)
                self.call("scontrol", "update", f"nodename={node}", "state=resume")
        self.wait(lambda: len(self.idle()) == NODES, "every node is idle", 90)

    def idle(self) -> list[str]:
        """Return the nodes that are up and run nothing."""
        return self.call("sinfo", "--noheader", "--Node", "--states=idle", "--format=%N").split()

    def call(self, *command: str, timeout: float = 30) -> str:
        """Call a client program; return what it printed."""
        environment = {**os.environ, **self.environment}
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment, check=False)
        return done.stdout + (done.stderr if done.returncode else "")

    def queue(self, job: str = "") -> dict[str, str]:
        """Return the state of each task and job that the queue lists, of one job or array alone if named."""
        said = self.call("squeue", "--noheader", "--array", "--states=all", "--format=%i %T")
        found = dict(line.split() for line in said.splitlines())
        return {name: state for name, state in found.items() if not job or name.split("_")[0] == job}

    def node_of(self, task: str) -> str:
        """Return the node on which a task runs."""
        return self.call("squeue", "--noheader", "--job", task, "--format=%N").strip()

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 120) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited {seconds} s in vain until {what}\n{self._said()}"
            time.sleep(0.2)

    def _configure(self) -> None:
        host, user = socket.gethostname().split(".")[0], getpass.getuser()
        lines = [
            CONFIGURATION.format(
                host=host, port=self.ports[0], user=user, path=self.path, remembered=self.remembered
            ).rstrip()
        ]
        for node, port in zip(self.nodes, self.ports[1:], strict=True):
            where = f"NodeHostname={host} NodeAddr=127.0.0.1 Port={port}"
            lines.append(f"NodeName={node} {where} CPUs={CPUS} RealMemory=4000 State=UNKNOWN")
        lines.append(f"PartitionName=main Nodes={','.join(self.nodes)} Default=YES MaxTime=INFINITE State=UP")
        (self.path / "etc/slurm.conf").write_text("\n".join(lines) + "\n")

    def _daemon(self, *command: str) -> None:
        """Start a daemon, which puts itself into the background."""
        log = self.path / "log" / f"{command[0]}.start.log"
        with log.open("ab") as output:  # a pipe would be inherited, and waited for
            subprocess.run(
                command, stdout=output, stderr=output, env={**os.environ, **self.environment}, timeout=60, check=True
            )

    def _pid(self, name: str) -> int:
        """Return the pid of a daemon that lives, 0 if it does not."""
        try:
            pid = int((self.path / "run" / f"{name}.pid").read_text())
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (OSError, ValueError):
            return 0
        return 0 if stat.rpartition(")")[2].split()[0] == "Z" else pid

    def _end(self, name: str, number: int) -> None:
        for waited in range(100):
            if not (pid := self._pid(name)):
                return
            with contextlib.suppress(ProcessLookupError):
                if waited in (0, 80):
                    os.kill(pid, number if waited == 0 else signal.SIGKILL)
            time.sleep(0.1)

    def _processes(self) -> list[int]:
        """Return the pids of everything that this cluster has started, jobs on killed nodes included."""
        own = f"SLURM_CONF={self.path}/etc/slurm.conf".encode()
        found = []
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and int(process.name) != os.getpid():
                with contextlib.suppress(OSError):
                    if own in (process / "environ").read_bytes().split(b"\0"):
                        found.append(int(process.name))
        return found

    def _said(self) -> str:
        logs = [log.read_text(errors="replace")[-2000:] for log in sorted((self.path / "log").glob("slurm*.log"))]
        return "\n".join([self.call("squeue", "--array", "--states=all"), *logs])


@pytest.fixture(scope="session")
def slurm() -> Iterator[SlurmCluster]:
    """Yield a private Slurm with three nodes of two CPUs each."""
    if lacking := missing():
        pytest.skip(f"Slurm is not installed ({', '.join(lacking)}): {INSTALL}")
    # Not below pytest's own folder, since the path of a socket has no room for long names.
    cluster = SlurmCluster(Path(tempfile.mkdtemp(prefix="finesweep-slurm-")))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
