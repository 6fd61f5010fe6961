"""The editions: student (no solutions), instructor (solutions and notes), live (to code along).

    python -m teaching.editions student      # dist/genot-notebooks-student.zip
    python -m teaching.editions instructor   # dist/genot-notebooks-instructor.zip
    python -m teaching.editions live         # dist/genot-notebooks-live.zip

The notebooks in notebooks/ are the only source. The converters are nbgrader's. Notes for teachers
live in teaching/notes and are put in here, so that no reader of the notebooks meets them and no
edition for students can keep one by mistake.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
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


def live_edition(notebook: NotebookNode) -> NotebookNode:
    """Return a copy of a notebook to code along with: prose stays, code is for the room to write.

    A code cell keeps its first comment, and the titles of its figures as comments. The cells of
    parameters and of imports stay whole, as typing them teaches nothing; exercises are those of
    the student edition.
    """
    edition = student_edition(notebook)
    kept = {at for one in find_exercises(notebook) for at in (one.task, one.solution, one.check)}
    for position, cell in enumerate(edition.cells):
        if cell.cell_type == "code" and position not in kept and not _stays_whole(cell):
            titles = [f"# figure: {title}" for title in _figure_titles(cell.source)]
            cell.source = "\n".join([*_first_comment(cell.source), *titles])
    return edition


def _stays_whole(cell: NotebookNode) -> bool:
    """Say whether a cell holds the parameters or imports the helper module."""
    return "parameters" in cell.metadata.get("tags", []) or bool(
        re.search(r"^import genot_helpers\b", cell.source, flags=re.MULTILINE)
    )


def _first_comment(source: str) -> list[str]:
    """Return the lines of the first comment in code, as full lines; none where there is none."""
    comments = [
        token
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and not token.string.startswith(("# fmt:", "# noqa"))
    ]
    lines: list[str] = []
    for token in comments:
        alone = not token.line[: token.start[1]].strip()
        follows = not lines or token.start[0] == comments[0].start[0] + len(lines)
        if not follows or (lines and not alone):
            break
        lines.append(token.string)
        if not alone:
            break
    return lines


def _figure_titles(source: str) -> list[str]:
    """Return the titles that code gives to figures, in order, as they are written there."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        named = [one.value for one in node.keywords if one.arg in ("title", "titles")]
        if getattr(node.func, "attr", "") in ("set_title", "suptitle"):
            named += node.args[:1]
        found += [(one.lineno, one.col_offset, text) for one in named for text in _texts(one)]
    return [text for _, _, text in sorted(found)]


def _texts(value: ast.expr) -> list[str]:
    """Return the texts in an expression; what is computed stands in braces."""
    if isinstance(value, ast.Constant):
        return [value.value] if isinstance(value.value, str) else []
    if isinstance(value, ast.JoinedStr):
        return [ast.unparse(value)[2:-1]]
    if isinstance(value, ast.List | ast.Tuple):
        return [text for one in value.elts for text in _texts(one)]
    return []


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


def live_files() -> dict[str, bytes]:
    """Return the edition to code along with: path in the archive → contents."""
    files = {"README.md": (HERE / "live.md").read_bytes(), **installable_files()}
    for path in course_notebooks():
        files[f"notebooks/{path.name}"] = _as_bytes(live_edition(read_notebook(path)))
    return files


def _as_bytes(notebook: NotebookNode) -> bytes:
    return (nbformat.writes(notebook, version=4) + "\n").encode()


EDITIONS = {"student": student_files, "instructor": instructor_files, "live": live_files}


def make_edition(edition: str, folder: str | Path = CHECKOUT / "dist") -> Path:
    """Write an edition, one of :data:`EDITIONS`, as one archive; return its path."""
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
