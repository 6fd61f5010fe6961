"""How long one unit of the coordinates is, and whether spots lie on a grid, if a slice tells."""

from __future__ import annotations

from anndata import AnnData

from .spacing import nearest_distance

__all__ = ["micrometres_per_unit", "on_visium_grid", "stated_micrometres_per_unit"]

_VISIUM_PITCH = 100.0  # µm, centre to centre


def on_visium_grid(adata: AnnData) -> bool:
    """Say whether the spots carry the numbering of a hexagonal Visium grid.

    Neighbouring rows are shifted by half a spot, so Visium numbers only every second column:
    row + column is even. Square grids (Visium HD) use every column and fail the test.
    """
    if not {"array_row", "array_col"} <= set(adata.obs.columns):
        return False
    index = adata.obs[["array_row", "array_col"]].to_numpy(dtype=float).sum(axis=1)
    return bool((index % 2 == 0).all())


def stated_micrometres_per_unit(adata: AnnData) -> float | None:
    """Return µm per unit of ``obsm["spatial"]`` that ``uns["genot"]`` states, None without it."""
    facts = adata.uns.get("genot", {})
    if "micrometres_per_unit" in facts:
        return float(facts["micrometres_per_unit"])
    return 1.0 if facts.get("spatial_unit") == "µm" else None


def micrometres_per_unit(adata: AnnData) -> float | None:
    """Return µm per unit of ``obsm["spatial"]``: stated, or from the pitch of a Visium grid.

    None where neither is known.
    """
    stated = stated_micrometres_per_unit(adata)
    if stated is None and {"array_row", "array_col"} <= set(adata.obs):
        return _VISIUM_PITCH / nearest_distance(adata.obsm["spatial"])
    return stated
