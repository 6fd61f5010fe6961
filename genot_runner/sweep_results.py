"""All runs of a sweep as one table, Parquet and CSV: `python -m genot_runner.sweep_results`.

Runs are read one at a time and written a few hundred at a time, so memory does not grow with them.
"""

from __future__ import annotations

import csv
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from genot_helpers.files import atomic_path

from .run_folder import KILLED, read_record

__all__ = ["collect_results", "is_whole", "summarise_states"]

_CHUNK = 500
_FACTS = {
    "run": str,
    "notebook": str,
    "status": str,
    "error": str,
    "failed_cell": int,
    "seed": int,
    "wall_seconds": float,
    "cpu_seconds": float,
    "peak_memory_mb": float,
    "started": str,
    "ended": str,
    "git_commit": str,
    "git_dirty": bool,
    "notebook_sha256": str,
}
_MISSING = "It has not run, or nothing is left of it; its file in logs/ may say why."


def collect_results(sweep: str | Path) -> tuple[Path, Path]:
    """Gather all runs of a sweep in one table.

    Parameters
    ----------
    sweep : str or Path
        Folder of the sweep, with its plan.json.

    Returns
    -------
    tuple of Path
        `results.parquet` and `results.csv` in that folder: one row per run of the plan, in its
        order, failed runs included. `status` is "finished", "failed", "interrupted" or "missing",
        `error` says why. Parameters are in columns `parameter.<name>`, what the notebook wrote to
        metrics.json in `metric.<name>`. Seconds, 10⁶ bytes, times in UTC. In the CSV, text that a
        spreadsheet would take for a formula begins with an apostrophe.

    Raises
    ------
    FileNotFoundError
        If there is no plan.json.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = Path(sweep)
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))["runs"]
    columns = _columns(_rows(folder, plan))
    types = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    parquet, table = folder / "results.parquet", folder / "results.csv"
    with (
        atomic_path(parquet) as unfinished_parquet,
        atomic_path(table) as unfinished_csv,
        pq.ParquetWriter(unfinished_parquet, schema) as writer,
        unfinished_csv.open("w", encoding="utf-8", newline="") as file,
    ):
        lines = csv.DictWriter(file, list(columns), lineterminator="\n")
        lines.writeheader()
        for chunk in _chunks(_rows(folder, plan)):
            fitted = [
                {name: _as(row.get(name), columns[name]) for name in columns} for row in chunk
            ]
            lines.writerows({name: _harmless(one) for name, one in row.items()} for row in fitted)
            writer.write_table(pa.Table.from_pylist(fitted, schema=schema))
    return parquet, table


def summarise_states(sweep: str | Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Count the runs of a collected sweep by status.

    Parameters
    ----------
    sweep : str or Path
        Folder of the sweep.

    Returns
    -------
    tuple
        Number of runs by status, and name and reason of every run that is not finished.
    """
    counts: dict[str, int] = {}
    unfinished = []
    with (Path(sweep) / "results.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            counts[row["status"]] = counts.get(row["status"], 0) + 1
            if row["status"] != "finished":
                cell = f"cell [{row['failed_cell']}]: " if row["failed_cell"] else ""
                unfinished.append((row["run"], cell + row["error"]))
    return counts, unfinished


def _chunks(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    iterator = iter(rows)
    while chunk := list(itertools.islice(iterator, _CHUNK)):
        yield chunk


def _rows(folder: Path, plan: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, run in plan.items():
        yield _row(folder / "runs" / name, name, run)


def _row(folder: Path, name: str, run: Mapping[str, Any]) -> dict[str, Any]:
    record = read_record(folder)
    if record is None:
        record = {"status": "missing", "error": _MISSING, "parameters": run["parameters"]}
    if record["status"] == "running":  # it has been told to end, or goes on without its sweep
        record |= {"status": "interrupted", "error": record.get("error") or KILLED}
    metrics, problem = _metrics(folder) if record["status"] == "finished" else ({}, "")
    if problem:
        record |= {"status": "failed", "error": problem}
    row = {fact: record.get(fact) for fact in _FACTS}
    row |= {"run": name, "notebook": Path(run["notebook"]).stem}
    parameters = record.get("parameters")
    parameters = parameters if isinstance(parameters, dict) else {}
    row |= {f"parameter.{one}": _flat(parameters[one]) for one in parameters if one != "output_dir"}
    return row | {f"metric.{one}": _flat(value) for one, value in metrics.items()}


def _metrics(folder: Path) -> tuple[dict[str, Any], str]:
    """Return what the notebook wrote to metrics.json, and what is wrong with that file."""
    path = folder / "metrics.json"
    if not path.exists():  # the notebook writes none
        return {}, ""
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(metrics, dict):
            return metrics, ""
    except (OSError, ValueError, RecursionError):
        pass
    return {}, "Its metrics.json is damaged: do the run again."


def is_whole(folder: Path) -> bool:
    """Tell whether a run is finished and everything that it recorded can be read."""
    record = read_record(folder)
    return record is not None and record["status"] == "finished" and not _metrics(folder)[1]


def _harmless(value: Any) -> Any:
    """Return a cell of a CSV table that a spreadsheet shows, and does not run as a formula."""
    risky = isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r")
    return f"'{value}" if risky else value


def _flat(value: Any) -> Any:
    """Make text of lists and dictionaries, which a table cannot hold."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _columns(rows: Iterable[dict[str, Any]]) -> dict[str, type]:
    """Find the columns of all rows: facts, parameters, metrics, and a kind that fits all values."""
    kinds: dict[str, type | None] = dict(_FACTS)
    for row in rows:
        for name, value in row.items():
            if name in _FACTS:
                continue
            seen = kinds.setdefault(name, None)
            if value is not None and type(value) is not seen:
                kinds[name] = type(value) if seen is None else _wider(seen, type(value))
    ordered = sorted(kinds, key=lambda name: ("." in name, not name.startswith("parameter.")))
    return {name: kinds[name] or str for name in ordered}


def _wider(one: type, other: type) -> type:
    return float if {one, other} == {int, float} else str


def _as(value: Any, kind: type) -> Any:
    try:
        return value if value is None or type(value) is kind else kind(value)
    except (TypeError, ValueError, OverflowError):  # a record that somebody wrote by hand
        return None


if __name__ == "__main__":
    collect_results(sys.argv[1])
