"""One run of a sweep, as the workflow starts it: `python -m genot_helpers.reruns.one_run`."""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from .parameters import NotebookError
from .run_record import read_record

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = ["end_on_sigterm", "locked", "main"]


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


def _is_finished(folder: Path, notebook: Path) -> bool:
    """Tell whether this run, of this version of the notebook, is finished already."""
    record = read_record(folder)
    if record is None or record.get("status") != "finished":
        return False
    return record.get("notebook_sha256") == hashlib.sha256(notebook.read_bytes()).hexdigest()


def main(arguments: list[str] | None = None) -> int:
    """Execute one run of a plan; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
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
        from .reruns import run_notebook  # loads papermill, which takes a second or two

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
    sys.exit(main())
