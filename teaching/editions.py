"""The student edition (no solutions) and the instructor edition (solutions and notes).

    python -m teaching.editions student      # dist/genot-notebooks-student.zip
    python -m teaching.editions instructor   # dist/genot-notebooks-instructor.zip

The notebooks in notebooks/ are the only source. The converters are nbgrader's. Notes for teachers
live in teaching/notes and are put in here, so that no reader of the notebooks meets them and no
edition for students can keep one by mistake.
"""

from __future__ import annotations

import re
import sys
from copy import deepcopy
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from nbgrader.preprocessors import (
    CheckCellMetadata,
    ClearHiddenTests,
    ClearOutput,
    ClearSolutions,
    ComputeChecksums,
    LockCells,
)

from .exercises import (
    CHECKOUT,
    ExerciseError,
    course_notebooks,
    find_exercises,
    number_of,
    read_notebook,
)
from .packing import installable_files, write_zip

# Those of `nbgrader generate_assignment`, in its order, but for what fills its database.
STEPS = (LockCells, ClearSolutions, ClearOutput, CheckCellMetadata, ClearHiddenTests)
STEPS += (ComputeChecksums, CheckCellMetadata)
HERE = CHECKOUT / "teaching"
NOTE = "instructor"  # tag of the cells with notes


def student_edition(notebook: NotebookNode) -> NotebookNode:
    """Return a copy of a notebook without solutions, and without cells tagged `instructor`."""
    released, resources = deepcopy(notebook), {}
    released.cells = [c for c in released.cells if NOTE not in c.metadata.get("tags", [])]
    for step in STEPS:
        released, resources = step().preprocess(released, resources)
    return released


def read_notes(path: str | Path) -> dict[int, str]:
    """Read the notes on a notebook: 0 → on all of it, 1 → on exercise 1, and so on.

    Raises
    ------
    ExerciseError
        If there are none.
    """
    file = HERE / "notes" / f"{number_of(path)}.md"
    if not file.is_file():
        raise ExerciseError(f"{Path(path).name} has no notes for teachers: write {file}")
    parts = re.split(r"^## Exercise (\d+)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    notes = {
        int(number): text.strip() for number, text in zip(parts[1::2], parts[2::2], strict=True)
    }
    return {0: parts[0].partition("\n")[2].strip(), **notes}  # without the heading of the file


def instructor_edition(notebook: NotebookNode, notes: dict[int, str]) -> NotebookNode:
    """Return a copy of a notebook with its solutions and, in cells tagged `instructor`, the notes.

    The note on the notebook follows its first cell, that on an exercise the task.
    """
    edition = deepcopy(notebook)
    exercises = {one.task: one.number for one in find_exercises(notebook)}
    if set(exercises.values()) != set(notes) - {0}:
        raise ExerciseError(
            f"there are notes on exercises {sorted(set(notes) - {0})}, and exercises "
            f"{sorted(exercises.values())}"
        )
    cells = []
    for position, cell in enumerate(edition.cells):
        cells.append(cell)
        number = 0 if position == 0 else exercises.get(position)
        if number is not None:
            cells.append(_note(number, notes[number]))
    edition.cells = cells
    return edition


def _note(number: int, text: str) -> NotebookNode:
    """Return a cell that looks like a note, in JupyterLab and on paper."""
    title = "Notes for teachers" if number == 0 else f"Notes on exercise {number}"
    source = f'<div class="alert alert-info">\n\n**{title}**\n\n{text}\n\n</div>'
    return new_markdown_cell(source, id=f"note-{number}", metadata={"tags": [NOTE]})


def student_files() -> dict[str, bytes]:
    """Return the student edition: path in the archive → contents."""
    files = {"README.md": (HERE / "students.md").read_bytes(), **installable_files()}
    for path in course_notebooks():
        find_exercises(read_notebook(path), name=path.name)  # refuse a form that no check covers
        files[f"notebooks/{path.name}"] = _as_bytes(student_edition(read_notebook(path)))
    return files


def instructor_files() -> dict[str, bytes]:
    """Return the instructor edition, with a course folder that nbgrader can be started in."""
    files = {"README.md": (HERE / "README.md").read_bytes(), **installable_files()}
    files["nbgrader/nbgrader_config.py"] = (HERE / "nbgrader_config.py").read_bytes()
    for path in course_notebooks():
        with_notes = instructor_edition(read_notebook(path), read_notes(path))
        files[f"notebooks/{path.name}"] = _as_bytes(with_notes)
        files[f"nbgrader/source/{path.stem}/{path.name}"] = path.read_bytes()
    for path in sorted((HERE / "answers").glob("*.toml")):
        files[f"answers/{path.name}"] = path.read_bytes()
    return files


def _as_bytes(notebook: NotebookNode) -> bytes:
    return (nbformat.writes(notebook, version=4) + "\n").encode()


EDITIONS = {"student": student_files, "instructor": instructor_files}


def make_edition(edition: str, folder: str | Path = CHECKOUT / "dist") -> Path:
    """Write an edition, "student" or "instructor", as one archive; return its path."""
    name = f"genot-notebooks-{edition}"
    return write_zip(EDITIONS[edition](), Path(folder) / f"{name}.zip", top=name)


def main(arguments: list[str]) -> int:
    """Make the edition named on the command line; return the exit code."""
    if len(arguments) != 1 or arguments[0] not in EDITIONS:
        print(f"usage: python -m teaching.editions {'|'.join(EDITIONS)}", file=sys.stderr)
        return 2
    try:
        path = make_edition(arguments[0])
    except (ExerciseError, OSError) as problem:
        print(f"Error: {problem}", file=sys.stderr)
        return 1
    print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
