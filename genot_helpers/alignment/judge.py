"""What an alignment is, and when it is a poor one."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..pairs.pairs import ExpressionMap
from .fit import compare
from .residual import residual_shift
from .search import Fit
from .transforms import SimilarityTransform

__all__ = ["Alignment", "AlignmentError", "judge"]

_AS_WELL = 0.95
_MIN_STRENGTH = 0.45  # unrelated slices reach .2, wrong halves of one tissue .35, real ones .55-1.7


class AlignmentError(ValueError):
    """Two slices could not be aligned well.

    Attributes
    ----------
    alignment
        The best :class:`Alignment` found, to look at; None if none was.
    """

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
        0 to 8, see :func:`genot_helpers.alignment.residual.residual_shift`. 0 to 1 is as good as it
        gets, 3 means a tissue that is bent, 5 or more that something is wrong.
    agreement_before, agreement
        Correlation of smoothed expression between the slices where they overlap, before and after
        (nan if they did not overlap).
    strength
        Fisher's z of the agreement times the root of the mean overlap: one number to compare
        placements by.
    runner_up
        Strength of the best placement that is turned by 30° or more against this one; near
        ``strength``, the tissue fits in two ways.
    turned_over
        Strength of the best placement on the other side: mirrored against this one.
    spacing
        The spot spacing meant above, in units of the left slice: the larger one of the two; that
        of bins where a slice was pooled.
    scale_source
        Where the scale comes from, in words.
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
        """Whether nothing was found wrong."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, arrays and strings that fit into ``uns`` and ``.h5ad``."""
        facts = {name: value for name, value in vars(self).items() if name != "transform"}
        facts |= {"overlap": np.array(self.overlap), "problems": " ".join(self.problems)}
        return {**self.transform.to_dict(), **facts, "ok": self.ok}

    def summary(self) -> str:
        """Return the figures in one sentence."""
        left, right = self.overlap
        return (
            f"overlap {left:.0%} of left and {right:.0%} of right, "
            f"residual {self.residual:.1f} spot spacings, "
            f"agreement {self.agreement_before:.2f} before and {self.agreement:.2f} after"
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
    """Measure a transform, however it was found, and raise, warn or say nothing if it is poor.

    Parameters
    ----------
    left, right
        Expression of both slices, see :func:`genot_helpers.pairs.expression_maps`.
    transform
        From right to left.
    runner_up, turned_over, scale_source, side_chosen, min_overlap, max_residual, on_poor
        ``turned_over`` is the best placement on the other side; the rest is as in
        :class:`Alignment` and :func:`genot_helpers.alignment.align`.

    Returns
    -------
    Alignment
    """
    fit = compare(left, right, transform)
    alignment = Alignment(
        transform=transform,
        overlap=fit.overlap,
        residual=residual_shift(left, right, transform),
        agreement_before=compare(left, right, SimilarityTransform.identity()).agreement,
        agreement=fit.agreement,
        strength=fit.score,
        runner_up=runner_up,
        turned_over=turned_over.score if turned_over else float("nan"),
        spacing=max(left.spacing, transform.scale * right.spacing),
        scale_source=scale_source,
        side_chosen=side_chosen,
    )
    problems = [*_misfits(alignment, min_overlap, max_residual), *_rivals(alignment, turned_over)]
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
            f"The residual is {found.residual:.1f} spot spacings; more than {max_residual:g} is no "
            "match: patches of one slice look like other places of the other."
        )
    if found.strength < _MIN_STRENGTH:
        yield (
            f"Expression agrees too little (correlation {found.agreement:.2f}): these may be "
            "different tissues, or parts that do not overlap."
        )


def _rivals(found: Alignment, turned_over: Fit | None) -> Iterator[str]:
    """Say in sentences which other placements fit as well.

    A tissue with a plane of symmetry overlaps more when mirrored if each slice shows another half
    of it, but then it agrees less: only a rival that agrees better speaks against a given side.
    """
    if found.runner_up > _AS_WELL * found.strength:
        yield (
            "Another placement, turned by 30° or more, fits as well (strength "
            f"{found.runner_up:.2f} against {found.strength:.2f}): the tissue is symmetric."
        )
    if turned_over is None or turned_over.score < _MIN_STRENGTH:
        return
    agrees_better = turned_over.agreement > found.agreement
    if not found.side_chosen and agrees_better and _AS_WELL * turned_over.score > found.strength:
        yield (
            f"The right slice fits better mirrored (correlation {turned_over.agreement:.2f}, "
            f"not {found.agreement:.2f}): was the section turned over? Then allow_reflection=True."
        )
    if found.side_chosen and (agrees_better or turned_over.score > _AS_WELL * found.strength):
        yield (
            f"Mirrored, the right slice fits as well (correlation {turned_over.agreement:.2f} "
            f"against {found.agreement:.2f}): the tissue is symmetric. If you know that no section "
            "was turned over, leave allow_reflection out."
        )
