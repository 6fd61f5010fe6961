"""A sweep on a real SLURM cluster: runs and Snakemake killed midway, resumed, as good as local."""

from __future__ import annotations

import subprocess

import psutil
import pytest
from slurm_cluster import slurm_cluster, why_not
from sweep_runs import (
    executions,
    results,
    sweep,
    sweep_command,
    sweep_environment,
    wait_for,
    without_times,
    write_tiny,
)

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

OPTIONS = ("--memory-mb", "1400")
QUICKLY = ("--seconds-between-status-checks", "2", "--slurm-init-seconds-before-status-checks", "2")
TABLE = """\
notebook,seed,wait,quick
01_tiny.ipynb,0,4,
01_tiny.ipynb,1,4,
01_tiny.ipynb,2,0,
00,0,,true
"""


def test_a_sweep_on_slurm_survives_kills_and_equals_a_local_one(tmp_path):
    write_tiny(tmp_path / "01_tiny.ipynb")
    table, local, remote = tmp_path / "table.csv", tmp_path / "local", tmp_path / "remote"
    table.write_text(TABLE)
    told = ("--profile", "slurm", *OPTIONS, "--", *QUICKLY)
    with slurm_cluster(tmp_path / "cluster") as variables:
        environment = sweep_environment(**variables)

        def running():
            ask = ["squeue", "-h", "-t", "R", "-o", "%A"]
            return subprocess.run(ask, env=environment, capture_output=True, text=True).stdout

        with (tmp_path / "first.txt").open("wb") as said:
            first = subprocess.Popen(
                sweep_command(table, remote, *told), env=environment, stdout=said, stderr=said
            )
            try:
                wait_for(lambda: executions(remote))
                killed = running().split()[0]
                subprocess.run(["scancel", killed], env=environment, check=True)
                # A killed run is tried again, and others go on.
                wait_for(lambda: list(remote.glob("runs/*/finished")))
            finally:
                for process in (*psutil.Process(first.pid).children(), first):
                    process.kill()
                first.wait()
        log = (tmp_path / "first.txt").read_text()
        assert f"SLURM jobid {killed}" in log
        finished = {path.parent.name for path in remote.glob("runs/*/finished")}
        assert 0 < len(finished) < 4
        before = executions(remote)
        last = sweep(table, remote, *told, **variables)
        assert last.returncode == 0, last.stdout + last.stderr
        assert "4 finished" in last.stdout
        after = executions(remote)
        assert all(after[name] == before[name] for name in finished)  # kept, not done again
    assert sweep(table, local, *OPTIONS).returncode == 0
    expected, found = without_times(results(local)), without_times(results(remote))
    assert found == expected
    assert {row["status"] for row in found.values()} == {"finished"}
    assert (remote / "summary" / "summary.html").exists()
