"""What the tests of the site share: a browser without network, and the links of a page."""

from __future__ import annotations

import os
import shutil
import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pandas as pd
import pytest
from nbformat import v4

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--enable-unsafe-swiftshader", "--window-size=1280,900"),
    # As without network: only the server of the test has an address.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)

# Names that hold markup: a browser that runs it makes a variable of the page.
RAN = "ran=1"
IMAGE = f"<img src=x onerror={RAN}>"
SCRIPT = f"</script><script>{RAN}</script>"


def start_browser(profile: Path):
    """Start a headless browser with a fresh profile; skip the test where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("needs Chromium and its driver (Debian: apt install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)  # or selenium would download one
    return webdriver.Chrome(options=options, service=service)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments) -> None:
        """Print nothing for each request."""


def serve(folder: Path) -> tuple[ThreadingHTTPServer, str]:
    """Serve a folder on this machine alone; return the server and its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=os.fspath(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}"


class Page(HTMLParser):
    """Links, resources and anchors of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.links: list[str] = []  # where a reader can go
        self.resources: list[str] = []  # what the browser fetches by itself
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag == "link" and given.get("rel") not in ("index", "search", "next", "prev"):
            self.resources.append(given.get("href") or "")
        if given.get("src"):
            self.resources.append(given["src"])


def is_outside(link: str) -> bool:
    """Tell whether a link leaves the site."""
    return bool(urlsplit(link).scheme or urlsplit(link).netloc)


def leads_nowhere(link: str, page: Path, pages: dict[Path, Page]) -> bool:
    """Tell whether a link within the site has no file or no anchor at its end."""
    parts = urlsplit(link)
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if target not in pages:
        return not target.is_file()
    anchor = unquote(parts.fragment)
    return bool(anchor) and anchor not in pages[target].anchors


def outputs_with_markup() -> list[nbformat.NotebookNode]:
    """Make outputs with markup: a table as pandas draws it, printed text, an error."""
    table = pd.DataFrame({SCRIPT: [IMAGE]}, index=pd.Index([SCRIPT], name=IMAGE))
    return [
        v4.new_output("display_data", {"text/html": table.to_html(notebook=True)}),
        v4.new_output("display_data", {"text/plain": IMAGE}),
        v4.new_output("stream", text=f"{IMAGE}\n{SCRIPT}"),
        v4.new_output("error", ename=IMAGE, evalue=SCRIPT, traceback=[IMAGE, SCRIPT]),
    ]
