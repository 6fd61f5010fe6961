"""The student edition (no solutions) and the instructor edition (with notes) of the notebooks."""

from __future__ import annotations

from nbformat import NotebookNode
from nbgrader.preprocessors import (
    CheckCellMetadata,
    ClearHiddenTests,
    ClearOutput,
    ClearSolutions,
    ComputeChecksums,
    LockCells,
)

# Those of `nbgrader generate_assignment`, in its order, but for what fills its database.
STEPS = (LockCells, ClearSolutions, ClearOutput, CheckCellMetadata, ClearHiddenTests)
STEPS += (ComputeChecksums, CheckCellMetadata)


def student_edition(notebook: NotebookNode) -> NotebookNode:
    """Return a copy of a notebook without solutions, made by nbgrader's converters."""
    from copy import deepcopy

    released, resources = deepcopy(notebook), {}
    for step in STEPS:
        released, resources = step().preprocess(released, resources)
    return released
