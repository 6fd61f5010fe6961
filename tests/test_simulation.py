"""The simulated tissues: reproducible, well-formed, and as hard as their docstrings say."""

from __future__ import annotations

from itertools import pairwise

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import NearestNeighbors

import genot_helpers as gh
from genot_helpers import simulate_cortex
from genot_helpers.simulation import simulate_embryo, simulate_hippocampus, simulate_olfactory_bulb

LAYERS = ["L1", "L2", "L3", "L4", "L5", "L6", "WM"]
SMALL = {
    simulate_cortex: {"n_sections": 2, "n_spots": 250, "n_genes": 300},
    simulate_embryo: {"stages": ["E9.5", "E11.5"], "n_bins": 500, "n_genes": 300},
    simulate_hippocampus: {"n_beads": 500, "n_genes": 300},
    simulate_olfactory_bulb: {"n_bins": 500, "n_beads": 500, "n_genes": 300},
}


@pytest.fixture(scope="module")
def cortex():
    return simulate_cortex(n_spots=1500, n_genes=700, seed=0)


@pytest.fixture(scope="module", params=SMALL, ids=lambda simulate: simulate.__name__)
def tissue(request):
    return request.param(**SMALL[request.param], seed=3)


@pytest.mark.parametrize("simulate", SMALL, ids=lambda simulate: simulate.__name__)
def test_same_seed_gives_the_same_bits_and_another_seed_other_data(simulate):
    first, again, other = (simulate(**SMALL[simulate], seed=s) for s in (3, 3, 4))
    assert list(first) == list(again) == list(other)
    for name, adata in first.items():
        assert (adata.X != again[name].X).nnz == 0
        assert np.array_equal(adata.obsm["spatial"], again[name].obsm["spatial"])
        assert adata.obs.equals(again[name].obs)
        assert adata.var.equals(again[name].var)
        changed = other[name]
        assert changed.shape != adata.shape or (changed.X != adata.X).nnz > 0


def test_global_random_state_is_neither_read_nor_changed():
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    simulate_hippocampus(n_beads=500, n_genes=300)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_slots(tissue):
    for name, adata in tissue.items():
        assert sparse.issparse(adata.X)
        assert adata.X.format == "csr"
        assert adata.X.dtype == np.float32
        assert (adata.X.data > 0).all()
        assert np.array_equal(adata.X.data, np.rint(adata.X.data))
        assert adata.X.sum(axis=1).min() > 0, "a spot without UMIs"
        assert adata.X.sum(axis=0).min() > 0, "a gene without UMIs"
        assert adata.obs_names.is_unique
        assert adata.var_names.is_unique
        for key in ("spatial", "spatial_common"):
            assert adata.obsm[key].shape == (adata.n_obs, 2)
            assert adata.obsm[key].dtype == np.float64
            assert len(np.unique(adata.obsm[key], axis=0)) == adata.n_obs
        assert adata.obs["domain_truth"].dtype == "category"
        assert (adata.obs["domain_truth"].value_counts() > 0).all()
        assert {"role", "marker_of"} <= set(adata.var)
        record = adata.uns["genot"]
        assert record["simulated"] is True
        assert "imulated" in record["source"]
        assert record["seed"] == 3
        assert record["spatial_unit"] == "µm"
        assert record["parameters"]["slice"] == name


def test_h5ad_round_trip(tissue, tmp_path):
    for name, adata in tissue.items():
        adata.write_h5ad(tmp_path / "slice.h5ad")
        back = ad.read_h5ad(tmp_path / "slice.h5ad")
        assert (back.X != adata.X).nnz == 0
        assert np.array_equal(back.obsm["spatial"], adata.obsm["spatial"])
        assert back.obs["domain_truth"].equals(adata.obs["domain_truth"])
        assert bool(back.uns["genot"]["simulated"])
        assert back.uns["genot"]["parameters"]["slice"] == name


def test_cortex_sections_and_layers(cortex):
    assert list(cortex) == ["cortex_1", "cortex_2", "cortex_3"]
    for position, adata in enumerate(cortex.values()):
        truth = adata.obs["domain_truth"]
        assert list(truth.cat.categories) == LAYERS
        assert truth.value_counts().min() >= 20
        assert 0 < truth.isna().mean() < 0.03
        assert adata.uns["genot"]["parameters"]["position_um"] == 100.0 * position
        assert (adata.obs["in_tissue"] == 1).all()
        assert {"MBP", "PCP4", "HPCAL1", "FREM3", "RORB", "KRT17"} <= set(adata.var_names)


def test_default_cortex_has_the_size_of_a_real_section():
    adata = simulate_cortex(1, seed=5)["cortex_1"]
    assert 3000 <= adata.n_obs <= 3750
    assert adata.n_vars == 1200
    assert adata.obs["array_row"].between(0, 77).all()
    assert adata.obs["array_col"].between(0, 127).all()
    assert 500 < np.median(np.asarray(adata.X.sum(axis=1))) < 2000


@pytest.mark.parametrize("seed", range(5))
def test_every_layer_in_every_small_section(seed):
    for adata in simulate_cortex(3, n_spots=150, n_genes=200, seed=seed).values():
        assert set(adata.obs["domain_truth"].dropna()) == set(LAYERS)


def test_visium_grid(cortex):
    adata = cortex["cortex_2"]
    row, column = adata.obs["array_row"], adata.obs["array_col"]
    assert ((row + column) % 2 == 0).all()
    distance = NearestNeighbors(n_neighbors=7).fit(adata.obsm["spatial"])
    distance, _ = distance.kneighbors(adata.obsm["spatial"])
    assert np.allclose(np.median(distance[:, 1:]), 100.0)


def test_a_section_does_not_depend_on_how_many_are_cut(cortex):
    alone = simulate_cortex(1, n_spots=1500, n_genes=700, seed=0)["cortex_1"]
    assert (alone.X != cortex["cortex_1"].X).nnz == 0


def _disagreement(left: ad.AnnData, right: ad.AnnData) -> float:
    """Share of spots whose nearest spot of the other section lies in another layer."""
    nearest = NearestNeighbors(n_neighbors=1).fit(left.obsm["spatial_common"])
    distance, index = nearest.kneighbors(right.obsm["spatial_common"])
    near = distance[:, 0] < 100
    there = np.asarray(left.obs["domain_truth"].astype(str))[index[:, 0]]
    return float((there != np.asarray(right.obs["domain_truth"].astype(str)))[near].mean())


def test_neighbouring_sections_are_more_alike_than_distant_ones():
    sections = list(simulate_cortex(6, n_spots=800, n_genes=200, section_gap_um=150).values())
    next_one = np.mean([_disagreement(a, b) for a, b in pairwise(sections)])
    far = np.mean([_disagreement(sections[0], sections[5]), _disagreement(*sections[:5:4])])
    assert next_one < 0.8 * far


def test_sections_lie_differently_on_their_slides(cortex):
    def turn(adata):
        """Rotation from slide to block, degrees."""
        slide, block = (adata.obsm[key] for key in ("spatial", "spatial_common"))
        u, _, vt = np.linalg.svd((slide - slide.mean(0)).T @ (block - block.mean(0)))
        rotation = u @ vt
        return np.rad2deg(np.arctan2(rotation[0, 1], rotation[0, 0]))

    turns = [turn(adata) for adata in cortex.values()]
    assert np.abs(turns).max() < 10
    assert np.ptp(turns) > 0.5


def _k_means_ari(adata: ad.AnnData, n_smooth: int) -> float:
    work = adata.copy()
    sc.pp.normalize_total(work)
    sc.pp.log1p(work)
    sc.pp.pca(work, n_comps=20)
    features, xy = work.obsm["X_pca"], work.obsm["spatial"]
    nearest = NearestNeighbors(n_neighbors=7).fit(xy).kneighbors(xy, return_distance=False)
    for _ in range(n_smooth):
        features = features[nearest].mean(axis=1)
    truth = adata.obs["domain_truth"]
    found = KMeans(truth.nunique(), n_init=4, random_state=0).fit_predict(features)
    known = truth.notna().to_numpy()
    return adjusted_rand_score(truth[known].astype(str), found[known])


def test_expression_alone_does_worse_than_neighbourhoods(cortex):
    alone = np.mean([_k_means_ari(adata, 0) for adata in cortex.values()])
    smoothed = np.mean([_k_means_ari(adata, 4) for adata in cortex.values()])
    assert 0.1 < alone < 0.45, "as on a real section, neither hopeless nor solved"
    assert smoothed > alone
    assert smoothed < 0.7


def test_markers_mark_their_cell_type_and_noise_does_not_vary(cortex):
    adata = cortex["cortex_1"].copy()
    sc.pp.normalize_total(adata)
    layer = adata.obs["domain_truth"]

    def mean(gene, where):
        return adata[(layer == where).to_numpy(), gene].X.mean()

    assert mean("MBP", "WM") > 3 * mean("MBP", "L3")
    assert mean("PCP4", "L5") > 1.5 * mean("PCP4", "L3")
    assert adata.var.loc["MBP", "marker_of"] == "Oligodendrocyte"
    often = np.asarray(adata.X.sum(axis=0)).ravel() > 500
    spread = {}
    for role in ("noise", "marker"):
        part = adata[:, often & (adata.var["role"] == role).to_numpy()]
        means = [part[(layer == where).to_numpy()].X.mean(axis=0) for where in ("WM", "L3")]
        spread[role] = np.std(np.log(means[0]) - np.log(means[1]))
    assert spread["noise"] < 0.3 * spread["marker"]


def test_counts_are_overdispersed_and_depth_is_smooth_in_space(cortex):
    adata = cortex["cortex_1"]
    counts = adata[:, (adata.var["role"] == "housekeeping").to_numpy()].X.toarray()
    counts = counts[:, counts.mean(axis=0) > 2]
    assert (counts.var(axis=0) > 1.2 * counts.mean(axis=0)).all()
    depth = np.log(np.asarray(adata.X.sum(axis=1)).ravel())
    depth = depth - depth.mean()
    xy = adata.obsm["spatial"]
    nearest = NearestNeighbors(n_neighbors=7).fit(xy).kneighbors(xy, return_distance=False)
    morans_i = (depth * depth[nearest[:, 1:]].mean(axis=1)).mean() / depth.var()
    assert 0.4 < morans_i < 0.85


def test_sections_differ_by_a_batch_effect(cortex):
    level = [np.log(np.asarray(a.X.sum(0)).ravel() / a.X.sum()) for a in cortex.values()]
    common = np.asarray(cortex["cortex_1"].X.sum(0)).ravel() > 300
    assert 0.08 < (level[0] - level[1])[common].std() < 0.5


def test_embryo_grows_and_organs_appear():
    embryos = simulate_embryo(n_bins=800, n_genes=300)
    sizes = [adata.n_obs for adata in embryos.values()]
    assert sizes == sorted(sizes)
    assert sizes[2] > 1.6 * sizes[0]
    organs = [set(adata.obs["domain_truth"].cat.categories) for adata in embryos.values()]
    assert {"Brain", "Heart", "Liver", "Spinal cord", "Somite"} <= organs[0] & organs[1] & organs[2]
    assert "Limb bud" not in organs[0]
    assert "Limb bud" in organs[1]
    assert "Lung" not in organs[1]
    assert "Lung" in organs[2]
    liver = [(adata.obs["domain_truth"] == "Liver").sum() for adata in embryos.values()]
    assert liver[0] < liver[1] < liver[2]
    step = np.unique(np.diff(np.unique(embryos["E9.5"].obsm["spatial"][:, 0])))
    assert np.allclose(step, 25.0)


def test_a_stage_does_not_depend_on_the_others():
    alone = simulate_embryo("E10.5", n_bins=500, n_genes=300)["E10.5"]
    among = simulate_embryo(["E9.5", "E10.5"], n_bins=500, n_genes=300)["E10.5"]
    assert (alone.X != among.X).nnz == 0


def test_hippocampus_beads_scatter_and_cell_types_are_not_domains():
    adata = simulate_hippocampus(n_beads=3000, n_genes=400)["hippocampus"]
    truth, cell_type = adata.obs["domain_truth"], adata.obs["cell_type"]
    assert {"CA1", "CA3", "Dentate gyrus"} <= set(truth.cat.categories)
    xy = adata.obsm["spatial"]
    distance, _ = NearestNeighbors(n_neighbors=2).fit(xy).kneighbors(xy)
    assert distance[:, 1].min() >= 10
    assert distance[:, 1].std() > 1
    assert adjusted_rand_score(truth.astype(str), cell_type.astype(str)) < 0.5
    assert truth[cell_type == "Astrocyte"].nunique() == len(truth.cat.categories)
    assert 100 < np.median(np.asarray(adata.X.sum(axis=1))) < 500


def test_olfactory_bulb_technologies_differ():
    bulb = simulate_olfactory_bulb(n_bins=900, n_beads=1500, n_genes=400)
    bins, beads = bulb["stereoseq"], bulb["slideseqv2"]
    shared = bins.var_names.intersection(beads.var_names)
    assert len(shared) < min(bins.n_vars, beads.n_vars)
    assert len(shared) > 250
    assert np.median(np.asarray(bins.X.sum(1))) > 2 * np.median(np.asarray(beads.X.sum(1)))
    assert list(bins.obs["domain_truth"].cat.categories) == list(
        beads.obs["domain_truth"].cat.categories
    )
    assert "array_row" in bins.obs
    assert "array_row" not in beads.obs
    # Layers are concentric, and the two technologies see the same bulb in the common frame.
    radius = [np.hypot(*a.obsm["spatial_common"].T) for a in (bins, beads)]
    for r, adata in zip(radius, (bins, beads), strict=True):
        mean = adata.obs.assign(r=r).groupby("domain_truth", observed=True)["r"].mean()
        assert mean.is_monotonic_decreasing
    assert _disagreement(bins, beads) < 0.2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: simulate_cortex(0), "n_sections is 0"),
        (lambda: simulate_cortex(2.5), "n_sections is 2.5"),
        (lambda: simulate_cortex(True), "n_sections is True"),
        (lambda: simulate_cortex(n_spots=10), "n_spots is 10; give a number from 150"),
        (lambda: simulate_cortex(n_genes=5), "n_genes is 5: give at least"),
        (lambda: simulate_cortex(section_gap_um=-1), "section_gap_um is -1"),
        (lambda: simulate_cortex(section_gap_um=float("nan")), "section_gap_um is nan"),
        (lambda: simulate_cortex(seed=-1), "seed is -1"),
        (lambda: simulate_cortex(seed=None), "seed is None"),
        (lambda: simulate_embryo(["E20"]), "stage 'E20' is not known"),
        (lambda: simulate_embryo(["nine"]), "stage 'nine' is not known"),
        (lambda: simulate_embryo([]), "stages is empty; give one at least"),
        (lambda: simulate_embryo(["E9.5", "E9.5"]), "each once"),
        (lambda: simulate_hippocampus(n_beads=10), "n_beads is 10"),
        (lambda: simulate_hippocampus(n_beads=10**6), "500 to 30,000"),
        (lambda: simulate_olfactory_bulb(n_bins=500, n_beads=2000), "room for at most 1500"),
    ],
)
def test_bad_arguments_give_one_clear_error(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_regions_of_the_hypothalamus_are_mixtures_of_cell_types():
    sections = gh.simulation.simulate_hypothalamus(n_sections=2, n_cells=3000, seed=1)
    for adata in sections.values():
        assert adata.n_obs == 3000
        gh.check_slice(adata, require_counts=True)
        table = pd.crosstab(adata.obs["domain_truth"], adata.obs["cell_type"], normalize="index")
        assert len(table) == 8
        # No type makes up most of the nuclei; the ventricle is lined by ependymal cells.
        assert table.loc[["MPA", "MPN", "BST", "PVH"]].to_numpy().max() < 0.4
        assert table.loc["V3"].idxmax() == "Ependymal"


def test_a_section_of_the_hypothalamus_does_not_depend_on_how_many_there_are():
    one = gh.simulation.simulate_hypothalamus(n_sections=1, n_cells=400)["hypothalamus_1"]
    two = gh.simulation.simulate_hypothalamus(n_sections=2, n_cells=400)["hypothalamus_1"]
    assert (one.X != two.X).nnz == 0
    assert np.array_equal(one.obsm["spatial"], two.obsm["spatial"])


def test_bins_and_cells_are_two_views_of_one_tissue():
    made = gh.simulation.simulate_high_resolution(2500, n_genes=60, seed=1)
    bins, cells = made["bins"], made["cells"]
    for adata in made.values():
        gh.check_slice(adata, require_counts=True)
        assert adata.n_vars == 68 and adata.var["control"].sum() == 8
        assert adata.obs["domain_truth"].nunique() == 6
    assert np.isclose(np.asarray(bins.X.sum(axis=1)).mean(), 25, rtol=0.05)
    level = [np.asarray(a[:, ~a.var["control"]].X.mean(axis=0)).ravel() for a in (bins, cells)]
    assert np.corrcoef(*level)[0, 1] > 0.99
    depth = np.log(np.asarray(bins.X.sum(axis=1)).ravel() + 1)
    assert np.corrcoef(depth, np.log(bins.obs["stripe_truth"]))[0, 1] > 0.3
    again = gh.simulation.simulate_high_resolution(2500, n_genes=60, kinds=("bins",), seed=1)
    assert (again["bins"].X != bins.X).nnz == 0
    with pytest.raises(ValueError, match="kinds is"):
        gh.simulation.simulate_high_resolution(kinds=("spots",))
