"""Try the exercises of a notebook: each check must refuse what is wrong and pass what is right.

A copy of the notebook is run once. At each exercise it first runs the untouched cell of the student
edition, then the answers of teaching/answers, each followed by the check, and at last the solution
and the check as they stand. So the same run shows that the lesson executes, which both editions
share, and the instructor edition to its end.

    python -m teaching.trial 00 quick=True
"""

from __future__ import annotations

import inspect
import json
import sys
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from genot_runner.notebooks import find_notebook
from genot_runner.parameters import literal
from genot_runner.runs import NotebookRun, run_notebook

from .editions import student_edition
from .exercises import Answer, find_exercises, read_answers, read_notebook, solution_names

UNTOUCHED = "untouched"
RECORD = "attempts.json"


class Attempt(NamedTuple):
    """What a check said to one answer.

    Attributes
    ----------
    answer : Answer
    stopped : str
        Name and message of the error that the answer itself ended with; empty if none. Only the
        untouched cell should stop.
    error : str
        The same for the check.
    """

    answer: Answer
    stopped: str
    error: str

    @property
    def as_agreed(self) -> bool:
        """Whether the check passed what is right, and refused what is wrong with a sentence."""
        if self.answer.why == UNTOUCHED:
            said = f"AssertionError: Exercise {self.answer.exercise} is not done yet"
            return self.stopped.startswith("NotImplementedError") and self.error.startswith(said)
        said = self.error.startswith("AssertionError: ")
        return not self.stopped and (not self.error if self.answer.right else said)


def try_answer(names: list[str], answer: str, check: str) -> list[str]:
    """Run an answer and then its check in the notebook that this function is pasted into.

    Parameters
    ----------
    names
        What an answer has to store; forgotten before it runs.
    answer, check
        Code. What they print or warn of is not kept.

    Returns
    -------
    list of str
        For each of the two, the error it ended with, or nothing.
    """
    import contextlib
    import io
    import warnings

    said = []
    for name in names:
        globals().pop(name, None)
    for code in (answer, check):
        quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
        with quiet[0], quiet[1], warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                exec(code, globals())
                said.append("")
            except Exception as problem:
                said.append(f"{type(problem).__name__}: {problem}")
    return said


def with_attempts(notebook: NotebookNode, answers: list[Answer]) -> NotebookNode:
    """Return a copy of a notebook that tries all answers to an exercise before the solution."""
    trial, student = deepcopy(notebook), student_edition(notebook)
    exercises = {one.solution: one for one in find_exercises(notebook)}
    cells = []
    for position, cell in enumerate(trial.cells):
        if position in exercises:
            number, check = exercises[position].number, trial.cells[position + 1].source
            untouched = Answer(number, False, UNTOUCHED, student.cells[position].source)
            tried = [untouched, *(one for one in answers if one.exercise == number)]
            cells += [_attempt(n, one, check) for n, one in enumerate(tried)]
        cells.append(cell)
    first = min(exercises, default=len(cells))
    cells.insert(first, new_code_cell(f"_said = []\n{inspect.getsource(try_answer)}", id="trial"))
    write = f"import json\nfrom pathlib import Path\n\nwritten = Path(output_dir) / {RECORD!r}\n"
    cells.append(new_code_cell(f"{write}_ = written.write_text(json.dumps(_said))", id="record"))
    trial.cells = cells
    return trial


def _attempt(number: int, answer: Answer, check: str) -> NotebookNode:
    """Return a cell that tries one answer and notes what came of it."""
    call = f"try_answer({sorted(solution_names(check))!r}, {answer.code!r}, {check!r})"
    source = f"_said.append([{tuple(answer)!r}, *{call}])"
    return new_code_cell(source, id=f"attempt-{answer.exercise}-{number}")


def run_trial(
    notebook: str | Path, parameters: dict[str, Any], *, output_dir: str | Path
) -> NotebookRun:
    """Run a notebook as `run_notebook` does, with every answer to its exercises that there is.

    Parameters
    ----------
    notebook
        Number, name or path of a notebook with solutions.
    parameters
        Of the notebook.
    output_dir
        Folder for what it writes; read_attempts finds there what the checks said.

    Raises
    ------
    NotebookError
        If a cell of the lesson fails, or a check after the solution.
    """
    path = find_notebook(notebook)
    trial = with_attempts(read_notebook(path), read_answers(path))
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        nbformat.write(trial, copy)
        return run_notebook(copy, parameters, output_dir=output_dir, progress=False)


def read_attempts(run: NotebookRun) -> list[Attempt]:
    """Return what the checks said in a trial, in the order of the exercises."""
    rows = json.loads((run.output_dir / RECORD).read_text(encoding="utf-8"))
    return [Attempt(Answer(*answer), stopped, error) for answer, stopped, error in rows]


def main(arguments: list[str]) -> int:
    """Try the notebook with the number given, print what happened, return the exit code."""
    if not arguments:
        print("usage: python -m teaching.trial NUMBER [NAME=VALUE ...]", file=sys.stderr)
        return 2
    pairs = (pair.partition("=") for pair in arguments[1:])
    parameters = {name: literal(text) for name, _, text in pairs}
    with tempfile.TemporaryDirectory() as folder:
        attempts = read_attempts(run_trial(arguments[0], parameters, output_dir=folder))
    for one in attempts:
        print(f"exercise {one.answer.exercise}, {one.answer.why}: {one.error or 'passed'}")
        print("    as agreed" if one.as_agreed else f"    NOT AS AGREED {one.stopped}")
    print("The solutions passed.")
    return 0 if all(one.as_agreed for one in attempts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
