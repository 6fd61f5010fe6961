"""How many units of the left slice one unit of the right slice is.

Units are known, or the pitch of Visium spots tells them, or the areas of the tissues are compared.
The area is that of the alpha shape (Edelsbrunner et al. 1983,
https://doi.org/10.1109/TIT.1983.1056714).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import Delaunay, QhullError

from ..slices.slices import SliceError
from ..slices.spacing import spot_spacing
from ..slices.units import on_visium_grid, stated_micrometres_per_unit

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["choose_scale", "tissue_area"]

_SAME_SIZE = 1.5


def choose_scale(
    left: AnnData, right: AnnData, scale: float | str | None, spatial_key: str = "spatial"
) -> tuple[float, bool, str]:
    """Decide how many left units a right unit is.

    Parameters
    ----------
    left, right
        The slices.
    scale
        As in :func:`genot_helpers.alignment.align`.
    spatial_key
        Slot of the coordinates.

    Returns
    -------
    scale : float
        To start from.
    fitted : bool
        Whether it is only a guess, to be fitted.
    source : str
        Where it comes from, in words.
    """
    if scale is None or not isinstance(scale, str):
        return float(scale or 1.0), False, "none" if scale is None else "given"
    points = [np.asarray(adata.obsm[spatial_key], dtype=float) for adata in (left, right)]
    if scale == "auto":
        units = [stated_micrometres_per_unit(adata) for adata in (left, right)]
        if None not in units:
            return units[1] / units[0], False, "units in uns['genot']"
        if on_visium_grid(left) and on_visium_grid(right):
            ratio = spot_spacing(points[0]) / spot_spacing(points[1])
            if abs(ratio - 1) > 0.02:  # less is how the image was taken, or nothing
                return ratio, False, "pitch of the Visium grids"
            return 1.0, False, "pitch of the Visium grids, the same"
    ratio = float(np.sqrt(tissue_area(points[0]) / tissue_area(points[1])))
    if scale == "auto" and 1 / _SAME_SIZE <= ratio <= _SAME_SIZE:
        return 1.0, False, "none: the slices are of similar size"
    return ratio, True, "ratio of tissue areas, fitted"


def tissue_area(points: np.ndarray) -> float:
    """Area of the alpha shape of the spots, in squared units of the coordinates.

    The union of the Delaunay triangles whose circumscribed circle has a radius of at most three
    spot spacings: holes and bays of the tissue are left out, which the convex hull would fill.

    Parameters
    ----------
    points
        (n, 2), at least three, not on one line.

    Raises
    ------
    SliceError
        If the spots have no area.
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
