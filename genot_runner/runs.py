"""Run a notebook headless: papermill, with parameters checked before anything starts.

One run, one folder: the executed notebook, an HTML page of it, what the notebook itself writes
(metrics.json, figures, result), and run.json, which says what ran, on what, and how it ended.
"""

from __future__ import annotations

import json
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

from genot_helpers.files import atomic_path, check_output_dir, write_json
from genot_helpers.results import peak_memory_mb

from .notebook_page import notebook_page
from .parameters import (
    CHECKOUT,
    NotebookError,
    check_parameters,
    find_notebook,
    notebook_parameters,
    paths_from,
    plain_path,
)
from .run_folder import RECORD, begin_record, now, remove_old_results

__all__ = [
    "KernelWatch",
    "NotebookRun",
    "run_notebook",
]

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
        `results/<notebook>` in the checkout.
    progress : bool
        Show papermill's progress bar over cells.
    timeout_minutes : float, optional
        Stop the run when it takes longer.
    memory_mb : float, optional
        Stop the run when its kernel uses more memory than this, in 10⁶ bytes.

    Returns
    -------
    NotebookRun

    Raises
    ------
    NotebookError
        If the notebook or a parameter is unknown, or a cell fails. The partly executed
        notebook is kept then, and the message says which cell failed and where it is.

    Notes
    -----
    The folder also gets `run.json`: notebook and its SHA-256, all parameters, seed, versions, git
    commit, start and end (UTC), wall and processor seconds, peak memory of the kernel (10⁶ bytes),
    status ("running", "finished", "failed" or "interrupted"), error and failed cell. Until the
    last cell has run, the notebook is called `<name>.unfinished.ipynb`.
    """
    source = find_notebook(notebook)
    known = notebook_parameters(source)
    chosen = paths_from(check_parameters(parameters or {}, known), Path.cwd())
    wanted = output_dir or chosen.get("output_dir") or CHECKOUT / "results" / source.stem
    folder = check_output_dir(wanted).resolve()
    if folder == source.parent:
        raise NotebookError(
            f"The results would overwrite {source.name}: {folder} is the notebook's own folder. "
            "Choose another output_dir."
        )
    if "output_dir" in known:
        chosen["output_dir"] = str(folder)
    executed = folder / source.name
    html = executed.with_suffix(".html")
    remove_old_results(
        folder, ("metrics.json", html.name, executed.name, _unfinished(executed).name)
    )
    watch = KernelWatch(timeout_minutes, memory_mb)
    with _recorded(begin_record(source, chosen, known), folder, watch) as record:
        _execute(source, executed, chosen, watch, progress=progress, record=record)
        with atomic_path(html) as unfinished:
            unfinished.write_text(notebook_page(executed), encoding="utf-8")
        written = folder / "metrics.json"
        metrics = json.loads(written.read_text(encoding="utf-8")) if written.exists() else {}
    return NotebookRun(executed, html, metrics, folder, record["wall_seconds"])


def _unfinished(executed: Path) -> Path:
    return executed.with_suffix(".unfinished.ipynb")


@contextmanager
def _recorded(record: dict[str, Any], folder: Path, watch: KernelWatch) -> Iterator[dict[str, Any]]:
    """Keep run.json: that the run has begun, and how it ended, whatever happens."""
    write_json(record, folder / RECORD)
    begin, clock = time.time(), time.perf_counter()
    try:
        yield record
        record["status"] = "finished"
    except Exception as problem:
        record |= {"status": "failed", "error": record["error"] or _in_words(problem)}
        raise
    except BaseException:  # Ctrl-C, or the scheduler asks the process to end
        record |= {"status": "interrupted", "error": "The run was interrupted."}
        raise
    finally:
        files = (one for one in folder.iterdir() if one.is_file() and not one.name.startswith("."))
        record |= {
            "ended": now(),
            "wall_seconds": time.perf_counter() - clock,
            "cpu_seconds": watch.cpu_seconds,
            "peak_memory_mb": watch.peak_memory_mb,
            # File systems keep times less exactly than clocks tell them.
            "files": sorted(one.name for one in files if one.stat().st_mtime > begin - 1),
        }
        write_json(record, folder / RECORD)


def _in_words(problem: BaseException) -> str:
    return (
        str(problem)
        if isinstance(problem, NotebookError)
        else f"{type(problem).__name__}: {problem}"
    )


def _execute(
    source: Path,
    executed: Path,
    parameters: dict[str, Any],
    watch: KernelWatch,
    *,
    progress: bool,
    record: dict[str, Any],
) -> None:
    """Execute the notebook; say in words which cell failed, and why."""
    unfinished = _unfinished(executed)
    kept = f"The notebook up to there is kept: {executed}"
    try:
        with watch:
            papermill.execute_notebook(
                plain_path(source),
                plain_path(unfinished),
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
            f"Cell [{problem.exec_count}] of {source.name} failed with {record['error']}\n{kept}"
        ) from problem
    except DeadKernelError as problem:
        record["failed_cell"] = number = _last_begun(unfinished)
        died = (
            "The Python process died, most often because memory ran out: use fewer spots or genes."
        )
        record["error"] = watch.stopped or died
        raise NotebookError(
            f"{source.name} was stopped in cell [{number}]. {record['error']}\n{kept}"
        ) from problem
    except NoSuchKernel as problem:
        raise NotebookError(f"{source.name} wants a kernel that is missing: {problem}") from problem
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
