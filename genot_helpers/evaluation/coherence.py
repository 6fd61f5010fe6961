"""How coherent domains are in space. No annotation is needed.

CHAOS and PAS as defined by Shang & Zhou, Nature Communications 2022, doi
10.1038/s41467-022-34879-1, and used in the benchmark of Yuan et al., Nature Methods 2024, doi
10.1038/s41592-024-02215-8. Smaller is smoother. Smooth is not the same as right: one single domain
for the whole slice has a perfect PAS.
"""

from __future__ import annotations

import numpy as np
from anndata import AnnData
from scipy.spatial import cKDTree

from ..slices.slices import SliceError
from .domain_columns import complete_domains

__all__ = ["score_coherence"]


def score_coherence(
    adata: AnnData, *, predicted: str = "genot_domain", spatial_key: str = "spatial"
) -> dict[str, float]:
    r"""Score how coherent domains are in space. No annotation is needed.

    With coordinates scaled to unit variance along each axis, and :math:`d_i` the distance from
    spot :math:`i` to the nearest other spot *of its own domain*,

    .. math:: \mathrm{CHAOS} = \frac{1}{n} \sum_i d_i .

    PAS (percentage of abnormal spots, here a share between 0 and 1) is the share of spots that
    have more than half of their nearest neighbours, so at least 6 of 10, in other domains.
    By k-d trees, in time O(n log n) and memory O(n).

    Parameters
    ----------
    adata
        A slice. Nothing is written.
    predicted
        Column of ``obs`` with the found domains, one for every spot.
    spatial_key
        Key of ``obsm`` with the coordinates, shape (n, 2).

    Returns
    -------
    ``{"chaos": ..., "pas": ...}``. A spot alone in its domain has no :math:`d_i` and is left out
    of the mean (if all spots are alone, ``chaos`` is NaN).

    Raises
    ------
    SliceError
        If the column or the coordinates are missing, or a spot has no domain.
    """
    domains = complete_domains(adata, predicted)
    if spatial_key not in adata.obsm or not np.isfinite(adata.obsm[spatial_key]).all():
        raise SliceError(
            f"obsm[{spatial_key!r}] is missing or not finite: CHAOS and PAS need coordinates."
        )
    coords = np.asarray(adata.obsm[spatial_key], dtype=float)
    # Spots on a grid have many neighbours at the same distance, and a k-d tree breaks such ties by
    # row. Sorting by place first makes the scores independent of the order of the rows.
    order = np.lexsort(coords.T)
    coords, codes = coords[order], domains.cat.codes.to_numpy()[order]
    return {"chaos": _chaos(coords, codes), "pas": _pas(coords, codes)}


def _chaos(coords: np.ndarray, codes: np.ndarray) -> float:
    """Mean distance to the nearest spot of the same domain, coordinates scaled per axis."""
    spread = coords.std(axis=0)
    scaled = (coords - coords.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    nearest = []
    for code in np.unique(codes):
        members = scaled[codes == code]
        if len(members) > 1:
            # Column 0 is the spot itself, at distance 0.
            nearest.append(cKDTree(members).query(members, k=2)[0][:, 1])
    return float(np.concatenate(nearest).mean()) if nearest else float("nan")


def _pas(coords: np.ndarray, codes: np.ndarray, n_neighbors: int = 10) -> float:
    """Share of spots that have more than half of their neighbours in other domains."""
    k = min(n_neighbors, len(coords) - 1)
    neighbors = cKDTree(coords).query(coords, k=k + 1)[1]
    # Each spot is among its own k + 1 results and never in another domain than itself.
    n_other = (codes[neighbors] != codes[:, None]).sum(axis=1)
    return float((n_other > k / 2).mean())
