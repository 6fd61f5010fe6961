"""The page that a run leaves of its notebook: formulas and figures in it, nothing to fetch."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbformat import v4
from site_pages import Page, is_outside

from genot_runner import notebook_page

MATHJAX = '<script src="https://cdn.example.org/mathjax/3/tex-svg.js"></script>'


@pytest.fixture
def executed(tmp_path: Path) -> Path:
    """Write a notebook with what usually makes a page fetch things."""
    bar = v4.new_output("display_data", {notebook_page.WIDGET: {"model_id": "1"}})
    figure = v4.new_output("display_data", {"text/html": f"{MATHJAX}<p>a figure</p>"})
    said = v4.new_output("stream", text="a < b")
    cells = [
        v4.new_markdown_cell("# Title\n\nInline $x_1^2$ and\n\n$$\\frac{a}{b} < 1$$\n\ncosts 5 €."),
        v4.new_code_cell("1", outputs=[bar, figure, said]),
    ]
    state = {notebook_page.WIDGET: {"state": {}, "version_major": 2, "version_minor": 0}}
    path = tmp_path / "03_lesson.ipynb"
    nbformat.write(v4.new_notebook(cells=cells, metadata={"widgets": state}), path)
    return path


def test_nothing_on_the_page_is_fetched(executed, tmp_path):
    before = executed.read_bytes()
    text = notebook_page.notebook_page(executed)
    path = tmp_path / "page.html"
    path.write_text(text, encoding="utf-8")
    outside = [one for one in Page(path).resources if one and is_outside(one)]
    assert [one for one in outside if not one.startswith("data:")] == []
    assert "cdn.example.org" not in text
    assert "<p>a figure</p>" in text
    assert "a &lt; b" in text
    assert "<title>03_lesson</title>" in text
    assert executed.read_bytes() == before


def test_formulas_are_drawn_without_a_library(executed):
    pytest.importorskip("docutils")
    text = notebook_page.notebook_page(executed)
    assert text.count("<math") == 2
    assert text.count("<mfrac>") == text.count("<msubsup>") == 1
    assert 'display="block"' in text
    assert "$" not in text[text.index("<h1") : text.index("costs 5 €")]


def test_a_formula_that_cannot_be_drawn_is_shown_as_typed(monkeypatch):
    assert notebook_page.as_mathml(r"\nosuchcommand{x} < 1") == (
        r"<code>\nosuchcommand{x} &lt; 1</code>"
    )
    monkeypatch.setattr(notebook_page, "tex2mathml", None)  # docutils is missing
    assert notebook_page.as_mathml("x < 1") == "<code>x &lt; 1</code>"
