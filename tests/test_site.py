"""The site: built from executed notebooks without a warning, then read in a real browser."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat import v4
from site_pages import (
    IMAGE,
    SCRIPT,
    Page,
    is_outside,
    leads_nowhere,
    outputs_with_markup,
    serve,
    start_browser,
)

from genot_runner import find_notebook, run_notebook
from genot_runner.notebook_page import notebook_page

pytestmark = pytest.mark.notebook
CHECKOUT = Path(__file__).resolve().parent.parent
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
NEEDED = ("00", "09")  # the shortest notebook, and the one with figures to turn

# Parts of the text that stick out of the window and cannot be scrolled by themselves.
STICKS_OUT = """
const article = document.querySelector("article") || document.body;
const width = document.documentElement.clientWidth;
const scrolls = (part) => {
  for (let one = part.parentElement; one && one !== article; one = one.parentElement)
    if (["auto", "scroll", "hidden"].includes(getComputedStyle(one).overflowX)) return true;
  return false;
};
return [...article.querySelectorAll("*")]
  .filter((part) => part.getBoundingClientRect().width > 0)
  .filter((part) => part.getBoundingClientRect().right > width + 1 && !scrolls(part))
  .map((part) => part.outerHTML.slice(0, 80)).slice(0, 3);
"""
TOO_WIDE = """
return document.scrollingElement.scrollWidth - document.documentElement.clientWidth;
"""
BROKEN_IMAGES = """
return [...document.images].filter((image) => image.loading !== "lazy")
  .filter((image) => !image.complete || !image.naturalWidth).map((image) => image.src.slice(0, 99));
"""

FETCHED = "return performance.getEntriesByType('resource').map((one) => one.name)"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gather executed notebooks: those of the checkout; what is missing runs quickly."""
    folder = tmp_path_factory.mktemp("results")
    for page in (CHECKOUT / "results").glob("[0-9][0-9]_*/*.html"):
        if page.stem == page.parent.name and page.with_suffix(".ipynb").is_file():
            (folder / page.stem).symlink_to(page.parent)
    for number in NEEDED:
        name = find_notebook(number).stem
        if not (folder / name).exists():
            run_notebook(number, {"quick": True}, output_dir=folder / name, progress=False)
    add_markup(folder / find_notebook("00").stem)
    return folder


def add_markup(run: Path) -> None:
    """Put a copy in the place of a run, with a cell that shows names which hold markup."""
    outputs = outputs_with_markup()
    if run.is_symlink():
        made = run.resolve()
        run.unlink()
        shutil.copytree(made, run)
    executed = run / f"{run.name}.ipynb"
    notebook = nbformat.read(executed, as_version=4)
    notebook.cells.append(v4.new_code_cell(f"# {IMAGE}{SCRIPT}", outputs=outputs))
    nbformat.write(notebook, executed)


@pytest.fixture(scope="module")
def site(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("myst_nb", reason="needs the packages of the extra `site`")
    folder = tmp_path_factory.mktemp("site")
    places = ["--results", results, "--work", folder / "work", "--output", folder / "pages"]
    command = [sys.executable, CHECKOUT / "docs" / "build.py", *places]
    built = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert built.returncode == 0, built.stderr + built.stdout
    return folder / "pages"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {
        path.resolve(): Page(path) for path in site.rglob("*.html") if "_static" not in str(path)
    }


@pytest.fixture(scope="module")
def address(site: Path):
    server, address = serve(site)
    yield address
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory):
    browser = start_browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.quit()


def wait_for(browser, script: str, seconds: float = 30.0):
    """Return what a script gives as soon as it gives something."""
    end = time.monotonic() + seconds
    while not (found := browser.execute_script(script)):
        assert time.monotonic() < end, f"still nothing after {seconds:.0f} s: {script}"
        time.sleep(0.1)
    return found


def page_names(site: Path, pages: dict[Path, Page]) -> list[str]:
    return [path.relative_to(site.resolve()).as_posix() for path in sorted(pages)]


def test_every_executed_notebook_has_a_page_and_a_card(site, results, pages):
    first = Page(site / "index.html")
    for run in results.iterdir():
        assert (site / "notebooks" / f"{run.name}.html").is_file()
        assert f"notebooks/{run.name}.html" in first.links
        assert any(Path(image).stem == run.name for image in first.resources), run.name


def test_no_link_leads_nowhere_and_nothing_is_fetched_from_elsewhere(site, pages):
    assert len(pages) > 25
    broken, fetched = [], []
    for path, page in pages.items():
        inside = [one for one in page.links + page.resources if one and not is_outside(one)]
        broken += [f"{path.name}: {one}" for one in inside if leads_nowhere(one, path, pages)]
        outside = [one for one in page.resources if is_outside(one)]
        fetched += [f"{path.name}: {one}" for one in outside if not one.startswith("data:")]
    assert not broken, "\n".join(broken)
    assert not fetched, "\n".join(fetched)


def test_no_page_tells_of_the_machine_it_was_made_on(pages, results):
    for path in pages:
        text = path.read_text(encoding="utf-8")
        assert str(CHECKOUT) not in text, path.name
        assert str(results) not in text, path.name


def test_every_public_name_is_in_the_reference(pages, site):
    import genot_helpers

    anchors = set().union(*(Page(path).anchors for path in (site / "api").glob("*.html")))
    public = {name: getattr(genot_helpers, name) for name in genot_helpers.__all__}
    explained = {name: one for name, one in public.items() if hasattr(one, "__qualname__")}
    missing = {f"{one.__module__}.{one.__qualname__}" for one in explained.values()} - anchors
    assert not missing


def test_pages_are_sound_and_fit_window_and_phone(site, pages, address, browser):
    problems = []
    for name in page_names(site, pages):
        for device in ("desktop", "phone"):
            if device == "phone":
                browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
            else:
                browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
                browser.get(f"{address}/{name}")
            wide = browser.execute_script(TOO_WIDE)
            found = browser.execute_script(STICKS_OUT) + browser.execute_script(BROKEN_IMAGES)
            found += [
                one["message"] for one in browser.get_log("browser") if one["level"] == "SEVERE"
            ]
            found += [f"{wide} pixels too wide"] if wide > 0 else []
            problems += [f"{name}, {device}: {one}" for one in found]
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert not problems, "\n".join(problems)


def test_figures_turn_when_dragged(site, address, browser):
    from selenium.webdriver import ActionChains

    name = find_notebook("09").stem
    browser.get(f"{address}/notebooks/{name}.html")
    figure = "document.querySelector('.plotly-graph-div')"
    wait_for(browser, f"return {figure} && {figure}.querySelector('canvas') && true")
    browser.execute_script(f"{figure}.scrollIntoView({{block: 'center'}})")
    camera = f"return JSON.stringify({figure}._fullLayout.scene._scene.getCamera().eye)"
    before = json.loads(wait_for(browser, camera))
    canvas = browser.execute_script(f"return {figure}.querySelector('canvas')")
    ActionChains(browser).click_and_hold(canvas).move_by_offset(90, 40).release().perform()
    wait_for(browser, f"{camera} !== '{json.dumps(before, separators=(',', ':'))}'")
    after = json.loads(browser.execute_script(camera))
    assert max(abs(after[axis] - before[axis]) for axis in "xyz") > 0.05


def test_the_page_of_a_single_run_works_without_network(results, browser, tmp_path):
    (executed,) = (results / find_notebook("09").stem).glob("[0-9][0-9]_*.ipynb")
    page = tmp_path / "page.html"
    page.write_text(notebook_page(executed), encoding="utf-8")
    browser.get_log("browser")  # of the pages before
    browser.get(page.as_uri())
    figure = "document.querySelector('.plotly-graph-div')"
    wait_for(browser, f"return {figure} && {figure}.querySelector('canvas') && true")
    asked = browser.execute_script(FETCHED)
    assert [one for one in asked if not one.startswith(("data:", "blob:", "file:"))] == []
    assert browser.execute_script(BROKEN_IMAGES) == []
    assert [one["message"] for one in browser.get_log("browser") if one["level"] == "SEVERE"] == []


def test_markup_in_names_is_shown_and_never_run(address, browser):
    browser.get(f"{address}/notebooks/{find_notebook('00').stem}.html")
    text = browser.execute_script("return document.querySelector('article').textContent")
    assert text.count(IMAGE) >= 4 and text.count(SCRIPT) >= 3
    assert not browser.execute_script("return 'ran' in window")


def test_dark_mode_toggles_and_is_remembered(address, browser):
    shade = "return getComputedStyle(document.body).backgroundColor"
    browser.get(f"{address}/index.html")
    seen = {}
    for mode in ("dark", "light", "dark"):
        browser.execute_script("document.querySelector('.theme-switch-button').click()")
        browser.find_element("css selector", f"button[data-mode={mode}]").click()
        assert browser.execute_script("return document.documentElement.dataset.theme") == mode
        seen.setdefault(mode, browser.execute_script(shade))
    assert seen["dark"] != seen["light"]
    browser.get(f"{address}/glossary.html")
    assert browser.execute_script(shade) == seen["dark"]


def test_search_finds_a_word_and_does_not_find_nonsense(address, browser):
    listed = "return document.querySelectorAll('#search-results li').length"
    done = "return document.querySelector('#search-results .search-summary')?.textContent"
    browser.get(f"{address}/search.html?q=coupling")
    assert wait_for(browser, listed) > 0
    browser.get(f"{address}/search.html?q=qzxvwj")
    wait_for(browser, f"{done} && !{done.removeprefix('return ')}.includes('Searching')")
    assert browser.execute_script(listed) == 0


def test_solutions_are_folded_and_whole(address, browser):
    browser.get(f"{address}/notebooks/{find_notebook('00').stem}.html")
    source = find_notebook("00").read_text(encoding="utf-8")
    folded = "[...document.querySelectorAll('.cell details')]"
    folded += ".filter((one) => one.textContent.includes('BEGIN SOLUTION'))"
    assert browser.execute_script(f"return {folded}.length") == source.count("### BEGIN SOLUTION")
    assert browser.execute_script(f"return {folded}.every((one) => !one.open)")
    browser.execute_script(f"{folded}[0].querySelector('summary').click()")
    shown = browser.execute_script(f"return {folded}[0].querySelector('pre').innerText")
    assert "### END SOLUTION" in shown
