"""Whether two matrices of expression hold the same kind of values, judged by the values alone.

A layer, or a generated slice, does not carry the mark of logarithms that scanpy leaves in ``uns``
and that :func:`genot_helpers.slices.holds_logarithms` looks for.
"""

from __future__ import annotations

from typing import Any

from ..slices.matrices import is_numeric, scan
from ..slices.slices import SliceError
from ..slices.values import LARGEST_LOGARITHM

__all__ = ["both_logarithms"]


def both_logarithms(real: Any, ours: Any, layer: str | None) -> bool:
    """Say whether both matrices hold logarithms; refuse values that cannot be compared.

    Parameters
    ----------
    real, ours
        (n, p) and (m, p), sparse or dense: the held-out slice and the generated one.
    layer
        Layer that the generated matrix comes from; None for ``X``.

    Raises
    ------
    SliceError
        If values are no numbers, NaN, infinite or negative, or of different kinds.
    """
    name = "X" if layer is None else f"layers[{layer!r}]"
    kind, largest = _describe(real, "X of the held-out slice")
    if layer is not None and kind != "logarithms":
        # Means of counts are no counts, means of logarithms may be a little below 0.
        _describe(ours, f"{name} of the generated slice")
        return False
    our_kind, our_largest = _describe(
        ours, f"{name} of the generated slice", negative=layer is not None
    )
    if layer is not None or our_kind == kind:
        return kind == "logarithms"
    # The largest value lies near the limit: the same kind, if they are of the same size.
    alike = "counts" not in (kind, our_kind) and largest < 3 * our_largest < 9 * largest
    if not alike:
        raise SliceError(
            f"X of the held-out slice holds {kind} (largest {largest:g}), that of the generated "
            f"slice {our_kind} (largest {our_largest:g}). Give both in the same form, for example "
            "counts; for a denoised product, put it into a layer and score it with layer=... ."
        )
    return False


def _describe(matrix: Any, name: str, *, negative: bool = False) -> tuple[str, float]:
    """Say what a matrix holds, counts, values or logarithms, and its largest value."""
    if not is_numeric(matrix):
        raise SliceError(f"{name} has dtype {matrix.dtype}; numbers are needed.")
    bad = scan(matrix)[0]
    for problem in ("NaN or infinite", *(() if negative else ("negative",))):
        if bad[problem]:
            raise SliceError(
                f"{name}: {bad[problem][0]:,} values are {problem} (first: {bad[problem][3]:g}). "
                "Counts, normalised values or their logarithms are needed, not centred or scaled."
            )
    largest = float(matrix.max())
    if not bad["fractions"]:
        return "counts", largest
    return "logarithms" if largest <= LARGEST_LOGARITHM else "values", largest
