"""The folder of a run: its record run.json, its lock, its results, replaced by whole ones only.

run.json says what a run was asked for, what it ran on, and how it ended. It is written when a run
begins (status "running") and again when it ends ("finished", "failed" or "interrupted"). Where the
process was killed it stays at "running"; whoever reads it later is told "interrupted".

A run in an empty folder writes there. Where there are files already, it writes into a new folder
inside, and what it made is moved when it is complete: a run that fails takes no older results away,
and no file that the reader made or changed is ever overwritten or deleted.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import psutil

from genot_helpers.files import write_json
from genot_helpers.results import package_versions

from .notebooks import CHECKOUT, NotebookError
from .parameters import literal

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = [
    "KILLED",
    "RECORD",
    "RunFolder",
    "begin_record",
    "end_on_sigterm",
    "file_hash",
    "git_state",
    "locked",
    "now",
    "only_run_in",
    "read_record",
    "write_record",
]

RECORD = "run.json"
FAILED = "failed"  # folder of the last run that failed where results of an earlier one are kept
KILLED = (
    "The process ended without a word: killed by the system (memory?), by the scheduler (time?) or "
    "by hand."
)
_STAGED = ".running-"
_THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"),
)
# What notebooks write. Other files, such as notes made while a run was going, are the reader's.
_WRITTEN = {
    *(".json", ".h5ad", ".zarr", ".csv", ".tsv", ".parquet", ".npz", ".npy", ".safetensors"),
    *(".png", ".svg", ".pdf", ".gif", ".mp4", ".html", ".pt"),
}


# --- the record ----------------------------------------------------------------------------------


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
        "notebook_sha256": file_hash(notebook),
        "parameters": parameters,
        "given": sorted(set(given) - {"output_dir"}),
        "seed": parameters.get("seed"),
        "started": now(),
        "ended": None,
        "wall_seconds": None,
        "cpu_seconds": None,
        "peak_memory_mb": None,
        "seconds": {},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": {name: os.environ.get(name) for name in _THREAD_VARIABLES},
        "versions": package_versions(),
        "git_commit": commit,
        "git_dirty": dirty,
        "process": {"host": platform.node(), "id": os.getpid(), "started": _started(os.getpid())},
        "files": [],
        "sha256": {},
    }


def now() -> str:
    """Return the time as ISO 8601 text in UTC, such as 2024-05-01T12:00:00.000+00:00."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _default(source: str) -> Any:
    """Return the value of a default; what is no literal stays as it is written in the notebook."""
    value = literal(source)
    return source if value is None and source != "None" else value


def git_state(checkout: Path | None = None) -> tuple[str | None, bool | None]:
    """Return the commit of the checkout and whether files differ from it; None outside git."""
    checkout = checkout or CHECKOUT
    answers = []
    questions = (["rev-parse", "--show-toplevel", "HEAD"], ["status", "--porcelain"])
    for question in questions:
        try:
            run = subprocess.run(
                ["git", "-C", str(checkout), *question], capture_output=True, text=True, timeout=30
            )
        except (OSError, ValueError, subprocess.TimeoutExpired):
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
    """Read the record of a run; a run whose process has ended without a word is "interrupted".

    Parameters
    ----------
    folder : str or Path
        Folder of the run.

    Returns
    -------
    dict or None
        None if the folder has no record that can be read.
    """
    try:
        record = json.loads(Path(folder, RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("status"), str):
        return None
    if record["status"] == "running" and not _is_alive(record.get("process")):
        record |= {"status": "interrupted", "error": record.get("error") or KILLED}
    return record


def _is_alive(process: Any) -> bool:
    """Tell whether the process that wrote a record still runs, as far as this machine knows."""
    if not isinstance(process, dict) or process.get("host") != platform.node():
        return isinstance(process, dict)  # another machine of a cluster: nobody here can tell
    number = process.get("id")
    return isinstance(number, int) and _started(number) == process.get("started")


def _started(process: int) -> float | None:
    """Return when a process began; numbers of processes are used again, moments are not."""
    try:
        return round(psutil.Process(process).create_time(), 2)
    except (psutil.Error, ValueError, OverflowError):
        return None


def write_record(record: Mapping[str, Any], folder: Path) -> None:
    """Write run.json; on a full disk into the room that the old one has.

    Raises
    ------
    OSError
        If it cannot be written at all.
    """
    path = folder / RECORD
    try:
        write_json(record, path)
    except OSError:
        if not path.is_file():
            raise
        short = {name: record[name] for name in record if name not in ("versions", "sha256")}
        short |= {"error": str(record.get("error") or "")[:500] or None, "files": []}
        with path.open("r+", encoding="utf-8") as file:  # blocks that it has need no new room
            file.write(json.dumps(short))
            file.truncate()


# --- old results and new ones --------------------------------------------------------------------


class RunFolder:
    """Where the results of one run go, and what becomes of those that are there.

    Parameters
    ----------
    folder : Path
        The folder that the reader named; it exists.
    notebook : str
        Name of the notebook's file.

    Attributes
    ----------
    folder : Path
        The folder that the reader named.
    place : Path
        Where the run writes: `folder` itself if it is empty, else a new folder in it.
    """

    def __init__(self, folder: Path, notebook: str):
        self.folder, self.notebook = folder, notebook
        self._tidy_up()
        self.place = folder
        if self._visible():
            self.place = folder / f"{_STAGED}{secrets.token_hex(4)}"
            self.place.mkdir()

    @property
    def staged(self) -> bool:
        """Whether the run writes beside what is there."""
        return self.place != self.folder

    def files(self) -> list[str]:
        """Return the names of the files that the run has made, in order."""
        names = {self.notebook, f"{Path(self.notebook).stem}.unfinished.ipynb"}
        there = (one for one in self.place.iterdir() if one.is_file())
        kept = (one for one in there if not one.name.startswith("."))
        return sorted(one.name for one in kept if one.name in names or one.suffix in _WRITTEN)

    def keep(self) -> None:
        """Let what the run made take the place of what an earlier one left: it is complete."""
        if not self.staged:
            return
        old, new = _made_by(self.folder), sorted(one.name for one in self.place.iterdir())
        for name in new:
            if os.path.lexists(self.folder / name) and name not in {*old, RECORD}:
                self._set_aside(name)
        for name in old:
            if name not in new:
                (self.folder / name).unlink(missing_ok=True)
        for name in sorted(new, key=lambda one: one == RECORD):  # the record comes last
            (self.place / name).replace(self.folder / name)
        self.place.rmdir()
        self.place = self.folder

    def give_up(self) -> Path:
        """Keep what a run that did not finish made, without touching results; return where."""
        if not self.staged:
            return self.folder
        record = read_record(self.folder)
        if record is None or record["status"] != "finished":
            self.keep()
            return self.folder
        kept = self.folder / FAILED
        if read_record(kept) is not None:  # an earlier one of these
            shutil.rmtree(kept)
        elif kept.exists():  # a folder of the reader's
            kept = self.folder / f"{FAILED}-{secrets.token_hex(4)}"
        self.place.replace(kept)
        self.place = kept
        return kept

    def _visible(self) -> list[Path]:
        return [one for one in self.folder.iterdir() if not one.name.startswith(".")]

    def _tidy_up(self) -> None:
        """Clear away what is left of runs that did not finish."""
        record = read_record(self.folder)
        for staged in sorted(self.folder.glob(f"{_STAGED}*")):  # of a process that was killed
            self.place = staged
            if (interrupted := read_record(staged)) is not None:
                write_record(interrupted, staged)
            if record is not None and record["status"] == "finished":
                self.give_up()
            else:
                shutil.rmtree(staged)
        if record is None or record["status"] == "finished":
            return
        self.place = self.folder
        names = _made_by(self.folder) if record.get("files") else self._since_the_record()
        for name in (*names, f"{Path(self.notebook).stem}.unfinished.ipynb", RECORD):
            (self.folder / name).unlink(missing_ok=True)

    def _since_the_record(self) -> list[str]:
        """Return the files that a run made which was killed: its record lists none."""
        begin = (self.folder / RECORD).stat().st_mtime  # the clock of the same file system
        made = ((self.folder / name) for name in self.files() if name != self.notebook)
        return [one.name for one in made if one.stat().st_mtime >= begin]

    def _set_aside(self, name: str) -> None:
        """Give a file of the reader's another name, so that it stays."""
        path = self.folder / name
        aside, number = path.with_name(f"{path.stem}.yours{path.suffix}"), 2
        while os.path.lexists(aside):
            aside = path.with_name(f"{path.stem}.yours-{number}{path.suffix}")
            number += 1
        path.rename(aside)


def _made_by(folder: Path) -> list[str]:
    """Return the files that the run of this folder made, and that nobody has changed since."""
    record = read_record(folder) or {}
    listed, hashes = record.get("files"), record.get("sha256")
    hashes = hashes if isinstance(hashes, dict) else {}
    names = [one for one in listed if isinstance(one, str)] if isinstance(listed, list) else []
    made = []
    for name in names:
        path = folder / name
        # Files of this folder only, whatever a record says.
        if Path(name).name != name or path.is_symlink() or not path.is_file():
            continue
        if name != RECORD and hashes.get(name, None) in (None, file_hash(path)):
            made.append(name)
    return made


# --- one run at a time ---------------------------------------------------------------------------


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[int]:
    """Hold a lock that ends with the process, however it ends.

    Parameters
    ----------
    path : Path
        File to lock, which is made and stays; or a folder.
    wait : bool
        Wait for another process to end; otherwise raise BlockingIOError.

    Yields
    ------
    int
        Descriptor of the file. A child process that inherits it holds the lock too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if fcntl is None:  # Windows: no lock that a folder could hold
        yield -1
        return
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT | os.O_APPEND
    descriptor = os.open(path, flags, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise
        except OSError:  # a file system without locks
            if not path.is_dir():
                raise
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Hold the folder of a run; refuse where another run is writing into it.

    Raises
    ------
    NotebookError
        If another run holds it.
    """
    try:
        with locked(folder, wait=False):
            yield
    except BlockingIOError:
        raise NotebookError(
            f"Another run is writing into {folder}. Wait for it, or choose another output_dir."
        ) from None


def end_on_sigterm() -> None:
    """Let signals by which schedulers and terminals end a program end it in an orderly way."""

    def end(number: int, frame: Any) -> NoReturn:
        raise SystemExit(128 + number)

    for name in ("SIGTERM", "SIGHUP"):  # the second: a terminal was closed; not on Windows
        if (number := getattr(signal, name, None)) is not None:
            signal.signal(number, end)
