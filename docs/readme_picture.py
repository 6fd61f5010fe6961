"""Draw the picture at the top of the README from what the executed demo notebooks left.

`make notebooks`, then `python docs/readme_picture.py`: domains of notebook 01, the section in
between of notebook 06 beside the real one, the stack of notebook 09.
"""

from __future__ import annotations

import base64
import json

import anndata as ad
import nbformat
import numpy as np
from executed import CHECKOUT, PLOTLY
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from PIL import Image

import genot_helpers as gh
from genot_helpers import micrometres_per_unit, spot_spacing

RESULTS = CHECKOUT / "results"
PICTURE = CHECKOUT / "docs" / "_static" / "what_you_get.png"
SIZE, DPI = (16.0, 8.4), 100  # the README shows it at half this size
LARGE, MEDIUM, SMALL = 22, 17, 15  # points
VIRIDIS = colormaps["viridis"]


def draw_spots(ax: Axes, adata: ad.AnnData, key: str, colours: dict, title: str) -> None:
    """Draw spots in the colour of their label, with a title and a scale bar."""
    points = np.asarray(adata.obsm["spatial"], dtype=float)
    wide = np.full(len(points), 1.15 * spot_spacing(points))
    shades = [colours.get(label, "0.87") for label in adata.obs[key].astype(str)]
    spots = EllipseCollection(
        wide, wide, np.zeros(len(points)), units="xy", offsets=points, facecolors=shades,
        linewidths=0, offset_transform=ax.transData,
    )  # fmt: skip
    ax.add_collection(spots)
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    bar, below = 1000.0 / micrometres_per_unit(adata), bottom + 0.07 * (bottom - top)
    ax.plot([left, left + bar], [below, below], color="black", lw=3)
    ax.text(left + 1.2 * bar, below, "1 mm", va="center", fontsize=SMALL)
    ax.set(xlim=(left - wide[0], right + wide[0]), ylim=(below + 0.2 * bar, top - wide[0]))
    ax.set(aspect="equal")
    ax.set_title(title, fontsize=MEDIUM)
    ax.set_axis_off()


def colours_of(adata: ad.AnnData, key: str) -> dict[str, str]:
    """Return the colours in which the notebook drew the labels of a column."""
    labels = adata.obs[key].astype("category").cat.categories.astype(str)
    return dict(zip(labels, adata.uns[f"{key}_colors"], strict=False))


def draw_domains(axes: list[Axes]) -> dict[str, str]:
    """Draw what notebook 01 found beside the annotation; return the colours of the annotation.

    Scores are left out on purpose: those of simulated tissue are no evidence for real tissue.
    """
    adata = ad.read_h5ad(RESULTS / "01_dlpfc_spatial_domains" / "slice.h5ad")
    titles = {"domain_truth": "annotated", "genot_domain": "found"}
    for ax, (key, title) in zip(axes, titles.items(), strict=False):
        draw_spots(ax, adata, key, colours_of(adata, key), title)
    sure = adata.obs["genot_confidence"].round(2).astype(str)
    shades = {one: VIRIDIS((float(one) - 0.5) / 0.5) for one in sure.unique()}
    adata.obs["confidence"] = sure
    draw_spots(axes[2], adata, "confidence", shades, "confidence: dark is unsure")
    return colours_of(adata, "domain_truth")


def draw_between(axes: list[Axes], colours: dict[str, str]) -> None:
    """Draw the generated section of notebook 06 between its left neighbour and the real one."""
    run = RESULTS / "06_dlpfc_interpolation"
    generated = ad.read_h5ad(run / "generated.h5ad")
    scores = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    names = scores["left"], scores["held_out"]
    left, held_out = gh.load_slices(names, data_source=scores["data_source"]).values()
    gh.apply_alignment(held_out, gh.align(left, held_out), key_added="spatial")
    draw_spots(axes[0], left, "domain_truth", colours, "left neighbour")
    draw_spots(axes[1], generated, "genot_domain", colours, f"generated, t = {scores['t']:.1f}")
    draw_spots(axes[2], held_out, "domain_truth", colours, "held out, to compare")


def draw_stack(ax: Axes) -> None:
    """Draw the stack that notebook 09 lets its reader turn, as seen from one side."""
    name = "09_hypothalamus_stack"
    notebook = nbformat.read(RESULTS / name / f"{name}.ipynb", as_version=4)
    outputs = (one for cell in notebook.cells for one in cell.get("outputs", []))
    figure = next(one.data[PLOTLY] for one in outputs if PLOTLY in one.get("data", {}))
    for trace in figure["data"]:
        place = [decoded(trace[axis]) for axis in "xyz"]
        if trace["mode"] == "markers":
            shades, size = (decoded(trace["marker"][what]) for what in ("color", "size"))
            options = {"cmap": "magma", "linewidths": 0, "depthshade": False}
            ax.scatter(*place, c=shades, s=size**2 * 0.7, **options)
        else:
            real = trace["name"] != "generated slice"
            ax.plot(*place, color="black" if real else "0.6", lw=1.6 if real else 0.6)
    ratio = figure["layout"]["scene"]["aspectratio"]
    ax.set_box_aspect((ratio["x"], ratio["y"], 1.35 * ratio["z"]), zoom=1.42)
    ax.view_init(elev=17, azim=-62)
    ax.set_axis_off()


def decoded(values: list | dict) -> np.ndarray:
    """Return the numbers of a plotly array, which may be kept as base64."""
    if not isinstance(values, dict):
        return np.array([np.nan if one is None else one for one in values], dtype=float)
    return np.frombuffer(base64.b64decode(values["bdata"]), dtype=values["dtype"])


def draw() -> Figure:
    """Draw everything."""
    figure = Figure(figsize=SIZE, dpi=DPI, facecolor="white")
    grid = figure.add_gridspec(
        2, 4, width_ratios=(1, 1, 1, 1.75), left=0.005, right=0.995, top=0.88,
        bottom=0.02, hspace=0.36, wspace=0.04,
    )  # fmt: skip
    rows = [[figure.add_subplot(grid[row, column]) for column in range(3)] for row in range(2)]
    colours = draw_domains(rows[0])
    draw_between(rows[1], colours)
    draw_stack(figure.add_subplot(grid[:, 3], projection="3d"))
    bold = {"fontsize": LARGE, "weight": "bold", "va": "top"}
    figure.text(0.01, 0.985, "Spatial domains", **bold)
    figure.text(0.01, 0.487, "The section in between, against a real one", **bold)
    figure.text(0.655, 0.985, "Three sections, a dense stack", **bold)
    figure.text(0.99, 0.012, "simulated tissue", ha="right", fontsize=SMALL, color="0.35")
    figure.text(
        0.655,
        0.915,
        "black outline: given; grey: generated\ncolour: one gene",
        fontsize=SMALL,
        va="top",
    )
    return figure


def main() -> None:
    """Write the picture, with few enough colours to be small."""
    canvas = FigureCanvasAgg(draw())
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    image.quantize(96, dither=Image.Dither.NONE).save(PICTURE, optimize=True)
    print(f"{PICTURE.relative_to(CHECKOUT)}: {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
