"""The course: exercises and their checks, the two editions, the bundle for offline rooms."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import tokenize
import tomllib
import zipfile
from difflib import SequenceMatcher
from pathlib import Path

import nbformat
import pytest

pytest.importorskip("nbgrader", reason="the course editions need nbgrader: extra 'teaching'")

from notebook_runs import shared_demo_run

from genot_runner.notebooks import CHECKOUT
from teaching.bundle import BundleError, assemble, wheels_wanted
from teaching.editions import (
    NOTE,
    instructor_edition,
    instructor_files,
    live_edition,
    live_files,
    make_edition,
    read_notes,
    student_edition,
    student_files,
)
from teaching.exercises import (
    ExerciseError,
    course_notebooks,
    find_exercises,
    number_of,
    read_answers,
    read_notebook,
)
from teaching.trial import UNTOUCHED, read_attempts

NOTEBOOKS = course_notebooks()
WHOLE_METHOD = "11"  # changes every part of the method, so it has more exercises
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@every_notebook
def test_exercises_have_the_agreed_form(path: Path) -> None:
    exercises = find_exercises(read_notebook(path), name=path.name)
    if number_of(path) == WHOLE_METHOD:
        assert len(exercises) == 13
    else:
        assert 3 <= len(exercises) <= 5
    wrong = {one.exercise for one in read_answers(path) if not one.right}
    assert wrong == {one.number for one in exercises}, "list a likely mistake for each exercise"
    assert set(read_notes(path)) == {0, *wrong}


# From the last to the first: other files run them from the first on, and so two workers meet in the
# middle instead of waiting for each other at every notebook.
@pytest.mark.parametrize("path", NOTEBOOKS[::-1], ids=lambda path: path.stem)
@pytest.mark.notebook
def test_checks_refuse_what_is_wrong_and_pass_what_is_right(
    path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The run itself passes the solutions: it would have stopped at their checks."""
    attempts = read_attempts(shared_demo_run(number_of(path), tmp_path_factory))
    untouched = [one.answer.exercise for one in attempts if one.answer.why == UNTOUCHED]
    assert untouched == [one.number for one in find_exercises(read_notebook(path))]
    assert len(attempts) == len(untouched) + len(read_answers(path))
    assert [one for one in attempts if not one.as_agreed] == []


@every_notebook
def test_no_check_contains_the_solution(path: Path) -> None:
    """One call may stand in both (its name alone has up to 40 letters), a line of reasoning not."""
    notebook = read_notebook(path)
    for exercise in find_exercises(notebook, name=path.name):
        solved = notebook.cells[exercise.solution].source.split("### BEGIN SOLUTION")[1]
        texts = ["".join(one.split()) for one in (solved, notebook.cells[exercise.check].source)]
        shared = SequenceMatcher(None, *texts, autojunk=False).find_longest_match()
        assert shared.size < 50, texts[0][shared.a : shared.a + shared.size]


@every_notebook
def test_student_edition_is_the_lesson_without_solutions(path: Path) -> None:
    notebook = read_notebook(path)
    student = student_edition(notebook)
    nbformat.validate(student)
    solutions = {one.solution for one in find_exercises(notebook)}
    for position, (cell, released) in enumerate(zip(notebook.cells, student.cells, strict=True)):
        if position in solutions:
            before, _, rest = cell.source.partition("### BEGIN SOLUTION")
            solution, _, after = rest.partition("### END SOLUTION")
            stub = "# YOUR CODE HERE\nraise NotImplementedError()"
            assert released.source == before + stub + after
            assert solution.strip() not in released.source
        else:
            assert released.source == cell.source
    assert not any(cell.get("outputs") for cell in student.cells)


@every_notebook
def test_checks_are_locked_and_give_a_point(path: Path) -> None:
    student = student_edition(read_notebook(path))
    marks = [cell.metadata.nbgrader for cell in student.cells if "nbgrader" in cell.metadata]
    checks = [one for one in marks if one.grade]
    assert len(checks) == len(find_exercises(read_notebook(path)))
    assert all(one.locked and one.points == 1 and one.checksum for one in checks)
    assert len({one.grade_id for one in marks}) == len(marks)


@every_notebook
def test_instructor_edition_has_notes_where_they_belong(path: Path) -> None:
    notebook = read_notebook(path)
    edition = instructor_edition(notebook, read_notes(path))
    nbformat.validate(edition)
    noted = [n for n, cell in enumerate(edition.cells) if NOTE in cell.metadata.get("tags", [])]
    before = [edition.cells[n - 1].source.splitlines()[0] for n in noted]
    assert before[0].startswith("# ")
    assert all(one.startswith(f"### Exercise {n} ·") for n, one in enumerate(before[1:], 1))
    kept = [cell for cell in edition.cells if NOTE not in cell.metadata.get("tags", [])]
    assert [cell.source for cell in kept] == [cell.source for cell in notebook.cells]
    assert student_edition(edition).cells == student_edition(notebook).cells


def _comments_only(source: str) -> bool:
    blank = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return all(token.type in blank for token in tokens)


@every_notebook
def test_live_edition_keeps_the_text_and_leaves_the_code_to_the_room(path: Path) -> None:
    notebook = read_notebook(path)
    live, student = live_edition(notebook), student_edition(notebook)
    nbformat.validate(live)
    exercises = find_exercises(notebook)
    given = {at for one in exercises for at in (one.solution, one.check)}
    emptied = 0
    for position, (cell, lesson) in enumerate(zip(live.cells, student.cells, strict=True)):
        whole = "parameters" in cell.metadata.get("tags", []) or "import genot" in cell.source
        if cell.cell_type == "markdown" or position in given or whole:
            assert cell.source == lesson.source
        else:
            assert _comments_only(cell.source), cell.source
            emptied += 1
    assert emptied >= 5
    assert not [cell for cell in live.cells if "BEGIN SOLUTION" in cell.source]


def test_a_live_cell_keeps_its_first_comment_and_the_titles_of_figures() -> None:
    notebook = read_notebook(NOTEBOOKS[0])
    source = (
        "values = [1, 2]  # of all spots\nfigure, ax = plt.subplots()  # later\n"
        'ax.set_title(f"Counts of {gene}")\ngh.plot_domains(adata, titles=["Annotated", name])\n'
        'figure.suptitle("All")\n# last\n'
    )
    notebook.cells.insert(1, nbformat.v4.new_code_cell(source))
    notebook.cells.insert(2, nbformat.v4.new_code_cell("# Two lines\n# of one comment\nx = '# 1'"))
    notebook.cells.insert(3, nbformat.v4.new_code_cell("x = '# no comment'  # noqa: E501"))
    wanted = "# of all spots\n# figure: Counts of {gene}\n# figure: Annotated\n# figure: All"
    cells = live_edition(notebook).cells
    assert [cell.source for cell in cells[1:4]] == [wanted, "# Two lines\n# of one comment", ""]


def test_live_archive_can_be_installed_and_holds_no_solution(tmp_path: Path) -> None:
    archive = make_edition("live", tmp_path)
    with zipfile.ZipFile(archive) as packed:
        contents = {name.partition("/")[2]: packed.read(name) for name in packed.namelist()}
    assert contents == live_files()
    assert set(contents) == set(student_files())
    for name, content in contents.items():
        assert not (name.endswith(".ipynb") and b"BEGIN SOLUTION" in content), name
    assert b"code along" in contents["README.md"]


def test_notes_and_exercises_must_fit() -> None:
    notebook = read_notebook(NOTEBOOKS[0])
    with pytest.raises(ExerciseError, match=r"notes on exercises \[7\]"):
        instructor_edition(notebook, {0: "all", 7: "one that is not there"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda cells: cells[1].update(source="answer = 1"), "one BEGIN SOLUTION"),
        (lambda cells: cells[2].update(source="assert answer == 1, 'no'"), "two asserts"),
        (lambda cells: cells[2].metadata["nbgrader"].update(locked=False), "should carry"),
        (lambda cells: cells[0].update(source="### Exercise 1 · Long (45 minutes)"), "at most 20"),
        (lambda cells: cells[0].update(source="### Exercise 1"), "heading should be"),
        (lambda cells: cells[0].update(source="### Exercise 2 · A (5 minutes)"), "should carry"),
        (lambda cells: cells.pop(0), "solutions, but 0 exercises"),
    ],
)
def test_exercises_in_another_form_are_refused(change, message: str) -> None:
    notebook = read_notebook(NOTEBOOKS[0])
    first = find_exercises(notebook)[0]
    notebook.cells = notebook.cells[first.task : first.check + 1]
    assert len(find_exercises(notebook)) == 1
    change(notebook.cells)
    with pytest.raises(ExerciseError, match=message):
        find_exercises(notebook)


def test_student_archive_holds_what_is_needed_and_no_solution(tmp_path: Path) -> None:
    archive = make_edition("student", tmp_path)
    with zipfile.ZipFile(archive) as packed:
        contents = {name.partition("/")[2]: packed.read(name) for name in packed.namelist()}
    assert contents == student_files()
    needed = {"README.md", "environment.yml", "constraints.txt", "pyproject.toml"}
    needed |= {f"notebooks/{path.name}" for path in NOTEBOOKS}
    assert needed <= set(contents)
    package = {name for name in contents if name.startswith("genot_helpers/")}
    assert package == {
        path.relative_to(CHECKOUT).as_posix()
        for path in (CHECKOUT / "genot_helpers").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    for name, content in contents.items():
        if name.endswith(".ipynb"):
            assert b"BEGIN SOLUTION" not in content, name
            assert b"raise NotImplementedError()" in content, name
    again = make_edition("student", tmp_path / "again")
    assert again.read_bytes() == archive.read_bytes(), "the same notebooks, another archive"


def test_instructor_archive_holds_solutions_notes_and_a_course() -> None:
    files = instructor_files()
    for path in NOTEBOOKS:
        text = files[f"notebooks/{path.name}"].decode()
        assert "### BEGIN SOLUTION" in text
        assert "Notes for teachers" in text
        assert files[f"nbgrader/source/{path.stem}/{path.name}"] == path.read_bytes()
    assert b"course_id" in files["nbgrader/nbgrader_config.py"]


def _nbgrader(*arguments: str, course: Path) -> None:
    command = [sys.executable, "-m", "nbgrader", *arguments]
    here = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}  # alembic
    done = subprocess.run(
        command, cwd=course, env=os.environ | here, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.notebook
def test_nbgrader_releases_and_grades(tmp_path: Path) -> None:
    """Who has answered the first exercise only gets one point."""
    for name, content in instructor_files().items():
        if name.startswith(("nbgrader/nbgrader_config", "nbgrader/source/00_")):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    course, name = tmp_path / "nbgrader", NOTEBOOKS[0].stem
    _nbgrader("generate_assignment", name, course=course)
    released = read_notebook(course / "release" / name / f"{name}.ipynb")
    assert [c.source for c in released.cells] == [
        c.source for c in student_edition(read_notebook(NOTEBOOKS[0])).cells
    ]
    first = find_exercises(read_notebook(NOTEBOOKS[0]))[0]
    released.cells[
        first.solution
    ].source = "n_second = (shortest_path(graph, unweighted=True) == 2).sum(axis=1)"
    handed_in = course / "submitted" / "ada" / name / f"{name}.ipynb"
    handed_in.parent.mkdir(parents=True)
    nbformat.write(released, handed_in)
    _nbgrader("autograde", name, course=course)
    _nbgrader("export", course=course)
    header, row = (line.split(",") for line in (course / "grades.csv").read_text().splitlines())
    grades = dict(zip(header, row, strict=True))
    assert float(grades["score"]) == 1
    assert float(grades["max_score"]) == len(find_exercises(read_notebook(NOTEBOOKS[0])))


BACKEND = """
import zipfile

INFO = "tiny_course-1.dist-info"
METADATA = "Metadata-Version: 2.1\\nName: tiny-course\\nVersion: 1\\nRequires-Dist: tiny-part\\n"
WHEEL = "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name = "tiny_course-1-py3-none-any.whl"
    with zipfile.ZipFile(f"{wheel_directory}/{name}", "w") as wheel:
        wheel.writestr(f"{INFO}/METADATA", METADATA)
        wheel.writestr(f"{INFO}/WHEEL", WHEEL)
        wheel.writestr(f"{INFO}/RECORD", "")
    return name
"""


def _tiny_wheel(folder: Path) -> None:
    """Write a wheel that holds one module."""
    info, files = "tiny_part-1.dist-info", {"tiny_part.py": b"answer = 42\n"}
    files[f"{info}/METADATA"] = b"Metadata-Version: 2.1\nName: tiny-part\nVersion: 1\n"
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = [
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()},"
        for name, data in files.items()
    ]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,"]).encode()
    with zipfile.ZipFile(folder / "tiny_part-1-py3-none-any.whl", "w") as wheel:
        for name, data in files.items():
            wheel.writestr(name, data)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a bundle as for a stick, with a tiny course and a wheel house of one wheel."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    _tiny_wheel(wheels)
    backend = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    edition = tmp_path / "tiny.zip"
    with zipfile.ZipFile(edition, "w") as packed:
        packed.writestr("tiny/pyproject.toml", backend)
        packed.writestr("tiny/backend.py", BACKEND)
        packed.writestr("tiny/constraints.txt", "tiny-part==1\n")
        packed.writestr("tiny/notebooks/00.ipynb", "{}")
    return assemble(tmp_path / "stick", wheels, {"tiny.zip": edition})


def _install(bundle: Path, folder: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, str(bundle / "install.py"), str(folder)]
    return subprocess.run(command, capture_output=True, text=True)


def test_bundle_installs_without_an_index(bundle: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")  # nobody answers there
    room = tmp_path / "room"
    done = _install(bundle, room)
    assert done.returncode == 0, done.stderr
    assert (room / "notebooks" / "00.ipynb").is_file()
    python = done.stdout.split("Start with:")[1].split()[0]
    assert Path(python).is_relative_to(room)
    code = [python, "-c", "import tiny_part; print(tiny_part.answer)"]
    assert subprocess.run(code, capture_output=True, text=True).stdout == "42\n"
    again = _install(bundle, room)
    assert again.returncode == 1
    assert "may hold your answers" in again.stderr


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda stick: next((stick / "wheels").glob("*.whl")).unlink(), "is missing"),
        (lambda stick: (stick / "tiny.zip").write_bytes(b"half of it"), "is damaged"),
        (lambda stick: _edit_manifest(stick, python="2.7"), "This bundle is for Python 2.7"),
        (lambda stick: _edit_manifest(stick, machine="abacus"), "abacus"),
    ],
)
def test_unfit_bundle_is_refused_before_anything_is_written(
    bundle: Path, tmp_path: Path, damage, message: str
) -> None:
    damage(bundle)
    done = _install(bundle, tmp_path / "room")
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "room").exists()


def _edit_manifest(stick: Path, **facts: str) -> None:
    manifest = stick / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | facts))


def test_bundle_without_wheels_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match="holds no wheel"):
        assemble(tmp_path / "stick", tmp_path / "empty", {})


def test_wheel_house_covers_the_package_and_its_builder() -> None:
    facts = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = wheels_wanted()
    assert set(facts["project"]["dependencies"]) <= set(wanted)
    assert any(one.startswith("setuptools") for one in wanted), "an editable install builds"


def test_manifest_names_every_file(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    there = {p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file()}
    assert set(manifest["files"]) == there - {"manifest.json"}
    assert manifest["edition"] == "tiny.zip"
    assert "simulated" in (bundle / "README.md").read_text(encoding="utf-8")
