"""Tables of runs: read from CSV or YAML, and every row checked before anything runs.

A CSV table has one row per run: a column `notebook` and one column per parameter; an empty cell
leaves a parameter at its default. A YAML table has a list `runs` of the same, or a `grid` whose
lists are combined with each other, or both. Values are written as on the command line.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from .notebooks import NotebookError, find_notebook, text_problem
from .parameters import (
    SweepTableError,
    check_limit,
    check_names,
    check_parameters,
    literal,
    notebook_parameters,
    paths_from,
    read_value,
)

__all__ = ["PlannedRun", "read_sweep", "run_id"]

LIMITS = ("threads", "memory_mb", "timeout_minutes")
MAX_RUNS = 100_000
_SHOWN_PROBLEMS = 20
_Row = tuple[str, dict[str, Any]]  # where it stands, and what


class PlannedRun(NamedTuple):
    """One row of a table, checked.

    Attributes
    ----------
    id : str
        Name of the run: readable, and the same for the same notebook and parameter values.
    row : str
        Where it stands in the table.
    notebook : str
        Path of the notebook.
    parameters : dict
        The parameters that the row gives; the others keep their defaults.
    limits : dict
        `threads`, `memory_mb` and `timeout_minutes`, where the row gives them.
    """

    id: str
    row: str
    notebook: str
    parameters: dict[str, Any]
    limits: dict[str, float]


def read_sweep(table: str | Path) -> list[PlannedRun]:
    """Read a table of runs and check all of it.

    Parameters
    ----------
    table : str or Path
        A file ending in .csv, .tsv, .yaml or .yml. Relative paths in it start from its folder.

    Returns
    -------
    list of PlannedRun
        In the order of the table.

    Raises
    ------
    SweepTableError
        If the file cannot be read, or a row names an unknown notebook, an unknown or mistyped
        parameter or slice, a value out of range, or the same run as another row. All mistakes are
        listed, with their rows. Or if it asks for more than 100,000 runs.
    """
    if problem := text_problem("The table's name", table):
        raise SweepTableError(problem)
    path = Path(table).expanduser()
    known = cache(notebook_parameters)  # one look at each notebook
    problems: dict[str, list[str]] = {}
    runs: dict[str, PlannedRun] = {}
    for number, (row, cells) in enumerate(_rows(path), 1):
        _check_count(number, path)
        try:
            run = _planned(row, cells, path.parent, known)
            if run.id in runs:
                raise NotebookError(f"It is the same run as {runs[run.id].row}.")
            runs[run.id] = run
        except NotebookError as problem:
            problems.setdefault(str(problem), []).append(row)
    if problems:
        raise SweepTableError(_listing(path, problems))
    if not runs:
        raise SweepTableError(f"{path} has no runs.")
    return list(runs.values())


def _listing(path: Path, problems: Mapping[str, list[str]]) -> str:
    lines = [f"Nothing was run. {path} has mistakes:"]
    for problem, rows in itertools.islice(problems.items(), _SHOWN_PROBLEMS):
        more = f" and {len(rows) - 3} more" if len(rows) > 4 else ""
        where = ", ".join(rows[: 3 if more else 4]) + more
        lines.append(f"- {where}: {problem}")
    if len(problems) > _SHOWN_PROBLEMS:
        lines.append(f"- … and {len(problems) - _SHOWN_PROBLEMS} more kinds of mistakes")
    return "\n".join(lines)


def _rows(path: Path) -> Iterator[_Row]:
    readers = {".csv": _csv_rows, ".tsv": _csv_rows, ".yaml": _yaml_rows, ".yml": _yaml_rows}
    if path.suffix.lower() not in readers:
        raise SweepTableError(f"{path} should end in .csv, .tsv, .yaml or .yml.")
    try:
        yield from readers[path.suffix.lower()](path)
    except (OSError, ValueError, RecursionError, csv.Error, yaml.YAMLError) as problem:
        hint = " Save it as UTF-8." if isinstance(problem, UnicodeDecodeError) else ""
        raise SweepTableError(f"The table {path} cannot be read: {problem}.{hint}") from problem


def _csv_rows(path: Path) -> Iterator[_Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
        file.seek(0)
        tab, semicolons = path.suffix.lower() == ".tsv", ";" in header and "," not in header
        reader = csv.reader(file, delimiter="\t" if tab else ";" if semicolons else ",")
        names = [name.strip() for name in next(reader, [])]
        if "notebook" not in names or len(set(names)) < len(names):
            raise SweepTableError(
                f"{path} needs a first line of different column names, one of them 'notebook'. "
                f"It has: {', '.join(names)}."
            )
        for line in reader:
            cells = [cell.strip() for cell in line]
            if not any(cells):
                continue
            row = f"row {reader.line_num}"  # as a spreadsheet counts; the names are row 1
            if len(cells) > len(names):
                extra = {"": f"{len(cells)} cells under {len(names)} names"}
                yield row, extra
            else:
                yield row, dict(zip(names, cells, strict=False))


def _yaml_rows(path: Path) -> Iterator[_Row]:
    # Every scalar stays text: 01 is no number here, as in a CSV table or on the command line.
    text = path.read_text(encoding="utf-8")
    _check_size(yaml.compose(text, Loader=yaml.BaseLoader), path)
    content = yaml.load(text, Loader=yaml.BaseLoader)
    if isinstance(content, list):
        content = {"runs": content}
    if not isinstance(content, dict) or not content or set(content) - {"runs", "grid"}:
        found = (
            ", ".join(map(str, content)) if isinstance(content, dict) else str(content or "")[:80]
        )
        raise SweepTableError(
            f"{path} should hold a list of runs, or 'runs:' or 'grid:' or both, and nothing else "
            f"beside them (parameters stand below). It holds: {found or 'nothing'}."
        )
    for number, one in enumerate(content.get("runs") or (), 1):
        yield f"run {number}", _mapping(one, path, "a run")
    grids = content.get("grid") or []
    number = 0
    for grid in grids if isinstance(grids, list) else [grids]:
        names, values = zip(*_mapping(grid, path, "a grid").items(), strict=True)
        choices = [one if isinstance(one, list) else [one] for one in values]
        _check_count(number + math.prod(len(one) for one in choices), path)
        for chosen in itertools.product(*choices):
            number += 1
            yield f"grid combination {number}", dict(zip(names, chosen, strict=True))


def _check_size(node: yaml.Node | None, path: Path) -> None:
    """Refuse a table whose aliases (*name) stand for more than anybody writes."""
    sizes: dict[int, int] = {}

    def size(one: yaml.Node) -> int:
        if id(one) in sizes:
            return sizes[id(one)]
        sizes[id(one)] = MAX_RUNS * 100  # until it is known: one that holds itself is too large
        inner = one.value if isinstance(one, yaml.CollectionNode) else ()
        parts = [part for pair in inner for part in (pair if isinstance(pair, tuple) else (pair,))]
        sizes[id(one)] = 1 + sum(map(size, parts))
        return sizes[id(one)]

    if node is not None and size(node) >= MAX_RUNS * 100:
        raise SweepTableError(f"{path} is too large, its aliases written out. Write a CSV table.")


def _check_count(n_runs: int, path: Path) -> None:
    if n_runs > MAX_RUNS:
        raise SweepTableError(
            f"{path} asks for {n_runs:,} runs; at most {MAX_RUNS:,} are taken. Split it."
        )


def _mapping(one: Any, path: Path, what: str) -> dict[str, Any]:
    if not isinstance(one, dict) or not one:
        raise SweepTableError(f"{path}: {what} should be written as 'name: value' pairs: {one!r}.")
    return one


def _planned(row: str, cells: dict[str, Any], folder: Path, known: Any) -> PlannedRun:
    if "" in cells:
        raise NotebookError(f"It has {cells['']}: is a comma missing its quotes?")
    given = {name: value for name, value in cells.items() if value != ""}
    name = given.pop("notebook", None)
    if not isinstance(name, str):
        raise NotebookError("It names no notebook.")
    notebook = find_notebook(folder / name if _is_notebook(folder / name) else name)
    limits = {one: _limit(one, given.pop(one)) for one in LIMITS if one in given}
    if "output_dir" in given:
        raise NotebookError("output_dir cannot be given: each run of a sweep has its own folder.")
    facts = known(notebook)
    values = {one: read_value(one, value, facts) for one, value in given.items()}
    checked = check_parameters(values, facts)
    absolute = paths_from(checked, folder.resolve())
    check_names(absolute, facts)
    return PlannedRun(
        run_id(notebook, checked, facts),
        row,
        str(notebook),
        absolute,
        limits,
    )


def _is_notebook(path: Path) -> bool:
    try:
        return path.suffix == ".ipynb" and path.is_file()
    except (OSError, ValueError):  # no path at all
        return False


def _limit(name: str, text: Any) -> float:
    value = literal(text) if isinstance(text, str) else text
    if value is None:
        value = text
    return check_limit(name, value, whole=name == "threads")


def run_id(
    notebook: Path, parameters: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]
) -> str:
    """Return the name of a run, such as "01-151674-seed0-3f9a2c1b4d".

    Parameters
    ----------
    notebook : Path
        The notebook; its folder does not count.
    parameters : mapping
        Checked parameters that are given.
    known : mapping
        All parameters of the notebook, see
        :func:`~genot_runner.parameters.notebook_parameters`.

    Returns
    -------
    str
        Number of the notebook, names of its slices, seed, and the first ten digits of a SHA-256 of
        the notebook's name and the values of all parameters but `output_dir`. A default that is
        written out gives the same name as one that is left out, so a table may gain columns.
    """
    values = {}
    for name, facts in known.items():
        default = literal(facts["default"])
        value = parameters.get(name, facts["default"] if default is None else default)
        if value is None:
            value = "None"
        values[name] = float(value) if type(value) is int and isinstance(default, float) else value
    values.pop("output_dir", None)
    text = json.dumps([notebook.stem, values], sort_keys=True, default=repr)
    number = re.match(r"\d+(?=_)", notebook.stem)
    parts = [number.group() if number else notebook.stem]
    slices = [str(values[name]) for name in ("section", "left", "right") if name in values]
    parts += [*slices, *([f"seed{values['seed']}"] if "seed" in values else [])]
    readable = "-".join(re.sub(r"[^A-Za-z0-9._]+", "_", part)[:24] for part in parts)
    return f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"
