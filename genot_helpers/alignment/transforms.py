"""Rigid motions and similarities of the plane, T(x) = s R x + b: apply, invert, chain, fit.

:func:`weighted_procrustes` fits one set of points to another in closed form, from one singular
value decomposition (Kabsch 1976, https://doi.org/10.1107/S0567739476001873; Umeyama 1991,
https://doi.org/10.1109/34.88573). :func:`choose_scale` decides s where the units do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial import Delaunay, QhullError

from ..arguments import checked
from ..slices.geometry import on_visium_grid, spot_spacing, stated_micrometres_per_unit
from ..slices.slices import SliceError

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False, repr=False)
class SimilarityTransform:
    r"""Scale, rotate (and perhaps mirror), then shift: :math:`T(x) = s R x + b`.

    Attributes
    ----------
    rotation
        R, (2, 2) float64, orthogonal. Its determinant is -1 where the transform mirrors.
    translation
        b, (2,) float64, in the unit of the target frame.
    scale
        s > 0, units of the target frame per unit of the source frame.

    Raises
    ------
    ValueError
        If R is not orthogonal, s is not positive, or something is not finite.

    Examples
    --------
    >>> quarter = SimilarityTransform.from_angle(90.0, translation=(1.0, 0.0))
    >>> quarter.apply([[1.0, 0.0]]).round(6)
    array([[1., 1.]])
    >>> (quarter.inverse() @ quarter).is_close(SimilarityTransform.identity())
    True
    """

    rotation: NDArray[np.float64] = field(default_factory=lambda: np.eye(2))
    translation: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    scale: float = 1.0

    def __post_init__(self):
        rotation = np.array(self.rotation, dtype=float)
        translation = np.array(self.translation, dtype=float)
        if rotation.shape != (2, 2) or translation.shape != (2,):
            raise ValueError(
                f"rotation has shape {rotation.shape} and translation {translation.shape}; "
                "give (2, 2) and (2,)."
            )
        if not (np.isfinite(rotation).all() and np.isfinite(translation).all()):
            raise ValueError("rotation and translation must be finite; found NaN or infinity.")
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"scale is {self.scale!r}; give a positive number.")
        if not np.allclose(rotation @ rotation.T, np.eye(2), atol=1e-6):
            raise ValueError(
                f"rotation is not orthogonal: {rotation.tolist()}. Keep the size in scale; shear "
                "is not part of a similarity."
            )
        rotation.flags.writeable = translation.flags.writeable = False
        for name, value in (("rotation", rotation), ("translation", translation)):
            object.__setattr__(self, name, value)  # sets a field of a frozen dataclass
        object.__setattr__(self, "scale", float(self.scale))

    @classmethod
    def identity(cls) -> SimilarityTransform:
        """Return the identity."""
        return cls()

    @classmethod
    @checked
    def from_angle(
        cls,
        degrees: float,
        *,
        translation: ArrayLike = (0.0, 0.0),
        scale: float = 1.0,
        reflect: bool = False,
        center: ArrayLike = (0.0, 0.0),
    ) -> SimilarityTransform:
        """Make a transform from an angle.

        Parameters
        ----------
        degrees
            Angle from the x axis towards the y axis: counter-clockwise where y points up, clockwise
            on a figure of a slice, where y points down.
        translation, scale
            As in the class.
        reflect
            Mirror left and right (x becomes -x) before rotating.
        center
            (2,), the point about which to scale, mirror and rotate.
        """
        cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        rotation = np.array([[cosine, -sine], [sine, cosine]])
        if reflect:
            rotation = rotation * [-1.0, 1.0]
        center = np.asarray(center, dtype=float)
        shift = np.asarray(translation, dtype=float) + center - scale * rotation @ center
        return cls(rotation, shift, scale)

    @checked
    def apply(self, points: ArrayLike) -> NDArray[np.float64]:
        """Move points (n, 2); returns a new array, (n, 2) float64."""
        points = np.asarray(points, dtype=float)
        if points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(f"points have shape {points.shape}; give (n, 2), one row per spot.")
        return self.scale * points @ self.rotation.T + self.translation

    def inverse(self) -> SimilarityTransform:
        """Return the transform that undoes this one."""
        back = self.rotation.T
        return SimilarityTransform(back, -(back @ self.translation) / self.scale, 1 / self.scale)

    @checked
    def compose(self, first: SimilarityTransform) -> SimilarityTransform:
        """Return the transform that does ``first``, then this one; the same as ``self @ first``."""
        shift = self.scale * self.rotation @ first.translation + self.translation
        return SimilarityTransform(
            _nearest_orthogonal(self.rotation @ first.rotation), shift, self.scale * first.scale
        )

    def __matmul__(self, other: SimilarityTransform) -> SimilarityTransform:
        return self.compose(other) if isinstance(other, SimilarityTransform) else NotImplemented

    @property
    def reflected(self) -> bool:
        """Whether the transform mirrors."""
        return bool(np.linalg.det(self.rotation) < 0)

    @property
    def angle_degrees(self) -> float:
        """Angle as :meth:`from_angle` takes it, above -180 and at most 180."""
        angle = float(np.rad2deg(np.arctan2(-self.rotation[0, 1], self.rotation[1, 1])))
        return 180.0 if angle == -180 else angle + 0.0  # no -0

    @checked
    def is_close(self, other: SimilarityTransform, *, tolerance: float = 1e-6) -> bool:
        """Say whether two transforms agree, the shift relative to its own size."""
        size = 1 + np.abs(other.translation).max()
        return (
            bool(np.allclose(self.rotation, other.rotation, atol=tolerance))
            and abs(self.scale / other.scale - 1) <= tolerance
            and bool(np.allclose(self.translation, other.translation, atol=tolerance * size))
        )

    def to_dict(self) -> dict[str, Any]:
        """Return arrays and numbers that fit into ``uns`` and into an ``.h5ad`` file."""
        return {
            "rotation": self.rotation.copy(),
            "translation": self.translation.copy(),
            "scale": self.scale,
        }

    @classmethod
    @checked
    def from_dict(cls, stored: Mapping[str, Any]) -> SimilarityTransform:
        """Restore a transform from what :meth:`to_dict` returned."""
        missing = {"rotation", "translation", "scale"} - set(stored)
        if missing:
            raise ValueError(f"no transform: {', '.join(sorted(missing))} missing.")
        return cls(stored["rotation"], stored["translation"], float(stored["scale"]))

    def __repr__(self) -> str:
        x, y = self.translation
        parts = [f"{self.angle_degrees:.2f}°"]
        if self.reflected:
            parts.append("mirrored")
        if self.scale != 1:
            parts.append(f"scale {self.scale:.4g}")
        return f"SimilarityTransform({', '.join(parts)}, shift ({x:.4g}, {y:.4g}))"


@checked
def weighted_procrustes(
    left_points: ArrayLike,
    right_points: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    allow_scale: bool = False,
    allow_reflection: bool = False,
) -> SimilarityTransform:
    r"""Fit the right points to the left ones, pair by pair.

    Minimises :math:`\sum_i w_i \lVert x_i - (s R y_i + b) \rVert^2` over rotations R (mirrored ones
    too, if allowed), shifts b and, if allowed, scales s, with x left and y right.

    Parameters
    ----------
    left_points, right_points
        (n, 2): row i of the one belongs to row i of the other. For a coupling P, take for each
        right spot the mean of its partners and the mass of its column.
    weights
        (n,), not negative; None weighs all pairs alike.
    allow_scale, allow_reflection
        Whether the size may change and the points may be mirrored.

    Returns
    -------
    SimilarityTransform
        Moves right points into the frame of the left ones.

    Raises
    ------
    ValueError
        If shapes or weights do not fit, something is not finite, or the points with weight do not
        determine a rotation (all in one place).
    """
    left, right, weights = _pairs(left_points, right_points, weights)
    left_center, right_center = weights @ left, weights @ right
    left, right = left - left_center, right - right_center
    spread = float(weights @ (right**2).sum(axis=1))
    u, singular, vt = np.linalg.svd((left * weights[:, None]).T @ right)
    size = np.sqrt(spread * float(weights @ (left**2).sum(axis=1)))
    if not singular[0] > 1e-12 * max(size, np.finfo(float).tiny):
        raise ValueError(
            "the pairs do not determine a rotation: the points with weight lie in one place, or "
            "left and right points are unrelated."
        )
    signs = np.ones(2)
    if not allow_reflection and np.linalg.det(u @ vt) < 0:
        signs[1] = -1.0  # flip the weaker axis: the best rotation without mirroring
    rotation = _nearest_orthogonal((u * signs) @ vt)
    scale = float(singular @ signs) / spread if allow_scale else 1.0
    if not scale > 0:
        raise ValueError("the right points fit best when they shrink to one place; fix the scale.")
    return SimilarityTransform(rotation, left_center - scale * rotation @ right_center, scale)


def _pairs(left: ArrayLike, right: ArrayLike, weights: ArrayLike | None):
    """Check paired points and return them with weights that sum to 1."""
    left, right = np.asarray(left, dtype=float), np.asarray(right, dtype=float)
    if left.shape != right.shape or left.ndim != 2 or left.shape[1:] != (2,) or not len(left):
        raise ValueError(
            f"left points have shape {left.shape}, right points {right.shape}; give two arrays "
            "(n, 2) with one pair a row."
        )
    weights = np.ones(len(left)) if weights is None else np.asarray(weights, dtype=float)
    if weights.shape != (len(left),):
        raise ValueError(f"weights have shape {weights.shape}; give ({len(left)},).")
    if not all(np.isfinite(values).all() for values in (left, right, weights)):
        raise ValueError("points and weights must be finite; found NaN or infinity.")
    if (weights < 0).any() or not weights.sum() > 0:
        raise ValueError("weights must not be negative, and one at least must be positive.")
    return left, right, weights / weights.sum()


def _nearest_orthogonal(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Remove rounding errors, which would accumulate over a chain of transforms."""
    u, _, vt = np.linalg.svd(matrix)
    return u @ vt


# -------------------------------------------------------------------------------------------------
# The scale: from the units, the pitch of Visium spots, or the ratio of tissue areas.

_SAME_SIZE = 1.5


def choose_scale(
    left: AnnData, right: AnnData, scale: float | str | None, spatial_key: str = "spatial"
) -> tuple[float, bool, str]:
    """Return left units per right unit, whether it is only a start, and its origin in words."""
    if scale is None or not isinstance(scale, str):
        return float(scale or 1.0), False, "none" if scale is None else "given"
    points = [np.asarray(adata.obsm[spatial_key], dtype=float) for adata in (left, right)]
    if scale == "auto":
        units = [stated_micrometres_per_unit(adata) for adata in (left, right)]
        if None not in units:
            return units[1] / units[0], False, "units in uns['genot']"
        if on_visium_grid(left) and on_visium_grid(right):
            ratio = spot_spacing(points[0]) / spot_spacing(points[1])
            if abs(ratio - 1) > 0.02:  # a smaller difference comes from imaging
                return ratio, False, "pitch of the Visium grids"
            return 1.0, False, "pitch of the Visium grids, the same"
    ratio = float(np.sqrt(tissue_area(points[0]) / tissue_area(points[1])))
    if scale == "auto" and 1 / _SAME_SIZE <= ratio <= _SAME_SIZE:
        return 1.0, False, "none: the slices are of similar size"
    return ratio, True, "ratio of tissue areas, fitted"


@checked
def tissue_area(points: np.ndarray) -> float:
    """Area of the alpha shape of the spots, in squared units of the coordinates.

    The union of the Delaunay triangles whose circumscribed circle has a radius of at most three
    spot spacings (Edelsbrunner et al. 1983, https://doi.org/10.1109/TIT.1983.1056714). Unlike the
    convex hull it leaves out holes and bays. Points are (n, 2), three or more; a SliceError is
    raised if they have no area.
    """
    try:
        corners = points[Delaunay(points).simplices]
    except (QhullError, ValueError) as error:
        raise SliceError("the spots have no area: they lie on one line.") from error
    a, b, c = (np.linalg.norm(corners[:, i] - corners[:, i - 1], axis=1) for i in range(3))
    one, two = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = 0.5 * np.abs(one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0])
    inside = a * b * c <= 4 * area * 3 * spot_spacing(points)  # radius = a b c / (4 area)
    return float(area[inside].sum())
