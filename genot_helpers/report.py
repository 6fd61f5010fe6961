"""One page to send on: a report with figures inside, numbers, parameters, versions and caveats.

One HTML file that needs nothing beside it and prints well, put together by Jinja; all text is
escaped.
"""

from __future__ import annotations

import base64
import datetime
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import jinja2
import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler
from PIL import Image

from .arguments import checked
from .files import atomic_path, check_output_dir
from .results import package_versions

TEMPLATE = Path(__file__).with_name("report.html")
_WIDEST = 1600  # pixels
_COLOURS = {  # of the words of a checklist, as in the page
    "mend": "background: #d55e00; color: white",
    "look": "background: #f9efb0; color: black",
}

Item: TypeAlias = str | Sequence | pd.DataFrame | Path
"""What a section of a report can hold."""

_PACKAGES = ("genot-helpers", "anndata", "scanpy", "squidpy", "POT", "scikit-learn", "numpy")


@checked
def write_report(
    path: str | Path,
    title: str,
    sections: Mapping[str, Sequence[Item]],
    *,
    subtitle: str = "",
    parameters: Mapping[str, Any] | None = None,
    caveats: Sequence[str] = (),
    references: Sequence[str] = (),
    packages: Sequence[str] = _PACKAGES,
) -> Path:
    """Write a report as one HTML file.

    Parameters
    ----------
    path
        File to write, ending in ``.html``, completely or not at all; its folder is created.
    title, subtitle
        The heading, and a line below it: what was measured, where the data are from.
    sections
        Heading → items, in order; sections without items are left out. An item is

        - a string: a paragraph;
        - a list or tuple of strings: a bulleted list;
        - a :class:`pandas.DataFrame`: a table, with its index if that has a name (three significant
          digits, NaN as a dash; cells that read "look" or "mend" are coloured);
        - a :class:`pathlib.Path` to a PNG: a figure, or a tuple of the path and a caption.
    parameters
        Name → value, shown in a table at the end, so that the run can be repeated.
    caveats, references
        Sentences on what the result cannot tell; what to cite.
    packages
        Distributions whose versions are listed; those not installed are passed over.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ValueError
        If ``path`` does not end in ``.html``.
    FileNotFoundError
        If a figure is not there.
    TypeError
        If an item is none of the above.

    Examples
    --------
    >>> write_report("report.html", "Section 151673", {"Domains": ["Seven were found.", table]})
    """
    path = Path(path).expanduser()
    if path.suffix != ".html":
        raise ValueError(f"{path.name} should end in .html: a report is one web page.")
    blocks = {
        heading: [_block(item, heading) for item in items]
        for heading, items in sections.items()
        if items
    }
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=title,
        subtitle=subtitle,
        date=datetime.date.today().isoformat(),
        sections=blocks,
        caveats=list(caveats),
        parameters={name: _shown(value) for name, value in (parameters or {}).items()},
        versions=[f"{name} {one}" for name, one in package_versions(packages).items() if one],
        references=list(references),
    )
    check_output_dir(path.parent)
    with atomic_path(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
    return path


@checked
def colour_checklist(table: pd.DataFrame) -> Styler:
    """Colour the words "look" and "mend" of a checklist, for a notebook to show.

    Parameters
    ----------
    table
        What :func:`genot_helpers.inspect_slice` returns, or several of them joined; not changed. A
        named index is shown as columns.

    Returns
    -------
    pandas.io.formats.style.Styler
        A table whose text is escaped: markup in names from a reader's file is shown, not run.
    """
    if any(name is not None for name in table.index.names):
        table = table.reset_index()
    styled = (
        table.style.hide(axis="index").format(escape="html").format_index(escape="html", axis=1)
    )
    styled = styled.map(lambda word: _COLOURS.get(word, ""))
    return styled.set_properties(
        **{"text-align": "left", "white-space": "pre-wrap", "max-width": "28em"}
    )


def _block(item: Any, heading: str) -> dict[str, Any]:
    """Say what an item is and bring it into the form that the template takes."""
    if isinstance(item, str):
        return {"kind": "text", "text": item}
    if isinstance(item, pd.DataFrame):
        return {"kind": "table", **_table(item)}
    if isinstance(item, Path):
        return {"kind": "figure", "image": _embedded(item), "caption": ""}
    if isinstance(item, Sequence) and item:
        if isinstance(item[0], Path) and len(item) == 2:
            return {"kind": "figure", "image": _embedded(item[0]), "caption": str(item[1])}
        if all(isinstance(one, str) for one in item):
            return {"kind": "list", "lines": list(item)}
    raise TypeError(
        f"section {heading!r} holds a {type(item).__name__}; it can hold text, lists of text, data "
        "frames, paths of PNG files, and (path, caption)."
    )


def _table(frame: pd.DataFrame) -> dict[str, Any]:
    """Return header and rows as text, and which columns are numbers."""
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    numeric = [pd.api.types.is_numeric_dtype(frame[column]) for column in frame]
    rows = [[_shown(value) for value in row] for row in frame.itertuples(index=False, name=None)]
    return {"header": [str(column) for column in frame], "rows": rows, "numeric": numeric}


def _shown(value: Any) -> str:
    """Return a value as one reads it."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if value is None or (isinstance(value, float | np.floating) and not np.isfinite(value)):
        return "–"
    if isinstance(value, float | np.floating):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value)) or "–"
    return str(value)


def _embedded(path: Path) -> str:
    """Return a PNG as text for the page: at most 1,600 pixels wide, in 256 colours."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no figure {path}: save it before the report is written.")
    with Image.open(path) as picture:
        whole = Image.new("RGB", picture.size, "white")
        whole.paste(picture, mask=picture.getchannel("A") if "A" in picture.getbands() else None)
    whole.thumbnail((_WIDEST, _WIDEST))
    packed = io.BytesIO()
    whole.quantize(256, dither=Image.Dither.NONE).save(packed, format="PNG", optimize=True)
    return base64.b64encode(packed.getvalue()).decode("ascii")
