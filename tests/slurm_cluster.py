"""A SLURM cluster of one node on this machine, in a temporary folder; nothing of it stays.

`with slurm_cluster(folder) as environment:` starts munged, slurmctld and slurmd on free ports with
their own configuration. Commands such as sbatch find it through the environment that it gives.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "srun", "sinfo")
CONFIGURATION = """\
ClusterName=sweeps
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
KillWait=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """Say what is missing for a cluster on this machine; None if nothing is."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if missing:
        return f"needs SLURM and munge (apt install slurm-wlm munge); missing: {', '.join(missing)}"
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "needs root to start slurmctld and slurmd"
    return None


@contextmanager
def slurm_cluster(
    folder: Path, *, cpus: int = 2, memory_mb: int = 4000
) -> Iterator[dict[str, str]]:
    """Run a cluster; yield the environment variables with which commands find it."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    configuration = folder / "slurm.conf"
    controller_port, node_port = _free_ports(2)
    configuration.write_text(
        CONFIGURATION.format(
            host=socket.gethostname().partition(".")[0],
            folder=folder,
            controller_port=controller_port,
            node_port=node_port,
            cpus=min(cpus, os.cpu_count() or 1),
            memory=memory_mb,
        )
    )
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    path = os.pathsep.join([str(folder), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    # Inside a job the executor drops SLURM_CONF, since clusters have their file in /etc.
    srun = folder / "srun"
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={configuration} exec {shutil.which("srun")} "$@"\n')
    srun.chmod(0o755)
    environment = {"SLURM_CONF": str(configuration), "PATH": path}
    munge = ["munged", "-F", "-f", f"--key-file={key}", f"--socket={folder}/munge.socket"]
    munge += [f"--{name}-file={folder}/munged.{name}" for name in ("log", "pid", "seed")]
    with ExitStack() as stack:
        stack.enter_context(_daemon(munge, folder, environment))
        _wait(lambda: (folder / "munge.socket").exists(), "munged", folder)
        stack.enter_context(_daemon(["slurmctld", "-D"], folder, environment))
        stack.enter_context(_daemon(["slurmd", "-D"], folder, environment))
        _wait(lambda: _ask(["sinfo", "-h", "-o", "%T"], environment) == "idle", "slurmd", folder)
        try:
            yield environment
        finally:
            _ask(["scancel", "--signal=KILL", "--full", "--user=root"], environment)
            _ask(["scancel", "--user=root"], environment)
            end = time.monotonic() + 20
            while _ask(["squeue", "-h"], environment) and time.monotonic() < end:
                time.sleep(0.5)


def _ask(command: list[str], environment: dict[str, str]) -> str:
    run = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | environment, timeout=60
    )
    return run.stdout.strip()


@contextmanager
def _daemon(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run a daemon in the foreground of its own session; end it, and all it started, afterwards."""
    with (folder / f"{command[0]}.out").open("wb") as output:
        process = subprocess.Popen(
            command,
            env=os.environ | environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(condition, name: str, folder: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            logs = [*folder.glob("*.out"), *folder.glob("*.log")]
            said = "\n".join(f"{log.name}: {log.read_text()[-1000:]}" for log in logs)
            raise RuntimeError(f"{name} did not start:\n{said}")
        time.sleep(0.2)


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
