"""A small film through a stack of slices: one picture for each, in a GIF that plays anywhere."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from ..arguments import checked
from ..files import atomic_path
from ..slices.geometry import micrometres_per_unit, spot_spacing
from ..slices.slices import check_drawable
from .plotting import PALETTE
from .stack_plots import ColourAxis, as_stack, slice_depths, stack_values

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = [
    "film",
    "film_as_html",
]

_REAL_PAUSE = 3.0  # a real section is shown so many times longer than a generated slice


@checked(width=(16, 10_000))
def film(
    slices: Mapping[str, AnnData] | Sequence[AnnData],
    color: str,
    path: str | Path,
    *,
    n_smooth: int = 1,
    layer: str | None = None,
    seconds_per_slice: float = 0.25,
    width: int = 560,
    max_megabytes: float = 2.0,
) -> Path:
    """Write a film that goes through slices of one frame and back again.

    Sections that were given are held longer than generated slices. The rail at the side has a large
    dot for each of them, a small one for each generated slice, and a square around what is shown.

    Parameters
    ----------
    slices, color, n_smooth, layer
        As in :func:`genot_helpers.plotting.stack_plots.stack_figure`.
    path
        File to write, ending in ``.gif``; written completely or not at all.
    seconds_per_slice
        For how long a generated slice is shown.
    width
        Of the film, in pixels. At 560, a dozen slices of 5,000 spots make about one megabyte.
    max_megabytes
        A film that would be larger gets smaller pictures.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    KeyError
        If a slice has neither such a gene nor such a column.
    SliceError
        If positions of a slice are missing or not finite.
    ValueError
        If ``path`` does not end in ``.gif``, or there is no slice.
    """
    path = Path(path)
    if path.suffix != ".gif":
        raise ValueError(f"{path.name} should end in .gif, the format of the film.")
    stack = as_stack(slices)
    for adata in stack.values():
        check_drawable(adata)
    values, axis = stack_values(stack, color, n_smooth=n_smooth, layer=layer)
    pictures = [_picture(stack, place, values, axis, width) for place in range(len(stack))]
    pauses = [
        round(1000 * seconds_per_slice * (1.0 if "genot_source" in adata.obs else _REAL_PAUSE))
        for adata in stack.values()
    ]
    data = _as_gif(pictures, pauses)
    while len(data) > 1e6 * max_megabytes and pictures[0].width > 100:
        smaller = round(0.8 * pictures[0].width), round(0.8 * pictures[0].height)
        pictures = [picture.resize(smaller, Image.Resampling.LANCZOS) for picture in pictures]
        data = _as_gif(pictures, pauses)
    with atomic_path(path) as unfinished:
        unfinished.write_bytes(data)
    return path


def _as_gif(pictures: list[Image.Image], pauses: list[int]) -> bytes:
    """Encode pictures there and back, each shown for its milliseconds, on repeat."""
    order = [*range(len(pictures)), *range(len(pictures) - 2, 0, -1)]
    palette = pictures[len(pictures) // 2].quantize(128, dither=Image.Dither.NONE)
    frames = [pictures[n].quantize(palette=palette, dither=Image.Dither.NONE) for n in order]
    options = {"save_all": True, "append_images": frames[1:], "loop": 0}
    image = io.BytesIO()
    frames[0].save(image, format="GIF", duration=[pauses[n] for n in order], **options)
    return image.getvalue()


@checked
def film_as_html(path: str | Path, description: str = "film through the slices"):
    """Return a film for a notebook to show, inside the page, so that it plays without the file.

    Parameters
    ----------
    path
        The film, a GIF.
    description
        What readers hear who cannot see it. Plain text: a gene's name that holds markup is shown,
        not run.

    Returns
    -------
    IPython.display.HTML
        An image with the film in it.
    """
    from IPython.display import HTML

    data = base64.b64encode(Path(path).read_bytes()).decode("ascii")
    said = html.escape(description)
    return HTML(f'<img alt="{said}" src="data:image/gif;base64,{data}">')


def _picture(stack, place: int, values, axis: ColourAxis, width: int) -> Image.Image:
    """Draw one slice, and beside it where in the stack it is."""
    name, adata = list(stack.items())[place]
    first = next(iter(stack.values()))
    every = np.vstack(
        [np.asarray(one.obsm["spatial"], dtype=float)[:, :2] for one in stack.values()]
    )
    low, high = every.min(axis=0), every.max(axis=0)
    shape = float(np.clip((high - low)[1] / (high - low)[0], 0.5, 1.5))
    figure = Figure(figsize=(7.0, 5.2 * shape + 0.6), dpi=width / 7.0, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    rail, ax = figure.subplots(1, 2, width_ratios=(1, 14))
    points = np.asarray(adata.obsm["spatial"], dtype=float)[:, :2]
    wide = np.full(len(points), 1.15 * spot_spacing(points))  # close the gaps
    cmap, norm = _colours(axis)
    spots = EllipseCollection(
        wide, wide, np.zeros(len(points)), units="xy", offsets=points, linewidths=0,
        offset_transform=ax.transData, cmap=cmap, norm=norm, array=values[place],
    )  # fmt: skip
    ax.add_collection(spots, autolim=False)
    up = first.uns.get("genot", {}).get("y_axis") == "up"
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]) if up else (high[1], low[1]))
    unit = "µm" if micrometres_per_unit(first) == 1.0 else "units of the coordinates"
    ax.set(aspect="equal", xlabel=unit, title=name)
    ax.spines[:].set_visible(False)
    if axis.labels is None:
        figure.colorbar(spots, ax=ax, shrink=0.6, label=axis.title.replace("\n", ", "))
    else:
        handles = [
            Line2D([], [], ls="", marker="o", color=colour, label=label)
            for label, colour in zip(axis.labels, axis.colours, strict=True)
        ]
        figure.legend(handles=handles, loc="outside right center", frameon=False)
    if first.uns.get("genot", {}).get("simulated", False):
        ax.set_xlabel(f"{unit} (simulated tissue)")
    _draw_rail(rail, stack, place)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _draw_rail(ax, stack, place: int) -> None:
    """Draw the depths of all slices on a line, and mark the one that is shown."""
    depths = slice_depths(stack.values())
    real = np.array(["genot_source" not in adata.obs for adata in stack.values()])
    ax.plot(np.zeros(len(depths)), depths, color="0.6", lw=1, zorder=0)
    ax.plot(np.zeros(real.sum()), depths[real], "o", color="black", ms=6)
    ax.plot(np.zeros((~real).sum()), depths[~real], "o", color="0.6", ms=3)
    ax.plot(0, depths[place], "s", mfc="none", mec=PALETTE[5], mew=2.5, ms=12)
    known = all("position_um" in adata.uns.get("genot", {}) for adata in stack.values())
    ax.set(xticks=[], yticks=depths[real], ylabel="depth, µm" if known else "number in the stack")
    ax.margins(y=0.06)
    ax.spines[:].set_visible(False)


def _colours(axis: ColourAxis):
    """Return the colour map and range of a scale."""
    norm = mpl.colors.Normalize(axis.low, axis.high)
    if axis.labels is None:
        return mpl.colormaps["magma"], norm
    return mpl.colors.ListedColormap(axis.colours), norm
