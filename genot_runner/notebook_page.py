"""An executed notebook as a page of HTML that can be read offline: nothing in it is fetched.

nbconvert makes the page. What its templates load from elsewhere is left out or replaced: formulas
are MathML, which browsers draw themselves, and progress bars, which need a running kernel, go.
"""

from __future__ import annotations

import html
import re
from pathlib import Path

import nbformat
from jinja2 import pass_context
from jinja2.runtime import Context
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode

try:
    from docutils.utils.math.latex2mathml import tex2mathml
except ImportError:  # formulas stay as they were typed
    tex2mathml = None

__all__ = ["MATHJAX", "WIDGET", "as_mathml", "drop_what_needs_more", "notebook_page"]

WIDGET = "application/vnd.jupyter.widget-view+json"
MATHJAX = re.compile(r'<script src="https?://[^"]*mathjax[^"]*"></script>', re.IGNORECASE)
TEMPLATE = """\
{% extends "lab/index.html.j2" %}
{% block html_head_js_requirejs %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
"""


def notebook_page(executed: str | Path) -> str:
    """Return the page of an executed notebook; the file stays as it is.

    Parameters
    ----------
    executed : str or Path
        Notebook with outputs. Figures to turn must carry their library, see
        :func:`genot_helpers.plotting.embed_plotly`.

    Returns
    -------
    str
        HTML with everything in it.
    """
    path = Path(executed)
    notebook = nbformat.read(path, as_version=4)
    drop_what_needs_more(notebook)
    page, _ = _PageExporter(raw_template=TEMPLATE).from_notebook_node(
        notebook, {"metadata": {"name": path.stem, "path": str(path.parent)}}
    )
    return page


def drop_what_needs_more(notebook: NotebookNode) -> None:
    """Take out of a notebook, in place, outputs that ask for a running kernel or for the network.

    These are progress bars, and MathJax, which plotly would fetch and no figure needs.
    """
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        cell.outputs = [one for one in cell.outputs if WIDGET not in one.get("data", {})]
        for output in cell.outputs:
            if "text/html" in output.get("data", {}):
                output.data["text/html"] = MATHJAX.sub("", output.data["text/html"])


def as_mathml(formula: str, *, as_block: bool = False) -> str:
    """Return a formula in TeX as MathML; as it was typed where that cannot be.

    Parameters
    ----------
    formula : str
        TeX, without the dollars around it.
    as_block : bool
        Whether it stands on a line of its own.
    """
    if tex2mathml is not None:
        try:
            return tex2mathml(formula.strip(), as_block=as_block)
        except ValueError:  # docutils knows the usual commands, not all there are
            pass
    return f"<code>{html.escape(formula.strip(), quote=False)}</code>"


class _PageRenderer(IPythonRenderer):
    """Markdown cells with their formulas as MathML."""

    def block_math(self, body: str) -> str:
        return as_mathml(body, as_block=True)

    def inline_math(self, body: str) -> str:
        return as_mathml(body)


class _PageExporter(HTMLExporter):
    """nbconvert's page, with the renderer above."""

    @pass_context
    def markdown2html(self, context: Context, source: str) -> str:
        """Return a Markdown cell as HTML; nbconvert's templates ask for it by this name."""
        renderer = _PageRenderer(
            escape=False,
            attachments=context.get("cell", {}).get("attachments", {}),
            anchor_link_text=self.anchor_link_text,
        )
        return MarkdownWithMath(renderer=renderer).render(source)
