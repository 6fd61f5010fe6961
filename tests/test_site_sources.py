"""The scripts behind the site: what is out of date, what is shown, where the buttons lead."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat import v4

from genot_runner.notebook_page import WIDGET

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def docs_on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(CHECKOUT / "docs"))


@pytest.fixture
def run(tmp_path):
    """Make a notebook and its executed copy with page."""
    import executed

    source, results = tmp_path / "00_toy.ipynb", tmp_path / "results"
    notebook = v4.new_notebook(cells=[v4.new_markdown_cell("# 00 · Toy\n\nA toy. It is small.")])
    nbformat.write(notebook, source)
    copy = executed.executed_copy(source, results)
    copy.parent.mkdir(parents=True)
    notebook.metadata["papermill"] = {"parameters": {"output_dir": "somewhere", "quick": True}}
    nbformat.write(notebook, copy)
    copy.with_suffix(".html").write_text("a page", encoding="utf-8")
    return source, results, copy


def test_a_run_is_current_until_source_or_parameters_change(run):
    import executed

    source, results, copy = run
    page = copy.with_suffix(".html")
    assert executed.is_current(source, results, {"quick": True})
    assert not executed.is_current(source, results, {})
    later = page.stat().st_mtime + 10
    os.utime(source, (later, later))
    assert not executed.is_current(source, results, {"quick": True})


def test_a_failed_or_missing_run_is_not_current(run):
    import executed

    source, results, copy = run
    copy.with_suffix(".html").unlink()  # what a failed run lacks
    assert not executed.is_current(source, results, {"quick": True})
    copy.unlink()
    assert not executed.is_current(source, results, {"quick": True})


def test_the_shown_copy_folds_solutions_and_drops_what_only_the_run_needed(tmp_path):
    import executed

    solution = v4.new_code_cell("### BEGIN SOLUTION\nx = 1\n### END SOLUTION\nassert x")
    given = v4.new_code_cell('output_dir = "elsewhere"', metadata={"tags": ["injected-parameters"]})
    bar = v4.new_output("display_data", {WIDGET: {}, "text/plain": "100%"})
    figure = {executed.PLOTLY: {}, "text/html": '<script src="https://x/mathjax.js"></script>hi'}
    plain = v4.new_code_cell("1", outputs=[bar, v4.new_output("display_data", figure)])
    notebook = v4.new_notebook(cells=[given, solution, plain], metadata={"widgets": {"state": {}}})
    path = Path(tmp_path / "one.ipynb")
    nbformat.write(notebook, path)
    before = path.read_bytes()
    shown = executed.shown_copy(path)
    assert [cell.source for cell in shown.cells] == [solution.source, "1"]
    assert "hide-input" in shown.cells[0].metadata["tags"]
    assert "tags" not in shown.cells[1].metadata
    assert [output.data for output in shown.cells[1].outputs] == [{"text/html": "hi"}]
    assert "widgets" not in shown.metadata
    assert path.read_bytes() == before


def test_papers_become_links():
    import executed

    text = "A paper, doi\n10.1038/s41593-020-00787-0 (sections), "
    text += "doi 10.2307/2332142. arXiv 1610.06545."
    doi, arxiv = "https://doi.org/", "https://arxiv.org/abs/"
    assert executed.with_links(text) == (
        f"A paper, doi\n[10.1038/s41593-020-00787-0]({doi}10.1038/s41593-020-00787-0) (sections), "
        f"doi [10.2307/2332142]({doi}10.2307/2332142). arXiv [1610.06545]({arxiv}1610.06545)."
    )
    linked = "doi [10.2307/2332142](https://doi.org/10.2307/2332142)"
    assert executed.with_links(linked) == linked


def test_libraries_are_kept_once(tmp_path):
    import executed

    library = "<script>" + "x" * executed.LARGE + "</script><script>small</script>"
    output = v4.new_output("display_data", {"text/html": library})
    notebook = v4.new_notebook(cells=[v4.new_code_cell("1", outputs=[output, output])])
    executed.share_libraries(notebook, tmp_path)
    (kept,) = tmp_path.iterdir()
    html = notebook.cells[0].outputs[0].data["text/html"]
    assert html == f'<script src="../{kept.name}"></script><script>small</script>'
    assert kept.read_text(encoding="utf-8") == "x" * executed.LARGE


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("https://github.com/somebody/a.notebook.git", "https://github.com/somebody/a.notebook"),
        ("git@github.com:somebody/notebooks.git", "https://github.com/somebody/notebooks"),
        ("https://github.com/somebody/notebooks/", "https://github.com/somebody/notebooks"),
        ("https://example.org/somebody/notebooks", ""),
    ],
)
def test_the_public_address_is_read_in_every_form(given, wanted, monkeypatch):
    import repository

    monkeypatch.setattr(repository, "_origin", lambda: "")
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    monkeypatch.delenv("READTHEDOCS_GIT_CLONE_URL", raising=False)
    monkeypatch.setenv("GENOT_REPOSITORY", given)
    assert repository.public_address() == wanted


def test_buttons_lead_to_the_notebook_and_are_left_out_without_an_address(run):
    import launch

    source, _, copy = run
    notebook = nbformat.read(copy, as_version=4)
    text = launch.add_buttons(notebook, source, "https://github.com/somebody/notes").cells[0].source
    assert text.startswith("# 00 · Toy\n")
    assert "mybinder.org/v2/gh/somebody/notes/main?urlpath=lab/tree/notebooks/00_toy.ipynb" in text
    assert "github/somebody/notes/blob/main/notebooks/00_toy.ipynb" in text
    assert "git+https://github.com/somebody/notes" in text  # Colab has no genot_helpers
    alone = launch.add_buttons(notebook, source, "").cells[0].source
    assert 'href="00_toy.ipynb" download' in alone
    assert "Binder" not in alone and "Colab" not in alone
    assert "href" not in notebook.cells[0].source  # a copy


def test_title_and_first_sentences_go_on_the_card(run):
    import gallery

    assert gallery.title_and_text(run[2]) == ("00 · Toy", "A toy. It is small.")


def test_panels_are_found_and_legends_are_none():
    import gallery

    pixels = np.full((100, 400, 3), 255, dtype=np.uint8)
    for begin, end in ((10, 90), (100, 115), (140, 230), (250, 330)):  # the second is narrow
        pixels[20:80, begin:end] = 0
    found = gallery.find_panels(pixels)
    assert [box[::2] for box in found] == [(10, 90), (140, 230), (250, 330)]


def test_links_of_repository_texts_lead_to_pages(tmp_path, monkeypatch):
    import texts

    monkeypatch.setattr(texts, "CHECKOUT", tmp_path)
    monkeypatch.setattr(texts, "public_address", lambda: "")
    text = tmp_path / "benchmarks" / "README.md"
    text.parent.mkdir()
    text.write_text(
        "[d](../data/README.md) [r](../README.md#x) [s](b.py) [h](#here) [w](https://w)"
    )
    assert texts.with_links(text) == "[d](data.md) [r](index.md) s [h](#here) [w](https://w)"


def test_links_to_notebooks_that_are_not_shown_become_text(tmp_path):
    import texts

    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "00_a.ipynb").touch()
    page = tmp_path / "index.md"
    page.write_text("[00](notebooks/00_a.ipynb), [01](notebooks/01_b.ipynb), [data](data.md)")
    texts.drop_missing_notebooks(tmp_path)
    assert page.read_text() == "[00](notebooks/00_a.ipynb), 01, [data](data.md)"


def test_workflow_and_read_the_docs_build_with_the_same_command():
    yaml = pytest.importorskip("yaml")
    pages = yaml.safe_load((CHECKOUT / ".github" / "workflows" / "pages.yml").read_text())
    steps = [step.get("run", "") for step in pages["jobs"]["build"]["steps"]]
    assert any(step.startswith("make site") for step in steps)
    hosted = yaml.safe_load((CHECKOUT / ".readthedocs.yaml").read_text())
    assert any("docs/build.py" in step for step in hosted["build"]["jobs"]["build"]["html"])


def test_names_in_docstrings_are_found_however_much_is_written(monkeypatch):
    monkeypatch.syspath_prepend(str(CHECKOUT / "docs" / "extensions"))
    pytest.importorskip("sphinx")
    names = __import__("names")
    assert names._same("genot_helpers.align", "genot_helpers.alignment.align")
    assert names._same("genot_helpers.alignment.fit.x", "genot_helpers.alignment.x")
    assert not names._same("genot_helpers.alignment.fit.x", "genot_helpers.alignment.y")
    sys.modules.pop("names", None)
