"""Other ways to align two slices, for comparison with :func:`genot_helpers.alignment.align`.

:func:`align_partial_gromov`
    As PASTE2 does (Liu et al. 2023, https://doi.org/10.1101/gr.277670.123): a partial fused
    Gromov-Wasserstein coupling of a few hundred spots, by POT, then a Procrustes fit.
:func:`align_icp`
    By coordinates alone: area-scaled iterative closest points (Besl & McKay 1992,
    https://doi.org/10.1109/34.121791), trimmed (Chetverikov et al. 2005,
    https://doi.org/10.1016/j.imavis.2004.05.007). It sees outlines only, so the angle is
    arbitrary for a round or symmetric tissue, or one that fills its capture area; and
    the spots of a regular grid lock into those of the other.

Both return an alignment that is judged by expression, like that of :func:`align`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from ..arguments import checked
from ..comparable import check_pair, expression_maps
from ..transport.gromov import partial_fused_gromov_wasserstein_coupling
from .alignment import Alignment, judge
from .fit import iterate_fit
from .transforms import SimilarityTransform, choose_scale, weighted_procrustes

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = [
    "align_icp",
    "align_partial_gromov",
]

_ICP_SPOTS = 2000
_ICP_ANGLES = 24


@checked
def align_partial_gromov(
    left: AnnData,
    right: AnnData,
    *,
    overlap: float = 1.0,
    alpha: float = 0.1,
    n_spots: int = 500,
    use_rep: str | None = "X_pca",
    scale: float | str | None = "auto",
    allow_reflection: bool = False,
    spatial_key: str = "spatial",
    on_poor: str = "warn",
) -> Alignment:
    """Align by a partial fused Gromov-Wasserstein coupling, the published way.

    Parameters
    ----------
    left, right, use_rep, scale, allow_reflection, spatial_key, on_poor
        As in :func:`genot_helpers.alignment.align`; the scale is not fitted.
    overlap
        Share of the spots that have a partner, above 0 up to 1. It must be known: PASTE2 asks for
        it, too.
    alpha
        Weight of the distances within each slice against expression, 0 to 1 (1: shape only).
    n_spots
        Each slice is thinned evenly to this many spots. Time grows faster than their square.

    Returns
    -------
    Alignment

    Raises
    ------
    SliceError
        If the slices are unfit, or ``n_spots`` is too large.
    AlignmentError
        If the alignment is poor and ``on_poor`` is ``"raise"``.

    Notes
    -----
    The problem is not convex, and there is no start. Distances within a slice do not tell left from
    right, so the coupling may be mirrored, which the fit then cannot follow.
    """
    maps, scale, source = _prepare(left, right, use_rep, scale, spatial_key)
    few = [one.sample(n_spots) for one in maps]
    plan = partial_fused_gromov_wasserstein_coupling(
        few[0].points,
        few[1].points * scale,
        few[0].features,
        few[1].features,
        matched_share=overlap,
        alpha=alpha,
    ).plan.tocoo()
    fit = weighted_procrustes(
        few[0].points[plan.row],
        few[1].points[plan.col] * scale,
        plan.data,
        allow_reflection=allow_reflection,
    )
    transform = fit @ SimilarityTransform(scale=scale)
    return judge(*maps, transform, scale_source=source, on_poor=on_poor)


@checked
def align_icp(
    left: AnnData,
    right: AnnData,
    *,
    overlap: float = 0.9,
    scale: float | str | None = "auto",
    allow_reflection: bool = False,
    use_rep: str | None = "X_pca",
    spatial_key: str = "spatial",
    on_poor: str = "warn",
) -> Alignment:
    """Align by coordinates alone: iterative closest points from 24 angles, centroids matched.

    Parameters
    ----------
    left, right, scale, allow_reflection, spatial_key, on_poor
        As in :func:`genot_helpers.alignment.align`; the scale is not fitted.
    overlap
        Share of the pairs, the closest ones, that each step fits.
    use_rep
        Only for judging the result.

    Returns
    -------
    Alignment
        Of the 24 (48 with reflection), the one whose pairs are closest.

    Raises
    ------
    SliceError
        If the slices are unfit.
    AlignmentError
        If the alignment is poor and ``on_poor`` is ``"raise"``.
    """
    maps, scale, source = _prepare(left, right, use_rep, scale, spatial_key)
    target, moving = (one.sample(_ICP_SPOTS).points for one in maps)
    center = moving.mean(axis=0)
    shift = target.mean(axis=0) - center
    starts = [
        SimilarityTransform.from_angle(
            angle, scale=scale, reflect=reflect, center=center, translation=shift
        )
        for reflect in ((False, True) if allow_reflection else (False,))
        for angle in np.arange(_ICP_ANGLES) * 360.0 / _ICP_ANGLES
    ]
    fits = [_closest_points(target, moving, start, overlap) for start in starts]
    transform = min(fits, key=lambda fit: fit[1])[0]
    return judge(*maps, transform, scale_source=source, on_poor=on_poor)


def _prepare(left, right, use_rep, scale, spatial_key):
    """Check the slices; return their maps, the scale, and where it comes from."""
    check_pair(left, right, spatial_key=spatial_key, one_matrix=False)
    value, _, source = choose_scale(left, right, scale, spatial_key)
    maps = expression_maps(left, right, use_rep=use_rep, spatial_key=spatial_key)
    return maps, value, source


def _closest_points(target, moving, start, share, n_steps=50):
    """Pair each point with the closest one, both ways, fit the closest pairs, and repeat."""
    # Returns the transform and the root mean square distance of the pairs that were fitted last.
    tree, distances = cKDTree(target), []

    def step(transform: SimilarityTransform) -> tuple[SimilarityTransform, np.ndarray]:
        moved = transform.apply(moving)
        forth, back = tree.query(moved), cKDTree(moved).query(target)
        distance = np.concatenate([forth[0], back[0]])
        kept = np.argsort(distance, kind="stable")[: max(10, int(share * len(distance)))]
        left = np.concatenate([target[forth[1]], target])[kept]
        right = np.concatenate([moved, moved[back[1]]])[kept]
        distances.append(float(np.sqrt((distance[kept] ** 2).mean())))
        return weighted_procrustes(left, right), moved

    transform = iterate_fit(start, step, n_steps=n_steps, tolerance=1e-4 * np.ptp(target))
    return transform, distances[-1]
