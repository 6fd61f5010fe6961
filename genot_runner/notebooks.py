"""Where things are: the notebooks, the workflow of sweeps, and the folder for results.

In a checkout they lie beside this package. An installed package carries copies of its own, in its
folder `shipped`, and results go below the folder that the caller is in.
"""

from __future__ import annotations

import json
from pathlib import Path

__all__ = [
    "CHECKOUT",
    "NotebookError",
    "copy_notebook",
    "find_notebook",
    "list_notebooks",
    "plain_path",
    "results_folder",
    "shipped_folder",
    "text_problem",
]

CHECKOUT = Path(__file__).resolve().parents[1]
"""The checkout that this package lies in; where it is installed, the folder of all packages."""


class NotebookError(RuntimeError):
    """A notebook could not be run, or one of its cells failed."""


def in_checkout() -> bool:
    """Tell whether this package lies in a checkout, rather than being installed."""
    return (CHECKOUT / "pyproject.toml").is_file()


def shipped_folder(name: str) -> Path:
    """Return the folder `notebooks` or `workflow`: that of the checkout, or the installed copy."""
    return CHECKOUT / name if in_checkout() else Path(__file__).parent / "shipped" / name


def results_folder() -> Path:
    """Return `results` of the checkout for a caller inside it, else of the working directory."""
    here = Path.cwd()
    inside = in_checkout() and here.resolve().is_relative_to(CHECKOUT)
    return (CHECKOUT if inside else here) / "results"


def text_problem(what: str, text: object) -> str:
    """Say what is wrong with a name that was not written as UTF-8; nothing if all is well."""
    try:
        str(text).encode("utf-8")
    except UnicodeEncodeError:
        shown = str(text).encode("utf-8", "backslashreplace").decode()
        return f"{what} {shown!r} holds bytes that are no UTF-8 text. Give it another name."
    return ""


def find_notebook(name: str | Path, folder: str | Path | None = None) -> Path:
    """Find a notebook by path, by name or by its number ("01", also written "1").

    Parameters
    ----------
    name : str or Path
        What to look for. A path ends in ".ipynb".
    folder : str or Path, optional
        Where to look for names and numbers; default: the notebooks of this collection.

    Returns
    -------
    pathlib.Path
        The notebook, as an absolute path.

    Raises
    ------
    NotebookError
        If there is none or more than one; the message lists what there is.
    """
    if problem := text_problem("The notebook's name", name):
        raise NotebookError(problem)
    path = Path(name)
    try:
        if path.suffix == ".ipynb" and path.is_file():
            return path.resolve()
    except (OSError, ValueError) as problem:  # such as a name of 5,000 letters, or with a zero byte
        raise NotebookError(f"The notebook {str(name)[:80]!r} cannot be read: {problem}") from None
    folder = Path(folder) if folder else shipped_folder("notebooks")
    found = sorted(folder.glob("*.ipynb"))
    number = str(name).zfill(2) if str(name).isdecimal() else str(name)
    matches = [one for one in found if one.stem == path.stem or one.stem.startswith(f"{number}_")]
    if len(matches) != 1:
        listing = ", ".join(one.stem for one in found) or f"none in {folder}"
        raise NotebookError(
            f"No single notebook is called {str(name)[:80]!r}. There are: {listing}."
        )
    return matches[0].resolve()


def list_notebooks() -> list[tuple[str, str]]:
    """Return name and title of every notebook of the collection, in reading order."""
    found = sorted(shipped_folder("notebooks").glob("[0-9][0-9]_*.ipynb"))
    return [(one.stem, _title(one)) for one in found]


def _title(notebook: Path) -> str:
    """Return the first heading of a notebook."""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        for line in "".join(cell["source"]).splitlines():
            if cell["cell_type"] == "markdown" and line.startswith("# "):
                return line.removeprefix("# ").strip()
    return ""


def copy_notebook(name: str | Path, folder: str | Path = ".") -> Path:
    """Copy a notebook of the collection to work on; nothing that is there is overwritten.

    Parameters
    ----------
    name : str or Path
        Name or number, see :func:`find_notebook`.
    folder : str or Path
        Where the copy goes; it is made if it is not there.

    Returns
    -------
    pathlib.Path
        The copy. Run by hand, it writes to `results/<name>` beside it.

    Raises
    ------
    NotebookError
        If a file of that name is there already.
    OSError
        If the copy cannot be written.
    """
    source = find_notebook(name)
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / source.name
    text = source.read_text(encoding="utf-8")
    text = text.replace(r"\"../results/", r"\"results/")  # the copy writes beside itself
    try:
        with copy.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise NotebookError(
            f"{copy} is there already. Rename it or choose another folder; it was not changed."
        ) from None
    return copy


def plain_path(path: Path) -> str:
    """Return a path as papermill wants it: it would fill in what stands in braces."""
    return str(path).replace("{", "{{").replace("}", "}}")
