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
from site_pages import IMAGE, RAN, SCRIPT, outputs_with_markup, start_browser

import genot_helpers as gh
from genot_runner import run_notebook
from genot_runner.notebook_page import notebook_page
from genot_runner.notebooks import shipped_folder

POINT_AT_ALL = """
for (const one of document.querySelectorAll("*"))
  for (const kind of ["mouseover", "mousemove", "focus"])
    one.dispatchEvent(new MouseEvent(kind, {bubbles: true, clientX: 300, clientY: 300}));
"""


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
    assert not [one for one in tags.scripts if one.strip().startswith(RAN)]
    return tags


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory):
    browser = start_browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.quit()


def ran(browser, path: Path) -> bool:
    """Open a page, point at everything in it, and tell whether markup of a name was run."""
    browser.get(path.as_uri())
    browser.execute_script(POINT_AT_ALL)
    # The page has loaded; what failed images say comes in the next turns of the browser.
    return browser.execute_async_script("setTimeout(() => arguments[0]('ran' in window), 300)")


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
    said = f'{IMAGE} " onload="{RAN}'
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


def evil_report(tmp_path: Path) -> Path:
    """Write a report with markup in every name and text."""
    figure, _ = plt.subplots(figsize=(1, 1))
    picture = gh.save_figure(figure, tmp_path / "a.png")
    plt.close(figure)
    picture = picture if isinstance(picture, Path) else tmp_path / "a.png"
    table = pd.DataFrame({SCRIPT: [IMAGE]}, index=pd.Index([SCRIPT], name=IMAGE))
    sections = {IMAGE: [SCRIPT, [IMAGE], table, (picture, SCRIPT)]}
    given = {"subtitle": IMAGE, "parameters": {IMAGE: SCRIPT}, "caveats": [IMAGE]}
    page = tmp_path / f"{IMAGE}.html"
    return gh.report.write_report(page, SCRIPT, sections, references=[IMAGE], **given)


def test_a_report_shows_names_as_they_are(tmp_path: Path) -> None:
    tags = assert_nothing_runs(evil_report(tmp_path).read_text(encoding="utf-8"))
    assert tags.text.count(IMAGE) >= 6
    assert [one for one in tags.elements if one[0] == "script"] == []


def evil_notebook(tmp_path: Path) -> Path:
    """Write a notebook: tables as pandas draws them, printed text, errors, a name of a file."""
    outputs = outputs_with_markup()
    cells = [v4.new_code_cell(f'data_source = "{IMAGE}{SCRIPT}"', outputs=outputs)]
    path = tmp_path / f"{IMAGE}.ipynb"
    nbformat.write(v4.new_notebook(cells=cells), path)
    return path


def test_pages_of_notebooks(tmp_path: Path) -> None:
    tags = assert_nothing_runs(notebook_page(evil_notebook(tmp_path)))
    assert tags.text.count(IMAGE) >= 4


@pytest.mark.parametrize("raw", [IMAGE, f"<p>{SCRIPT}</p>", f"<svg onload={RAN}></svg>"])
def test_a_browser_would_notice(raw: str, browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html>{raw}", encoding="utf-8")
    assert ran(browser, page)


def test_a_browser_runs_nothing_on_pages_of_stacks_and_films(browser, tmp_path: Path) -> None:
    stack = {IMAGE: evil_slice(), SCRIPT: evil_slice(seed=2)}
    for number, color in enumerate((IMAGE, SCRIPT, "domain_truth")):
        page = tmp_path / f"{number}{IMAGE}.html"
        gh.plotting.write_page(gh.plotting.stack_figure(stack, color), page)
        assert not ran(browser, page), color
        drawn = "return document.querySelectorAll('.plotly-graph-div .main-svg').length"
        assert browser.execute_script(drawn) > 0
    shown = gh.plotting.film_as_html(
        gh.plotting.film(stack, IMAGE, tmp_path / "film.gif", width=200), f'"{IMAGE}'
    )
    film = tmp_path / "film.html"
    film.write_text(f"<!doctype html><meta charset=utf-8>{shown.data}", encoding="utf-8")
    assert not ran(browser, film)
    assert browser.execute_script("return document.images[0].alt") == f'"{IMAGE}'


def test_a_browser_runs_nothing_in_reports_and_notebooks(browser, tmp_path: Path) -> None:
    checks = gh.inspect_slice(evil_slice())
    checks.loc[IMAGE] = ["mend", SCRIPT, IMAGE][: checks.shape[1]]
    coloured = gh.report.colour_checklist(pd.concat({IMAGE: checks}, names=["slice", "check"]))
    written = {
        "checklist": f"<!doctype html><meta charset=utf-8>{coloured.to_html()}",
        "notebook": notebook_page(evil_notebook(tmp_path)),
    }
    pages = [evil_report(tmp_path)]
    for name, text in written.items():
        pages.append(tmp_path / f"{name}{IMAGE}.html")
        pages[-1].write_text(text, encoding="utf-8")
    for page in pages:
        assert not ran(browser, page), page.name
        assert IMAGE in browser.execute_script("return document.body.textContent"), page.name


@pytest.mark.notebook
def test_the_summary_of_a_sweep(browser, tmp_path: Path) -> None:
    """Sections, errors and names of runs come from the table of results."""
    rows = {
        "run": [f"{IMAGE}-{i}" for i in range(5)],
        "notebook": "01_dlpfc_spatial_domains",
        "status": ["finished"] * 4 + ["failed"],
        "error": [None] * 4 + [SCRIPT],
        "failed_cell": [None] * 4 + [3],
        "seed": [0, 1, 0, 1, 0],
        "parameter.section": [IMAGE, IMAGE, SCRIPT, SCRIPT, IMAGE],
        "metric.ari": [0.5, 0.6, 0.7, 0.8, None],
        "metric.baseline_ari": 0.4,
        **dict.fromkeys(("wall_seconds", "cpu_seconds", "peak_memory_mb"), 1.0),
    }
    table = tmp_path / f"{IMAGE}.parquet"
    pd.DataFrame(rows).to_parquet(table)
    notebook = shipped_folder("workflow") / "summary.ipynb"
    given = {"results": str(table)}
    run = run_notebook(notebook, given, output_dir=tmp_path / "out", progress=False)
    assert_nothing_runs(run.html.read_text(encoding="utf-8"))
    assert not ran(browser, run.html)
    shown = browser.execute_script("return document.body.textContent")
    assert IMAGE in shown and SCRIPT in shown


@pytest.mark.notebook
def test_a_readers_file_with_markup_in_every_name(browser, tmp_path: Path) -> None:
    """Genes, labels and the name of the file reach the report and the page of notebook 10."""
    own = evil_slice()
    path = gh.write_slice(own, tmp_path / "own" / f"{IMAGE}.h5ad")
    given = {"data_source": str(path), "markers": [IMAGE, SCRIPT], "n_domains": 4, "title": IMAGE}
    run = run_notebook("10", {"quick": True} | given, output_dir=tmp_path / "out", progress=False)
    assert messages(run) == []
    for page in (run.html, run.output_dir / "report.html"):
        tags = assert_nothing_runs(page.read_text(encoding="utf-8"))
        assert IMAGE in tags.text
        assert not ran(browser, page)
    assert np.isfinite(run.metrics["ari"])
