"""The simulated embryo under a second instrument: the same tissue, other cells, genes and units."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from genot_helpers import check_slice, list_slices, load_slice
from genot_helpers.simulation import simulate_embryo, simulate_embryo_cells

SIZE = {"n_bins": 600, "n_genes": 400}


@pytest.fixture(scope="module")
def cells():
    return simulate_embryo_cells(n_cells=1500, n_panel=150, seed=1, **SIZE)["seqfish"]


@pytest.fixture(scope="module")
def same_animal():
    return simulate_embryo(["E9"], seed=1, **SIZE)["E9"]


def test_slots_of_the_public_file_and_the_truth(cells):
    check_slice(cells, require_counts=True)
    assert cells.shape == (1500, 150)
    assert {"Area", "celltype_mapped_refined", "domain_truth"} == set(cells.obs)
    assert (cells.obs["Area"] > 0).all()
    facts = cells.uns["genot"]
    assert facts["simulated"] is True
    assert "imulated" in facts["source"]
    assert facts["spatial_unit"] != "µm"
    assert "micrometres_per_unit" not in facts  # as in the real file, nobody says
    assert cells.obsm["spatial"].dtype == cells.obsm["spatial_common"].dtype == np.float64


def test_units_turned_and_other_side_up(cells):
    true, seen = (cells.obsm[k] - cells.obsm[k].mean(axis=0) for k in ("spatial_common", "spatial"))
    matrix = np.linalg.lstsq(seen, true, rcond=None)[0]
    np.testing.assert_allclose(seen @ matrix, true, atol=1e-6)
    unit = cells.uns["genot"]["parameters"]["true_micrometres_per_unit"]
    np.testing.assert_allclose(matrix.T @ matrix, unit**2 * np.eye(2), atol=1e-6 * unit**2)
    assert np.linalg.det(matrix) < 0  # mirrored
    assert abs(np.degrees(np.arctan2(matrix[1, 0], -matrix[0, 0]))) > 60


def test_it_is_the_animal_of_the_bins(cells, same_animal):
    tree = cKDTree(same_animal.obsm["spatial_common"])
    distance, nearest = tree.query(cells.obsm["spatial_common"])
    assert (distance < 25).mean() > 0.98
    there = same_animal.obs["domain_truth"].astype(str).to_numpy()[nearest]
    assert (there == cells.obs["domain_truth"].astype(str).to_numpy()).mean() > 0.9


def test_cells_are_purer_than_bins_and_molecules_are_caught_better(cells, same_animal):
    shared = [gene for gene in cells.var_names if gene in same_animal.var_names]
    here, there = (np.asarray(a[:, shared].X.mean(axis=0)).ravel() for a in (cells, same_animal))
    in_a_bin = cells.n_obs / same_animal.n_obs
    assert np.median(here * in_a_bin / there) > 1.5
    assert 100 < np.median(np.asarray(cells.X.sum(axis=1))) < 400
    spread = np.std(np.log(here / here.sum()) - np.log(there / there.sum()))
    assert 0.35 < spread < 1.0  # every gene has an efficiency of its own


def test_markers_mark_the_same_cell_types(cells):
    kind = cells.obs["celltype_mapped_refined"]
    for gene, owner in cells.var.loc[cells.var["marker_of"] != "", "marker_of"].items():
        inside = (kind == owner).to_numpy()
        if inside.sum() >= 30:
            values = cells[:, gene].X.toarray().ravel()
            assert values[inside].mean() > 1.5 * values[~inside].mean(), gene


def test_a_panel_is_part_shared_part_not(cells, same_animal):
    shared = cells.var_names.isin(same_animal.var_names)
    assert 0.9 < shared.mean() < 1.0
    assert not cells.var["role"].isin(["housekeeping", "mitochondria"]).any()
    assert (cells.var["role"] == "noise").any()  # nobody knows beforehand what has no pattern


def test_same_seed_same_bits_and_another_stage_is_another_animal(cells):
    options = {"n_cells": 1500, "n_panel": 150, **SIZE}
    again = simulate_embryo_cells(seed=1, **options)["seqfish"]
    other = simulate_embryo_cells(seed=2, **options)["seqfish"]
    older = simulate_embryo_cells("E10.5", seed=1, **options)["seqfish"]
    assert (again.X != cells.X).nnz == 0
    np.testing.assert_array_equal(again.obsm["spatial"], cells.obsm["spatial"])
    assert (other.X != cells.X).nnz
    assert older.var_names.equals(cells.var_names)
    assert "Limb bud" in set(older.obs["domain_truth"]) - set(cells.obs["domain_truth"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stage": "E8.5"}, "stage 'E8.5' is not known"),
        ({"n_cells": 10}, "n_cells is 10"),
        ({"n_cells": 9000, "n_bins": 600}, "there is room for at most"),
        ({"n_panel": 500, "n_genes": 900}, "n_genes is 900"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        simulate_embryo_cells(**options)


def test_the_demo_slice_has_the_name_of_the_public_one():
    adata = load_slice("seqfish")
    facts = adata.uns["genot"]
    assert facts["dataset"] == "seqfish_embryo"
    assert "stand-in for seqfish" in facts["source"]
    assert "micrometres_per_unit" not in facts
    assert adata.n_vars == 350
    row = list_slices().set_index("name").loc["seqfish"]
    assert row["demo"] and row["download"]
