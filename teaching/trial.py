"""Try the exercises of a notebook: the check must refuse what is wrong and pass what is right.

One kernel goes through the student edition once. At each exercise it runs the untouched cell, the
answers of teaching/answers, and at last the solution, each followed by the check. So the same run
shows that the lesson executes, and that the instructor edition does to its end.

    python -m teaching.trial 00 quick=True
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from .editions import student_edition
from .exercises import (
    Answer,
    Exercise,
    course_notebooks,
    find_exercises,
    read_answers,
    solution_names,
)

UNTOUCHED = "untouched"


class Attempt(NamedTuple):
    """What a check said to one answer.

    Attributes
    ----------
    answer : Answer
    error : str
        Name and message of the check's error; empty if it passed.
    stopped : str
        The same for the answer itself. Only the untouched cell should stop.
    """

    answer: Answer
    error: str
    stopped: str

    @property
    def as_agreed(self) -> bool:
        """Whether the check passed what is right, and refused what is wrong with a sentence."""
        if self.answer.why == UNTOUCHED:
            said = f"AssertionError: Exercise {self.answer.exercise} is not done yet"
            return self.stopped.startswith("NotImplementedError") and self.error.startswith(said)
        said = self.error.startswith("AssertionError: ")
        return not self.stopped and (not self.error if self.answer.right else said)


def try_exercises(path: str | Path, *, output_dir: str | Path, **parameters: Any) -> list[Attempt]:
    """Execute a notebook once, with every answer to its exercises that there is.

    Parameters
    ----------
    path
        The notebook, with solutions.
    output_dir
        Folder for what the notebook writes.
    **parameters
        Of the notebook, for example ``quick=True``.

    Returns
    -------
    list of Attempt
        In the order they were made; the solution of each exercise is the last.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell of the lesson fails.
    """
    parameters |= {"output_dir": str(Path(output_dir).resolve())}
    solved = parameterize_notebook(load_notebook_node(str(path)), parameters)
    student = student_edition(solved)
    exercises = {one.solution: one for one in find_exercises(solved, name=Path(path).name)}
    answers, attempts = read_answers(path), []
    client = NotebookClient(student, resources={"metadata": {"path": str(Path(path).parent)}})
    with client.setup_kernel():
        for position, cell in enumerate(student.cells):
            if position not in exercises:
                if position - 1 not in exercises:  # a check runs with its exercise
                    client.execute_cell(cell, position)
                continue
            exercise, check = exercises[position], student.cells[position + 1]
            for answer in _answers(exercise, cell, solved.cells[position], answers):
                _run(client, cell, _forget(check.source), position)
                stopped = _run(client, cell, answer.code, position)
                error = _run(client, check, check.source, exercise.check)
                attempts.append(Attempt(answer, error, stopped))
    return attempts


def _answers(
    exercise: Exercise, untouched: NotebookNode, solved: NotebookNode, answers: list[Answer]
) -> list[Answer]:
    """Return all answers to an exercise: the untouched cell first, the solution last."""
    first = Answer(exercise.number, False, UNTOUCHED, untouched.source)
    last = Answer(exercise.number, True, "solution", solved.source)
    return [first, *(one for one in answers if one.exercise == exercise.number), last]


def _forget(check: str) -> str:
    """Return code that forgets what an earlier answer has stored."""
    return f"for name in {sorted(solution_names(check))}: globals().pop(name, None)"


def _run(client: NotebookClient, cell: NotebookNode, code: str, position: int) -> str:
    """Run code in the place of a cell; return the error, or nothing."""
    try:
        client.execute_cell(type(cell)(cell, source=code), position)
    except CellExecutionError as problem:
        return f"{problem.ename}: {problem.evalue}"
    return ""


def main(arguments: list[str]) -> int:
    """Try the notebook with the number given, print what happened, return the exit code."""
    from genot_helpers.reruns.reruns import literal

    chosen = [path for path in course_notebooks() if path.name.startswith(tuple(arguments[:1]))]
    if len(chosen) != 1:
        print("usage: python -m teaching.trial NUMBER [NAME=VALUE ...]", file=sys.stderr)
        return 2
    pairs = (pair.partition("=") for pair in arguments[1:])
    parameters = {name: literal(text) for name, _, text in pairs}
    with tempfile.TemporaryDirectory() as folder:
        attempts = try_exercises(chosen[0], output_dir=folder, **parameters)
    for one in attempts:
        print(f"exercise {one.answer.exercise}, {one.answer.why}: {one.error or 'passed'}")
        print("    as agreed" if one.as_agreed else f"    NOT AS AGREED {one.stopped}")
    return 0 if all(one.as_agreed for one in attempts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
