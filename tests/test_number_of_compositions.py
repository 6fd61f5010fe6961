"""How many domains of cells: evidence against the textbook, and what is said about it."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import genot_helpers as gh
from genot_helpers.domains.composition_field import field_of, log_evidence

SHARES = np.array([[0.8, 0.1, 0.05, 0.05], [0.05, 0.8, 0.1, 0.05], [0.05, 0.05, 0.1, 0.8]])
QUICK = {"n_starts": 8, "n_kept": 2, "n_seeds": 2, "progress": False}


def bands(n_cells=600, *, seed=0):
    """Cells in three bands, of four types in other shares."""
    rng = np.random.default_rng(seed)
    xy = rng.random((n_cells, 2)) * 100
    band = np.minimum((xy[:, 0] // 33.4).astype(int), 2)
    types = np.array([rng.choice(4, p=SHARES[one]) for one in band])
    adata = ad.AnnData(shape=(n_cells, 0))
    adata.obsm["spatial"] = xy
    adata.obs["cell_type"] = pd.Categorical.from_codes(types, list("ABCD"))
    return adata


def test_evidence_is_the_chance_of_drawing_the_types_one_by_one():
    """Pólya's urn: each cell's type is drawn from the urn that the cells before it have left."""
    rng = np.random.default_rng(0)
    codebooks = rng.integers(0, 3, (2, 40))
    labels = rng.integers(0, 2, 40)
    a = 7.0
    ring = sparse.csr_matrix((np.ones(40), (np.arange(40), (np.arange(40) + 1) % 40)))
    ring = ((ring + ring.T) / 2).tocsr().astype("float32")
    field = field_of(codebooks, ring, 3.0, a)

    def urn(types, groups):
        w = np.bincount(types, minlength=3) / len(types)
        total, seen = 0.0, {}
        for one, group in zip(types, groups, strict=True):
            urn = seen.setdefault(group, a * w.copy())
            total += np.log(urn[one] / urn.sum())
            urn[one] += 1
        return total

    expected = np.mean([urn(types, labels) - urn(types, labels * 0) for types in codebooks])
    for i in range(40):
        beside = labels[[(i - 1) % 40, (i + 1) % 40]]
        pull = np.exp([3.0 * np.mean(beside == one) for one in (0, 1)])
        expected += np.log(pull[labels[i]] / pull.sum())
    assert log_evidence(field, labels, 2) == pytest.approx(expected, rel=1e-4)
    assert log_evidence(field, labels * 0, 1) == pytest.approx(0.0, abs=1e-3)


def test_three_bands_are_three_domains():
    table = gh.choose_n_compositions(bands(), range(1, 6), type_key="cell_type", **QUICK)
    assert table["evidence"].idxmax() == 3
    assert list(table.index[table["chosen"]]) == [3]
    assert table.loc[3, "stability"] > 0.9
    assert "3" in table.attrs["says"]
    assert "do not say" not in table.attrs["says"]


def test_tissue_without_domains_has_none():
    adata = bands()
    rng = np.random.default_rng(1)
    adata.obs["cell_type"] = rng.permutation(adata.obs["cell_type"].astype(str))
    table = gh.choose_n_compositions(adata, range(1, 5), type_key="cell_type", **QUICK)
    assert table["evidence"].idxmax() == 1


def test_the_largest_number_tried_is_no_answer():
    table = gh.choose_n_compositions(bands(), [2, 3], type_key="cell_type", **QUICK)
    assert "still rises" in table.attrs["says"]


def test_nothing_is_written_and_bad_numbers_are_refused():
    adata = bands(60)
    before = list(adata.obs.columns)
    gh.choose_n_compositions(adata, [1, 2], type_key="cell_type", **QUICK)
    assert list(adata.obs.columns) == before
    assert "genot" not in adata.uns
    for candidates, more in (([], {}), ([0], {}), ([61], {}), ([2], {"n_seeds": 1})):
        with pytest.raises((TypeError, ValueError), match=r"candidates|n_seeds|n_domains"):
            arguments = {**QUICK, **more, "type_key": "cell_type"}
            gh.choose_n_compositions(adata, candidates, **arguments)
