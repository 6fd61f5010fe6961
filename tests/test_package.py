"""The package as a whole: public names, quick import, nothing of the machine it was made on."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import genot_helpers

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", genot_helpers.__all__)
def test_public_names_exist_and_say_what_they_are(name):
    public = getattr(genot_helpers, name)
    assert callable(public)
    assert inspect.getdoc(public)
    assert public.__doc__  # its own, not that of a parent class
    assert public.__module__.startswith("genot_helpers.")
    assert name in dir(genot_helpers)


def test_public_functions_name_their_parameters_in_the_signature():
    """Everything after the data is keyword-only or named; nothing hides in *arguments."""
    for name in genot_helpers.__all__:
        public = getattr(genot_helpers, name)
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
    rooms = [room.__name__.split(".")[1] for room in genot_helpers._ROOMS]
    found = []
    for number, room in enumerate(rooms):
        for file in (package / room).rglob("*.py"):
            for other in re.findall(r"from \.\.(\w+)", file.read_text(encoding="utf-8")):
                if other in rooms[number + 1 :]:
                    found.append(f"{file.relative_to(package)} imports from {other}")
    assert not found, "\n".join(found)
    assert {path.parent.name for path in package.glob("*/__init__.py")} == set(rooms)
