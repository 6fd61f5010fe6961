"""Markup in the names of genes, labels, slices and files is shown on pages, and never run."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import plant_slice
from nbformat import v4
from notebook_runs import messages

import genot_helpers as gh
from genot_runner import run_notebook
from genot_runner.notebook_page import notebook_page

IMAGE = "<img src=x onerror=alert(1)>"
SCRIPT = "</script><script>alert(1)</script>"


class Tags(HTMLParser):
    """What a browser would make of a page: its elements with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict]] = []
        self.text, self.scripts, self._in_script = "", [], False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.elements.append((tag, dict(attributes)))
        self._in_script = tag == "script"

    def handle_endtag(self, tag: str) -> None:
        self._in_script = self._in_script and tag != "script"

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts.append(data)
        else:
            self.text += data


def assert_nothing_runs(page: str) -> Tags:
    """Fail where the names above became elements, attributes or scripts of their own."""
    tags = Tags(page)
    assert not [one for one in tags.elements if "onerror" in one[1]]
    assert not [one for one in tags.elements if one[0] == "img" and one[1].get("src") == "x"]
    assert not [one for one in tags.scripts if one.strip().startswith("alert(1)")]
    return tags


def evil_slice(seed: int = 1):
    """Return a slice whose first genes, labels and name hold markup."""
    adata = plant_slice(seed=seed)
    names = list(adata.var_names)
    adata.var_names = [IMAGE, SCRIPT, *names[2:]]
    kinds = sorted(set(adata.obs["domain_truth"]))[:2]
    swap = dict(zip(kinds, (IMAGE, SCRIPT), strict=True))
    adata.obs["domain_truth"] = pd.Categorical(
        [swap.get(one, one) for one in adata.obs["domain_truth"]]
    )
    adata.uns["genot"] = {"name": IMAGE, "source": SCRIPT}
    return adata


def test_the_check_would_notice() -> None:
    for raw in (f"<p>{IMAGE}</p>", f"<script>x = '{SCRIPT}'</script>"):
        with pytest.raises(AssertionError):
            assert_nothing_runs(raw)


@pytest.mark.parametrize("color", [IMAGE, SCRIPT, "domain_truth"])
def test_pages_of_stacks(color: str, tmp_path: Path) -> None:
    stack = {IMAGE: evil_slice(), SCRIPT: evil_slice(seed=2)}
    figure = gh.plotting.stack_figure(stack, color)
    path = gh.plotting.write_page(figure, tmp_path / f"{IMAGE}.html")
    assert_nothing_runs(path.read_text(encoding="utf-8"))
    assert_nothing_runs(figure.to_html(include_plotlyjs=False))
    texts = [trace.name for trace in figure.data] + [
        str(figure.layout.coloraxis.colorbar.title.text)
    ]
    texts += [word for trace in figure.data if trace.text is not None for word in trace.text]
    texts += list(figure.layout.coloraxis.colorbar.ticktext or ())
    texts += [trace.hovertemplate for trace in figure.data if trace.hovertemplate]
    assert not [one for one in texts if "<img" in one or "<script" in one]
    assert any("&lt;img" in one for one in texts)


def test_a_film_says_what_it_shows_in_plain_text(tmp_path: Path) -> None:
    stack = {IMAGE: evil_slice(), SCRIPT: evil_slice(seed=2)}
    path = gh.plotting.film(stack, IMAGE, tmp_path / "film.gif", width=200)
    said = f'{IMAGE} " onload="alert(1)'
    ((tag, attributes),) = assert_nothing_runs(gh.plotting.film_as_html(path, said).data).elements
    assert tag == "img"
    assert attributes["alt"] == said
    assert set(attributes) == {"alt", "src"}


def test_a_coloured_checklist_keeps_its_words() -> None:
    checks = gh.inspect_slice(evil_slice())
    checks.loc[IMAGE] = ["mend", SCRIPT, IMAGE][: checks.shape[1]]
    page = gh.report.colour_checklist(
        pd.concat({IMAGE: checks}, names=["slice", "check"])
    ).to_html()
    tags = assert_nothing_runs(page)
    assert IMAGE in tags.text
    assert SCRIPT in tags.text
    assert "#d55e00" in page


def test_a_report_shows_names_as_they_are(tmp_path: Path) -> None:
    figure, _ = plt.subplots(figsize=(1, 1))
    picture = gh.save_figure(figure, tmp_path / "a.png")
    plt.close(figure)
    picture = picture if isinstance(picture, Path) else tmp_path / "a.png"
    table = pd.DataFrame({SCRIPT: [IMAGE]}, index=pd.Index([SCRIPT], name=IMAGE))
    sections = {IMAGE: [SCRIPT, [IMAGE], table, (picture, SCRIPT)]}
    given = {"subtitle": IMAGE, "parameters": {IMAGE: SCRIPT}, "caveats": [IMAGE]}
    path = gh.report.write_report(
        tmp_path / f"{IMAGE}.html", SCRIPT, sections, references=[IMAGE], **given
    )
    tags = assert_nothing_runs(path.read_text(encoding="utf-8"))
    assert tags.text.count(IMAGE) >= 6
    assert [one for one in tags.elements if one[0] == "script"] == []


def test_pages_of_notebooks(tmp_path: Path) -> None:
    """Tables as pandas draws them, printed text, errors, and the name of the file."""
    table = pd.DataFrame({SCRIPT: [IMAGE]}, index=pd.Index([SCRIPT], name=IMAGE))
    outputs = [
        v4.new_output("display_data", {"text/html": table.to_html(notebook=True)}),
        v4.new_output("display_data", {"text/plain": IMAGE}),
        v4.new_output("stream", text=f"{IMAGE}\n{SCRIPT}"),
        v4.new_output("error", ename=IMAGE, evalue=SCRIPT, traceback=[IMAGE, SCRIPT]),
    ]
    cells = [v4.new_code_cell(f'data_source = "{IMAGE}{SCRIPT}"', outputs=outputs)]
    path = tmp_path / f"{IMAGE}.ipynb"
    nbformat.write(v4.new_notebook(cells=cells), path)
    tags = assert_nothing_runs(notebook_page(path))
    assert tags.text.count(IMAGE) >= 4


@pytest.mark.notebook
def test_a_readers_file_with_markup_in_every_name(tmp_path: Path) -> None:
    """Genes, labels and the name of the file reach the report and the page of notebook 10."""
    own = evil_slice()
    path = gh.write_slice(own, tmp_path / "own" / f"{IMAGE}.h5ad")
    given = {"data_source": str(path), "markers": [IMAGE, SCRIPT], "n_domains": 4, "title": IMAGE}
    run = run_notebook("10", {"quick": True} | given, output_dir=tmp_path / "out", progress=False)
    assert messages(run) == []
    for page in (run.html, run.output_dir / "report.html"):
        tags = assert_nothing_runs(page.read_text(encoding="utf-8"))
        assert IMAGE in tags.text
    assert np.isfinite(run.metrics["ari"])
