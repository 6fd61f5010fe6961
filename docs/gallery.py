"""The gallery of the first page: one card for each notebook, with a figure of its last run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nbformat
import numpy as np
from PIL import Image

# The figure of a card: that of the cell tagged `gallery`, else the first of these that the run
# left, else the largest one. Of several panels side by side, two are shown.
PICTURES = {"film.gif": (), "generated.png": (1, 2), "domains.png": (0, -1)}
SHAPE = 1.6  # width over height of a picture on a card
WIDTH = 720  # pixels


def write_gallery(executed: list[Path], pages: Path) -> None:
    """Write `_gallery.md` and its pictures for executed notebooks."""
    folder = pages / "gallery"
    folder.mkdir(exist_ok=True)
    cards = ["::::{grid} 1 1 2 2\n:gutter: 3\n"]
    for path in executed:
        title, text = title_and_text(path)
        card = f":::{{grid-item-card}} {title}\n:link: notebooks/{path.stem}\n:link-type: doc\n"
        picture = write_picture(path, folder / path.stem)
        if picture is not None:
            card += f":img-top: gallery/{picture.name}\n:img-alt: A figure of notebook {title}\n"
        cards.append(f"{card}\n{text}\n:::\n")
    cards.append("::::\n")
    (pages / "_gallery.md").write_text("\n".join(cards), encoding="utf-8")


def title_and_text(executed: Path) -> tuple[str, str]:
    """Return the title of a notebook and the sentences below it, without links and notes."""
    lines = nbformat.read(executed, as_version=4).cells[0].source.split("\n")
    paragraph = " ".join(lines[1:]).strip() if len(lines) < 3 else ""
    for block in "\n".join(lines[1:]).split("\n\n"):
        if block.strip():
            paragraph = " ".join(block.split())
            break
    sentences = re.split(r"(?<=[.?!])\s+(?=[A-Z*])", paragraph)
    return lines[0].lstrip("# ").strip(), " ".join(sentences[:2])


def write_picture(executed: Path, to: Path) -> Path | None:
    """Write a small picture of a run to `to` with its suffix; None if the run has no figure."""
    source = tagged_figure(executed)
    figures = sorted(executed.parent.glob("*.png"), key=lambda path: path.stat().st_size)
    named = [executed.parent / name for name in PICTURES if (executed.parent / name).is_file()]
    if source is None and not named and not figures:
        return None
    source = source or (named or figures[-1:])[0]
    if source.suffix == ".gif":
        return shutil.copy(source, to.with_suffix(".gif"))
    with Image.open(source) as image:
        picture = on_card(image.convert("RGB"), PICTURES.get(source.name, (0, 1)))
    picture.save(to.with_suffix(".png"), optimize=True)
    return to.with_suffix(".png")


def tagged_figure(executed: Path) -> Path | None:
    """Return the figure that the cell tagged `gallery` saves, if there is such a cell."""
    for cell in nbformat.read(executed, as_version=4).cells:
        if "gallery" in cell.metadata.get("tags", []):
            found = re.search(r'results / "([\w.]+\.(?:png|gif))"', cell.source)
            if found and (executed.parent / found[1]).is_file():
                return executed.parent / found[1]
    return None


def on_card(image: Image.Image, shown: tuple[int, ...]) -> Image.Image:
    """Scale a figure, or two of its panels, and put it on white of the card's shape."""
    panels = find_panels(np.asarray(image))
    if len(panels) > 2:
        image = side_by_side([image.crop(panels[number]) for number in shown])
    height = round(WIDTH / SHAPE)
    image.thumbnail((WIDTH - 20, height - 20), Image.Resampling.LANCZOS)
    card = Image.new("RGB", (WIDTH, height), "white")
    card.paste(image, ((WIDTH - image.width) // 2, (height - image.height) // 2))
    return card


def side_by_side(images: list[Image.Image]) -> Image.Image:
    """Put pictures of one height beside each other."""
    gap = images[0].height // 12
    whole = sum(one.width + gap for one in images) - gap
    joined, x = Image.new("RGB", (whole, images[0].height), "white"), 0
    for one in images:
        joined.paste(one, (x, 0))
        x += one.width + gap
    return joined


def find_panels(pixels: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Find panels between white gaps, as boxes; narrow things in between are legends."""
    height, width = pixels.shape[:2]
    ink = (pixels < 250).any(axis=(0, 2)).astype(int)
    starts = np.flatnonzero(np.diff(ink, prepend=0) == 1)
    ends = np.flatnonzero(np.diff(ink, append=0) == -1) + 1
    apart = starts[1:] - ends[:-1] > 0.012 * width  # else it is a gap between letters
    starts, ends = starts[np.append(True, apart)], ends[np.append(apart, True)]
    panel = ends - starts > 0.4 * height
    return [(int(a), 0, int(b), height) for a, b in zip(starts[panel], ends[panel], strict=True)]
