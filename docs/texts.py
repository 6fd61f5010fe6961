"""Texts of the site: those in docs/, and those of the repository that belong on it too."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from repository import branch, public_address

CHECKOUT = Path(__file__).resolve().parent.parent
# Texts of the repository, and their page on the site.
ALSO_PAGES = {
    "data/README.md": "data.md",
    "benchmarks/README.md": "benchmarks.md",
    "teaching/README.md": "teaching.md",
    "CHANGELOG.md": "changes.md",
}
PAGES_OF = {**ALSO_PAGES, "README.md": "index.md"}
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")


def copy_texts(pages: Path) -> None:
    """Copy the texts of docs/ and the repository into the folder of pages, links mended."""
    for text in (CHECKOUT / "docs").glob("*.md"):
        shutil.copy(text, pages / text.name)
    shutil.copytree(CHECKOUT / "docs" / "_static", pages / "_static")
    names = []
    for place, page in ALSO_PAGES.items():
        source = CHECKOUT / place
        if source.is_file():
            (pages / page).write_text(with_links(source), encoding="utf-8")
            names.append(page.removesuffix(".md"))
    index = pages / "index.md"
    listing = "\n".join(names)
    text = index.read_text(encoding="utf-8").replace("<!-- more pages -->", listing)
    index.write_text(text, encoding="utf-8")


def drop_missing_notebooks(pages: Path) -> None:
    """Turn links to notebooks that are not shown, as they were not executed, into plain text."""
    for page in pages.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        kept = LINK.sub(
            lambda link: (
                link[1]
                if link[2].endswith(".ipynb") and not (pages / link[2]).exists()
                else link[0]
            ),
            text,
        )
        page.write_text(kept, encoding="utf-8")


def with_links(source: Path) -> str:
    """Read a text of the repository; its links go to pages, to the public repository, or go."""

    def mended(link: re.Match) -> str:
        text, target, anchor = link[1], link[2], link[3] or ""
        place = os.path.relpath((source.parent / target).resolve(), CHECKOUT)
        notebook = re.fullmatch(r"notebooks/(\w+)\.ipynb", place)
        if notebook:
            return f"[{text}]({place})"
        if place in PAGES_OF:
            page = PAGES_OF[place]
            return f"[{text}]({page}{anchor if place in ALSO_PAGES else ''})"
        address = public_address()
        return f"[{text}]({address}/blob/{branch()}/{place}{anchor})" if address else text

    return LINK.sub(mended, source.read_text(encoding="utf-8"))
