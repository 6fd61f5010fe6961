"""Parameters of notebooks: read, and checked before anything runs.

Papermill alone ignores a parameter that the notebook does not have; here it is refused, and so are
values that cannot be right: of another kind, out of range, or names that nothing has.
"""

from __future__ import annotations

import ast
import difflib
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from .notebooks import NotebookError, find_notebook, plain_path, text_problem

__all__ = [
    "RULES",
    "Rule",
    "SweepTableError",
    "check_limit",
    "check_names",
    "check_parameters",
    "literal",
    "notebook_parameters",
    "paths_from",
    "read_value",
]

PATH_PARAMETERS = ("data_source", "data_dir")
DATA_SOURCES = ("demo", "local", "download")  # words, even where a folder has the same name
SLICE_NAMES = ("section", "source", "left", "right", "held_out", "bins", "cells")
SLICE_LISTS = ("together_with", "anterior", "posterior")


class SweepTableError(NotebookError):
    """A table of runs has mistakes; the message lists them by row."""


class Rule(NamedTuple):
    """What a parameter may be, in every notebook that keeps the contract of this collection.

    Attributes
    ----------
    kind : str
        "text", "texts" (a list of them), "text or texts", "number" or "whole number".
    low, high : float
        Smallest and largest value allowed.
    above : bool
        `low` itself is not allowed.
    words : tuple of str
        The only words allowed; for a number, words allowed beside it.
    none : bool
        None is allowed although it is not the default.
    """

    kind: str
    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    words: tuple[str, ...] = ()
    none: bool = False

    def __str__(self) -> str:
        """Say in words what is allowed."""
        words = " or ".join(", ".join(map(repr, self.words)).rsplit(", ", 1))
        if self.kind in ("text", "texts") and self.words:
            return words if self.kind == "text" else f"a list of {words}"
        wanted = {"text": "text", "texts": "a list of text"}.get(self.kind, f"a {self.kind}")
        if self.low > -math.inf:
            wanted += f" {'above' if self.above else 'of at least'} {_in_full(self.low)}"
        if self.high < math.inf:
            wanted = wanted.replace("of at least", "from") + f" to {_in_full(self.high)}"
        return f"{wanted} or {words}" if self.words else wanted


def _in_full(number: float) -> str:
    return f"{int(number):,}" if float(number).is_integer() else f"{number:g}"


_NAME, _NAMES = Rule("text", none=True), Rule("texts", none=True)
_POSITIVE = Rule("number", 0.0, above=True)
RULES: dict[str, Rule] = {
    **dict.fromkeys(SLICE_NAMES, _NAME),
    **dict.fromkeys((*SLICE_LISTS, "markers"), _NAMES),
    **dict.fromkeys(
        ("data_dir", "label_key", "cell_type_key", "gene", "title", "label_way"), _NAME
    ),
    "data_source": Rule("text"),
    "positions": Rule("text or texts", none=True),
    "encoder": Rule("text", words=("spectral", "default", "paper")),
    "correction": Rule("text", words=("none", "centre", "anchors")),
    "y_axis": Rule("text", words=("up", "down"), none=True),
    "cut_sides": Rule("texts", words=("left", "right", "top", "bottom")),
    "seed": Rule("whole number", 0, 2**32 - 1),
    "t": Rule("number", 0.0, 1.0),
    "n_domains": Rule("whole number", 2, 1_000),
    "max_domains": Rule("whole number", 2, 1_000),
    "n_genes": Rule("whole number", 1, 1_000_000),
    "n_scored": Rule("whole number", 1, 1_000_000),
    "n_carried": Rule("whole number", 1, 1_000_000),
    "n_components": Rule("whole number", 1, 10_000),
    "n_neighbors": Rule("whole number", 1, 10_000),
    "n_hops": Rule("whole number", 1, 1_000),
    "n_frames": Rule("whole number", 2, 1_000),
    "n_between": Rule("whole number", 1, 1_000),
    "max_spots": Rule("whole number", 10, 1_000_000_000),
    "hidden_share": Rule("number", 0.0, 0.99, above=True),
    "epsilon": _POSITIVE,
    "scale": _POSITIVE,
    "micrometres_per_unit": _POSITIVE,
    "stiffness": Rule("number", 0.0, above=True, words=("auto",)),
    "embedding_weight": Rule("number", 0.0),
}
"""Name of a parameter → what it may be, whatever its default is."""


def notebook_parameters(notebook: str | Path) -> dict[str, dict[str, Any]]:
    """Read the parameters of a notebook: name → {"default": source text, "help": comment}."""
    import papermill  # takes seconds, and listing notebooks does not need it

    path = find_notebook(notebook)
    try:
        inspected = papermill.inspect_notebook(plain_path(path))
    except (ValueError, KeyError, AttributeError, TypeError, OSError, RecursionError) as problem:
        # No notebook, one that does not name its kernel, or one that cannot be opened.
        raise NotebookError(f"{path} cannot be read as a notebook: {problem}") from problem
    return {
        name: {"default": facts["default"], "help": facts["help"]}
        for name, facts in inspected.items()
    }


def literal(source: str) -> Any:
    """Return the value of a Python literal such as `3`, `1e-3` or `"demo"`; None if it is none."""
    try:
        return ast.literal_eval(source)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _rule(name: str, known: Mapping[str, Mapping[str, Any]]) -> Rule | None:
    """Return what a parameter may be; None in notebooks that are not of this collection's kind."""
    source = known.get("data_source")
    ours = source is not None and literal(source["default"]) in DATA_SOURCES
    return RULES.get(name) if ours and name in known else None


def read_value(name: str, text: str | list, known: Mapping[str, Mapping[str, Any]]) -> Any:
    """Read a value from the command line or a table; what is a name stays text.

    Parameters
    ----------
    name : str
        Name of the parameter.
    text : str or list of str
        What was written. A list belongs to a parameter whose default is a list.
    known : mapping
        What :func:`notebook_parameters` says.
    """
    rule, default = _rule(name, known), literal(known.get(name, {"default": "None"})["default"])
    kind = rule.kind if rule else "text" if isinstance(default, str) else ""
    texts = kind in ("texts", "text or texts") or (
        isinstance(default, list) and all(isinstance(one, str) for one in default)
    )
    if isinstance(text, list):
        return [one if texts or not isinstance(one, str) else _guess(one) for one in text]
    if text == "None":
        return None
    if texts and text.lstrip().startswith(("[", "(")):
        return _list_of_text(text)
    return text if kind in ("text", "texts", "text or texts") else _guess(text)


def _guess(text: str) -> Any:
    """Return the value that a text looks like."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    value = literal(text)
    return text if value is None else value


def _list_of_text(text: str) -> Any:
    """Read a list of names, in quotes or not; `[1.10, 1_2]` are names, as they are written."""
    inside = text.strip()
    if inside.startswith("(") and inside.endswith(")"):
        inside = f"[{inside[1:-1]}]"
    try:
        found = yaml.load(inside, Loader=yaml.BaseLoader)  # which leaves everything text
    except (ValueError, RecursionError, yaml.YAMLError):
        return text
    names = isinstance(found, list) and all(isinstance(one, str) for one in found)
    return found if names else text


def check_parameters(
    parameters: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Refuse parameters that the notebook does not have, and values that it cannot take.

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
        With the nearest name and the list of all, or with the kind, range or words that are wanted.
    """
    return {name: _checked(name, value, known) for name, value in parameters.items()}


def _checked(name: str, value: Any, known: Mapping[str, Mapping[str, Any]]) -> Any:
    if name not in known:
        listing = "\n".join(
            f"  {one} = {facts['default']}  {facts['help']}" for one, facts in known.items()
        )
        raise NotebookError(
            f"The notebook has no parameter {_shown(name)}.{_hint(str(name), known)} "
            f"It has:\n{listing}"
        )
    for one in value if isinstance(value, list | tuple) else [value]:
        if isinstance(one, str) and (problem := text_problem(f"Parameter {name!r}:", one)):
            raise NotebookError(problem)
    value = _of_the_same_kind(name, value, known[name])
    rule = _rule(name, known)
    return value if rule is None else _within(name, value, rule, known[name])


def _of_the_same_kind(name: str, value: Any, facts: Mapping[str, Any]) -> Any:
    """Refuse a value of another kind than the default."""
    default = literal(facts["default"])
    named = isinstance(value, str) and f'"{value}"' in facts["help"]  # such as "auto"
    if default is None or value is None or named:
        return value
    if _is_number(default) and _is_number(value):
        if isinstance(value, float) and not math.isfinite(value):
            wanted = "a finite number"
        elif isinstance(default, float) or float(value).is_integer():
            return value if isinstance(default, float) else int(value)
        else:
            wanted = "a whole number"
    elif type(value) is type(default):
        return value
    else:
        wanted = "a number" if _is_number(default) else f"a {type(default).__name__}"
    raise NotebookError(
        f"Parameter {name!r} is {_shown(value)}; like its default {default!r}, it should be "
        f"{wanted}."
    )


def _within(name: str, value: Any, rule: Rule, facts: Mapping[str, Any]) -> Any:
    """Refuse a value that the rule for this name does not allow."""
    if value is None:
        if rule.none or literal(facts["default"]) is None or "None" in facts["help"]:
            return None
        raise NotebookError(f"Parameter {name!r} cannot be None; it should be {rule}.")
    if rule.kind in ("number", "whole number"):
        if value in rule.words:
            return value
        whole = rule.kind == "whole number"
        fits = _is_number(value) and math.isfinite(value) and rule.low <= value <= rule.high
        if fits and not (rule.above and value == rule.low) and not (whole and value % 1):
            return int(value) if whole else value
    elif _fits_text(value, rule):
        return value
    wrong = next((one for one in _items(value) if one not in rule.words), value)
    hint = _hint(str(wrong), rule.words)
    raise NotebookError(f"Parameter {name!r} is {_shown(value)}; it should be {rule}.{hint}")


def _items(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _fits_text(value: Any, rule: Rule) -> bool:
    several = isinstance(value, list | tuple)
    if several != (rule.kind == "texts") and rule.kind != "text or texts":
        return False
    return all(isinstance(one, str) and one in (rule.words or [one]) for one in _items(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    """Return a value as it was given, shortened, and printable whatever it holds."""
    text = repr(value)
    text = text if len(text) <= 80 else f"{text[:77]}..."
    return text.encode("utf-8", "backslashreplace").decode()


def _hint(given: str, known: Any) -> str:
    near = difflib.get_close_matches(given, [str(one) for one in known], n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def check_limit(name: str, value: Any, *, whole: bool = False) -> Any:
    """Refuse a limit that is not a finite number above 0; None, no limit, is all right.

    Parameters
    ----------
    name : str
        What it is called, such as "timeout_minutes".
    value : number
        What was given.
    whole : bool
        Only whole numbers are allowed.

    Raises
    ------
    NotebookError
        If it is something else.
    """
    if value is None:
        return None
    fits = _is_number(value) and math.isfinite(value) and value > 0
    if not fits or (whole and not isinstance(value, int)):
        kind = "a whole number" if whole else "a number"
        raise NotebookError(f"{name!r} is {_shown(value)}; it should be {kind} above 0.")
    return value


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
        if name == "data_dir" or (value not in DATA_SOURCES and _exists(path)):
            absolute[name] = str(path.resolve())
    return absolute


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # no path at all
        return False


def check_names(parameters: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse a data source that is not there, and names of slices that it does not have.

    Parameters
    ----------
    parameters : mapping
        Checked parameters, paths absolute.
    known : mapping
        All parameters of the notebook.

    Raises
    ------
    NotebookError
        With the names that are near.
    """
    chosen = {*SLICE_NAMES, *SLICE_LISTS, *PATH_PARAMETERS} & set(parameters)
    if not chosen or _rule("data_source", known) is None:
        return
    values = {name: literal(facts["default"]) for name, facts in known.items()} | dict(parameters)
    source, data_dir = str(values["data_source"]), values.get("data_dir")
    if source not in DATA_SOURCES and not _exists(Path(source)):
        raise NotebookError(
            f"Parameter 'data_source' is {_shown(source)}: no known source and no existing path."
            f"{_hint(source, DATA_SOURCES)} Give 'demo', 'local', 'download', or the path of your "
            "own file or folder."
        )
    there = _names_in(source, data_dir if source == "local" else None)
    wanted = [(name, values[name]) for name in SLICE_NAMES if values.get(name)]
    wanted += [(name, one) for name in SLICE_LISTS for one in values.get(name) or []]
    for name, value in wanted:
        if name in known and there and str(value) not in there:
            listed = ", ".join(there[:15]) + (", …" if len(there) > 15 else "")
            raise NotebookError(
                f"Parameter {name!r}: no slice is called {_shown(value)} in {source}."
                f"{_hint(str(value), there)} There: {listed}."
            )


@cache
def _names_in(source: str, data_dir: str | None) -> tuple[str, ...]:
    """Return the names of the slices that a source has; none where any name will do."""
    import genot_helpers as gh  # takes seconds

    try:
        if source in DATA_SOURCES:
            table = gh.list_slices(data_dir=data_dir)
            return tuple(table["name"][table[source]])
        names = gh.own_slices(source)
        return tuple(names) if len(names) > 1 else ()  # a single slice goes by any name
    except FileNotFoundError as problem:
        if source == "local" or source not in DATA_SOURCES:
            raise NotebookError(str(problem)) from problem
    except (OSError, ValueError, KeyError):  # what it is, the notebook will say
        pass
    return ()
