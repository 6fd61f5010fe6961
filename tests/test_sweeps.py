"""Sweeps on this machine: what is kept, what is done again, what is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import psutil
import pyarrow.parquet as pq
import pytest
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

from genot_runner import sweeps
from genot_runner.notebooks import NotebookError
from genot_runner.run_folder import locked, read_record
from genot_runner.sweep_results import collect_results
from genot_runner.sweeps import run_sweep

HEADER = "notebook,seed,fail,wait,threads,timeout_minutes\n"


@pytest.fixture
def table(tmp_path):
    write_tiny(tmp_path / "01_tiny.ipynb")
    return tmp_path / "table.csv"


def by_setting(folder):
    """Results by what the runs were told to do: seed and way to fail."""
    rows = results(folder).values()
    return {(int(row["parameter.seed"]), row["parameter.fail"] or ""): row for row in rows}


def test_failures_are_kept_and_told_and_only_what_is_missing_is_done_again(table, tmp_path):
    rows = "01_tiny.ipynb,0,,,2,\n01_tiny.ipynb,1,error,,,\n01_tiny.ipynb,2,die,,,\n"
    table.write_text(HEADER + rows + "01_tiny.ipynb,3,,90,,0.04\n")
    folder = tmp_path / "sweep"
    first = sweep(table, folder, "--", "--retries", "0")
    assert first.returncode == 1, first.stderr
    assert "1 finished" in first.stdout
    assert "3 failed" in first.stdout
    assert "cell [4]: ValueError: told to fail" in first.stdout
    told = by_setting(folder)
    assert {key: row["status"] for key, row in told.items()} == {
        (0, ""): "finished",
        (1, "error"): "failed",
        (2, "die"): "failed",
        (3, ""): "failed",
    }
    assert told[1, "error"]["error"] == "ValueError: told to fail"
    assert told[1, "error"]["failed_cell"] == "4"
    assert "process died" in told[2, "die"]["error"]
    assert told[2, "die"]["failed_cell"] == "4"
    assert "longer than its limit of 0.04 minutes" in told[3, ""]["error"]
    assert told[0, ""]["metric.threads"] == '["2", "2", "2", "2"]'
    assert float(told[0, ""]["peak_memory_mb"]) > 10
    assert (folder / "summary" / "summary.html").exists()
    for row in told.values():
        kept = {file.name for file in (folder / "runs" / row["run"]).iterdir()}
        assert {"run.json", "01_tiny.ipynb"} <= kept
        assert ("finished" in kept) == (row["status"] == "finished")
    table.write_text(HEADER + rows + "01_tiny.ipynb,4,,,,\n")  # one row less, another more
    second = sweep(table, folder, "--", "--retries", "1")
    assert second.returncode == 1
    again = by_setting(folder)
    assert set(again) == {(0, ""), (1, "error"), (2, "die"), (4, "")}
    counts = executions(folder)
    names = {key: row["run"] for key, row in (told | again).items()}
    assert counts[names[0, ""]] == 1  # finished: kept
    assert counts[names[1, "error"]] == counts[names[2, "die"]] == 3  # again, with one retry
    assert counts[names[4, ""]] == counts[names[3, ""]] == 1
    assert again[0, ""] == told[0, ""] | {
        column: "" for column in again[0, ""] if column not in told[0, ""]
    }


def test_interrupted_sweeps_resume(table, tmp_path):
    """Ctrl-C, then kill -9 of Snakemake while its runs go on, then the end."""
    table.write_text("notebook,seed,wait\n" + "".join(f"01_tiny.ipynb,{n},4\n" for n in range(3)))
    folder = tmp_path / "sweep"
    start = sweep_command(table, folder)
    options = {"env": sweep_environment(), "start_new_session": True, "stderr": subprocess.DEVNULL}
    # Tests that a script starts in the background ignore Ctrl-C, and so would what they start.
    options["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(start, **options)
    wait_for(lambda: executions(folder))
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(120) == 130
    states = {row["status"] for row in results(folder).values()}
    assert "finished" not in states
    assert states <= {"interrupted", "missing"}
    before = executions(folder)
    process = subprocess.Popen(start, **options)
    wait_for(lambda: executions(folder) - before)
    blocked = sweep(table, folder)
    assert blocked.returncode == 1
    assert "Another sweep is running" in blocked.stderr
    (snakemake,) = psutil.Process(process.pid).children()
    process.kill()
    snakemake.kill()
    last = sweep(table, folder)
    assert last.returncode == 0, last.stderr
    assert "3 finished" in last.stdout
    after = executions(folder)
    after.subtract(before)
    # Runs that went on without Snakemake were waited for, not done twice.
    assert set(after.values()) == {1}
    whole = tmp_path / "whole"
    assert sweep(table, whole).returncode == 0
    assert without_times(results(whole)) == without_times(results(folder))
    assert pq.read_table(folder / "results.parquet").num_rows == 3


def test_nothing_runs_when_the_table_has_mistakes(table, tmp_path):
    table.write_text("notebook,seed\n01_tiny.ipynb,0\n01_tiny.ipynb,zero\n")
    run = sweep(table, tmp_path / "sweep")
    assert run.returncode == 2
    assert "row 3: Parameter 'seed' is 'zero'" in run.stderr
    assert not (tmp_path / "sweep").exists()


def test_what_keeps_a_sweep_from_starting(table, tmp_path, monkeypatch):
    table.write_text("notebook,seed\n01_tiny.ipynb,0\n")
    monkeypatch.setattr(sweeps, "_call", lambda command, lock: pytest.fail("must not start"))
    with pytest.raises(NotebookError, match="There are: local, slurm"):
        run_sweep(table, output_dir=tmp_path / "sweep", profile="none")
    with (
        locked(tmp_path / "sweep" / ".lock"),
        pytest.raises(NotebookError, match="Another sweep is running"),
    ):
        run_sweep(table, output_dir=tmp_path / "sweep")
    monkeypatch.setattr(sweeps.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotebookError, match="need Snakemake"):
        run_sweep(table, output_dir=tmp_path / "sweep")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("memory_mb", float("nan")), ("timeout_minutes", -1), ("cores", 0), ("threads", 0)),
        *(("cores", 1.5), ("memory_mb", float("inf")), ("timeout_minutes", "a")),
    ],
)
def test_limits_are_checked_before_anything_is_written(table, tmp_path, option, value):
    table.write_text("notebook,seed\n01_tiny.ipynb,0\n")
    with pytest.raises(NotebookError, match=f"'{option}' is .* above 0"):
        run_sweep(table, output_dir=tmp_path / "sweep", **{option: value})
    assert not (tmp_path / "sweep").exists()


def test_damaged_results_are_told_and_done_again(table, tmp_path):
    table.write_text("notebook,seed\n" + "".join(f"01_tiny.ipynb,{seed}\n" for seed in range(4)))
    folder = tmp_path / "sweep"
    first = sweep(table, folder)
    assert first.returncode == 0, first.stderr
    damaged = sorted(results(folder))[:3]
    half = {damaged[0]: "metrics.json", damaged[1]: "run.json"}
    for name, file in half.items():
        path = folder / "runs" / name / file
        path.write_text(path.read_text()[:40])
    (folder / "runs" / damaged[2] / "run.json").unlink()
    collect_results(folder)
    told = {name: row["status"] for name, row in results(folder).items()}
    assert [told[name] for name in damaged] == ["failed", "missing", "missing"]
    assert "damaged" in results(folder)[damaged[0]]["error"]
    again = sweep(table, folder)
    assert again.returncode == 0, again.stderr
    assert "4 finished" in again.stdout
    # They run in a new folder inside their own, whose grandparent is runs/: three of them.
    assert sum(executions(folder / "runs").values()) == 3
    for name in damaged:
        assert json.loads((folder / "runs" / name / "metrics.json").read_text())["ari"] > 0.5
        assert read_record(folder / "runs" / name)["status"] == "finished"


def test_a_sweep_with_a_missing_run_is_no_success(table, tmp_path, monkeypatch):
    table.write_text("notebook,seed\n01_tiny.ipynb,0\n")
    monkeypatch.setattr(sweeps, "_call", lambda command, lock: 0)
    done = run_sweep(table, output_dir=tmp_path / "sweep")
    assert done.counts == {"missing": 1}
    assert done.exit_code == 1


def test_what_snakemake_is_asked_for(table, tmp_path, monkeypatch):
    table.write_text("notebook,seed,memory_mb\n01_tiny.ipynb,0,\n01_tiny.ipynb,1,900\n")
    asked = []
    monkeypatch.setattr(sweeps, "_call", lambda command, lock: asked.append(command) or 0)
    options = {"cores": 3, "threads": 2, "timeout_minutes": 5, "dry_run": True}
    run_sweep(table, output_dir=tmp_path, snakemake_arguments=["--retries", "4"], **options)
    (command,) = asked
    assert " ".join(command).endswith(f"--cores 3 --retries 4 --directory {tmp_path} --dry-run")
    assert any(one.startswith("mem_mb=") for one in command)
    plan = json.loads((tmp_path / "plan.json").read_text())["runs"]
    assert [run["memory_mb"] for run in plan.values()] == [4000, 900]
    assert {(run["threads"], run["timeout_minutes"]) for run in plan.values()} == {(2, 5)}
    age = (tmp_path / "plan.json").stat().st_mtime_ns
    run_sweep(table, output_dir=tmp_path, **options)
    assert (tmp_path / "plan.json").stat().st_mtime_ns == age  # an old plan makes no new results
