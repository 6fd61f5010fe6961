"""The package as a whole: public names, quick import, nothing of the machine it was made on."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import genot_helpers

CHECKOUT = Path(__file__).resolve().parent.parent


ROOMS = [importlib.import_module(f"genot_helpers.{name}") for name in genot_helpers._ROOMS]
MODULES = {*genot_helpers._ROOMS, "report", "survey"}  # reached as gh.<module>.<name>
PUBLIC = [(genot_helpers, name) for name in genot_helpers.__all__ if name not in MODULES]
PUBLIC += [(room, name) for room in ROOMS for name in room.__all__]
TEXTS = ["README.md", "data/README.md", "notebooks/*.ipynb", "docs/*.md"]
TEXTS += ["teaching/*.md", "teaching/notes/*.md"]


@pytest.mark.parametrize(("room", "name"), PUBLIC, ids=[name for _, name in PUBLIC])
def test_public_names_exist_and_say_what_they_are(room, name):
    public = getattr(room, name)
    assert name in dir(room)
    if not callable(public):
        assert name.isupper()  # a value, such as the palette
        return
    assert inspect.getdoc(public)
    assert public.__doc__  # its own, not that of a parent class
    assert public.__module__.startswith("genot_helpers.")


def test_editors_find_every_public_name_where_it_is_defined():
    """The stub that editors and type checkers read is also what the package loads its names by."""
    jedi = pytest.importorskip("jedi")
    code = "import genot_helpers as gh\ngh.align\ngh.plotting.film\ngh.survey.place_slices"
    script = jedi.Script(code, project=jedi.Project(CHECKOUT))
    homes = ("alignment.alignment", "plotting.stack_plots", "survey")
    for line, (column, home) in enumerate(zip((5, 14, 12), homes, strict=True), 2):
        (found,) = script.goto(line, column, follow_imports=True)
        assert found.module_name == f"genot_helpers.{home}"
    assert (CHECKOUT / "genot_helpers" / "py.typed").exists()


def test_the_top_level_can_be_read_at_a_glance():
    assert len(set(genot_helpers.__all__) - set(genot_helpers._ROOMS)) <= 105
    assert set(genot_helpers.__all__) >= MODULES


@pytest.mark.parametrize("name", [name for name in genot_helpers.__all__])
def test_every_public_name_is_used_by_a_notebook_the_readme_or_a_guide(name):
    texts = (path.read_text(encoding="utf-8") for one in TEXTS for path in CHECKOUT.glob(one))
    assert any(re.search(rf"\b{name}\b", text) for text in texts)


def test_no_notebook_imports_from_inside():
    for path in (CHECKOUT / "notebooks").glob("*.ipynb"):
        assert not re.search(r"(from|import) genot_helpers\.", path.read_text(encoding="utf-8")), (
            path.name
        )


def test_no_private_name_is_imported_across_files_and_no_name_from_where_it_is_not_defined():
    found = []
    for path in (CHECKOUT / "genot_helpers").rglob("*.py"):
        if path.name == "__init__.py":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                found += [f"{path}: {one.name}" for one in node.names if one.name.startswith("_")]
    assert not found


def test_public_functions_name_their_parameters_in_the_signature():
    """Everything after the data is keyword-only or named; nothing hides in *arguments."""
    for room, name in PUBLIC:
        public = getattr(room, name)
        if inspect.isfunction(public):
            kinds = [one.kind for one in inspect.signature(public).parameters.values()]
            assert inspect.Parameter.VAR_POSITIONAL not in kinds, name


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        genot_helpers.no_such_name  # noqa: B018


def test_importing_the_package_loads_no_heavy_library():
    code = (
        "import sys, genot_helpers, genot_helpers.__main__\n"
        "print([name for name in ('torch', 'squidpy', 'scanpy', 'sklearn') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def repository_files():
    """Files that are tracked, or would be: not ignored by git."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as problem:
        pytest.skip(f"needs git and a checkout to tell which files belong to it: {problem}")
    files = [CHECKOUT / name for name in listed.stdout.split("\0") if name]
    return [file for file in files if file.is_file()]


def test_no_file_names_a_folder_of_somebodys_machine():
    folders = "|".join(["home", "work", "root", "Users"])
    # An absolute path begins a word; in "https://host/home/" or "a/home/" it does not.
    absolute = re.compile(rf"(?<![\w.:/~}}-])/(?:{folders})/\w")
    assert absolute.search("in " + "/home" + "/somebody")  # or this test would test nothing
    found = []
    for file in repository_files():
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue  # an image
        for number, line in enumerate(lines, 1):
            if absolute.search(line):
                found.append(f"{file.relative_to(CHECKOUT)}:{number}: {line.strip()[:100]}")
    assert not found, "\n".join(found)


def test_the_helper_module_knows_nothing_of_the_runner():
    package = CHECKOUT / "genot_helpers"
    imports = re.compile(r"^\s*(?:from|import) genot_runner", re.MULTILINE)
    users = [file for file in package.rglob("*.py") if imports.search(file.read_text("utf-8"))]
    assert users == [package / "__main__.py"]


def test_rooms_import_only_from_rooms_that_come_before():
    package = CHECKOUT / "genot_helpers"
    rooms = list(genot_helpers._ROOMS)
    found = []
    for number, room in enumerate(rooms):
        for file in (package / room).rglob("*.py"):
            for other in re.findall(r"from \.\.(\w+)", file.read_text(encoding="utf-8")):
                if other in rooms[number + 1 :]:
                    found.append(f"{file.relative_to(package)} imports from {other}")
    assert not found, "\n".join(found)
    assert {path.parent.name for path in package.glob("*/__init__.py")} == set(rooms)
