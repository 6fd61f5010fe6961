"""Notebooks and their parameters: found, read, and checked before anything runs.

Papermill alone ignores a parameter that the notebook does not have; here it is refused.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = [
    "CHECKOUT",
    "NotebookError",
    "SweepTableError",
    "check_parameters",
    "find_notebook",
    "literal",
    "notebook_parameters",
    "paths_from",
    "plain_path",
    "read_value",
]

CHECKOUT = Path(__file__).resolve().parents[1]
PATH_PARAMETERS = ("data_source", "data_dir")
DATA_SOURCES = ("demo", "local", "download")  # words, even where a folder has the same name


class NotebookError(RuntimeError):
    """A notebook could not be run, or one of its cells failed."""


class SweepTableError(NotebookError):
    """A table of runs has mistakes; the message lists them by row."""


def find_notebook(name: str | Path, folder: str | Path | None = None) -> Path:
    """Find a notebook by path, by name or by its number ("01").

    Parameters
    ----------
    name : str or Path
        What to look for.
    folder : str or Path, optional
        Where to look for names and numbers; default: the notebooks of the checkout.

    Raises
    ------
    NotebookError
        If there is none or more than one; the message lists what there is.
    """
    path = Path(name)
    if path.suffix == ".ipynb" and path.is_file():
        return path.resolve()
    folder = Path(folder) if folder else CHECKOUT / "notebooks"
    found = sorted(folder.glob("*.ipynb"))
    matches = [one for one in found if one.stem == path.stem or one.stem.startswith(f"{name}_")]
    if len(matches) != 1:
        listing = ", ".join(one.stem for one in found) or f"none in {folder}"
        raise NotebookError(f"No single notebook is called {str(name)!r}. There are: {listing}.")
    return matches[0].resolve()


def notebook_parameters(notebook: str | Path) -> dict[str, dict[str, Any]]:
    """Read the parameters of a notebook: name → {"default": source text, "help": comment}."""
    import papermill  # takes seconds, and listing notebooks does not need it

    path = find_notebook(notebook)
    try:
        inspected = papermill.inspect_notebook(plain_path(path))
    except ValueError as problem:  # no notebook, or one that does not name its kernel
        raise NotebookError(f"{path} cannot be read as a notebook: {problem}") from problem
    return {
        name: {"default": facts["default"], "help": facts["help"]}
        for name, facts in inspected.items()
    }


def plain_path(path: Path) -> str:
    """Return a path as papermill wants it: it would fill in what stands in braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def literal(source: str) -> Any:
    """Return the value of a Python literal such as `3`, `1e-3` or `"demo"`; None if it is none."""
    try:
        return ast.literal_eval(source)
    except (ValueError, SyntaxError):
        return None


def read_value(facts: Mapping[str, Any] | None, text: str | list) -> Any:
    """Read a value from the command line or a table; text stays text where the default is text.

    Parameters
    ----------
    facts : mapping or None
        What :func:`notebook_parameters` says of the parameter; None if it is unknown.
    text : str or list of str
        What was written. A list belongs to a parameter whose default is a list.
    """
    default = literal(facts["default"]) if facts else None
    if isinstance(text, list):
        inner = {"default": repr(default[0])} if isinstance(default, list) and default else None
        return [read_value(inner, one) for one in text]
    if text == "None":
        return None
    if isinstance(default, str):
        return text
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    value = literal(text)
    return text if value is None else value


def check_parameters(
    parameters: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Refuse parameters that the notebook does not have, or of another kind than their default.

    Parameters
    ----------
    parameters : mapping
        Values by name.
    known : mapping
        What :func:`notebook_parameters` returns.

    Returns
    -------
    dict
        The parameters; 7.0 has become 7 where the default is a whole number.

    Raises
    ------
    NotebookError
        With the nearest name and the list of all, or with the kind that is wanted.
    """
    return {name: _checked(name, value, known) for name, value in parameters.items()}


def _checked(name: str, value: Any, known: Mapping[str, Mapping[str, Any]]) -> Any:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        listing = "\n".join(
            f"  {one} = {facts['default']}  {facts['help']}" for one, facts in known.items()
        )
        raise NotebookError(f"The notebook has no parameter {name!r}.{hint} It has:\n{listing}")
    default = literal(known[name]["default"])
    named = isinstance(value, str) and f'"{value}"' in known[name]["help"]  # such as "auto"
    if default is None or value is None or named:
        return value
    if _is_number(default) and _is_number(value):
        if isinstance(default, float) or float(value).is_integer():
            return value if isinstance(default, float) else int(value)
        wanted = "a whole number"
    elif type(value) is type(default):
        return value
    else:
        wanted = "a number" if _is_number(default) else f"a {type(default).__name__}"
    raise NotebookError(
        f"Parameter {name!r} is {value!r}; like its default {default!r}, it should be {wanted}."
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def paths_from(parameters: Mapping[str, Any], folder: str | Path) -> dict[str, Any]:
    """Make relative paths absolute: the notebook runs in its own folder, not in the caller's.

    Parameters
    ----------
    parameters : mapping
        Values by name; `data_source` and `data_dir` may be paths.
    folder : str or Path
        What relative paths start from.
    """
    absolute = dict(parameters)
    for name in PATH_PARAMETERS:
        value = parameters.get(name)
        if not isinstance(value, str) or not value:
            continue
        path = Path(folder) / Path(value).expanduser()
        if name == "data_dir" or (value not in DATA_SOURCES and path.exists()):
            absolute[name] = str(path.resolve())
    return absolute
