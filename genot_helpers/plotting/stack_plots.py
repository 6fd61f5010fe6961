"""Slices on top of each other: a stack to turn in the browser, lines through it, and a film.

Each slice lies at its depth in the tissue (``uns["genot"]["position_um"]``). Drawn to scale a stack
is flat: the depth is exaggerated, and the axis says by how much. Plotly reads some HTML in every
text, and names come from files: they are escaped here, so that they are shown as they are and never
run. Top to bottom: figures; their axes; names, depths and colours; the film.
"""

from __future__ import annotations

import base64
import html
import io
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from PIL import Image
from scipy.spatial import ConvexHull, cKDTree

from ..arguments import checked
from ..files import atomic_path
from ..slices.geometry import micrometres_per_unit, positions_of, spot_spacing
from ..slices.sections import by_section
from ..slices.slices import as_labels, check_drawable, joint_labels
from ..transport.transport import coupling_pairs
from .generated_plots import expression_of
from .plotting import PALETTE, UNANNOTATED, grows_upwards, is_simulated, legend_dots

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from ..interpolation.interpolation import Interpolation


_HEIGHT = 0.7  # of the stack, as a share of the wider side of the tissue, by default
_BUTTONS = {"displaylogo": False, "showSendToCloud": False}
_STEPS = 9  # places at which a line between two slices is drawn


@by_section(writes=False)
@checked
def stack_figure(
    slices: Mapping[str, AnnData] | Sequence[AnnData],
    color: str,
    *,
    n_smooth: int = 1,
    max_spots: int = 1500,
    marker_size: float = 3.0,
    opacity: float = 1.0,
    exaggeration: float | str = "auto",
    layer: str | None = None,
    seed: int = 0,
) -> go.Figure:
    """Draw slices of one frame at their depths, to be turned and zoomed.

    Given sections have a black outline, generated slices a dashed grey one; a click on either name
    in the legend hides and shows all of its kind. Where a gene is high, spots are larger.

    Parameters
    ----------
    slices
        In the order of the stack; names are shown where a pointer rests. Nothing is written.
    color
        A gene, or a column of ``obs``.
    n_smooth
        Average the gene over a spot and its nearest ones in the same slice, so many together.
    max_spots, seed
        Draw at most so many spots of a slice, taken at random.
    marker_size, opacity
        Of the spots, in pixels, and from 0 to 1.
    exaggeration
        How many times the depth is drawn larger than width and height; 1 is to scale, "auto" makes
        the stack about two thirds as high as the tissue is wide.
    layer
        Read genes from this layer where a slice has it.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    KeyError
        If a slice has neither such a gene nor such a column.
    SliceError
        If positions of a slice are missing or not finite.
    ValueError
        If there is no slice, or a number is out of range.
    """
    if max_spots < 3 or not 0 < opacity <= 1:
        raise ValueError("max_spots must be 3 or more, and opacity above 0 and at most 1.")
    stack = as_stack(slices)
    for adata in stack.values():
        check_drawable(adata)
    values, axis = stack_values(stack, color, n_smooth=n_smooth, layer=layer)
    depths, rng = slice_depths(stack.values()), np.random.default_rng(seed)
    figure, in_legend = go.Figure(), set()
    for (name, adata), shown, depth in zip(stack.items(), values, depths, strict=True):
        points = positions_of(adata)
        rows = np.sort(rng.permutation(adata.n_obs)[:max_spots])
        kind, line = _kind(adata)
        texts = {}
        if axis.labels is not None:
            texts["text"] = [as_plotly_text(axis.name(code)) for code in shown[rows]]
        what = "%{text}" if texts else "%{marker.color:.2f}"
        marker = {"color": np.float32(shown[rows]), "coloraxis": "coloraxis", "line": {"width": 0}}
        marker["size"] = axis.sizes(shown[rows], marker_size)
        figure.add_scatter3d(
            **_place(points[rows], depth), mode="markers", marker=marker, opacity=opacity,
            legendgroup=kind, showlegend=False, name=as_plotly_text(name), **texts,
            hovertemplate=f"{as_plotly_text(color)}: {what}<extra>{as_plotly_text(name)}</extra>",
        )  # fmt: skip
        corners = ConvexHull(points).vertices if len(points) > 2 else np.arange(len(points))
        figure.add_scatter3d(
            **_place(points[[*corners, corners[0]]], depth), mode="lines", line=line, name=kind,
            hoverinfo="skip", legendgroup=kind, showlegend=kind not in in_legend,
        )  # fmt: skip
        in_legend.add(kind)
    return _furnish(figure, list(stack.values()), depths, axis, exaggeration)


@checked
def gene_flow_figure(
    interpolations: Interpolation | Sequence[Interpolation],
    gene: str,
    *,
    n_lines: int = 600,
    n_smooth: int = 20,
    exaggeration: float | str = "auto",
    seed: int = 0,
) -> go.Figure:
    """Draw lines from spots to their partners in the next section, in the colour of a gene.

    A line starts at a spot of the first slice, follows the warp and the coupling to the spot that
    takes most of its mass, goes on from there, and ends where a spot has no partner.

    Parameters
    ----------
    interpolations
        Of :func:`genot_helpers.interpolation.prepare_interpolation`; several if each begins with
        the slice that the one before ends with.
    gene
        Colour; along a line it runs evenly from the value at one end to that at the other.
    n_lines
        Spots of the first slice from which lines start: at random, more where the gene is high.
    n_smooth, exaggeration, seed
        As in :func:`stack_figure`.

    Raises
    ------
    ValueError
        If the interpolations are no chain.
    """
    chain = list(interpolations) if isinstance(interpolations, Sequence) else [interpolations]
    slices = [chain[0].left, *(prepared.right for prepared in chain)]
    if any(one.right.n_obs != other.left.n_obs for one, other in itertools.pairwise(chain)):
        raise ValueError(
            "Each interpolation must begin with the slice that the last one ends with."
        )
    values, axis = stack_values(as_stack(slices), gene, n_smooth=n_smooth)
    depths, rng = slice_depths(slices), np.random.default_rng(seed)
    n_lines = min(n_lines, chain[0].left.n_obs)
    chance = np.maximum(values[0], 0.0) + 0.1 * axis.high
    spots = np.sort(rng.choice(len(chance), n_lines, replace=False, p=chance / chance.sum()))
    lines = np.arange(len(spots))
    parts = []  # one row for each line and step: line, step, x, y, depth, value
    for number, prepared in enumerate(chain):
        partner = _partners(prepared)[spots]
        kept = partner >= 0
        lines, spots, partner = lines[kept], spots[kept], partner[kept]
        ends = values[number][spots], values[number + 1][partner]
        for t in np.linspace(0.0, 1.0, _STEPS):
            here = (1.0 - t) * prepared.warp.move_left(prepared.left_points[spots], t)
            here += t * prepared.warp.move_right(prepared.right_points[partner], t)
            depth = (1.0 - t) * depths[number] + t * depths[number + 1]
            value = (1.0 - t) * ends[0] + t * ends[1]
            step = np.full(len(spots), number + t)
            parts.append(np.column_stack([lines, step, here, np.full_like(value, depth), value]))
        spots = partner
    table = np.vstack(parts)
    table = table[np.lexsort((table[:, 1], table[:, 0]))]
    last = np.flatnonzero(np.diff(table[:, 0])) + 1  # a gap between one line and the next
    table = np.insert(table, last, np.nan, axis=0).astype(np.float32)
    colour = np.nan_to_num(table[:, 5])
    figure = go.Figure()
    figure.add_scatter3d(
        x=table[:, 2], y=table[:, 3], z=table[:, 4], mode="lines", connectgaps=False,
        line={"color": colour, "coloraxis": "coloraxis", "width": 3}, hoverinfo="skip",
        showlegend=False,
    )  # fmt: skip
    return _furnish(figure, slices, depths, axis, exaggeration)


@checked
def write_page(figure: go.Figure, path: str | Path) -> Path:
    """Write a plotly figure as a page that works without network (5 MB), completely or not at all.

    Parameters
    ----------
    figure
        Of :func:`stack_figure`, :func:`gene_flow_figure`, or made by plotly.
    path
        File to write. Its name, without what is no letter, digit or dash, names the figure inside.

    Returns
    -------
    pathlib.Path
        The file.
    """
    path = Path(path)
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem) or "figure"
    with atomic_path(path) as unfinished:
        figure.write_html(unfinished, include_plotlyjs=True, div_id=name, config=_BUTTONS)
    return path


def as_plotly_text(text: object) -> str:
    """Escape a name for plotly: markup and templates in it are shown; line breaks stay."""
    escaped = html.escape(str(text), quote=False).replace("%{", "%&#123;")
    return escaped.replace("\n", "<br>")


def embed_plotly() -> None:
    """Let a notebook carry plotly with its figures, once, so that its pages need no network.

    Sets :attr:`plotly.io.renderers`, where the notebook runs in Jupyter or without a screen;
    other places (Colab, VS Code) show plotly figures in ways of their own, and are left alone.
    """
    for name in ("plotly_mimetype", "notebook"):
        pio.renderers[name].config.update(_BUTTONS)
    if pio.renderers.default.startswith("plotly_mimetype"):
        pio.renderers.default = "plotly_mimetype+notebook"


def _kind(adata: AnnData) -> tuple[str, dict]:
    """Say in words what a slice is, and how its outline is drawn."""
    if "genot_source" in adata.obs:
        return "generated slice", {"color": "grey", "width": 2, "dash": "dash"}
    return f"{'simulated' if is_simulated(adata) else 'real'} section", {
        "color": "black",
        "width": 4,
    }


def _partners(prepared: Interpolation) -> NDArray[np.int64]:
    """Find, for each left spot, the right one that takes most of its mass; -1 if none does."""
    left, right, mass = coupling_pairs(prepared.coupling)
    order = np.argsort(mass, kind="stable")  # what is written last stays
    partner = np.full(prepared.left.n_obs, -1)
    partner[left[order]] = right[order]
    return partner


def _place(points: NDArray, depth: float) -> dict[str, NDArray]:
    """Coordinates for plotly, in few bytes."""
    x, y = np.round(points, 1).astype(np.float32).T
    return {"x": x, "y": y, "z": np.full(len(x), depth, dtype=np.float32)}


def _furnish(figure, slices, depths, axis: ColourAxis, exaggeration) -> go.Figure:
    """Add axes, proportions, the colour scale, and whether the tissue is simulated."""
    every = np.vstack([positions_of(adata) for adata in slices])
    unit = micrometres_per_unit(slices[0])
    given = np.array(["genot_source" not in adata.obs for adata in slices])
    known = _depths_known(slices)
    sides = np.ptp(every, axis=0) * (unit or 1.0)
    thick = max(float(np.ptp(depths)), 1e-9)
    if exaggeration == "auto" or not known:
        exaggeration = _round(_HEIGHT * sides.max() / thick)
    ratio = np.array([*sides, thick * float(exaggeration)]) / sides.max()
    label = f"depth, µm (drawn {exaggeration:g} ×)" if known else "number in the stack"
    flat = {"title": f"in the slice, {'µm' if unit == 1.0 else 'units'}"}
    down = {} if grows_upwards(slices[0]) else {"autorange": "reversed"}
    scene = {
        "xaxis": flat, "yaxis": flat | down,
        "zaxis": {"title": label, "tickvals": np.unique(depths[given])},
        "aspectmode": "manual", "aspectratio": dict(zip("xyz", ratio, strict=True)),
        "camera": {"eye": {"x": 1.05, "y": -1.3, "z": 0.85}, "center": {"z": -0.12}},
    }  # fmt: skip
    note = "simulated tissue" if is_simulated(slices[0]) else ""
    figure.update_layout(
        scene=scene, coloraxis=_colour_bar(axis), template="plotly_white",
        height=650, margin={"l": 0, "r": 0, "t": 30, "b": 0}, title={"text": note, "font_size": 13},
        legend={"x": 0, "y": 1, "groupclick": "togglegroup"},
    )  # fmt: skip
    return figure


def _colour_bar(axis: ColourAxis) -> dict:
    """Describe the colours: magma, dark for high as the page is white, or a step for each label."""
    bar = {"title": as_plotly_text(axis.title), "len": 0.6, "thickness": 15}
    if axis.labels is None:
        scale = [mpl.colors.to_hex(one) for one in mpl.colormaps["magma_r"](np.linspace(0, 1, 17))]
        return {"colorscale": scale, "cmin": axis.low, "cmax": axis.high, "colorbar": bar}
    n = len(axis.labels)
    edges = np.repeat(np.arange(n + 1) / n, 2)[1:-1]
    scale = list(zip(edges.tolist(), np.repeat(axis.colours, 2).tolist(), strict=True))
    bar |= {"tickvals": list(range(n)), "ticktext": [as_plotly_text(one) for one in axis.labels]}
    return {"colorscale": scale, "cmin": axis.low, "cmax": axis.high, "colorbar": bar}


def _round(number: float) -> float:
    """Round down to one digit, at least 1."""
    power = 10.0 ** np.floor(np.log10(max(number, 1.0)))
    return float(max(1.0, np.floor(number / power) * power))


# -------------------------------------------------------------------------------------------------
# Names, depths and colours of a stack, shared with the film.


class ColourAxis(NamedTuple):
    """What the colours of a stack mean: a range of numbers, or labels by their number."""

    title: str
    low: float
    high: float
    labels: list[str] | None = None
    colours: list[str] | None = None

    def name(self, code: float) -> str:
        """Return the label with a number."""
        return self.labels[int(code)]

    def sizes(self, values: NDArray, size: float) -> float | NDArray[np.float32]:
        """Draw high values larger, so that low ones do not hide them; labels all alike."""
        if self.labels is not None:
            return size
        share = (values - self.low) / max(self.high - self.low, 1e-12)
        return np.round(size * (0.5 + 0.9 * np.clip(share, 0.0, 1.0)), 1).astype(np.float32)


def as_stack(slices: Mapping[str, AnnData] | Sequence[AnnData]) -> dict[str, AnnData]:
    """Name slices that have no name."""
    if not isinstance(slices, Mapping):
        facts = [adata.uns.get("genot", {}) for adata in slices]
        names = [
            str(known.get("name", "generated" if "t" in known else "slice")) for known in facts
        ]
        slices = {
            f"{n + 1}: {name}": one for n, (name, one) in enumerate(zip(names, slices, strict=True))
        }
    if not slices:
        raise ValueError("There is no slice to draw.")
    return dict(slices)


def slice_depths(slices: Iterable[AnnData]) -> NDArray[np.float64]:
    """Return the depth of each slice; its number in the stack where one of them has none."""
    found = [adata.uns.get("genot", {}).get("position_um") for adata in slices]
    return np.arange(float(len(found))) if None in found else np.array(found, dtype=float)


def _depths_known(slices: Iterable[AnnData]) -> bool:
    """Whether every slice says how deep it lies."""
    return all("position_um" in adata.uns.get("genot", {}) for adata in slices)


def stack_values(
    stack: Mapping[str, AnnData], color: str, *, n_smooth: int = 1, layer: str | None = None
) -> tuple[list[NDArray[np.float64]], ColourAxis]:
    """Read what to colour spots by, on one scale for all slices."""
    slices = list(stack.values())
    if not any(color in adata.obs for adata in slices):
        depth = float(np.median(np.asarray(slices[0].X.sum(axis=1))))
        values = []
        for adata in slices:
            own = layer if layer in adata.layers else None
            found = expression_of(adata, color, layer=own, depth=depth)
            values.append(_smooth(adata, found, n_smooth))
        high = max(float(np.quantile(np.concatenate(values), 0.995)), 1e-6)
        return values, ColourAxis(f"{color}\nlog(1 + x)", 0.0, high)
    columns = [_column(name, adata, color) for name, adata in stack.items()]
    if all(pd.api.types.is_numeric_dtype(column) for column in columns):
        values = [column.to_numpy(float) for column in columns]
        every = np.concatenate(values)
        return values, ColourAxis(color, float(np.nanmin(every)), float(np.nanmax(every)))
    columns = [as_labels(column) for column in columns]
    labels = joint_labels(columns)
    colours = [PALETTE[number % len(PALETTE)] for number in range(len(labels))]
    codes = [column.cat.set_categories(labels).cat.codes.to_numpy(float) for column in columns]
    if any((code < 0).any() for code in codes):
        labels, colours = [*labels, "unannotated"], [*colours, UNANNOTATED]
        codes = [np.where(code < 0, len(labels) - 1, code) for code in codes]
    return codes, ColourAxis(color, -0.5, len(labels) - 0.5, [str(one) for one in labels], colours)


@by_section(writes=False)
@checked
def gene_along_stack(
    slices: Mapping[str, AnnData] | Sequence[AnnData], gene: str, *, by: str | None = None
) -> pd.DataFrame:
    """Average a gene over each slice, or over each label in each slice.

    Parameters
    ----------
    slices, gene
        In the order of the stack; as log(1 + expression scaled to one depth).
    by
        Column of ``obs`` with labels (``obs["genot_domain"]`` for it in generated slices).

    Returns
    -------
    pandas.DataFrame
        Depths in the index, a column for each label; NaN where a slice has no spot of a label.
    """
    stack = as_stack(slices)
    values, _ = stack_values(stack, gene)
    rows = []
    for (name, adata), level in zip(stack.items(), values, strict=True):
        labels = np.full(len(level), "all spots") if by is None else _column(name, adata, by)
        rows.append(pd.Series(level).groupby(np.asarray(labels, dtype=object)).mean())
    return pd.DataFrame(rows, index=pd.Index(slice_depths(stack.values()), name="depth"))


def _column(name: str, adata: AnnData, color: str) -> pd.Series:
    """Return a column of ``obs``; for a generated slice the carried label."""
    key = color if color in adata.obs or "genot_domain" not in adata.obs else "genot_domain"
    if key not in adata.obs:
        raise KeyError(f"Slice {name!r} has no obs[{color!r}] to draw.")
    return adata.obs[key]


def _smooth(adata: AnnData, values: NDArray, n: int) -> NDArray[np.float64]:
    """Average over the n nearest spots, the spot itself among them."""
    if n <= 1:
        return values
    points = positions_of(adata)
    return values[cKDTree(points).query(points, min(n, len(points)))[1]].mean(axis=1)


# -------------------------------------------------------------------------------------------------
# A film through a stack: one picture for each slice, in a GIF that plays anywhere.

_REAL_PAUSE = 3.0  # a real section is shown so many times longer than a generated slice


@by_section(writes=False)
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
        As in :func:`stack_figure`.
    path
        File to write, ending in ``.gif``; written completely or not at all.
    seconds_per_slice
        For how long a generated slice is shown.
    width, max_megabytes
        Of the film, in pixels; a film that would be larger in megabytes gets smaller pictures.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    KeyError, SliceError
        As :func:`stack_figure`.
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
    pictures = [_film_picture(stack, place, values, axis, width) for place in range(len(stack))]
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
    path, description
        The film, a GIF; what readers hear who cannot see it (markup in it is shown).

    Returns
    -------
    IPython.display.HTML
        An image with the film in it.
    """
    from IPython.display import HTML

    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no film {path}: write one with film first.")
    data = base64.b64encode(Path(path).read_bytes()).decode("ascii")
    said = html.escape(description)
    return HTML(f'<img alt="{said}" src="data:image/gif;base64,{data}">')


def _film_picture(stack, place: int, values, axis: ColourAxis, width: int) -> Image.Image:
    """Draw one slice, and beside it where in the stack it is."""
    name, adata = list(stack.items())[place]
    first = next(iter(stack.values()))
    every = np.vstack([positions_of(one) for one in stack.values()])
    low, high = every.min(axis=0), every.max(axis=0)
    shape = float(np.clip((high - low)[1] / (high - low)[0], 0.5, 1.5))
    figure = Figure(figsize=(7.0, 5.2 * shape + 0.6), dpi=width / 7.0, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    rail, ax = figure.subplots(1, 2, width_ratios=(1, 14))
    points = positions_of(adata)
    wide = np.full(len(points), 1.15 * spot_spacing(points))  # close the gaps
    norm = mpl.colors.Normalize(axis.low, axis.high)
    cmap = (
        mpl.colormaps["magma"] if axis.labels is None else mpl.colors.ListedColormap(axis.colours)
    )
    spots = EllipseCollection(
        wide, wide, np.zeros(len(points)), units="xy", offsets=points, linewidths=0,
        offset_transform=ax.transData, cmap=cmap, norm=norm, array=values[place],
    )  # fmt: skip
    ax.add_collection(spots, autolim=False)
    across, down = zip(low, high, strict=True)
    ax.set(xlim=across, ylim=down if grows_upwards(first) else down[::-1])
    unit = "µm" if micrometres_per_unit(first) == 1.0 else "units of the coordinates"
    ax.set(aspect="equal", xlabel=unit, title=name)
    ax.spines[:].set_visible(False)
    if axis.labels is None:
        figure.colorbar(spots, ax=ax, shrink=0.6, label=axis.title.replace("\n", ", "))
    else:
        named = dict(zip(axis.labels, axis.colours, strict=True))
        figure.legend(handles=legend_dots(named), loc="outside right center", frameon=False)
    if is_simulated(first):
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
    label = "depth, µm" if _depths_known(stack.values()) else "number in the stack"
    ax.set(xticks=[], yticks=depths[real], ylabel=label)
    ax.margins(y=0.06)
    ax.spines[:].set_visible(False)
