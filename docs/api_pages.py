"""Pages of the API reference: each room of `genot_helpers`, and the runner; for autodoc."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType

import genot_helpers
import genot_runner

# Files that are no rooms, and what of them is public.
FILES = {
    "files": ["check_output_dir", "write_json", "write_slice"],
    "results": ["finish_run", "peak_memory_mb", "real_scores"],
    "report": ["colour_checklist", "write_report"],
    "survey": ["describe_domains", "place_slices", "slice_roles", "write_survey"],
    "comparable": ["expression_maps", "shared_space"],
}


def write_api_pages(folder: Path) -> None:
    """Write `index.rst`, and for each room what is public and what is inside."""
    folder.mkdir(parents=True, exist_ok=True)
    rooms = [importlib.import_module(f"genot_helpers.{name}") for name in room_names()]
    for room in (*rooms, genot_runner):
        name = short(room)
        (folder / f"{name}.rst").write_text(room_page(room), encoding="utf-8")
        (folder / f"{name}_inside.rst").write_text(inside_page(room), encoding="utf-8")
    for name in FILES:
        (folder / f"{name}.rst").write_text(file_page(name), encoding="utf-8")
    (folder / "index.rst").write_text(index_page(rooms), encoding="utf-8")


def room_names() -> list[str]:
    """Return the rooms in the order the data flows; those without public names where they stand."""
    public = list(genot_helpers._ROOMS)
    packages = [one.name for one in pkgutil.iter_modules(genot_helpers.__path__) if one.ispkg]
    return public + [name for name in packages if name not in public]


def short(module: ModuleType) -> str:
    """Return the last part of a module's name."""
    return module.__name__.rpartition(".")[2]


def first_line(thing: object) -> str:
    """Return the first line of a docstring."""
    return (thing.__doc__ or "").strip().split("\n")[0]


def heading(text: str, rule: str = "=") -> str:
    """Return a heading of reStructuredText."""
    return f"{text}\n{rule * len(text)}\n\n"


def room_page(room: ModuleType) -> str:
    """Return the page of a room: its docstring, a table of public names, then each in full."""
    name = short(room)
    page = f"{heading(name)}.. automodule:: {room.__name__}\n"
    page += f"\n.. toctree::\n   :hidden:\n\n   {name}_inside\n\n"
    if room.__all__:
        page += table(room, room.__all__)
        page += "".join(entry(home(room, one)) for one in sorted(room.__all__))
    page += f"\n:doc:`What is inside the folder {name} <{name}_inside>`, for readers of the code.\n"
    return page


def table(module: ModuleType, names: list[str]) -> str:
    """Return a table of names with links and the first line of what they do."""
    rows = []
    for name in sorted(names):
        thing = getattr(module, name)
        what = first_line(thing) if callable(thing) else "A value; see the source."
        rows.append(f"   * - :py:obj:`~{home(module, name)}`\n     - {what}\n")
    return ".. list-table::\n   :widths: 35 65\n   :class: genot-names\n\n" + "".join(rows) + "\n"


def home(module: ModuleType, name: str) -> str:
    """Return a public name with the file it is defined in, to which its source link leads."""
    thing = getattr(module, name)
    if callable(thing):
        return f"{thing.__module__}.{name}"
    files = (importlib.import_module(f"{module.__name__}.{found.name}") for found in inside(module))
    return next(f"{file.__name__}.{name}" for file in files if name in defined(file, values=True))


def defined(file: ModuleType, *, values: bool = False) -> list[str]:
    """Return what a file defines for others: classes and functions without an underscore."""
    if hasattr(file, "__all__"):
        return list(file.__all__)
    names = []
    for node in ast.parse(inspect.getsource(file)).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif values and isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [name for name in names if not name.startswith("_")]


def inside(room: ModuleType) -> list[pkgutil.ModuleInfo]:
    """Return the files of a room."""
    return [one for one in pkgutil.iter_modules(room.__path__) if one.name != "__main__"]


def entry(name: str) -> str:
    """Return the directive that documents a function, class, exception or value."""
    module, _, last = name.rpartition(".")
    thing = getattr(importlib.import_module(module), last)
    if isinstance(thing, type):
        kind = "autoexception" if issubclass(thing, BaseException) else "autoclass"
        members = "" if kind == "autoexception" else "   :members:\n"
        return f".. {kind}:: {name}\n{members}\n"
    if callable(thing):
        return f".. autofunction:: {name}\n\n"
    return f".. py:data:: {last}\n   :module: {module}\n\n   A value; see the source.\n\n"


def inside_page(room: ModuleType) -> str:
    """Return the page about the files of a room: docstring, and names that are not public."""
    public = set(room.__all__)
    page = heading(f"Inside {short(room)}")
    page += (
        "The files of this folder. Names here may change without notice; use the public ones.\n\n"
    )
    for found in inside(room):
        module = importlib.import_module(f"{room.__name__}.{found.name}")
        page += heading(f"{found.name}.py", "-")
        page += f".. automodule:: {module.__name__}\n\n"
        inner = [one for one in defined(module) if one not in public]
        page += "".join(
            entry(f"{module.__name__}.{one}")
            for one in inner
            if getattr(getattr(module, one), "__module__", module.__name__) == module.__name__
        )
    return page


def file_page(name: str) -> str:
    """Return the page about a file that is no room."""
    file = importlib.import_module(f"genot_helpers.{name}")
    page = heading(name) + f".. automodule:: {file.__name__}\n\n" + table(file, FILES[name])
    page += "".join(entry(home(file, one)) for one in sorted(FILES[name]))
    inner = [one for one in defined(file) if one not in FILES[name]]
    return page + "".join(entry(f"{file.__name__}.{one}") for one in inner)


def index_page(rooms: list[ModuleType]) -> str:
    """Return the table of all rooms and files, and of the package that runs the notebooks."""
    page = heading("API reference") + INTRODUCTION
    listed = [(room, room.__all__) for room in rooms if room.__all__]
    listed += [(importlib.import_module(f"genot_helpers.{name}"), FILES[name]) for name in FILES]
    listed.append((genot_runner, genot_runner.__all__))
    for module, names in listed:
        links = ", ".join(f":py:obj:`~{home(module, one)}`" for one in sorted(names))
        page += f":doc:`{short(module)}`\n   {first_line(module)}\n\n   {links}\n\n"
    listing = "".join(f"   {short(module)}\n" for module, _ in listed)
    return f"{page}\n.. toctree::\n   :hidden:\n   :maxdepth: 1\n\n{listing}"


INTRODUCTION = """\
The steps of the method are at the top of the package: ``import genot_helpers as gh``, then
``gh.align``, ``gh.cluster_mixture`` and so on. Specialties are in their folder, as
``gh.alignment.align_icp``, or their file, as ``gh.survey.place_slices``. Each folder of
the package, a *room*, does one thing. Rooms stand in the order the data flows, and each imports
only from those above it.

"""
