"""Sweeps: a table of runs → Snakemake → one table of results and a summary.

The work is Snakemake's (`workflow/Snakefile`); here the table is checked, the plan written, and
what happened told. The workflow starts each run as `python -m genot_runner.sweeps plan.json <run>`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from genot_helpers.files import check_output_dir, write_json

from .notebooks import CHECKOUT, NotebookError, in_checkout, shipped_folder
from .parameters import check_limit
from .run_folder import end_on_sigterm, file_hash, locked, read_record
from .sweep_results import collect_results, is_whole, summarise_states
from .sweep_tables import PlannedRun, read_sweep

__all__ = ["SweepResult", "run_one", "run_sweep"]

WORKFLOW = shipped_folder("workflow")


class SweepResult(NamedTuple):
    """What a sweep left.

    Attributes
    ----------
    output_dir : pathlib.Path
        Folder with `runs/`, `results.parquet`, `results.csv` and `summary/`.
    counts : dict
        Number of runs by status: "finished", "failed", "interrupted", "missing".
    unfinished : list of tuple
        Name and reason of every run that is not finished.
    exit_code : int
        0: every run is finished and the summary written. 1: not so. 130: interrupted.
    """

    output_dir: Path
    counts: dict[str, int]
    unfinished: list[tuple[str, str]]
    exit_code: int


def run_sweep(
    table: str | Path,
    *,
    output_dir: str | Path,
    profile: str | Path = "local",
    cores: int | None = None,
    threads: int = 1,
    memory_mb: float = 4000,
    timeout_minutes: float = 60,
    dry_run: bool = False,
    snakemake_arguments: Sequence[str] = (),
) -> SweepResult:
    """Run all rows of a table, each in its own process; what is finished already is kept.

    Parameters
    ----------
    table : str or Path
        CSV or YAML, see :func:`~genot_runner.sweep_tables.read_sweep`. All of it is
        checked before anything runs.
    output_dir : str or Path
        Folder of the sweep. Given again, also with a longer table, only what is missing is run.
    profile : str or Path
        "local", "slurm", or the folder of another Snakemake profile.
    cores : int, optional
        Processor cores to use on this machine; default: what the profile says.
    threads : int
        Threads of one run, where the table does not say.
    memory_mb : float
        Memory limit of one run in 10⁶ bytes, where the table does not say. Each retry gets more.
    timeout_minutes : float
        Time limit of one run, where the table does not say. Each retry gets more.
    dry_run : bool
        Check the table and let Snakemake list what it would do.
    snakemake_arguments : sequence of str
        Further options for Snakemake.

    Returns
    -------
    SweepResult

    Raises
    ------
    SweepTableError
        If the table has mistakes; nothing was run.
    NotebookError
        If Snakemake is not installed, the profile does not exist, or another process runs this
        sweep.
    OSError
        If the folder cannot be written to.
    """
    for name, value in (("cores", cores), ("threads", threads)):
        check_limit(name, value, whole=True)
    check_limit("memory_mb", memory_mb)
    check_limit("timeout_minutes", timeout_minutes)
    runs = read_sweep(table)
    command = _snakemake(profile, cores, snakemake_arguments)
    folder = check_output_dir(output_dir).resolve()
    default = {"threads": threads, "memory_mb": memory_mb, "timeout_minutes": timeout_minutes}
    try:
        with locked(folder / ".lock", wait=False) as lock:
            _write_plan(folder, runs, default)
            _forget_damaged(folder, runs)
            command += ["--directory", str(folder)]
            code = _call([*command, *(["--dry-run"] if dry_run else [])], lock)
            if dry_run:
                return SweepResult(folder, {}, [], code)
            collected = code == 0
            if code not in (0, 130):  # the table and the summary of what there is
                again = [*command, "--forcerun", "results", "--config", "only_finished=1"]
                collected = _call(again, lock) == 0
            if not collected or not (folder / "results.csv").exists():
                collect_results(folder)
    except BlockingIOError:
        raise NotebookError(
            f"Another sweep is running in {folder}. Wait for it, or choose another folder."
        ) from None
    counts, unfinished = summarise_states(folder)
    return SweepResult(folder, counts, unfinished, code or int(bool(unfinished)))


def _snakemake(profile: str | Path, cores: int | None, arguments: Sequence[str]) -> list[str]:
    """Return the command that starts Snakemake."""
    if importlib.util.find_spec("snakemake") is None or importlib.util.find_spec("pyarrow") is None:
        raise NotebookError(
            "Sweeps need Snakemake and pyarrow: pip install 'genot-helpers[sweeps]', or "
            "pip install -e '.[sweeps]' in the checkout."
        )
    named = WORKFLOW / "profiles" / profile
    folder = named if named.is_dir() else Path(profile).expanduser().resolve()
    if not (folder / "config.yaml").is_file():
        known = ", ".join(sorted(one.name for one in (WORKFLOW / "profiles").iterdir()))
        raise NotebookError(
            f"There is no profile {str(profile)!r}. There are: {known}; or give the folder of your "
            "own, with a file config.yaml in it."
        )
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(WORKFLOW / "Snakefile")]
    command += ["--profile", str(folder)]
    if folder == WORKFLOW / "profiles" / "local":
        # Runs start together only as far as their memory limits fit into this machine.
        command += ["--resources", f"mem_mb={psutil.virtual_memory().total // 10**6}"]
    return [*command, *(["--cores", str(cores)] if cores else []), *arguments]


def _write_plan(folder: Path, runs: Sequence[PlannedRun], default: dict[str, float]) -> None:
    """Write plan.json, unless it says the same already: its age tells whether results are old."""
    plan: dict[str, Any] = {"runs": {}}
    for run in runs:
        limits = default | run.limits
        about = {"row": run.row, "notebook": run.notebook, "parameters": run.parameters}
        plan["runs"][run.id] = about | limits
    path = folder / "plan.json"
    try:
        same = json.loads(path.read_text(encoding="utf-8")) == plan
    except (OSError, ValueError):
        same = False
    if not same:
        write_json(plan, path)


def _forget_damaged(folder: Path, runs: Sequence[PlannedRun]) -> None:
    """Let runs be done again that were finished once, and whose results cannot be read any more."""
    for run in runs:
        mark = folder / "runs" / run.id / "finished"
        if mark.exists() and not is_whole(mark.parent):
            mark.unlink()


def _call(command: list[str], lock: int) -> int:
    """Run Snakemake; on Ctrl-C or SIGTERM let it end its jobs, then return 130."""
    environment = dict(os.environ)
    paths = [str(CHECKOUT) if in_checkout() else "", environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    held = {} if os.name == "nt" else {"pass_fds": (lock,)}
    process = subprocess.Popen(command, env=environment, **held)
    try:
        return process.wait()
    except (KeyboardInterrupt, SystemExit):
        if os.name != "nt":  # there, Ctrl-C has reached it already
            process.send_signal(signal.SIGINT)  # as Ctrl-C did already, if it was that
        process.wait()
        return 130


def _is_finished(folder: Path, notebook: Path) -> bool:
    """Tell whether this run, of this version of the notebook, is finished already."""
    record = read_record(folder) or {}
    return is_whole(folder) and record.get("notebook_sha256") == file_hash(notebook)


def run_one(arguments: list[str] | None = None) -> int:
    """Execute one run of a plan, as the workflow asks for it; return the exit code."""
    parser = argparse.ArgumentParser(description=run_one.__doc__)
    parser.add_argument("plan", type=Path, help="plan.json of the sweep")
    parser.add_argument("run", help="name of the run")
    parser.add_argument("--attempt", type=int, default=1, help="limits grow with it")
    chosen = parser.parse_args(arguments)
    end_on_sigterm()
    run = json.loads(chosen.plan.read_text(encoding="utf-8"))["runs"][chosen.run]
    folder, notebook = chosen.plan.resolve().parent / "runs" / chosen.run, Path(run["notebook"])
    # When Snakemake is killed, its runs go on. The next Snakemake starts them again, which must
    # neither write into the same folder at the same time nor do finished work twice.
    with locked(folder / ".lock"):
        if _is_finished(folder, notebook):
            print("Finished already.")
            return 0
        from .runs import run_notebook  # loads papermill, which takes a second or two

        try:
            run_notebook(
                notebook,
                run["parameters"],
                output_dir=folder,
                progress=False,
                timeout_minutes=run["timeout_minutes"] * chosen.attempt,
                memory_mb=run["memory_mb"] * chosen.attempt,
            )
        except (NotebookError, OSError) as problem:
            print(f"Error: {problem}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(run_one())
