"""Names of the package in docstrings become links, however much of the path is written.

A docstring or page may say `align`, `genot_helpers.align`, `genot_helpers.alignment.align` or, as
the reference does, `genot_helpers.alignment.alignment.align`.
"""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.domains.python import PyObject
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode


def find_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element
) -> nodes.reference | None:
    """Look a name up among those documented: the only one, or the nearest one, that ends so."""
    if node.get("refdomain") != "py" or "reftarget" not in node:
        return None
    target = node["reftarget"].lstrip(".")
    objects = env.domains["py"].objects
    matches = [name for name in objects if f".{name}".endswith(f".{target}")]
    if not matches and target.startswith(
        ("genot_helpers.", "genot_runner.")
    ):  # without the room or the file
        matches = [name for name in objects if _same(name, target)]
    places = {(objects[name].docname, objects[name].node_id): name for name in matches}
    if len(places) > 1:
        near = {place: name for place, name in places.items() if place[0] == node.get("refdoc")}
        places = near or places
    if len(places) != 1:
        return None
    (docname, anchor), name = next(iter(places.items()))
    return make_refnode(app.builder, node["refdoc"], docname, anchor, content, name)


def _same(name: str, target: str) -> bool:
    """Tell whether the parts of one dotted name are those of the other, some left out."""
    short, long = sorted((name.split("."), target.split(".")), key=len)
    return short[-1] == long[-1] and set(short) <= set(long)


def number_footnotes(
    app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]
) -> None:
    """Give references of a docstring (`[1]_`, `.. [1]`) labels that are unique on a page."""
    label = name.removeprefix("genot_helpers.").replace(".", "-").replace("_", "-")
    for number, line in enumerate(lines):
        line = re.sub(r"\[(\d+)\]_", rf"[#{label}-\1]_", line)
        lines[number] = re.sub(r"^(\s*\.\. )\[(\d+)\]", rf"\1[#{label}-\2]", line)


def keep_names_together(
    app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]
) -> None:
    """Let fields described together, `left, right`, be one entry; Sphinx takes one for a type."""
    for number, line in enumerate(lines):
        fields = re.match(r"\s*:ivar ((?:\w+, )+\w+):", line)
        if fields:
            lines[number] = line.replace(fields[1], fields[1].replace(", ", ",\u200b"), 1)


def setup(app: Sphinx) -> dict[str, bool]:
    """Ask the functions above; names of fields of a class are names, not links to look for."""
    app.connect("missing-reference", find_name)
    app.connect("autodoc-process-docstring", number_footnotes, priority=1)  # before napoleon
    app.connect("autodoc-process-docstring", keep_names_together, priority=900)  # after it
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.rolename = ""
    return {"parallel_read_safe": True, "parallel_write_safe": True}
