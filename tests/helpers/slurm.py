"""A Slurm of one node on the loopback interface, for as long as a test needs it."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
CONFIG = """\
ClusterName=harness
SlurmctldHost=localhost
SlurmUser={user}
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=20
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
MailProg=/bin/true
NodeName=node1 NodeHostname=localhost NodeAddr=127.0.0.1 CPUs={cores} RealMemory=500
PartitionName=short Nodes=node1 Default=YES MaxTime=60 PriorityTier=1 State=UP
PartitionName=urgent Nodes=node1 MaxTime=60 PriorityTier=2 State=UP
"""


def why_not() -> str:
    """Why Slurm cannot be started here; '' if it can."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    missing = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    if missing:
        return f"{', '.join(missing)} not installed (Debian: slurmctld slurmd slurm-client munge)"
    return "" if os.geteuid() == 0 else "slurmd needs root"


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """The variables of the environment by which Slurm's commands find a cluster of two cores; it ends with the block.

    Partition `urgent` preempts `short`.
    """
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o600)
    ports = _free_ports(2)
    cores = min(2, os.cpu_count() or 1)
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(user="root", folder=folder, controller=ports[0], node=ports[1], cores=cores))
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    variables = {"SLURM_CONF": str(config), "PATH": path}
    daemons = [
        [
            "munged",
            "--foreground",
            "--force",
            f"--socket={folder}/munge.socket",
            f"--key-file={key}",
            f"--pid-file={folder}/munged.pid",
            f"--log-file={folder}/munged.log",
            f"--seed-file={folder}/munge.seed",
        ],
        ["slurmctld", "-D", "-c"],
        ["slurmd", "-D", "-N", "node1"],
    ]
    running: list[subprocess.Popen[bytes]] = []
    try:
        for words in daemons:
            with (folder / f"{words[0]}.out").open("wb") as out:
                environment = {**os.environ, **variables}
                running.append(subprocess.Popen(words, env=environment, stdout=out, stderr=subprocess.STDOUT))
            time.sleep(0.5)
        _wait_until_idle(variables, folder)
        yield variables
    finally:
        _call(variables, "scancel", "--user=root")
        for process in reversed(running):
            process.terminate()
        for process in running:
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_until_idle(variables: dict[str, str], folder: Path) -> None:
    for _ in range(240):
        if "idle" in _call(variables, "sinfo", "--noheader", "--format=%T"):
            return
        time.sleep(0.5)
    logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(folder.glob("*.log")))
    raise AssertionError(f"Slurm did not start:\n{logs}")


def _call(variables: dict[str, str], *words: str) -> str:
    done = subprocess.run(
        words, env={**os.environ, **variables}, capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
