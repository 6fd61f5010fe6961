"""The simulated brain in two halves: well-formed, continuous over the cut, and in the demo set."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from genot_helpers import check_slice, list_slices, load_slice, load_slices
from genot_helpers.simulation import simulate_sagittal_brain
from genot_helpers.simulation.visium_sections import SAGITTAL

ONE_SIDE = {"Olfactory bulb": "anterior", "Striatum": "anterior", "Hindbrain": "posterior"}
OVER_THE_CUT = ("Upper cortex", "Deep cortex", "Fibre tracts", "Hippocampus", "Thalamus")


@pytest.fixture(scope="module")
def brain():
    return simulate_sagittal_brain(n_spots=2000, n_genes=300, seed=1)


def test_four_slices_with_the_usual_slots(brain):
    assert list(brain) == ["anterior_1", "posterior_1", "anterior_2", "posterior_2"]
    for name, adata in brain.items():
        check_slice(adata, name=name, require_counts=True)
        assert adata.obs["domain_truth"].notna().all()
        assert set(adata.obs["domain_truth"].cat.categories) <= set(SAGITTAL.domains)
        assert ((adata.obs["array_row"] + adata.obs["array_col"]) % 2 == 0).all()
        assert (adata.obs["in_tissue"] == 1).all()
        for key in ("spatial", "spatial_common"):
            assert adata.obsm[key].shape == (adata.n_obs, 2)
            assert adata.obsm[key].dtype == np.float64
        assert adata.uns["genot"]["simulated"] is True
        assert adata.uns["genot"]["parameters"]["slice"] == name
    sizes = [adata.n_obs for adata in brain.values()]
    assert 0.8 * 4000 < sum(sizes) < 1.2 * 4000


def test_what_lies_where(brain):
    for name, adata in brain.items():
        half, found = name.split("_")[0], set(adata.obs["domain_truth"])
        assert found >= set(OVER_THE_CUT)
        for domain, side in ONE_SIDE.items():
            assert (domain in found) == (half == side), (name, domain)


def test_halves_meet_in_the_common_frame_and_carry_the_same_domains_there(brain):
    front, back = brain["anterior_1"], brain["posterior_1"]
    reach = front.obsm["spatial_common"][:, 0].max(), back.obsm["spatial_common"][:, 0].min()
    assert abs(reach[0] - reach[1]) < 500
    distance, nearest = cKDTree(front.obsm["spatial_common"]).query(back.obsm["spatial_common"])
    facing = distance < 200
    assert facing.sum() > 20
    there = front.obs["domain_truth"].astype(str).to_numpy()[nearest[facing]]
    assert (there == back.obs["domain_truth"].astype(str).to_numpy()[facing]).mean() > 0.75


def test_slices_do_not_overlap_and_slides_know_nothing_of_each_other(brain):
    front, back = brain["anterior_1"], brain["posterior_1"]
    closest = cKDTree(front.obsm["spatial_common"]).query(back.obsm["spatial_common"])[0].min()
    assert closest > 50
    assert abs(back.obsm["spatial"][:, 0].min() - front.obsm["spatial"][:, 0].min()) < 1000


def test_each_slice_has_its_own_batch_effect():
    def difference(batch):
        one, _, two, _ = simulate_sagittal_brain(
            n_spots=1500, n_genes=250, batch=batch, seed=2
        ).values()
        level = [np.asarray(a.X.sum(axis=0)).ravel() / a.X.sum() for a in (one, two)]
        common = np.asarray(one.X.sum(axis=0)).ravel() > 300
        return np.std(np.log(level[0] / level[1])[common])

    assert difference(0.0) < 0.1 < 0.25 < difference(0.3) < 0.6


def test_same_seed_same_bits_and_a_section_does_not_depend_on_the_others(brain):
    again = simulate_sagittal_brain(1, n_spots=2000, n_genes=300, seed=1)
    for name, adata in again.items():
        assert (adata.X != brain[name].X).nnz == 0
        np.testing.assert_array_equal(adata.obsm["spatial"], brain[name].obsm["spatial"])
    other = simulate_sagittal_brain(1, n_spots=2000, n_genes=300, seed=2)["anterior_1"]
    assert other.shape != brain["anterior_1"].shape or (other.X != brain["anterior_1"].X).nnz


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_sections": 0}, "n_sections is 0"),
        ({"n_spots": 100}, "n_spots is 100"),
        ({"n_genes": 20}, "n_genes is 20"),
        ({"batch": -1.0}, "batch is -1"),
        ({"section_gap_um": float("nan")}, "section_gap_um is nan"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_arguments_give_one_clear_error(options, message):
    with pytest.raises(ValueError, match=message):
        simulate_sagittal_brain(**options)
    with pytest.raises(TypeError, match="seed is None; needed: a whole number"):
        simulate_sagittal_brain(seed=None)


def test_the_demo_set_has_all_four_under_their_public_names():
    table = list_slices("mouse_brain_sagittal")
    assert len(table) == 4
    assert table[["demo", "download"]].to_numpy().all()
    slices = load_slices(table["name"])
    for name, adata in slices.items():
        facts = adata.uns["genot"]
        assert facts["simulated"] is True
        assert facts["name"] == name
        assert name in facts["source"]
        assert facts["dataset"] == "mouse_brain_sagittal"
        assert facts["micrometres_per_unit"] == 1.0
    first = load_slice("V1_Mouse_Brain_Sagittal_Anterior")
    second = load_slice("V1_Mouse_Brain_Sagittal_Anterior_Section_2")
    assert second.uns["genot"]["position_um"] > first.uns["genot"]["position_um"]
    assert 2000 < first.n_obs < 3200
