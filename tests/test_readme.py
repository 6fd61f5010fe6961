"""What the README promises exists: every function it names, every notebook it links to."""

from __future__ import annotations

import re
from operator import attrgetter
from pathlib import Path

import pytest

import genot_helpers as gh

CHECKOUT = Path(__file__).resolve().parent.parent
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")


def features() -> list[str]:
    """Lines of the table of what the forerunner does."""
    section = README.split("## What the forerunner does", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return lines[2:]  # without the header


@pytest.mark.parametrize("line", features())
def test_each_feature_of_the_forerunner_is_here(line: str) -> None:
    here = line.rsplit("|", 2)[1]
    names = re.findall(r"`(?:gh\.)?([\w.]+)(?:\([^`]*\))?`", here)
    assert names, "name a function"
    for name in names:
        assert callable(attrgetter(name)(gh))


def test_the_table_of_features_is_found() -> None:
    assert len(features()) >= 10


def test_notebooks_that_are_linked_exist() -> None:
    linked = re.findall(r"\]\((notebooks/[^)]+)\)", README)
    assert linked
    assert [name for name in linked if not (CHECKOUT / name).is_file()] == []
