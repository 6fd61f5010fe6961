"""Two slices into one frame: the right one is rotated, shifted (and scaled) onto the left one.

:func:`align` searches all angles and shifts, so that no start is needed and slices may overlap in
part; fits the best few finely (both in ``fit.py``); and judges the best of these by overlap,
residual and agreement (:func:`judge`). Expression decides and not the outline, which is misleading
where a capture area cuts the tissue off. :func:`apply_alignment` writes the coordinates. An
alignment is a similarity T(x) = s R x + b (``transforms.py``); bending of the tissue is left to the
warp (:func:`genot_helpers.interpolation.fit_warp`). Published ways stand at the end, to compare.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial import cKDTree

from ..arguments import checked
from ..comparable import ExpressionMap, check_pair, expression_maps
from ..slices.sections import by_pair, second_of_two
from ..slices.slices import SliceError, record
from ..transport.gromov import partial_fused_gromov_wasserstein_coupling
from .fit import (
    Fit,
    iterate_fit,
    measure_fit,
    refine_by_coupling,
    refine_by_maps,
    refine_by_outline,
    residual_shift,
    search_placements,
)
from .transforms import SimilarityTransform, choose_scale, weighted_procrustes

if TYPE_CHECKING:
    from anndata import AnnData

_N_CANDIDATES = 4
_OTHER_ANGLE = 30.0
_REFINEMENTS = {"coupling": refine_by_coupling, "outline": refine_by_outline}


@by_pair
@checked(
    scale=(1e-12, 1e12), min_overlap=(1e-9, 1), max_spots=(100, 10**9), max_residual=(1e-9, np.inf)
)
def align(
    left: AnnData,
    right: AnnData,
    *,
    use_rep: str | None = "X_pca",
    scale: float | str | None = "auto",
    allow_reflection: bool = False,
    refine: str = "maps",
    spatial_key: str = "spatial",
    max_spots: int = 6000,
    min_overlap: float = 0.3,
    max_residual: float = 5.0,
    on_poor: str = "raise",
) -> Alignment:
    """Find how to move the right slice into the frame of the left one.

    Neither slice is changed: see :func:`apply_alignment`. The same input gives the same result.

    Parameters
    ----------
    left, right
        Slices with genes in common: ``X`` (counts or other non-negative values; logarithms only if
        in both) and ``obsm[spatial_key]`` (n, 2). Any position, any angle. With ``section_key``, a
        column of ``obs``, one object that holds both, as in all functions of two slices: ``right``
        is left out then, or names two of its sections.
    use_rep
        Joint embedding in ``obsm`` of both. ``"X_pca"`` is used only if both carry the record of
        one common :func:`genot_helpers.preprocessing.joint_components`; otherwise, and with None,
        joint components are computed here, on copies.
    scale
        - ``"auto"``: from the units if both slices state them (``uns["genot"]``:
          ``micrometres_per_unit``, or ``spatial_unit`` µm), or from the pitch of two Visium grids;
          where neither is known, as ``"area"`` if one slice is more than 1.5 times as long as the
          other, as if in other units; else 1.
        - ``"area"``: the root of the ratio of tissue areas to start with, sizes from 0.8 to 1.25
          times that are searched, and the scale is fitted. This removes growth.
        - a number: that scale, left units per right unit. None: 1.
    allow_reflection
        Whether right may be mirrored. Many tissues are nearly symmetric, so leave it out if you
        know that no section was turned over. If mirroring would fit better, ``problems`` says so.
    refine
        Fine fit. ``"maps"``: to the expression map, safe if slices overlap in part.
        ``"coupling"``: then also partial coupling and Procrustes in turn, which uses the outlines:
        a little better if both slices show all of the tissue, worse if they do not.
        ``"outline"``: then by place alone, within some 30°, for whole bodies that grow, such as
        embryos at two stages, whose organs move. Wrong if a slice shows only a part.
    spatial_key
        Slot of the coordinates.
    max_spots
        Larger slices are pooled to about this many bins.
    min_overlap, max_residual
        Smallest share of the smaller slice that must lie on the other; largest residual of a good
        alignment, in spot spacings.
    on_poor
        What to do with an alignment that has ``problems``: ``"raise"``, ``"warn"``, or only
        ``"return"`` it.

    Returns
    -------
    Alignment

    Raises
    ------
    SliceError
        If a slice is unsound, or the two have no gene in common.
    AlignmentError
        If the alignment is poor and ``on_poor`` is ``"raise"``; it carries the alignment. Whatever
        ``on_poor`` says: if no placement covers ``min_overlap``.
    ValueError
        If a parameter is out of range.

    Examples
    --------
    >>> alignment = align(left, right)
    >>> apply_alignment(right, alignment)
    >>> right.obsm["spatial_aligned"]
    """
    for name, value, known in (
        ("scale", scale, ("auto", "area")),
        ("refine", refine, ("maps", *_REFINEMENTS)),
        ("on_poor", on_poor, ("raise", "warn", "return")),
    ):
        if isinstance(value, str) and value not in known:
            raise ValueError(f"{name} is {value!r}: choose {' or '.join(map(repr, known))}.")
    check_pair(left, right, spatial_key=spatial_key, one_matrix=False)
    options = {"use_rep": use_rep, "spatial_key": spatial_key, "max_spots": max_spots}
    maps = expression_maps(left, right, **options)
    start, fitted, source = choose_scale(left, right, scale, spatial_key)
    placements = search_placements(
        *maps,
        scales=tuple(start * factor for factor in ((0.8, 1.0, 1.25) if fitted else (1.0,))),
        allow_reflection=True,  # looked at even if not allowed: to say when it would fit better
        min_overlap=min_overlap,
    )
    sides = [
        [fit for fit in placements if fit.transform.reflected == side] for side in (False, True)
    ]
    if not all(sides):
        raise AlignmentError(
            f"no shift of the right slice covers {min_overlap:.0%} of the smaller slice: lower "
            "min_overlap, or check the units (scale)."
        )
    (best, runner_up), (mirrored, mirrored_runner_up) = (
        _best_on_one_side(maps, side, fitted) for side in sides
    )
    if allow_reflection and mirrored.score > best.score:
        best, runner_up, mirrored = mirrored, mirrored_runner_up, best
    transform = best.transform
    if refine in _REFINEMENTS:
        transform = _REFINEMENTS[refine](*maps, transform, allow_scale=fitted)
    return judge(
        *maps,
        transform,
        runner_up=runner_up,
        turned_over=mirrored,
        scale_source=source,
        side_chosen=allow_reflection,
        min_overlap=min_overlap,
        max_residual=max_residual,
        on_poor=on_poor,
    )


@checked
def apply_alignment(
    adata: AnnData,
    alignment: Alignment | SimilarityTransform,
    *,
    spatial_key: str = "spatial",
    key_added: str = "spatial_aligned",
    section_key: str | None = None,
) -> None:
    """Write the aligned coordinates of the right slice.

    Parameters
    ----------
    adata
        The right slice.
    alignment
        What :func:`align` returned, or a transform of your own.
    spatial_key
        Coordinates that are moved.
    key_added
        Writes ``obsm[key_added]`` (n, 2) float64, and the alignment's record to
        ``uns["genot"]["alignment"]``. ``"spatial"`` replaces the coordinates
        (``alignment.transform.inverse()`` brings them back); an image of the tissue in
        ``uns["spatial"]`` does not move with them.
    section_key
        Column of ``obs``, where ``adata`` holds both sections: the second one is moved, the first
        keeps its coordinates.

    Raises
    ------
    SliceError
        If there are no coordinates, or they were replaced by an alignment already.
    """
    if spatial_key not in adata.obsm:
        raise SliceError(f"obsm[{spatial_key!r}] is missing: there is nothing to move.")
    before = adata.uns.get("genot", {}).get("alignment", {})
    if before.get("key_added") == spatial_key:
        raise SliceError(
            f"obsm[{spatial_key!r}] holds aligned coordinates already; moving them again would "
            "put the slice out of place. Load the slice anew, or keep both frames: "
            "key_added='spatial_aligned'."
        )
    transform = getattr(alignment, "transform", alignment)
    points = np.array(adata.obsm[spatial_key], dtype=float)
    moved = slice(None) if section_key is None else second_of_two(adata, section_key)
    points[moved] = transform.apply(points[moved])
    adata.obsm[key_added] = points
    record(adata, alignment=alignment.to_dict() | {"key_added": key_added})


def _best_on_one_side(maps, placements: list[Fit], fitted: bool) -> tuple[Fit, float]:
    """Fit the best placements; return the best, and the strength of the best one turned by 30°."""
    # Several are tried on coarse maps, where fits converge from farther away; the best, in full.
    coarse = [one.coarser(1500) for one in maps]
    elsewhere = [fit for fit in placements if _turned(fit, placements[0])][:1]
    tried = [
        measure_fit(*coarse, refine_by_maps(*coarse, fit.transform, allow_scale=fitted, n_steps=15))
        for fit in (*placements[:_N_CANDIDATES], *elsewhere)
    ]
    best = max(tried, key=lambda fit: fit.score)
    full = measure_fit(*maps, refine_by_maps(*maps, best.transform, allow_scale=fitted))
    others = [fit for fit in tried if _turned(fit, best)] or elsewhere
    runner_up = max(
        (measure_fit(*maps, fit.transform).score for fit in others), default=float("nan")
    )
    return full, runner_up


def _turned(one: Fit, other: Fit) -> bool:
    """Say whether two placements on one side are turned against each other."""
    turn = one.transform @ other.transform.inverse()
    return abs(turn.angle_degrees) > _OTHER_ANGLE


# -------------------------------------------------------------------------------------------------
# The result, and when an alignment is poor.

_AS_WELL = 0.95
_MIN_STRENGTH = 0.45  # unrelated slices reach .2, wrong halves of one tissue .35, real ones .55-1.7


class AlignmentError(ValueError):
    """Two slices could not be aligned well; ``alignment`` is the best one found, or None."""

    def __init__(self, message: str, alignment: Alignment | None = None):
        super().__init__(message)
        self.alignment = alignment


@dataclass(frozen=True, eq=False)
class Alignment:
    """How to move the right slice into the frame of the left one, and how good that is.

    Attributes
    ----------
    transform
        From right to left coordinates.
    overlap
        Share of the left spots, and of the right spots, with a spot of the other slice within 1.5
        spot spacings.
    residual
        By how many spot spacings patches of tissue would still have to move to agree best: median,
        0 to 8. 0 to 1 is as good as possible, 3: the tissue is bent, 5: something is wrong.
    agreement_before, agreement
        Correlation of smoothed expression between the slices where they overlap, before and after
        (nan if they did not overlap).
    strength
        Fisher's z of the agreement times the root of the mean overlap: one number to compare
        placements by.
    runner_up, turned_over
        Strength of the best placement turned by 30° or more against this one (near ``strength``,
        the tissue fits in two ways), and of the best one on the other side, mirrored.
    spacing
        The spot spacing above, in units of the left slice: the larger one of both slices; that of
        the bins if a slice was pooled.
    scale_source
        Origin of the scale, in words.
    side_chosen
        Whether mirroring was allowed, so that the side was found rather than given.
    problems
        What is wrong, in sentences; empty if the alignment is good.
    """

    transform: SimilarityTransform
    overlap: tuple[float, float]
    residual: float
    agreement_before: float
    agreement: float
    strength: float
    runner_up: float
    turned_over: float
    spacing: float
    scale_source: str
    side_chosen: bool
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there are no problems."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, arrays and strings that fit into ``uns`` and ``.h5ad``."""
        facts = {name: value for name, value in vars(self).items() if name != "transform"}
        facts |= {"overlap": np.array(self.overlap), "problems": " ".join(self.problems)}
        return {**self.transform.to_dict(), **facts, "ok": self.ok}

    def summary(self) -> str:
        """Return the figures in one sentence."""
        left, right = self.overlap
        before, after = (
            "not defined (no overlap)" if math.isnan(value) else f"{value:.2f}"
            for value in (self.agreement_before, self.agreement)
        )
        return (
            f"overlap {left:.0%} of left and {right:.0%} of right, "
            f"residual {self.residual:.1f} spot spacings, "
            f"agreement {before} before and {after} after"
        )

    def __repr__(self) -> str:
        state = "ok" if self.ok else f"{len(self.problems)} problem(s)"
        return f"Alignment({self.transform}, {self.summary()}, {state})"


def judge(
    left: ExpressionMap,
    right: ExpressionMap,
    transform: SimilarityTransform,
    *,
    runner_up: float = float("nan"),
    turned_over: Fit | None = None,
    scale_source: str = "given",
    side_chosen: bool = False,
    min_overlap: float = 0.3,
    max_residual: float = 5.0,
    on_poor: str = "raise",
) -> Alignment:
    """Measure a transform, however it was found; raise, warn or only record if it is poor."""
    fit = measure_fit(left, right, transform)
    alignment = Alignment(
        transform=transform,
        overlap=fit.overlap,
        residual=residual_shift(left, right, transform),
        agreement_before=measure_fit(left, right, SimilarityTransform.identity()).agreement,
        agreement=fit.agreement,
        strength=fit.score,
        runner_up=runner_up,
        turned_over=turned_over.score if turned_over else float("nan"),
        spacing=max(left.spacing, transform.scale * right.spacing),
        scale_source=scale_source,
        side_chosen=side_chosen,
    )
    problems = [
        *_misfits(alignment, min_overlap, max_residual),
        *_rivals(alignment, turned_over, min_overlap),
    ]
    alignment = replace(alignment, problems=tuple(problems))
    if not alignment.ok:
        message = f"poor alignment ({alignment.summary()}). {' '.join(alignment.problems)}"
        if on_poor == "raise":
            raise AlignmentError(message, alignment)
        if on_poor == "warn":
            warnings.warn(message, stacklevel=3)
    return alignment


def _misfits(found: Alignment, min_overlap: float, max_residual: float) -> Iterator[str]:
    """Say in sentences what is wrong with a placement as such."""
    if max(found.overlap) < min_overlap:
        yield (
            f"The slices hardly overlap: {found.overlap[0]:.0%} of left, {found.overlap[1]:.0%} of "
            f"right; {min_overlap:.0%} of one are asked for."
        )
    if not found.residual <= max_residual:
        yield (
            f"The residual is {found.residual:.1f} spot spacings; more than {max_residual:g} means "
            "that patches of one slice resemble other places of the other slice."
        )
    if found.strength < _MIN_STRENGTH:
        yield (
            f"Expression agrees too little (correlation {found.agreement:.2f}): these may be "
            "different tissues, or parts that do not overlap."
        )


def _rivals(found: Alignment, turned_over: Fit | None, min_overlap: float) -> Iterator[str]:
    """Say in sentences which other placements fit as well."""
    # If each slice shows another half of a symmetric tissue, mirroring increases the overlap and
    # lowers the agreement. So only a rival that agrees better counts against a given side.
    if found.runner_up > _AS_WELL * found.strength:
        yield (
            "Another placement, turned by 30° or more, fits as well (strength "
            f"{found.runner_up:.2f} against {found.strength:.2f}): the tissue is symmetric."
        )
    if turned_over is None or turned_over.score < _MIN_STRENGTH:
        return
    # The agreement on a small overlap, or on none, says nothing.
    nothing = max(found.overlap) < min_overlap or math.isnan(found.agreement)
    agrees_better = nothing or turned_over.agreement > found.agreement
    ours = "while as it is the slices hardly overlap" if nothing else f"not {found.agreement:.2f}"
    if not found.side_chosen and agrees_better and _AS_WELL * turned_over.score > found.strength:
        yield (
            f"The right slice fits better mirrored (correlation {turned_over.agreement:.2f}, "
            f"{ours}): was the section turned over? Then allow_reflection=True."
        )
    if found.side_chosen and (agrees_better or turned_over.score > _AS_WELL * found.strength):
        yield (
            f"Mirrored, the right slice fits as well (correlation {turned_over.agreement:.2f} "
            f"against {found.agreement:.2f}): the tissue is symmetric. If you know that no section "
            "was turned over, leave allow_reflection out."
        )


# -------------------------------------------------------------------------------------------------
# Published ways, for comparison. Both return an alignment that is judged like that of "align".

_ICP_SPOTS = 2000
_ICP_ANGLES = 24


@by_pair
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
    """Align by a partial fused Gromov-Wasserstein coupling and Procrustes, as PASTE2 does.

    Liu et al. 2023, doi 10.1101/gr.277670.123. The problem is not convex, and there is no start.
    Distances within a slice do not tell left from right, so the coupling may be mirrored, which the
    fit then cannot follow.

    Parameters
    ----------
    left, right, use_rep, scale, allow_reflection, spatial_key, on_poor
        As in :func:`align`; the scale is not fitted.
    overlap
        Share of the spots that have a partner, above 0 up to 1. It must be known.
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
    """
    maps, scale, source = _maps_and_scale(left, right, use_rep, scale, spatial_key)
    few = [one.sample(n_spots) for one in maps]
    plan = partial_fused_gromov_wasserstein_coupling(
        few[0].points, few[1].points * scale, few[0].features, few[1].features,
        matched_share=overlap, alpha=alpha,
    ).plan.tocoo()  # fmt: skip
    fit = weighted_procrustes(
        few[0].points[plan.row],
        few[1].points[plan.col] * scale,
        plan.data,
        allow_reflection=allow_reflection,
    )
    transform = fit @ SimilarityTransform(scale=scale)
    return judge(*maps, transform, scale_source=source, on_poor=on_poor)


@by_pair
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

    Trimmed (Besl & McKay 1992, doi 10.1109/34.121791; Chetverikov et al. 2005, doi
    10.1016/j.imavis.2004.05.007). It sees outlines only: the angle is arbitrary for a round or
    symmetric tissue, or one that fills its capture area, and spots of a grid lock into each other.

    Parameters
    ----------
    left, right, scale, allow_reflection, spatial_key, on_poor
        As in :func:`align`; the scale is not fitted.
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
    SliceError, AlignmentError
        As :func:`align_partial_gromov`.
    """
    maps, scale, source = _maps_and_scale(left, right, use_rep, scale, spatial_key)
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


def _maps_and_scale(left, right, use_rep, scale, spatial_key):
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
