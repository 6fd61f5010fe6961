"""The folder of a run: its record run.json, its lock, and what an earlier run left.

run.json says what a run was asked for, what it ran on, and how it ended.

It is written when a run begins (status "running") and again when it ends ("finished", "failed" or
"interrupted"). A run whose process was killed stays at "running": it never looks finished.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from genot_helpers.results import package_versions

from .parameters import CHECKOUT, literal

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = [
    "RECORD",
    "begin_record",
    "end_on_sigterm",
    "git_state",
    "locked",
    "now",
    "read_record",
    "remove_old_results",
]

RECORD = "run.json"
_THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"),
)


def begin_record(
    notebook: Path, given: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the record of a run that begins now.

    Parameters
    ----------
    notebook : Path
        The notebook as it is in the collection.
    given : mapping
        Checked parameters of this run.
    known : mapping
        All parameters of the notebook, see
        :func:`~genot_runner.parameters.notebook_parameters`.

    Returns
    -------
    dict
        With all parameters, those left at their default included.
    """
    defaults = {name: _default(facts["default"]) for name, facts in known.items()}
    parameters = defaults | dict(given)
    commit, dirty = git_state()
    return {
        "status": "running",
        "error": None,
        "failed_cell": None,
        "notebook": notebook.stem,
        "notebook_sha256": hashlib.sha256(notebook.read_bytes()).hexdigest(),
        "parameters": parameters,
        "given": sorted(set(given) - {"output_dir"}),
        "seed": parameters.get("seed"),
        "started": now(),
        "ended": None,
        "wall_seconds": None,
        "cpu_seconds": None,
        "peak_memory_mb": None,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": {name: os.environ.get(name) for name in _THREAD_VARIABLES},
        "versions": package_versions(),
        "git_commit": commit,
        "git_dirty": dirty,
        "files": [],
    }


def now() -> str:
    """Return the time as ISO 8601 text in UTC, such as 2024-05-01T12:00:00.000+00:00."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _default(source: str) -> Any:
    """Return the value of a default; what is no literal stays as it is written in the notebook."""
    value = literal(source)
    return source if value is None and source != "None" else value


def git_state(checkout: Path = CHECKOUT) -> tuple[str | None, bool | None]:
    """Return the commit of the checkout and whether files differ from it; None outside git."""
    answers = []
    questions = (["rev-parse", "--show-toplevel", "HEAD"], ["status", "--porcelain"])
    for question in questions:
        try:
            run = subprocess.run(
                ["git", "-C", str(checkout), *question], capture_output=True, text=True, timeout=30
            )
        except (OSError, subprocess.TimeoutExpired):
            return None, None
        if run.returncode:
            return None, None
        answers.append(run.stdout)
    top, commit = answers[0].splitlines()
    # A package installed somewhere below another repository does not belong to it.
    if Path(top).resolve() != checkout.resolve():
        return None, None
    return commit, bool(answers[1].strip())


def read_record(folder: str | Path) -> dict[str, Any] | None:
    """Read the record of a run; None if the folder has none that can be read."""
    try:
        record = json.loads(Path(folder, RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def remove_old_results(folder: Path, names: tuple[str, ...]) -> None:
    """Remove what an earlier run left in the folder, so that it does not pass for this run's.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    names : tuple of str
        Files to remove in any case. Others go only if the record says that a run wrote them.
    """
    written = (read_record(folder) or {}).get("files") or []
    (folder / RECORD).unlink(missing_ok=True)  # first: without results, nothing may look finished
    for name in {*names, *written}:
        if Path(name).name == name:  # files of this folder only
            (folder / name).unlink(missing_ok=True)


def end_on_sigterm() -> None:
    """Let SIGTERM, which schedulers send before they kill, end the program in an orderly way."""

    def end(number: int, frame: Any) -> NoReturn:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[int]:
    """Hold a lock that ends with the process, however it ends.

    Parameters
    ----------
    path : Path
        File to lock; it is made, and stays.
    wait : bool
        Wait for another process to end; otherwise raise BlockingIOError.

    Yields
    ------
    int
        Descriptor of the file. A child process that inherits it holds the lock too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield file.fileno()
