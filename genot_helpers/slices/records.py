"""How a result came about, kept with the slice in ``uns["genot"]``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["record"]


def record(adata: AnnData, **facts: Any) -> None:
    """Write facts to ``uns["genot"]``; what else is there stays.

    Parameters
    ----------
    adata
        The slice.
    **facts
        Name → numbers, strings, arrays, or dictionaries of them, which ``.h5ad`` files can hold.
    """
    adata.uns["genot"] = {**adata.uns.get("genot", {}), **facts}
