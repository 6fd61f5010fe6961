"""The exercises of a notebook: where they are, and whether they have the form of README.md."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat import NotebookNode

CHECKOUT = Path(__file__).resolve().parents[1]
TASK = re.compile(r"### Exercise (\d+) · (.+) \((\d+) minutes\)$")
LONGEST = 20  # minutes


class ExerciseError(ValueError):
    """An exercise, an answer or a note does not have the agreed form."""


class Exercise(NamedTuple):
    """One exercise: its number, title and minutes, and the positions of its three cells."""

    number: int
    title: str
    minutes: int
    task: int
    solution: int
    check: int


class Answer(NamedTuple):
    """An answer to try: a likely mistake, or another right way."""

    exercise: int
    right: bool
    why: str
    code: str


def course_notebooks() -> list[Path]:
    """Return the paths of all notebooks, in reading order."""
    return sorted((CHECKOUT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def number_of(path: str | Path) -> str:
    """Return the two digits that a notebook's name begins with."""
    return Path(path).name[:2]


def find_exercises(notebook: NotebookNode, *, name: str = "notebook") -> list[Exercise]:
    """Find the exercises of a notebook and check their form.

    Parameters
    ----------
    notebook
        As read by nbformat, version 4.
    name
        Stands in error messages.

    Returns
    -------
    list of Exercise
        In order.

    Raises
    ------
    ExerciseError
        If a cell is missing, stands elsewhere, or lacks what README.md asks for.
    """
    found = []
    for position, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown" and cell.source.startswith("### Exercise "):
            found.append(_read(notebook, position, f"{name}, exercise {len(found) + 1}"))
    for expected, exercise in enumerate(found, 1):
        if exercise.number != expected:
            raise ExerciseError(
                f"{name}: exercise {exercise.number} stands where {expected} should"
            )
    regions = sum(cell.source.count("### BEGIN SOLUTION") for cell in notebook.cells)
    if regions != len(found):
        raise ExerciseError(f"{name} has {regions} solutions, but {len(found)} exercises")
    return found


def _read(notebook: NotebookNode, position: int, where: str) -> Exercise:
    """Read the exercise whose task is the cell at a position."""
    heading = TASK.match(notebook.cells[position].source.splitlines()[0])
    if heading is None:
        raise ExerciseError(f"{where}: the heading should be '### Exercise 1 · Title (5 minutes)'")
    number, title, minutes = int(heading[1]), heading[2], int(heading[3])
    if not 0 < minutes <= LONGEST:
        raise ExerciseError(f"{where}: {minutes} minutes; at most {LONGEST} are agreed")
    cells = notebook.cells[position : position + 3]
    wanted = {
        f"exercise-{number}-task": {"grade": False, "solution": False, "locked": True},
        f"exercise-{number}": {"grade": False, "solution": True, "locked": False},
        f"exercise-{number}-check": {"grade": True, "solution": False, "locked": True},
    }
    for cell, (grade_id, flags) in zip(cells, wanted.items(), strict=False):
        marks = cell.metadata.get("nbgrader", {})
        facts = {name: marks.get(name) for name in ("grade_id", *flags)}
        if facts != {"grade_id": grade_id, **flags} or cell.get("id") != grade_id:
            raise ExerciseError(f"{where}: the cell {grade_id} should carry {flags}, found {facts}")
    _check_solution(cells[1].source, where)
    _check_check(cells[2].source, where)
    return Exercise(number, title, minutes, position, position + 1, position + 2)


def _check_solution(source: str, where: str) -> None:
    """Insist on one solution, and on a comment before it that names what to store."""
    if source.count("### BEGIN SOLUTION") != 1 or source.count("### END SOLUTION") != 1:
        raise ExerciseError(f"{where}: one BEGIN SOLUTION and one END SOLUTION are agreed")
    if not source.startswith("# "):
        raise ExerciseError(f"{where}: the solution should begin with a comment: what to store")


def _check_check(source: str, where: str) -> None:
    """Insist on asserts with messages, the first of which asks whether the names are there."""
    asserts = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert)]
    if len(asserts) < 2 or any(node.msg is None for node in asserts):
        raise ExerciseError(f"{where}: a check has two asserts or more, each with a message")
    if "globals().keys()" not in ast.unparse(asserts[0].test):
        raise ExerciseError(f"{where}: the check should begin with: are the names there?")


def solution_names(check: str) -> set[str]:
    """Return the names that a check asks for in its first assert."""
    first = next(node for node in ast.parse(check).body if isinstance(node, ast.Assert))
    return {node.value for node in ast.walk(first.test) if isinstance(node, ast.Constant)}


def read_answers(path: str | Path) -> list[Answer]:
    """Read the answers to try with a notebook; without a file there are none.

    Raises
    ------
    ExerciseError
        If an answer lacks something.
    """
    file = CHECKOUT / "teaching" / "answers" / f"{number_of(path)}.toml"
    if not file.is_file():
        return []
    try:
        rows = tomllib.loads(file.read_text(encoding="utf-8"))["answer"]
        return [Answer(**row) for row in rows]
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as problem:
        raise ExerciseError(f"{file.name}: {problem}") from problem


def read_notebook(path: str | Path) -> NotebookNode:
    """Read a notebook, version 4 of the format."""
    return nbformat.read(path, as_version=4)
