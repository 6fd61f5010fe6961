"""Slices of one frame next to each other in one AnnData, so that a domain has one colour in all."""

from __future__ import annotations

from collections.abc import Mapping

import anndata as ad
import numpy as np
from anndata import AnnData

from .plotting import micrometres_per_unit

__all__ = ["side_by_side"]


def side_by_side(slices: Mapping[str, AnnData], *, gap: float = 0.12) -> AnnData:
    """Put slices of one frame next to each other, for figures.

    Parameters
    ----------
    slices
        Name → slice, all in one frame and unit: heights stay comparable. They are not changed.
    gap
        Empty space between two slices, as a share of the widest one.

    Returns
    -------
    AnnData
        New: spots of all slices, without expression; ``obs`` with all their columns (NaN where a
        slice has no such column) and ``obs["slice"]``; ``obsm["spatial"]`` shifted along x. The
        unit and orientation are those of the first; ``uns["genot"]["simulated"]`` if any is.
    """
    facts = [adata.uns.get("genot", {}) for adata in slices.values()]
    points = [np.asarray(adata.obsm["spatial"], dtype=float)[:, :2] for adata in slices.values()]
    space = gap * max(np.ptp(place[:, 0]) for place in points)
    parts, begin = {}, 0.0
    for (name, adata), place in zip(slices.items(), points, strict=True):
        parts[name] = ad.AnnData(obs=adata.obs)
        parts[name].obsm["spatial"] = place + np.array([begin - place[:, 0].min(), 0.0])
        begin += np.ptp(place[:, 0]) + space
    whole = ad.concat(parts, label="slice", index_unique="-", join="outer")
    for key in set.union(*(set(part.obs) for part in parts.values())):
        if any(part.obs[key].dtype == "category" for part in parts.values() if key in part.obs):
            whole.obs[key] = whole.obs[key].astype("category")
    scale = micrometres_per_unit(next(iter(slices.values())))
    whole.uns["genot"] = {"simulated": any(bool(fact.get("simulated")) for fact in facts)}
    if scale is not None:
        whole.uns["genot"]["micrometres_per_unit"] = scale
    if facts[0].get("y_axis"):
        whole.uns["genot"]["y_axis"] = facts[0]["y_axis"]
    return whole
