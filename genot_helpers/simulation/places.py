"""Where the spots of a simulated slice can lie, and random smooth functions to bend a tissue with.

Everything wavy (layer borders, deformation between sections, outlines) is one tool, a random smooth
function: a sum of cosine waves in random directions, the random Fourier features of a Gaussian
kernel (Rahimi and Recht 2007, https://dl.acm.org/doi/10.5555/2981562.2981710). It can be evaluated
at any point, so two sections of one block see the same function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

__all__ = [
    "BEAD_UM",
    "BIN_UM",
    "VISIUM_PITCH_UM",
    "Field",
    "Shape",
    "rotate",
    "scatter_beads",
    "smooth_field",
    "square_grid",
    "visium_grid",
]

VISIUM_PITCH_UM = 100.0  # centre to centre; a Visium spot is 55 µm wide
BIN_UM = 25.0  # Stereo-seq bin50: 50 x 50 DNA nanoballs, 0.5 µm apart
BEAD_UM = 10.0  # Slide-seqV2 bead: no two centres are closer

Field = Callable[[np.ndarray], np.ndarray]
"""A smooth function: points (n, 2) or (n, 3) to values (n,)."""


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


def rotate(points: np.ndarray, degrees: float) -> np.ndarray:
    """Rotate points (n, 2) about the origin."""
    angle = np.deg2rad(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]])


def visium_grid(n_rows: int, n_columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return array row and column (n, 2), and position (n, 2) in µm, of every spot of a slide."""
    rows, half_columns = np.divmod(np.arange(n_rows * n_columns), n_columns)
    grid = np.column_stack([rows, 2 * half_columns + rows % 2])  # Space Ranger numbers every other
    return grid, grid[:, ::-1] * VISIUM_PITCH_UM * np.array([0.5, np.sqrt(3) / 2])


def square_grid(half_width: float) -> tuple[np.ndarray, np.ndarray]:
    """Return row and column (n, 2), and position (n, 2) in µm, of every bin of a square chip."""
    side = np.arange(2 * int(half_width / BIN_UM) + 1)
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    return grid, grid[:, ::-1] * BIN_UM


def scatter_beads(
    rng: np.random.Generator, n_beads: int, inside: Callable, half_width: float
) -> np.ndarray:
    """Draw n_beads positions (n, 2) in µm with ``inside`` true; beads do not overlap."""
    kept = np.empty((0, 2))
    while len(kept) < n_beads:
        drawn = rng.uniform(-half_width, half_width, (2 * n_beads, 2))
        pool = np.vstack([kept, drawn[inside(drawn)]])
        close = cKDTree(pool).query_pairs(BEAD_UM, output_type="ndarray")
        # Of two beads that would overlap, the one drawn later goes.
        kept = np.delete(pool, np.unique(close.max(axis=1)), axis=0) if len(close) else pool
    return kept[:n_beads]
