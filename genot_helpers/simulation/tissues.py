"""The shapes of the simulated tissues; what they are made of is in recipes.py.

:mod:`genot_helpers.simulation` turns both into counts. Nothing here is measured: shapes were drawn
after what an atlas shows (references are with the functions of that module).

Everything wavy (layer borders, deformation between sections, outlines) is one tool, a random smooth
function: a sum of cosine waves in random directions, the random Fourier features of a Gaussian
kernel (Rahimi and Recht 2007, https://dl.acm.org/doi/10.5555/2981562.2981710). It can be evaluated
at any point, so two sections of one block see the same function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial import cKDTree

__all__ = [
    "Shape",
    "bulb_shape",
    "cortex_shape",
    "embryo_anatomy",
    "embryo_shape",
    "hippocampus_shape",
    "smooth_field",
]

VISIUM_PITCH_UM = 100.0  # centre to centre; a Visium spot is 55 µm wide
BIN_UM = 25.0  # Stereo-seq bin50: 50 x 50 DNA nanoballs, 0.5 µm apart
BEAD_UM = 10.0  # Slide-seqV2 bead: no two centres are closer

Field = Callable[[np.ndarray], np.ndarray]


class Shape(NamedTuple):
    """Where the spots of one slice lie.

    Attributes
    ----------
    spatial
        (n, 2) float64, µm, as the instrument reports it (y points down).
    common
        (n, 2) float64, µm, the same spots in the frame of the tissue, which no instrument knows.
    domain
        (n,) int, code of the domain.
    gradient
        (n,) float64 from 0 to 1, runs smoothly through the tissue without regard to domains.
    grid
        (n, 2) int, array row and column; None where positions are irregular.
    """

    spatial: np.ndarray
    common: np.ndarray
    domain: np.ndarray
    gradient: np.ndarray
    grid: np.ndarray | None = None


# --- where spots can lie ------------------------------------------------------------------------


def smooth_field(rng: np.random.Generator, length: float, n_dims: int = 2) -> Field:
    """Draw a random smooth function with mean 0, variance 1 and a Gaussian kernel.

    Parameters
    ----------
    rng
        Source of randomness; two calls give two functions.
    length
        Distance over which the function changes, in the unit of the points.
    n_dims
        Dimensions of the points.

    Returns
    -------
    callable
        Maps points (n, n_dims) to values (n,), float64.

    Examples
    --------
    >>> wave = smooth_field(np.random.default_rng(0), length=0.3)
    >>> wave(np.zeros((5, 2))).shape
    (5,)
    """
    n_waves = 48
    frequency = rng.normal(size=(n_dims, n_waves)) / length
    phase = rng.uniform(0, 2 * np.pi, n_waves)
    return lambda points: np.sqrt(2 / n_waves) * np.cos(points @ frequency + phase).sum(axis=1)


def _rotate(points: np.ndarray, degrees: float) -> np.ndarray:
    """Rotate points (n, 2) about the origin."""
    angle = np.deg2rad(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]])


def _bins(half_width: float) -> tuple[np.ndarray, np.ndarray]:
    """Return row and column (n, 2) and position (n, 2) in µm of every bin of a square chip."""
    side = np.arange(2 * int(half_width / BIN_UM) + 1)
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    return grid, grid[:, ::-1] * BIN_UM


def _beads(rng: np.random.Generator, n_beads: int, inside: Callable, half_width: float):
    """Draw n_beads positions (n, 2) in µm with ``inside`` true; beads do not overlap."""
    kept = np.empty((0, 2))
    while len(kept) < n_beads:
        drawn = rng.uniform(-half_width, half_width, (2 * n_beads, 2))
        pool = np.vstack([kept, drawn[inside(drawn)]])
        close = cKDTree(pool).query_pairs(BEAD_UM, output_type="ndarray")
        # Of two beads that would overlap, the one drawn later goes.
        kept = np.delete(pool, np.unique(close.max(axis=1)), axis=0) if len(close) else pool
    return kept[:n_beads]


# --- cortex ---------------------------------------------------------------------------------------

# Share of the tissue in L1, L2, ..., L6, WM: the mean of three annotated sections of Maynard 2021.
_CORTEX_SHARES = (0.09, 0.07, 0.25, 0.068, 0.185, 0.17, 0.167)


def cortex_shape(
    block_rng: np.random.Generator, section_rngs: list, *, n_spots: int, gap_um: float
) -> list[Shape]:
    """Cut consecutive sections of one block of cortex and lay them on Visium slides.

    The block is a gyrus: white matter at the lower left, six layers folded around it. Layer
    borders, outline and a smooth deformation are functions of (x, y, z), so neighbouring sections
    resemble each other more than distant ones. Each section lies on its slide a little rotated
    and shifted, so no two grids coincide.

    Parameters
    ----------
    block_rng, section_rngs
        Draw the block, and (one generator a section) how each section lies on its slide.
    n_spots
        Spots under tissue, about. The pitch stays 100 µm: fewer spots mean a smaller tissue.
    gap_um
        Distance between consecutive sections, µm.

    Returns
    -------
    list of Shape
        Domain codes 0 (L1) to 6 (WM); ``gradient`` is 0 at the pia and 1 deep in the white matter.
    """
    scale = np.sqrt(n_spots / 3700)
    n_rows, n_columns = max(round(78 * scale), 8), max(round(64 * scale), 7)
    size = VISIUM_PITCH_UM * np.array([n_columns, n_rows * np.sqrt(3) / 2])
    wobble, edge = smooth_field(block_rng, 0.3, 3), smooth_field(block_rng, 0.08, 3)
    borders = [smooth_field(block_rng, 0.18, 3) for _ in _CORTEX_SHARES[1:]]
    shift = [smooth_field(block_rng, 0.4, 3) for _ in range(2)]

    def level(points):  # height above the white matter: two walls of a gyrus, corner rounded off
        top = -0.54 * (points[:, 0] - 0.08) - 0.84 * (points[:, 1] - 0.78)
        right = 0.72 * (points[:, 0] - 0.34) + 0.10 * (points[:, 1] - 0.90)
        return np.logaddexp(9 * top, 9 * right) / 9 + 0.03 * wobble(points)

    def inside(points):
        rough = 0.010 * edge(points)
        x, y = points[:, 0], points[:, 1]
        return (
            (level(points) + rough < 0.43)
            & (np.minimum(x - 0.07, 0.94 - x) + rough > 0)
            & (np.minimum(y - 0.03, 0.925 - y) + rough > 0)
        )

    fine = np.linspace(0, 1, 120)
    block = np.stack([*np.meshgrid(fine, fine), np.zeros((120, 120))], axis=-1).reshape(-1, 3)
    heights = level(block[inside(block)])
    cuts = np.quantile(heights, 1 - np.cumsum(_CORTEX_SHARES)[:-1])
    pia, floor = heights.max(), heights.min()

    rows, half_columns = np.divmod(np.arange(n_rows * n_columns), n_columns)
    grid = np.column_stack([rows, 2 * half_columns + rows % 2])  # Space Ranger numbers every other
    spatial = grid[:, ::-1] * VISIUM_PITCH_UM * np.array([0.5, np.sqrt(3) / 2])
    shapes = []
    for i, rng in enumerate(section_rngs):
        tilt, slide = rng.uniform(-4, 4), rng.uniform(-0.02, 0.02, 2)
        points = _rotate(spatial / size.max() - 0.5, tilt) * size.max() / size
        points = points - points.mean(axis=0) + 0.5 + slide
        points = np.column_stack([points, np.full(len(points), i * gap_um / 2000)])
        points[:, :2] += 0.02 * np.column_stack([field(points) for field in shift])
        keep = inside(points)
        points, height = points[keep], level(points[keep])
        edges = np.column_stack([c - 0.014 * b(points) for c, b in zip(cuts, borders, strict=True)])
        gap = 0.012 * np.arange(6)  # no layer vanishes
        edges = np.minimum.accumulate(edges + gap, axis=1) - gap
        domain = (height[:, None] < edges).sum(axis=1)
        gradient = np.clip((pia - height) / (pia - floor), 0, 1)
        shapes.append(Shape(spatial[keep], points[:, :2] * size, domain, gradient, grid[keep]))
    return shapes


# --- embryo ---------------------------------------------------------------------------------------

# x, y, half-widths at embryonic day 9.5, what each gains a day, and the day the organ appears.
# The frame is the circle of radius 1 that the curled-up body fills; later rows lie over earlier.
_ORGANS = (
    (6, (-0.52, -0.28, 0.17, 0.15), (0.02, 0.00, -0.03, -0.02), 9.0),  # branchial arch
    (3, (-0.38, 0.06, 0.20, 0.19), (0.01, 0.03, 0.01, 0.02), 9.0),  # heart
    (4, (-0.18, 0.34, 0.11, 0.10), (-0.02, 0.03, 0.08, 0.05), 9.0),  # liver
    (8, (0.10, 0.36, 0.08, 0.20), (-0.02, 0.04, 0.01, 0.02), 9.0),  # gut
    (9, (0.00, -0.02, 0.07, 0.09), (0.01, 0.02, 0.04, 0.03), 10.8),  # lung
    (7, (0.24, 0.02, 0.06, 0.09), (0.02, 0.03, 0.05, 0.05), 9.8),  # forelimb bud
    (7, (0.20, 0.56, 0.04, 0.06), (0.00, 0.01, 0.05, 0.05), 10.2),  # hindlimb bud
)


EMBRYO_AREA = 2.35  # of the body where its radius is 1


def embryo_shape(rng: np.random.Generator, age: float, *, n_bins: int) -> Shape:
    """Draw one embryo, curled up, on a square grid of bins 25 µm wide.

    Brain and spinal cord follow the back, somites (and, from day 10, dorsal root ganglia) lie
    inside them, and the inner organs are ellipses that grow and move with age. No bins lie in the
    brain ventricle, which widens.

    Parameters
    ----------
    rng
        Draws the outline and how the embryo lies on the chip.
    age
        Embryonic day, 9 to 12.5.
    n_bins
        Bins in the tissue, about, at this age.

    Returns
    -------
    Shape
        Codes: 0 mesenchyme, 1 brain, 2 spinal cord, 3 heart, 4 liver, 5 somite, 6 branchial arch,
        7 limb bud, 8 gut, 9 lung, 10 dorsal root ganglion. ``gradient`` runs from head to tail.
    """
    radius = BIN_UM * np.sqrt(n_bins / EMBRYO_AREA)
    grid, spatial = _bins(1.35 * radius)
    common = _rotate(spatial - spatial.mean(axis=0), rng.uniform(-10, 10))
    outline = [smooth_field(rng, 0.25) for _ in range(2)]
    inside, domain, gradient = embryo_anatomy(common / radius, age, outline)
    return Shape(spatial[inside], common[inside], domain[inside], gradient[inside], grid[inside])


def embryo_anatomy(
    places: np.ndarray, age: float, outline: list[Field]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tell what lies where in an embryo, whichever instrument looks at it.

    Parameters
    ----------
    places
        (n, 2), in the frame that the body fills: head up, radius about 1.
    age
        Embryonic day, 9 to 12.5.
    outline
        Two smooth functions that bend the body a little: what makes an animal of its own.

    Returns
    -------
    inside : ndarray of bool, shape (n,)
        Whether there is tissue.
    domain, gradient : ndarray, shape (n,)
        As in :func:`embryo_shape`; meaningless outside.
    """
    points = places + 0.025 * np.column_stack([field(places) for field in outline])
    days = age - 9.5
    # Angle along the back: 0 at the crown, a quarter turn at the shoulder, more towards the tail.
    turn = np.rad2deg(np.arctan2(points[:, 0], -points[:, 1]))
    turn = np.where(turn < -110, turn + 360, turn)
    head = np.exp(-(((turn + 8) / 48) ** 2))
    height = np.hypot(points[:, 0], points[:, 1]) / (0.86 + (0.22 + 0.03 * days) * head)
    belly = ((points[:, 0] + 0.20) / 0.44) ** 2 + ((points[:, 1] - 0.20) / 0.42) ** 2 < 1
    hollow = np.clip((turn - 180) / 40, 0, 1) * 0.72  # the tail is a thin strip
    inside = (height < 1) & (turn < 250) & (((height > hollow) & (turn > -80)) | belly)

    domain = np.zeros(len(points), dtype=int)
    for code, start, growth, born in _ORGANS:
        if age >= born:
            x, y, a, b = np.array(start) + days * np.array(growth)
            domain[((points[:, 0] - x) / a) ** 2 + ((points[:, 1] - y) / b) ** 2 < 1] = code
    domain[(turn > 58) & (turn < 238) & (height > 0.70)] = 5
    if age >= 10:
        domain[(turn > 62) & (turn < 190) & (height > 0.81)] = 10
    domain[(turn > 52) & (height > 0.87)] = 2
    domain[(turn > -42 - 4 * days) & (turn <= 52) & (height > 0.50 - 0.02 * days)] = 1
    ventricle = ((turn - 5) / 30) ** 2 + ((height - 0.74) / (0.06 + 0.02 * days)) ** 2 < 1
    gradient = np.clip((turn + 88) / 338, 0, 1)
    return inside & ~ventricle, domain, gradient


# --- hippocampus ----------------------------------------------------------------------------------

# Points the thin cell layers run through, in a frame where the bead disc has radius 1 (y down).
_CA_LAYER = ((-0.74, 0.00), (-0.50, -0.27), (-0.10, -0.40), (0.32, -0.36), (0.62, -0.10))
_CA_LAYER += ((0.62, 0.18), (0.40, 0.30), (0.16, 0.18))
_DENTATE = ((-0.46, 0.20), (-0.20, 0.02), (0.14, -0.08), (0.32, 0.06), (0.18, 0.34), (-0.15, 0.42))
_DENTATE += ((-0.44, 0.40),)


def _along(curve: tuple, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance of each point to a smooth curve and how far along it lies (0 to 1)."""
    t = np.linspace(0, 1, 400)
    line = CubicSpline(np.linspace(0, 1, len(curve)), np.array(curve))(t)
    distance, nearest = cKDTree(line).query(points)
    return distance, t[nearest]


def hippocampus_shape(rng: np.random.Generator, *, n_beads: int) -> Shape:
    """Scatter beads over a disc of 3 mm through the hippocampus.

    Parameters
    ----------
    rng
        Draws bead positions and small deformations.
    n_beads
        Number of beads; no two are closer than 10 µm.

    Returns
    -------
    Shape
        Codes: 0 cortex, 1 corpus callosum, 2 CA1, 3 CA3, 4 dentate gyrus, 5 hippocampal neuropil,
        6 thalamus, 7 third ventricle. ``gradient`` runs from left to right.
    """
    radius = 1500.0
    common = _beads(rng, n_beads, lambda p: (p**2).sum(axis=1) < radius**2, radius)
    unit = common / radius
    wave = [smooth_field(rng, 0.4) for _ in range(2)]
    points = unit + 0.02 * np.column_stack([field(unit) for field in wave])
    x, y = points.T
    roof = -0.55 + 0.30 * x**2  # lower border of the corpus callosum
    domain = np.full(n_beads, 5)
    domain[y < roof] = 1
    domain[y < roof - 0.13] = 0
    domain[y > 0.42 + 0.12 * np.cos(3 * x)] = 6
    domain[(x + 0.80) ** 2 / 0.02 + (y - 0.32) ** 2 / 0.05 < 1] = 7
    to_ca, along_ca = _along(_CA_LAYER, points)
    domain[(to_ca < 0.036) & (along_ca < 0.55)] = 2
    domain[(to_ca < 0.044) & (along_ca >= 0.55)] = 3
    domain[_along(_DENTATE, points)[0] < 0.042] = 4
    return Shape(common + radius, common, domain, (unit[:, 0] + 1) / 2)


# --- olfactory bulb -------------------------------------------------------------------------------

# Outer border of each layer as a share of the radius, outside in: nerve layer, glomeruli, external
# plexiform layer, mitral cells (thin), internal plexiform layer, granule cells, migratory stream.
_BULB_BORDERS = (1.0, 0.90, 0.76, 0.55, 0.505, 0.45, 0.16)


def bulb_shape(
    bulb_rng: np.random.Generator, slice_rng: np.random.Generator, *, n_bins: int, n_beads: int = 0
) -> Shape:
    """Cut one olfactory bulb: on a square grid of bins, or on beads where ``n_beads`` is given.

    Parameters
    ----------
    bulb_rng, slice_rng
        Draw the bulb (the same seed gives both technologies the same bulb), and how the slice lies
        on its chip.
    n_bins
        Bins of 25 µm that the tissue covers, about: its size, for the beads too.
    n_beads
        Number of beads; 0 for the square grid.

    Returns
    -------
    Shape
        Codes 0 (olfactory nerve layer) to 6 (migratory stream), outside in. ``gradient`` runs from
        the top of the bulb to the bottom.
    """
    radius = BIN_UM * np.sqrt(n_bins / 3.4)
    outline, borders = smooth_field(bulb_rng, 0.5), smooth_field(bulb_rng, 0.3)

    def height(common):  # 0 in the centre, 1 on the surface
        points = common / radius
        rho = np.hypot(points[:, 0] / 0.85, points[:, 1] / 1.25)
        return rho * (1 + 0.06 * outline(points)) + 0.02 * borders(points)

    if n_beads:
        common, grid = _beads(slice_rng, n_beads, lambda p: height(p) < 1, 1.6 * radius), None
        spatial = _rotate(common, slice_rng.uniform(60, 100))
        spatial = spatial - spatial.min(axis=0)
    else:
        grid, spatial = _bins(1.6 * radius)
        common = _rotate(spatial - spatial.mean(axis=0), slice_rng.uniform(-15, 15))
        keep = height(common) < 1
        grid, spatial, common = grid[keep], spatial[keep], common[keep]
    domain = (height(common)[:, None] < np.array(_BULB_BORDERS)[1:]).sum(axis=1)
    return Shape(spatial, common, domain, np.clip(common[:, 1] / radius / 2.6 + 0.5, 0, 1), grid)
