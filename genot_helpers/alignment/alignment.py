"""Two slices into one frame: the right one is turned, shifted (and scaled) onto the left one.

No start is needed and slices may overlap in part: all placements are searched
(:mod:`genot_helpers.alignment.search`), the best few are fitted finely
(:mod:`genot_helpers.alignment.fit`), and the best of these is judged. Expression decides, not the
outline, which says little where a capture area cuts the tissue off. The published ways, for
comparison, are in :mod:`genot_helpers.alignment.published`.

An alignment is rigid. What is bent stays bent: that is for the warp, later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..pairs.pairs import check_pair, expression_maps
from ..slices.records import record
from ..slices.slices import SliceError
from .fit import compare, refine_by_maps
from .judge import Alignment, AlignmentError, judge
from .matched import refine_by_coupling, refine_by_outline
from .scale import choose_scale
from .search import Fit, search_placements
from .transforms import SimilarityTransform

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Alignment", "AlignmentError", "align", "apply_alignment"]

_N_CANDIDATES = 4
_OTHER_ANGLE = 30.0
_REFINEMENTS = {"coupling": refine_by_coupling, "outline": refine_by_outline}


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
        in both) and ``obsm[spatial_key]`` (n, 2). Any position, any angle.
    use_rep
        Joint embedding in ``obsm`` of both. ``"X_pca"`` is used only if both carry the record of
        one common :func:`genot_helpers.preprocessing.joint_components`; otherwise, and with None,
        joint components are computed here, on copies.
    scale
        - ``"auto"``: from the units where both slices tell them (``uns["genot"]``:
          ``micrometres_per_unit``, or ``spatial_unit`` µm), or from the pitch of two Visium grids;
          where neither is known, as ``"area"`` if one slice is more than 1.5 times as long as the
          other, as if in other units; else 1.
        - ``"area"``: the root of the ratio of tissue areas to start with, sizes from 0.8 to 1.25
          times that are searched, and the scale is fitted. Growth, as between embryonic stages, is
          removed by this.
        - a number: that scale, left units per right unit. None: 1.
    allow_reflection
        Whether right may be mirrored, for sections that were turned over. Many tissues are nearly
        symmetric: leave it out where you know that none was. Where mirroring would fit better,
        that is among the problems.
    refine
        Fine fit. ``"maps"``: to the expression map, safe if slices overlap in part.
        ``"coupling"``: then also partial coupling and Procrustes in turn, which lets outlines
        count; a little better where both slices show all of the tissue, worse where they do not.
        ``"outline"``: then by place alone, whatever is expressed where, within some 30°. For whole
        bodies that grow, such as embryos at two stages: organs that look alike need not lie alike
        and turn the fit by 10° to 20°. Wrong where a slice shows a part only.
    spatial_key
        Slot of the coordinates.
    max_spots
        Larger slices are pooled to about so many bins, so that 100,000 spots take seconds.
    min_overlap
        Smallest share of the smaller slice that must lie on the other.
    max_residual
        Largest residual of a good alignment, in spot spacings.
    on_poor
        What to do with an alignment that has problems: ``"raise"``, ``"warn"``, or ``"return"`` it,
        for those who look at its ``problems`` themselves.

    Returns
    -------
    Alignment

    Raises
    ------
    SliceError
        If a slice is unfit: see :func:`genot_helpers.pairs.check_pair`.
    AlignmentError
        If the alignment is poor and ``on_poor`` is ``"raise"``; it carries the alignment.
    ValueError
        If a parameter is out of range.

    Examples
    --------
    >>> alignment = align(left, right)
    >>> apply_alignment(right, alignment)
    >>> right.obsm["spatial_aligned"]
    """
    _check_parameters(scale, refine, max_spots, min_overlap, max_residual, on_poor)
    check_pair(left, right, spatial_key=spatial_key)
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


def apply_alignment(
    adata: AnnData,
    alignment: Alignment | SimilarityTransform,
    *,
    spatial_key: str = "spatial",
    key_added: str = "spatial_aligned",
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
        Writes ``obsm[key_added]`` (n, 2) float64, and how it came about to
        ``uns["genot"]["alignment"]``. With ``key_added="spatial"`` the coordinates are replaced
        (``alignment.transform.inverse()`` brings them back); an image of the tissue in
        ``uns["spatial"]`` does not move with them.

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
    adata.obsm[key_added] = transform.apply(adata.obsm[spatial_key])
    record(adata, alignment=alignment.to_dict() | {"key_added": key_added})


def _check_parameters(scale, refine, max_spots, min_overlap, max_residual, on_poor) -> None:
    """Refuse parameters out of range before any work."""
    if isinstance(scale, str):
        if scale not in ("auto", "area"):
            raise ValueError(f'scale is {scale!r}: give "auto", "area", a positive number or None.')
    elif scale is not None and not 0 < scale < float("inf"):
        raise ValueError(f"scale is {scale!r}: give a positive number.")
    for name, value, known in (
        ("refine", refine, ("maps", *_REFINEMENTS)),
        ("on_poor", on_poor, ("raise", "warn", "return")),
    ):
        if value not in known:
            raise ValueError(f"{name} is {value!r}: choose {' or '.join(map(repr, known))}.")
    if not 0 < min_overlap <= 1:
        raise ValueError(f"min_overlap is {min_overlap!r}: give a share above 0, at most 1.")
    if max_spots < 100:
        raise ValueError(f"max_spots is {max_spots!r}: give at least 100.")
    if not max_residual > 0:
        raise ValueError(f"max_residual is {max_residual!r}: give a number of spot spacings.")


def _best_on_one_side(maps, placements: list[Fit], fitted: bool) -> tuple[Fit, float]:
    """Fit the best placements; return the best of them, and the strength of one turned elsewhere.

    Several are tried on coarse maps, which draw from farther away; the winner is fitted on all.
    """
    coarse = [one.coarser(1500) for one in maps]
    elsewhere = [fit for fit in placements if _turned(fit, placements[0])][:1]
    tried = [
        compare(*coarse, refine_by_maps(*coarse, fit.transform, allow_scale=fitted, n_steps=15))
        for fit in (*placements[:_N_CANDIDATES], *elsewhere)
    ]
    best = max(tried, key=lambda fit: fit.score)
    full = compare(*maps, refine_by_maps(*maps, best.transform, allow_scale=fitted))
    others = [fit for fit in tried if _turned(fit, best)] or elsewhere
    runner_up = max((compare(*maps, fit.transform).score for fit in others), default=float("nan"))
    return full, runner_up


def _turned(one: Fit, other: Fit) -> bool:
    """Say whether two placements on one side are turned against each other."""
    turn = one.transform @ other.transform.inverse()
    return abs(turn.angle_degrees) > _OTHER_ANGLE
