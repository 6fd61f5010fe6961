"""Executed notebooks, as `make notebooks` leaves them: which are out of date, and copies to show.

`python docs/executed.py quick=True` prints the notebooks that `make site` has to run first: those
never run, changed since (or the helper module has), or run with other parameters.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from genot_runner.notebook_page import drop_what_needs_more
from genot_runner.parameters import literal

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGES = ("genot_helpers", "genot_runner")
PLACES = ("output_dir",)  # parameters that say where things are, not what is computed
PLOTLY = "application/vnd.plotly.v1+json"
SOLUTION = "### BEGIN SOLUTION"
SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
DOI = re.compile(r"\b(doi\s+)(10\.\d{4,9}/[^\s,;()]*[^\s,;().])")
ARXIV = re.compile(r"\b(arXiv\s+)(\d{4}\.\d{4,5})\b")
LARGE = 2_000_000  # characters; a script of this size is a library


def notebook_sources() -> list[Path]:
    """Return the notebooks of the collection in reading order."""
    return sorted((CHECKOUT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def executed_copy(source: Path, results: Path) -> Path:
    """Return where a run leaves the executed notebook."""
    return results / source.stem / source.name


def parameters_of(notebook: NotebookNode) -> dict[str, Any]:
    """Return the parameters of a run that differ from what the notebook itself says."""
    given = notebook.metadata.get("papermill", {}).get("parameters", {})
    return {name: value for name, value in given.items() if name not in PLACES}


def is_current(source: Path, results: Path, wanted: dict[str, Any]) -> bool:
    """Tell whether a notebook ran to its end, with these parameters, since it last changed."""
    executed = executed_copy(source, results)
    page = executed.with_suffix(".html")  # written last, after a run without an error
    if not executed.is_file() or not page.is_file():
        return False
    helper = [one for name in PACKAGES for one in (CHECKOUT / name).rglob("*.py")]
    if page.stat().st_mtime < max(path.stat().st_mtime for path in [source, *helper]):
        return False
    return parameters_of(nbformat.read(executed, as_version=4)) == wanted


def shown_copy(executed: Path) -> NotebookNode:
    """Return an executed notebook as the site shows it; the file stays as it is.

    Solutions fold away behind a line to click, papers are links. Left out are progress bars, the
    cell by which papermill passes parameters, and MathJax, which plotly would fetch and no figure
    needs.
    """
    notebook = nbformat.read(executed, as_version=4)
    drop_what_needs_more(notebook)
    notebook.metadata.pop("papermill", None)
    notebook.cells = [
        cell
        for cell in notebook.cells
        if "injected-parameters" not in cell.metadata.get("tags", [])
    ]
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        if cell.cell_type != "code":
            cell.source = with_links(cell.source)
            continue
        for output in cell.outputs:
            if "text/html" in output.get("data", {}):
                output.data.pop(PLOTLY, None)
        if SOLUTION in cell.source:
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input"]
            cell.metadata["mystnb"] = {"code_prompt_show": "Show solution"}
            cell.metadata["mystnb"]["code_prompt_hide"] = "Hide solution"
    return notebook


def with_links(text: str) -> str:
    """Return Markdown in which every `doi 10.…` and `arXiv …` leads to the paper."""
    text = DOI.sub(r"\1[\2](https://doi.org/\2)", text)
    return ARXIV.sub(r"\1[\2](https://arxiv.org/abs/\2)", text)


def share_libraries(notebook: NotebookNode, folder: Path) -> None:
    """Move JavaScript libraries out of a notebook to `folder`, where all pages find one copy."""

    def moved(script: re.Match) -> str:
        if len(script[1]) < LARGE:
            return script[0]
        name = f"library-{hashlib.sha256(script[1].encode()).hexdigest()[:12]}.js"
        (folder / name).write_text(script[1], encoding="utf-8")
        return f'<script src="../{name}"></script>'

    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "text/html" in output.get("data", {}):
                output.data["text/html"] = SCRIPT.sub(moved, output.data["text/html"])


def main(arguments: list[str]) -> None:
    """Print the notebooks that are out of date in results/, one a line."""
    pairs = (one.partition("=") for one in arguments)
    wanted = {name: text if literal(text) is None else literal(text) for name, _, text in pairs}
    for source in notebook_sources():
        if not is_current(source, CHECKOUT / "results", wanted):
            print(source)


if __name__ == "__main__":
    main(sys.argv[1:])
