"""What a notebook leaves when it is done: scores, slices, time, memory, versions.

One call at the end of every notebook, `gh.finish_run`, that works on every operating system.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from .arguments import checked
from .files import check_output_dir, write_json, write_slice

if TYPE_CHECKING:  # the command line starts without waiting for them
    import pandas as pd
    from anndata import AnnData


HERE = Path(__file__).resolve().parent
# Where benchmarks write the scores, and the copy that an installed package carries.
SCORES = (HERE.parent / "benchmarks" / "results", HERE / "scores")

PACKAGES = (
    *("genot-helpers", "anndata", "numpy", "scipy", "pandas", "scikit-learn", "scanpy", "squidpy"),
    *("torch", "torch_geometric", "POT", "numba", "papermill", "ipykernel"),
)
"""Distributions whose versions a result is reported with, unless others are named."""


@checked
def finish_run(
    folder: str | Path,
    metrics: Mapping[str, Any],
    slices: Mapping[str, AnnData] | None = None,
    *,
    begin: float | None = None,
    packages: Sequence[str] = PACKAGES,
) -> Path:
    """Keep what a notebook found: slices first, then `metrics.json`; print files and versions.

    Parameters
    ----------
    folder
        Folder for the results (the parameter `output_dir`); it is made if it is not there.
    metrics
        Scores and facts by name. Flat: numbers (NumPy's too), strings, truth values, None. NaN
        becomes null.
    slices
        Name of a file ending in ".h5ad" → AnnData, such as ``{"slice.h5ad": adata}``.
    begin
        What ``time.perf_counter()`` said when the notebook began; default: when this Python process
        began, imports included.
    packages
        Distributions whose versions are printed; those that are not installed are passed over.

    Returns
    -------
    pathlib.Path
        `metrics.json` in that folder: `metrics`, then `seconds` (wall time since `begin`) and
        `peak_memory_mb` (10⁶ bytes), unless `metrics` holds them. They do not go into slices, so
        the same run leaves the same slice.

    Raises
    ------
    ValueError
        If a name in `slices` does not end in ".h5ad". Nothing is written.
    TypeError
        If a value in `metrics` is neither number, string, truth value nor None. Nothing is written.
    OSError
        If a file cannot be written. `metrics.json` is written last: where it is, all is.

    Examples
    --------
    >>> gh.finish_run(output_dir, {"ari": 0.61}, {"slice.h5ad": adata})  # doctest: +SKIP
    """
    slices = dict(slices or {})
    for name in slices:
        if Path(name).name != name or not name.endswith(".h5ad"):
            raise ValueError(f"slices: {name!r} should be the name of a file ending in .h5ad.")
    if begin is None:  # a clock may have been set back
        seconds = max(0.0, time.time() - psutil.Process().create_time())
    else:
        seconds = time.perf_counter() - begin
    measured = {"seconds": seconds, "peak_memory_mb": peak_memory_mb()}
    found = {name: _flat(name, value) for name, value in ({**measured, **metrics}).items()}
    ordered = {name: found[name] for name in (*metrics, *measured)}
    folder = check_output_dir(folder)
    for name, adata in slices.items():
        write_slice(adata, folder / name)
    path = write_json(ordered, folder / "metrics.json")
    _tell(folder, packages)
    return path


def _flat(name: str, value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f"metrics[{name!r}] is a {type(value).__name__}; it should be a number, a string, True, "
        "False or None. Give each number of a table a name of its own."
    )


def _tell(folder: Path, packages: Sequence[str]) -> None:
    files = (one.name for one in folder.iterdir() if one.is_file() and not one.name.startswith("."))
    names = sorted(name for name in files if not name.endswith(".ipynb"))
    versions = package_versions(packages)
    installed = (f"{name} {number}" for name, number in versions.items() if number)
    for what, listed in (("written", names), ("versions", installed)):
        print(textwrap.fill(f"{what}: {', '.join(listed)}", 100, subsequent_indent="  "))


def package_versions(packages: Sequence[str] = PACKAGES) -> dict[str, str | None]:
    """Return name → version of distributions, as pip knows them; None: not installed."""
    versions: dict[str, str | None] = dict.fromkeys(packages)
    for name in versions:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


@checked
def peak_memory_mb(process: psutil.Process | None = None) -> float:
    """Return the highest memory that a process ever had, in 10⁶ bytes.

    Parameters
    ----------
    process
        Default: this one.

    Returns
    -------
    float
        The true peak on Linux, Windows, and, for this process, macOS; else the memory in use now.

    Raises
    ------
    psutil.Error
        If the process has ended.
    """
    own, process = process is None, process or psutil.Process()
    in_use = process.memory_info()
    peak = getattr(in_use, "peak_wset", 0)  # Windows
    if sys.platform.startswith("linux"):
        peak = _peak_of_linux(process.pid)
    elif sys.platform == "darwin" and own:
        import resource  # always there on macOS, where it counts bytes

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return max(peak, in_use.rss) / 1e6


def _peak_of_linux(pid: int) -> int:
    """Return the peak that the kernel of Linux keeps, in bytes; 0 where it does not say."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
        line = next(one for one in status.splitlines() if one.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        return 0


@checked
def real_scores(notebook: str) -> pd.DataFrame:
    """Return the scores of a notebook on measured tissue, which benchmarks have written.

    Simulated tissue is easier than measured tissue: a notebook that runs on it shows these beside
    its own.

    Parameters
    ----------
    notebook
        Its number: "01".

    Returns
    -------
    pandas.DataFrame
        A row per score: `slice`, `method`, `score`, its `mean` and `sd` over as many `seeds`, and
        when (`date`) and how (`command`) it was measured. Some files have more columns.

    Raises
    ------
    ValueError
        If there are no scores for this notebook; the message lists those there are.
    """
    import pandas as pd  # the command line starts without waiting for it

    folders = [folder for folder in SCORES if folder.is_dir()]
    files = {path.stem[5:]: path for folder in folders for path in folder.glob("real_*.json")}
    if str(notebook) not in files:
        known = ", ".join(sorted(files)) or "none"
        raise ValueError(f"notebook: there are no scores for {notebook!r}, only for: {known}.")
    return pd.DataFrame(json.loads(files[str(notebook)].read_text(encoding="utf-8")))


def real_scores_table(notebook: str) -> pd.DataFrame:
    """Return :func:`real_scores` as a table to look at, and print how they were made, and when.

    Returns
    -------
    pandas.DataFrame
        Text: one row for each slice and method, one column for each score; mean ± standard
        deviation over seeds, the mean alone where there was one seed. Empty where a score is
        missing.
    """
    import pandas as pd  # the command line starts without waiting for it

    rows = real_scores(notebook)
    for date, command, seeds in rows.groupby(["date", "command", "seeds"]).size().index:
        print(f"{date}: {command} ({seeds} seed{'s' if seeds > 1 else ''})")
    rows["value"] = [
        f"{row.mean:.3f}" + (f" ± {row.sd:.3f}" if row.seeds > 1 and row.sd == row.sd else "")
        for row in rows[["mean", "sd", "seeds"]].itertuples()
    ]
    table = rows.pivot(index=["slice", "method"], columns="score", values="value").fillna("")
    order = pd.MultiIndex.from_frame(rows[["slice", "method"]].drop_duplicates())
    return table.reindex(order)[list(rows["score"].unique())]
