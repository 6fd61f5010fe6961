"""A report is one page with everything inside, and says what it cannot hold."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import genot_helpers as gh


@pytest.fixture
def figure(tmp_path: Path) -> Path:
    path = tmp_path / "figure.png"
    picture, ax = plt.subplots(figsize=(14, 4))
    ax.plot([0, 1], [0, 1])
    gh.save_figure(picture, path)
    plt.close(picture)
    return path


class Tags(HTMLParser):
    """Collect tags, and complain about what is not closed."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def write(tmp_path, sections, **options) -> str:
    path = gh.report.write_report(tmp_path / "sub" / "report.html", "A & B", sections, **options)
    return path.read_text(encoding="utf-8")


def test_everything_is_on_one_page(tmp_path, figure):
    table = pd.DataFrame(
        {"spots": [1234, 5], "share": [0.123456, np.nan], "markers": ["A", "look"]},
        index=pd.Index(["1", "2"], name="domain"),
    )
    sections = {
        "In short": ["A sentence.", ["one", "two"]],
        "Domains": [table, figure, (figure, "What it shows")],
        "Nothing": [],
    }
    page = write(
        tmp_path, sections, parameters={"seed": 0, "quick": True, "t": None, "markers": ["A", "B"]},
        caveats=["Not proved."], references=["Somebody 2020"],
    )  # fmt: skip
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    kinds = [tag for tag, _ in tags.seen]
    assert kinds.count("img") == 2
    assert "link" not in kinds
    assert "script" not in kinds
    assert not re.search(r"(src|href)=\"http", page)
    for text in ("A &amp; B", "A sentence.", "1,234", "0.123", "–", "What it shows", "Not proved."):
        assert text in page
    for text in ("A, B", "yes", "Somebody 2020", "anndata ", 'class="look"'):
        assert text in page
    assert "Nothing" not in page


def test_figures_stay_readable_and_small(tmp_path, figure):
    page = write(tmp_path, {"One": [figure]})
    packed = base64.b64decode(re.search(r"base64,([^\"]+)", page)[1])
    with Image.open(io.BytesIO(packed)) as shown, Image.open(figure) as given:
        assert shown.width == 1600 < given.width
        assert abs(shown.width / shown.height - given.width / given.height) < 0.01


def test_text_cannot_break_the_page(tmp_path):
    page = write(tmp_path, {"<script>": ["<script>alert(1)</script>"]}, caveats=["<b>"])
    assert "<script" not in page
    assert "&lt;script&gt;alert" in page


def test_bad_input_leaves_no_file(tmp_path, figure):
    with pytest.raises(FileNotFoundError, match="save it before"):
        write(tmp_path, {"One": [tmp_path / "missing.png"]})
    with pytest.raises(TypeError, match="section 'One' holds a float"):
        write(tmp_path, {"One": [1.5]})
    assert not (tmp_path / "sub").exists()
    with pytest.raises(ValueError, match=r"should end in \.html"):
        gh.report.write_report(tmp_path / "report.pdf", "T", {})
