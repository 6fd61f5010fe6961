"""Run a notebook headless: papermill, with parameters checked before anything starts.

One run, one folder: the executed notebook, an HTML page of it, and what the notebook itself
writes (metrics.json, figures, result).
"""

from __future__ import annotations

import ast
import difflib
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import papermill
from jupyter_client.kernelspec import NoSuchKernel
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillExecutionError

from ..files import atomic_path, check_output_dir

__all__ = ["NotebookError", "NotebookRun", "find_notebook", "notebook_parameters", "run_notebook"]

CHECKOUT = Path(__file__).resolve().parents[2]
PATH_PARAMETERS = ("data_source", "data_dir")
DATA_SOURCES = ("demo", "local", "download")  # words, even where a folder has the same name


class NotebookError(RuntimeError):
    """A notebook could not be run, or one of its cells failed."""


class NotebookRun(NamedTuple):
    """Where a run left its results.

    Attributes
    ----------
    notebook, html : pathlib.Path
        Executed notebook and the same as a page.
    metrics : dict
        Contents of metrics.json; empty if the notebook writes none.
    output_dir : pathlib.Path
    seconds : float
        Wall time.
    """

    notebook: Path
    html: Path
    metrics: dict[str, Any]
    output_dir: Path
    seconds: float


def find_notebook(name: str | Path) -> Path:
    """Find a notebook by path, by name or by its number ("01").

    Raises
    ------
    NotebookError
        If there is none or more than one; the message lists what there is.
    """
    path = Path(name)
    if path.suffix == ".ipynb" and path.is_file():
        return path.resolve()
    folder = CHECKOUT / "notebooks"
    found = sorted(folder.glob("*.ipynb"))
    matches = [one for one in found if one.stem == path.stem or one.stem.startswith(f"{name}_")]
    if len(matches) != 1:
        listing = ", ".join(one.stem for one in found) or f"none in {folder}"
        raise NotebookError(f"No single notebook is called {str(name)!r}. There are: {listing}.")
    return matches[0]


def notebook_parameters(notebook: str | Path) -> dict[str, dict[str, Any]]:
    """Read the parameters of a notebook: name → {"default": source text, "help": comment}."""
    path = find_notebook(notebook)
    try:
        inspected = papermill.inspect_notebook(str(path))
    except ValueError as problem:  # no notebook, or one that does not name its kernel
        raise NotebookError(f"{path} cannot be read as a notebook: {problem}") from problem
    return {
        name: {"default": facts["default"], "help": facts["help"]}
        for name, facts in inspected.items()
    }


def literal(source: str) -> Any:
    """Return the value of a Python literal such as `3`, `1e-3` or `"demo"`; None if it is none."""
    try:
        return ast.literal_eval(source)
    except (ValueError, SyntaxError):
        return None


def _checked(parameters: dict[str, Any], known: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Refuse parameters that the notebook does not have, or of another kind than its default."""
    for name, value in parameters.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            listing = "\n".join(
                f"  {one} = {facts['default']}  {facts['help']}" for one, facts in known.items()
            )
            raise NotebookError(f"The notebook has no parameter {name!r}.{hint} It has:\n{listing}")
        default = literal(known[name]["default"])
        number = isinstance(default, int | float) and not isinstance(default, bool)
        wanted = (int, float) if number else type(default)
        fits = isinstance(value, wanted) and isinstance(value, bool) == isinstance(default, bool)
        if default is not None and value is not None and not fits:
            raise NotebookError(
                f"Parameter {name!r} is {value!r}; like its default {default!r}, it should be "
                f"{'a number' if number else f'a {type(default).__name__}'}."
            )
    return parameters


def _from_caller(parameters: dict[str, Any]) -> dict[str, Any]:
    """Make relative paths absolute: the notebook runs in its own folder, not in the caller's."""
    absolute = dict(parameters)
    for name in PATH_PARAMETERS:
        value = parameters.get(name)
        if not isinstance(value, str) or not value:
            continue
        path = Path(value).expanduser()
        if name == "data_dir" or (value not in DATA_SOURCES and path.exists()):
            absolute[name] = str(path.resolve())
    return absolute


def run_notebook(
    notebook: str | Path,
    parameters: dict[str, Any] | None = None,
    *,
    output_dir: str | Path | None = None,
    progress: bool = True,
) -> NotebookRun:
    """Execute a notebook with parameters and keep everything it makes in one folder.

    Parameters
    ----------
    notebook : str or Path
        Path, name or number, see :func:`find_notebook`.
    parameters : dict, optional
        Values for the cell tagged `parameters`; unknown names and wrong kinds are refused
        before anything runs.
    output_dir : str or Path, optional
        Folder for all results; default: the parameter `output_dir` if it is given, else
        `results/<notebook>` in the checkout.
    progress : bool
        Show papermill's progress bar over cells.

    Returns
    -------
    NotebookRun

    Raises
    ------
    NotebookError
        If the notebook or a parameter is unknown, or a cell fails. The partly executed
        notebook is kept then, and the message says which cell failed and where it is.
    """
    source = find_notebook(notebook)
    known = notebook_parameters(source)
    chosen = _from_caller(_checked(dict(parameters or {}), known))
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
    for old in (folder / "metrics.json", html):  # old ones must not pass for this run's
        old.unlink(missing_ok=True)
    begin = time.perf_counter()
    try:
        papermill.execute_notebook(
            str(source),
            str(executed),
            parameters=chosen,
            cwd=str(source.parent),
            progress_bar=progress,
            log_output=False,
        )
    except PapermillExecutionError as problem:
        raise NotebookError(
            f"Cell [{problem.exec_count}] of {source.name} failed with {problem.ename}: "
            f"{problem.evalue}\nThe notebook up to there is kept: {executed}"
        ) from problem
    except DeadKernelError as problem:
        raise NotebookError(
            f"The Python process of {source.name} died, most often because memory ran out. Use "
            f"fewer spots or genes. The notebook up to there is kept: {executed}"
        ) from problem
    except NoSuchKernel as problem:
        raise NotebookError(f"{source.name} wants a kernel that is missing: {problem}") from problem
    seconds = time.perf_counter() - begin
    page, _ = HTMLExporter().from_filename(str(executed))
    with atomic_path(html) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
    written = folder / "metrics.json"
    metrics = json.loads(written.read_text(encoding="utf-8")) if written.exists() else {}
    return NotebookRun(executed, html, metrics, folder, seconds)
