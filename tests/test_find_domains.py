"""The front door to domains: which model fits, why, and what is written."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

import genot_helpers as gh


def tissue(share_mixed, *, n=400, n_genes=24, depth=1.0, seed=0):
    """Two bands of tissue; this share of spots is of any type, the others of the band's own."""
    rng = np.random.default_rng(seed)
    xy = rng.random((n, 2)) * 50
    band = (xy[:, 0] > 25).astype(int)
    types = np.where(rng.random(n) < share_mixed, rng.integers(0, 4, n), band)
    mean = rng.gamma(1.0, 2.0, (4, n_genes))
    counts = rng.poisson(depth * mean[types]).astype("float32")
    counts[:, 0] += 1  # no spot is empty
    slice_ = ad.AnnData(sparse.csr_matrix(counts))
    slice_.var_names = [f"gene{number}" for number in range(n_genes)]
    slice_.obs_names = [f"spot{number}" for number in range(n)]
    slice_.obsm["spatial"] = xy
    slice_.obs["band"] = band.astype(str)
    slice_.obs["cell_type"] = types.astype(str)
    return slice_


# --- share of reproducible variance that neighbours agree on ------------------------------------


@pytest.mark.parametrize("share_mixed", [0.0, 0.4, 0.7, 1.0])
def test_the_share_is_what_the_types_imply(share_mixed):
    """Computed from the true mean profiles of the types, of which counts are noisy readings."""
    adata = tissue(share_mixed, n=2000, depth=8.0)
    measured = gh.neighbour_agreement(adata, n_components=3)
    rng = np.random.default_rng(0)
    rng.random((2000, 2))  # drawn before the profiles, as in tissue
    types = adata.obs["cell_type"].astype(int).to_numpy()
    X = np.log1p(adata.X.toarray())
    profiles = np.stack([X[types == one].mean(axis=0) for one in range(types.max() + 1)])
    clean = profiles[types] - profiles[types].mean(axis=0)
    band = adata.obs["band"].astype(int).to_numpy()
    of_band = np.stack([clean[band == one].mean(axis=0) for one in (0, 1)])[band]
    assert measured == pytest.approx((of_band**2).sum() / (clean**2).sum(), abs=0.07)


def test_depth_does_not_change_it():
    deep, shallow = (gh.neighbour_agreement(tissue(0.5, n=3000, depth=d)) for d in (6.0, 1.0))
    assert shallow == pytest.approx(deep, abs=0.08)
    # The plain share does follow depth: that is why halves are compared.
    assert gh.neighbour_agreement(tissue(0.0, n=3000, depth=0.5)) > 0.85


def test_few_spots_with_many_genes_do_not_lower_it():
    small = tissue(0.0, n=150, n_genes=1500, depth=0.1)
    assert gh.neighbour_agreement(small) > 0.7


def test_logarithms_give_nearly_what_their_counts_gave():
    adata = tissue(0.5, n=1500, depth=2.0)
    share = gh.neighbour_agreement(adata)
    gh.normalise(adata)
    logs = adata.copy()
    logs.X = adata.layers["log1p"]
    assert gh.neighbour_agreement(logs) == pytest.approx(share, abs=0.05)


def test_it_is_the_same_whatever_the_order_and_for_the_same_seed():
    adata = tissue(0.5)
    order = np.random.default_rng(0).permutation(adata.n_obs)
    one = gh.neighbour_agreement(adata)
    assert gh.neighbour_agreement(adata) == one
    assert gh.neighbour_agreement(adata[order].copy()) == pytest.approx(one, abs=1e-6)
    assert gh.neighbour_agreement(adata, seed=1) != one


def test_a_slice_without_places_or_with_bad_values_is_refused():
    adata = tissue(0.5, n=50)
    bad = adata.copy()
    bad.X = bad.X * -1
    with pytest.raises(gh.SliceError, match="negative"):
        gh.neighbour_agreement(bad)
    del adata.obsm["spatial"]
    with pytest.raises(gh.SliceError, match="spatial"):
        gh.neighbour_agreement(adata)
    with pytest.raises((TypeError, ValueError), match="n_neighbors"):
        gh.neighbour_agreement(tissue(0.5), n_neighbors=0)


# --- the front door ---------------------------------------------------------------------------


def test_mixed_cells_go_to_compositions_and_layered_spots_to_the_mixture():
    cells, spots = tissue(0.6, depth=4.0), tissue(0.0, n=200, depth=4.0)
    found = gh.find_domains(cells, 2, progress=False)
    assert found.model == "composition"
    assert isinstance(found.result, gh.CompositionDomains)
    assert adjusted_rand_score(cells.obs["band"], cells.obs["genot_domain"]) > 0.7
    found = gh.find_domains(spots, 2, progress=False)
    assert found.model == "mixture"
    np.testing.assert_allclose(spots.obs["genot_confidence"], found.result.confidence, rtol=1e-6)
    inside = np.abs(spots.obsm["spatial"][:, 0] - 25) > 15
    assert found.result.confidence[inside].mean() > found.result.confidence[~inside].mean()
    assert adjusted_rand_score(spots.obs["band"], spots.obs["genot_domain"]) > 0.7


def test_the_reason_is_one_sentence_that_is_true_and_kept():
    cells = tissue(0.6, depth=4.0)
    found = gh.find_domains(cells, 2, progress=False)
    share = found.agreement_of_neighbours["slice"]
    assert f"{share:.0%}" in found.why
    assert "less than 65%" in found.why
    facts = cells.uns["genot"]["genot_domain"]
    assert facts["why"] == found.why
    assert facts["model"] == "composition"
    assert facts["neighbour_agreement"] == share == gh.neighbour_agreement(cells)


def test_it_can_be_overruled():
    cells = tissue(0.6, n=150, depth=4.0)
    found = gh.find_domains(cells, 2, model="mixture", progress=False)
    assert found.model == "mixture"
    assert "asked for" in found.why


def test_given_types_mean_compositions():
    spots = tissue(0.3, depth=4.0)
    found = gh.find_domains(spots, 2, type_key="cell_type", progress=False)
    assert found.model == "composition"
    assert "cell_type" in found.why
    assert "X_pca" not in spots.obsm
    with pytest.raises((TypeError, ValueError), match="type_key"):
        gh.find_domains(spots, 2, type_key="cell_type", model="mixture")


def test_it_lists_what_it_wrote_and_uses_what_is_there():
    spots = tissue(0.0, n=150)
    found = gh.find_domains(spots, 2, progress=False)
    assert {"obsm['X_pca']", "obsm['X_genot']", "obs['genot_domain']"} <= set(found.written)
    spots.obsm["X_genot"] = spots.obsm["X_genot"][:, :3].copy()
    again = gh.find_domains(spots, 2, progress=False)
    assert "obsm['X_genot']" not in again.written
    assert spots.obsm["X_genot"].shape[1] == 3


def test_slices_together_share_domains(tmp_path):
    slices = {"one": tissue(0.6, depth=4.0), "other": tissue(0.6, depth=4.0, seed=0)}
    found = gh.find_domains(slices, 2, progress=False)
    assert set(found.agreement_of_neighbours) == {"one", "other"}
    bands = np.concatenate([one.obs["band"] for one in slices.values()])
    assert adjusted_rand_score(bands, found.result.labels) > 0.7
    slices["one"].write_h5ad(tmp_path / "one.h5ad")
    back = ad.read_h5ad(tmp_path / "one.h5ad")
    assert back.uns["genot"]["genot_domain"]["why"] == found.why


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"model": "best"}, "model"),
        ({"n_domains": 0}, "n_domains"),
        ({"n_domains": "two"}, "n_domains"),
        ({"threshold": np.nan}, "threshold"),
        ({"type_key": "nothing"}, "nothing"),
    ],
)
def test_bad_arguments_are_named(changed, match):
    with pytest.raises((TypeError, ValueError), match=match):
        gh.find_domains(tissue(0.5, n=60), **{"n_domains": 2, "progress": False, **changed})


def test_simulated_tissue_goes_where_real_tissue_goes():
    cells = gh.simulation.simulate_hypothalamus(1, n_cells=800)["hypothalamus_1"]
    assert gh.neighbour_agreement(cells) < 0.45  # MERFISH: .24 to .27
    (spots,) = gh.simulate_cortex(1).values()
    assert gh.neighbour_agreement(spots) > 0.7  # Visium: .84 to .86
