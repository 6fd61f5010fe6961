"""Maps of two slices on one grid, and the Gauss-Newton steps that bring them into register.

From coarse maps to finer ones; what is minimised is said in
:mod:`genot_helpers.interpolation.warp`. The basis of the field is a product of splines along the
rows and along the columns, so sums over bins are products of small matrices.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.ndimage import gaussian_filter

from ..slices.spacing import spot_spacing
from .splines import N_CONTROL, basis, bending

__all__ = ["Frame", "disagreement", "fit_coefficients", "make_frame"]

_BLURS = (3.0, 2.0)  # width of the Gaussian in bins: coarse first, then finer
_N_STEPS = 10  # Gauss-Newton steps at each blur, at most
_SMALLEST_STEP = 0.02  # in bins; steps end when no coefficient moves further
_BIN_SPACINGS = 2.0  # side of a bin in spot spacings ...
_MOST_BINS = 64  # ... unless that gives more bins than this along a side
_DENSITY_WEIGHT = 0.3  # of the logarithm of the spot density beside the components


class Frame(NamedTuple):
    """The grid both slices are drawn on, and the splines at its rows and columns."""

    corner: NDArray[np.float64]
    bin_side: float
    shape: tuple[int, int]
    across: NDArray[np.float64]
    along: NDArray[np.float64]

    @property
    def size(self) -> NDArray[np.float64]:
        """Sides of the grid, in the unit of the coordinates."""
        return np.array(self.shape) * self.bin_side

    def field(self, coefficients: NDArray) -> NDArray[np.float64]:
        """Evaluate a field (control points squared, d) in all bins: (bins, d)."""
        grid = coefficients.reshape(N_CONTROL, N_CONTROL, -1)
        return np.einsum("ri,ijd,cj->rcd", self.across, grid, self.along, optimize=True).reshape(
            -1, grid.shape[2]
        )

    def gather(self, values: NDArray) -> NDArray[np.float64]:
        """Add up values (bins,) with the weight each control point has there."""
        return (self.across.T @ values.reshape(self.shape) @ self.along).ravel()

    def gather_pairs(self, values: NDArray) -> NDArray[np.float64]:
        """Add up values (bins,) with the product of the weights of two control points."""
        across, along = (
            (side[:, :, None] * side[:, None, :]).reshape(len(side), -1)
            for side in (self.across, self.along)
        )
        pairs = (across.T @ values.reshape(self.shape) @ along).reshape((N_CONTROL,) * 4)
        return pairs.swapaxes(1, 2).reshape(N_CONTROL**2, N_CONTROL**2)


def make_frame(left: NDArray, right: NDArray) -> Frame:
    """Lay a grid over two slices (n, 2) and (m, 2)."""
    low = np.minimum(left.min(axis=0), right.min(axis=0))
    high = np.maximum(left.max(axis=0), right.max(axis=0))
    spacing = (spot_spacing(left) + spot_spacing(right)) / 2
    side = max(_BIN_SPACINGS * spacing, float((high - low).max()) / _MOST_BINS)
    # A margin, so that points may move out a little; of such a width that the lines between bins
    # never run through the spots of a grid, where rounding would decide which side they are on.
    corner = low - 3.3 * side
    shape = tuple(int(n) for n in np.ceil((high - low) / side + 6.3))
    return Frame(corner, side, shape, *(basis((np.arange(n) + 0.5) / n) for n in shape))


def _draw(frame: Frame, points: NDArray, values: NDArray, blur: float):
    """Draw smoothed maps: mean of the values (rows, columns, d), spots per bin over their mean."""
    bins = ((points - frame.corner) / frame.bin_side).astype(int)
    bins = np.clip(bins, 0, np.array(frame.shape) - 1)
    flat = bins[:, 0] * frame.shape[1] + bins[:, 1]
    adding = sparse.csr_matrix(
        (np.ones(len(flat)), (flat, np.arange(len(flat)))),
        shape=(frame.shape[0] * frame.shape[1], len(flat)),
    )
    number = np.asarray(adding.sum(axis=1)).reshape(*frame.shape, 1)
    total = (adding @ values).reshape(*frame.shape, -1)
    number, total = (gaussian_filter(a, (blur, blur, 0), mode="constant") for a in (number, total))
    filled = number[number > 0.05 * number.max()]
    return total / np.maximum(number, 1e-3 * number.max()), number[..., 0] / filled.mean()


def disagreement(frame: Frame, moved: list[NDArray], features: list[NDArray]) -> float:
    """Squared difference of the maps of two slices, over their variance.

    Parameters
    ----------
    moved, features
        Coordinates and components of both slices, warped to halfway.
    """
    maps = [_draw(frame, p, e, _BLURS[-1]) for p, e in zip(moved, features, strict=True)]
    weight = (maps[0][1] * maps[1][1])[..., None]
    (a, _), (b, _) = maps
    difference, size = (weight * (a - b) ** 2).sum(), (weight * (a**2 + b**2)).sum()
    return float(difference / size) if size > 0 else 1.0


def fit_coefficients(
    frame: Frame, points: list[NDArray], features: list[NDArray], stiffness: float
) -> NDArray[np.float64]:
    """Find the field, (control points, control points, 2), in the unit of the coordinates."""
    coefficients = np.zeros((N_CONTROL**2, 2))
    if np.isfinite(stiffness):
        for blur in _BLURS:
            maps = [_draw(frame, p, e, blur) for p, e in zip(points, features, strict=True)]
            coefficients = _descend(frame, maps, coefficients, stiffness)
    return coefficients.reshape(N_CONTROL, N_CONTROL, 2) * frame.bin_side


def _descend(frame, maps, coefficients, stiffness):
    """Take Gauss-Newton steps. Displacements are counted in bins here."""
    inside = [(density > 0.3).astype(float) for _, density in maps]
    pictures = [
        np.dstack([values, _DENSITY_WEIGHT * np.log(density + 0.1)]) for values, density in maps
    ]
    slopes = [np.stack(np.gradient(picture, axis=(0, 1)), axis=-1) for picture in pictures]
    n_bins, n_values = int(np.prod(frame.shape)), pictures[0].shape[2]
    inside, pictures, slopes = (
        [a.reshape(n_bins, -1) for a in arrays] for arrays in (inside, pictures, slopes)
    )
    bins = np.indices(frame.shape).reshape(2, -1).T.astype(float)
    plate, scale = np.kron(np.eye(2), bending()), None
    for _ in range(_N_STEPS):
        u = frame.field(coefficients)
        left, right = _reader(frame.shape, bins - u / 2), _reader(frame.shape, bins + u / 2)
        error = left @ pictures[0] - right @ pictures[1]
        weight = (left @ inside[0]) * (right @ inside[1])
        slope = -(left @ slopes[0] + right @ slopes[1]).reshape(n_bins, n_values, 2) / 2
        if scale is None:  # makes the stiffness a pure number
            scale = (weight[:, :, None] * slope**2).sum() / N_CONTROL**2
            if scale == 0:  # the slices do not overlap: nothing says how to warp them
                return coefficients
        curvature, gradient = _normal_equations(frame, weight, slope, error)
        penalty = stiffness * scale * plate
        x = coefficients.T.ravel()
        step = np.linalg.solve(curvature + penalty, gradient + penalty @ x)
        coefficients = (x - step).reshape(2, -1).T
        if np.abs(step).max() < _SMALLEST_STEP:
            break
    return coefficients


def _reader(shape: tuple[int, int], places: NDArray) -> sparse.csr_matrix:
    """Bilinear interpolation as a matrix: times the bins of a picture, its values at places."""
    places = np.clip(places, 0.0, np.array(shape) - 1.0)
    base = np.minimum(places.astype(int), np.array(shape) - 2)
    (r, c), (dr, dc) = base.T, (places - base).T
    bins = [(r + i) * shape[1] + c + j for i in (0, 1) for j in (0, 1)]
    shares = [(1 - dr) * (1 - dc), (1 - dr) * dc, dr * (1 - dc), dr * dc]
    entries = np.stack(shares, axis=1).ravel(), np.stack(bins, axis=1).ravel()
    return sparse.csr_matrix(
        (*entries, np.arange(0, 4 * len(places) + 1, 4)), shape=(len(places), shape[0] * shape[1])
    )


def _normal_equations(frame, weight, slope, error):
    """Curvature and gradient of the squared error for the coefficients of both directions."""
    products = {
        (a, b): frame.gather_pairs((weight * slope[..., a] * slope[..., b]).sum(axis=1))
        for a, b in ((0, 0), (0, 1), (1, 1))
    }
    blocks = [[products[0, 0], products[0, 1]], [products[0, 1], products[1, 1]]]
    gradient = [frame.gather((weight * slope[..., a] * error).sum(axis=1)) for a in (0, 1)]
    return np.block(blocks), np.concatenate(gradient)
