"""Run a notebook headless: papermill, with parameters checked before anything starts.

One run, one folder: the executed notebook, an HTML page of it, what the notebook itself writes
(metrics.json, figures, result), and run.json, which says what ran, on what, and how it ended.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import nbformat
import papermill
import psutil
from jupyter_client.kernelspec import NoSuchKernel
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from papermill.iorw import papermill_io

from genot_helpers.files import atomic_path, check_output_dir
from genot_helpers.results import peak_memory_mb

from .notebook_page import notebook_page
from .notebooks import NotebookError, find_notebook, plain_path, results_folder, text_problem
from .parameters import (
    check_limit,
    check_names,
    check_parameters,
    notebook_parameters,
    paths_from,
)
from .run_folder import (
    RECORD,
    RunFolder,
    begin_record,
    file_hash,
    now,
    only_run_in,
    write_record,
)

__all__ = ["KernelWatch", "NotebookRun", "run_notebook"]

_SECONDS_BETWEEN_LOOKS = 0.25


class NotebookRun(NamedTuple):
    """Where a run left its results.

    Attributes
    ----------
    notebook, html : pathlib.Path
        Executed notebook and the same as a page, which can be read offline.
    metrics : dict
        Contents of metrics.json; empty if the notebook writes none.
    output_dir : pathlib.Path
        Folder of the run; its run.json is the record of it.
    seconds : float
        Wall time.
    """

    notebook: Path
    html: Path
    metrics: dict[str, Any]
    output_dir: Path
    seconds: float


def run_notebook(
    notebook: str | Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    output_dir: str | Path | None = None,
    progress: bool = True,
    timeout_minutes: float | None = None,
    memory_mb: float | None = None,
    exercises: bool | None = None,
) -> NotebookRun:
    """Execute a notebook with parameters and keep everything it makes in one folder.

    Parameters
    ----------
    notebook : str or Path
        Path, name or number, see :func:`find_notebook`.
    parameters : mapping, optional
        Values for the cell tagged `parameters`; unknown names and wrong kinds are refused
        before anything runs.
    output_dir : str or Path, optional
        Folder for all results; default: the parameter `output_dir` if it is given, else
        `results/<notebook>` in the checkout, or, for a caller elsewhere, in the working directory.
    progress : bool
        Show papermill's progress bar over cells.
    timeout_minutes : float, optional
        Stop the run when it takes longer.
    memory_mb : float, optional
        Stop the run when its kernel uses more memory than this, in 10⁶ bytes.
    exercises : bool, optional
        Run the solutions of the exercises and their checks too. Default: on simulated tissue only
        (`data_source="demo"`), which they were written for; on other slices a run ends with the
        lesson, and the cells of the exercises stay as they are.

    Returns
    -------
    NotebookRun

    Raises
    ------
    NotebookError
        If the notebook or a parameter is unknown, a value cannot be right, another run is writing
        into the folder, or a cell fails. The partly executed notebook is kept then, and the message
        says which cell failed and where it is.

    Notes
    -----
    The folder also gets `run.json`: notebook and its SHA-256, all parameters, seed, versions, git
    commit, start and end (UTC), wall and processor seconds, peak memory of the kernel (10⁶ bytes),
    status ("running", "finished", "failed" or "interrupted"), error and failed cell. Until the
    last cell has run, the notebook is called `<name>.unfinished.ipynb`.

    Results of an earlier run in the folder are replaced when the new ones are complete; a run that
    fails leaves them as they are, and its own notebook and record in the folder `failed`. Files
    that the reader made or changed stay: where a result has the same name, the reader's file is
    renamed to `<name>.yours.<ending>`.
    """
    source = find_notebook(notebook)
    known = notebook_parameters(source)
    chosen = paths_from(check_parameters(parameters or {}, known), Path.cwd())
    check_names(chosen, known)
    check_limit("timeout_minutes", timeout_minutes)
    check_limit("memory_mb", memory_mb)
    wanted = output_dir or chosen.get("output_dir") or results_folder() / source.stem
    if problem := text_problem("The folder for results", wanted):
        raise NotebookError(problem)
    folder = check_output_dir(wanted).resolve()
    if folder == source.parent:
        raise NotebookError(
            f"The results would overwrite {source.name}: {folder} is the notebook's own folder. "
            "Choose another output_dir."
        )
    if exercises is None:
        usual = known.get("data_source", {}).get("default", "demo")
        exercises = chosen.get("data_source", usual) == "demo"
    watch = KernelWatch(timeout_minutes, memory_mb)
    with only_run_in(folder):
        return _run_in(folder, source, chosen, known, watch, progress, exercises)


def _run_in(
    folder: Path,
    source: Path,
    chosen: dict[str, Any],
    known: Mapping[str, Mapping[str, Any]],
    watch: KernelWatch,
    progress: bool,
    exercises: bool,
) -> NotebookRun:
    """Run a notebook whose parameters are checked, in a folder that nobody else writes to."""
    results = RunFolder(folder, source.name)
    named = chosen | ({"output_dir": str(folder)} if "output_dir" in known else {})
    record = begin_record(source, named, known)
    try:
        with _recorded(record, results, watch):
            executed = results.place / source.name
            here = named | ({"output_dir": str(results.place)} if "output_dir" in known else {})
            form = "" if exercises else LESSON
            _execute(source, executed, here, watch, progress=progress, record=record, form=form)
            if results.staged:
                _call_place(executed, results.place, folder)
            record["seconds"] = _finish(executed)
    except BaseException as problem:
        kept = results.give_up()
        if isinstance(problem, NotebookError):
            raise NotebookError(f"{problem}{_what_is_kept(kept, folder, source.name)}") from problem
        raise
    results.keep()
    executed = folder / source.name
    metrics = _read_metrics(folder)
    return NotebookRun(
        executed, executed.with_suffix(".html"), metrics, folder, record["wall_seconds"]
    )


def _what_is_kept(kept: Path, folder: Path, name: str) -> str:
    said = f"\nThe notebook up to there is kept: {kept / name}" if (kept / name).exists() else ""
    earlier = "\nThe results of the earlier run in this folder are as they were."
    return said + (earlier if kept != folder else "")


def _call_place(executed: Path, place: Path, folder: Path) -> None:
    """Let an executed notebook name the folder that its results go to when it is complete."""
    text = executed.read_text(encoding="utf-8")
    with atomic_path(executed) as unfinished:
        unfinished.write_text(
            re.sub(rf"(/|\\+){re.escape(place.name)}", "", text), encoding="utf-8"
        )


def _finish(executed: Path) -> dict[str, float]:
    """Write the page of an executed notebook; return the wall times that it measured."""
    metrics = _read_metrics(executed.parent)
    try:
        with atomic_path(executed.with_suffix(".html")) as unfinished:
            unfinished.write_text(notebook_page(executed), encoding="utf-8")
    except OSError as problem:
        raise NotebookError(
            f"All cells of {executed.name} ran, but its page could not be written: {problem}"
        ) from problem
    return {name: one for name, one in metrics.items() if str(name).endswith("seconds")}


def _read_metrics(folder: Path) -> dict[str, Any]:
    """Return what the notebook wrote to metrics.json; nothing if there is none."""
    path = folder / "metrics.json"
    if not path.exists():
        return {}
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise NotebookError(
            f"{path.name} that the notebook wrote cannot be read: {problem}"
        ) from problem
    if not isinstance(metrics, dict):
        raise NotebookError(f"{path.name} that the notebook wrote holds no names and values.")
    return metrics


@contextmanager
def _recorded(record: dict[str, Any], results: RunFolder, watch: KernelWatch) -> Iterator[None]:
    """Keep run.json: that the run has begun, and how it ended, whatever happens."""
    write_record(record, results.place)
    clock = time.perf_counter()
    try:
        yield
        record["status"] = "finished"
    except Exception as problem:
        record |= {"status": "failed", "error": record["error"] or _in_words(problem)}
        raise
    except BaseException:  # Ctrl-C, or the scheduler asks the process to end
        record |= {"status": "interrupted", "error": "The run was interrupted."}
        raise
    finally:
        record |= {
            "ended": now(),
            "wall_seconds": time.perf_counter() - clock,
            "cpu_seconds": watch.cpu_seconds,
            "peak_memory_mb": watch.peak_memory_mb,
        }
        _write_last(record, results)


def _write_last(record: dict[str, Any], results: RunFolder) -> None:
    """Write the record of a run that has ended, with the files that it made."""
    try:
        names = results.files()
        hashes = {name: file_hash(results.place / name) for name in names if name != RECORD}
        record |= {"files": sorted({*names, RECORD}), "sha256": hashes}
        write_record(record, results.place)
    except OSError as problem:
        if record["status"] == "finished":  # the folder is gone, or cannot be written to any more
            raise NotebookError(f"The results could not be kept: {problem}") from problem


def _in_words(problem: BaseException) -> str:
    return (
        str(problem)
        if isinstance(problem, NotebookError)
        else f"{type(problem).__name__}: {problem}"
    )


class _WholeFiles:
    """How papermill writes a notebook: completely or not at all, after every cell."""

    def write(self, content: str, path: str) -> None:
        with atomic_path(path.removeprefix(WHOLE)) as unfinished:
            unfinished.write_text(content, encoding="utf-8")

    def pretty_path(self, path: str) -> str:
        return path.removeprefix(WHOLE)


WHOLE = "whole-file:"
papermill_io.register(WHOLE, _WholeFiles())


class _Lessons:
    """How papermill reads a notebook whose exercises are not to be run."""

    def read(self, path: str) -> str:
        notebook = nbformat.read(path.removeprefix(LESSON), as_version=4)
        for cell in notebook.cells:
            course = cell.metadata.get("nbgrader", {})
            if cell.cell_type == "code" and (course.get("solution") or course.get("grade")):
                cell.metadata["tags"] = [*cell.metadata.get("tags", []), "skip-execution"]
        return nbformat.writes(notebook)

    def pretty_path(self, path: str) -> str:
        return path.removeprefix(LESSON)


LESSON = "lesson-of:"
papermill_io.register(LESSON, _Lessons())


def _execute(
    source: Path,
    executed: Path,
    parameters: dict[str, Any],
    watch: KernelWatch,
    *,
    progress: bool,
    record: dict[str, Any],
    form: str,
) -> None:
    """Execute the notebook; say in words which cell failed, and why."""
    unfinished = executed.with_suffix(".unfinished.ipynb")
    try:
        with watch:
            papermill.execute_notebook(
                form + plain_path(source),
                WHOLE + plain_path(unfinished),
                parameters=parameters,
                cwd=str(source.parent),
                progress_bar=progress,
                log_output=False,
                kernel_manager_class=watch.manager_class(),
            )
    except PapermillExecutionError as problem:
        record["failed_cell"] = problem.exec_count
        record["error"] = f"{problem.ename}: {problem.evalue}"
        raise NotebookError(
            f"Cell [{problem.exec_count}] of {source.name} failed with {record['error']}"
        ) from problem
    except DeadKernelError as problem:
        record["failed_cell"] = number = _last_begun(unfinished)
        died = (
            "The Python process died, most often because memory ran out: use fewer spots or genes."
        )
        record["error"] = watch.stopped or died
        raise NotebookError(
            f"{source.name} was stopped in cell [{number}]. {record['error']}"
        ) from problem
    except NoSuchKernel as problem:
        raise NotebookError(f"{source.name} wants a kernel that is missing: {problem}") from problem
    except RuntimeError as problem:
        if watch.stopped is None:
            raise
        record["error"] = watch.stopped
        raise NotebookError(
            f"{source.name} was stopped before its first cell. {watch.stopped}"
        ) from problem
    except OSError as problem:  # the disk is full, or the folder is gone
        record["failed_cell"] = number = _last_begun(unfinished)
        raise NotebookError(
            f"{source.name} was stopped in cell [{number}]: its notebook could not be written "
            f"({problem}). Make room, or choose another output_dir."
        ) from problem
    finally:
        if unfinished.exists():
            unfinished.replace(executed)


def _last_begun(executed: Path) -> int | None:
    """Return the number of the code cell that ran last, counted as Jupyter counts them."""
    try:
        cells = nbformat.read(executed, as_version=4).cells
    except (OSError, ValueError):
        return None
    code = [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]
    begun = [cell.metadata.get("papermill", {}).get("start_time") is not None for cell in code]
    return sum(begun) or None


class KernelWatch:
    """Follow a kernel from its start to its end, and stop it when it exceeds a limit.

    Parameters
    ----------
    timeout_minutes : float, optional
        Wall time after which the kernel is stopped.
    memory_mb : float, optional
        Memory in use (10⁶ bytes, child processes included) above which it is stopped.

    Attributes
    ----------
    peak_memory_mb : float or None
        Highest memory of the kernel's process in 10⁶ bytes. Linux keeps the true peak; elsewhere it
        is the highest of a look every quarter of a second. None if no kernel was seen.
    cpu_seconds : float or None
        Processor time of the kernel and of the children that it has waited for.
    stopped : str or None
        Why the watch stopped the kernel.
    """

    def __init__(self, timeout_minutes: float | None = None, memory_mb: float | None = None):
        self.timeout_minutes = timeout_minutes
        self.memory_mb = memory_mb
        self.peak_memory_mb: float | None = None
        self.cpu_seconds: float | None = None
        self.stopped: str | None = None
        self._kernel: psutil.Process | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._begin = time.monotonic()

    def __enter__(self) -> KernelWatch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        if self._kernel is not None:  # interrupted while the kernel was at work
            self._kill()

    def manager_class(self) -> type[AsyncKernelManager]:
        """Return a kernel manager for papermill that tells this watch which process it started."""
        watch = self

        class WatchedKernelManager(AsyncKernelManager):
            async def start_kernel(self, **options: Any) -> None:
                if self.ipykernel:  # else it warns of its own local connection, every time
                    given = options.get("extra_arguments", [])
                    options["extra_arguments"] = [*given, "--log-level=ERROR"]
                await super().start_kernel(**options)
                watch._kernel = psutil.Process(self.provisioner.pid)

            async def shutdown_kernel(self, now: bool = False, restart: bool = False) -> None:
                watch._look()  # the last look, while there is something to look at
                await super().shutdown_kernel(now=now, restart=restart)

        return WatchedKernelManager

    def _follow(self) -> None:
        while not self._ended.wait(_SECONDS_BETWEEN_LOOKS):
            in_use = self._look()
            minutes = (time.monotonic() - self._begin) / 60
            if self._kernel is None or self.stopped:
                continue
            if self.timeout_minutes is not None and minutes > self.timeout_minutes:
                self._stop(f"It took longer than its limit of {self.timeout_minutes:g} minutes.")
            elif self.memory_mb is not None and in_use > self.memory_mb:
                self._stop(
                    f"It used {in_use:,.0f} MB of memory, more than its limit of "
                    f"{self.memory_mb:,.0f} MB."
                )

    def _look(self) -> float:
        """Note processor time and peak; return the memory in use, in MB."""
        kernel = self._kernel
        if kernel is None:
            return 0.0
        try:
            times = kernel.cpu_times()
            in_use = kernel.memory_info().rss / 1e6
            peak = max(peak_memory_mb(kernel), self.peak_memory_mb or 0.0)
            self.cpu_seconds = sum(times[:4])  # user and system, own and of ended children
            self.peak_memory_mb = peak
            return in_use + sum(_memory_of(child) for child in kernel.children(recursive=True))
        except psutil.Error:  # it has ended
            return 0.0

    def _stop(self, reason: str) -> None:
        self.stopped = reason
        self._kill()

    def _kill(self) -> None:
        with suppress(psutil.Error):  # none is left, as it should be
            for process in (*self._kernel.children(recursive=True), self._kernel):
                process.kill()


def _memory_of(process: psutil.Process) -> float:
    try:
        return process.memory_info().rss / 1e6
    except psutil.Error:
        return 0.0
