"""The row of buttons under the title of a notebook: Binder, Colab, download."""

from __future__ import annotations

import copy
from pathlib import Path

from nbformat import NotebookNode
from repository import branch, public_address

COLAB_NOTE = """\
<details class="genot-colab"><summary>On Colab, run this in a first cell</summary>
<pre>%pip install "genot-helpers @ git+{address}"</pre></details>
"""


def links(name: str, address: str) -> list[tuple[str, str]]:
    """Return text and address of every button for the notebook file `name`."""
    found = [("Download notebook", name)]
    if address:
        place = address.removeprefix("https://github.com/")
        binder = f"https://mybinder.org/v2/gh/{place}/{branch()}?urlpath=lab/tree/notebooks/{name}"
        colab = "https://colab.research.google.com/github"
        colab = f"{colab}/{place}/blob/{branch()}/notebooks/{name}"
        found = [("Open in Binder", binder), ("Open in Colab", colab), *found]
    return found


def add_buttons(notebook: NotebookNode, source: Path, address: str | None = None) -> NotebookNode:
    """Return a copy of a notebook with its buttons below the title (`address`: see repository)."""
    address = public_address() if address is None else address
    buttons = "".join(
        f'<a href="{where}"{" download" if where == source.name else ""}>{text}</a>\n'
        for text, where in links(source.name, address)
    )
    row = f'<div class="genot-buttons">\n{buttons}</div>\n'
    if address:
        row += COLAB_NOTE.format(address=address)
    notebook = copy.deepcopy(notebook)
    title, newline, rest = notebook.cells[0].source.partition("\n")
    notebook.cells[0].source = f"{title}\n\n{row}{newline}{rest}"
    return notebook
