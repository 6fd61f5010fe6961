"""Other clusterers: each finds planted domains; R's mclust and our mixture are held together."""

from __future__ import annotations

import subprocess
import sys

import anndata as ad
import numpy as np
import pytest
from sklearn import cluster, mixture
from sklearn.metrics import adjusted_rand_score

from genot_helpers import cluster_mixture
from genot_helpers.domains import cluster_leiden, cluster_louvain, cluster_mclust, cluster_with
from genot_helpers.domains.mixture import best_partitions

N_DOMAINS = 4


def planted_embedding(distance=8.0, n_per_domain=50, seed=0):
    """Two slices with a common embedding, and the planted domain of every spot."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(N_DOMAINS), n_per_domain))
    points = distance * np.eye(N_DOMAINS, 5)[labels] + rng.normal(size=(len(labels), 5))
    half = len(labels) // 3
    slices = [ad.AnnData(obsm={"X_genot": part}) for part in (points[:half], points[half:])]
    return slices, labels


def found_in(slices, key="genot_domain"):
    return np.concatenate([adata.obs[key].to_numpy() for adata in slices])


@pytest.mark.parametrize(
    "clusterer",
    [
        cluster.KMeans(N_DOMAINS, n_init=5, random_state=0),
        cluster.MiniBatchKMeans(N_DOMAINS, n_init=5, random_state=0),
        cluster.AgglomerativeClustering(N_DOMAINS),
        cluster.SpectralClustering(N_DOMAINS, gamma=0.05, random_state=0),
        cluster.Birch(n_clusters=N_DOMAINS),
        mixture.GaussianMixture(N_DOMAINS, n_init=3, random_state=0),
    ],
    ids=lambda clusterer: type(clusterer).__name__,
)
def test_scikit_learn_clusterers_find_planted_domains(clusterer, tmp_path, recwarn):
    slices, labels = planted_embedding()
    before = repr(clusterer)
    cluster_with(slices, clusterer, key_added="tried")
    assert adjusted_rand_score(labels, found_in(slices, "tried")) > 0.98
    assert repr(clusterer) == before
    assert not hasattr(clusterer, "labels_")  # a clone was fitted
    record = slices[0].uns["genot"]["tried"]
    assert record["method"].startswith(type(clusterer).__name__)
    assert record["n_domains"] == N_DOMAINS
    slices[0].write_h5ad(tmp_path / "slice.h5ad")
    assert not recwarn.list


def test_a_clusterer_of_more_domains_than_spots_is_refused():
    slices, _ = planted_embedding(n_per_domain=3)
    with pytest.raises(ValueError, match="n_domains is 50, but there are 12 spots"):
        cluster_with(slices, cluster.KMeans(50))


@pytest.mark.parametrize("find", [cluster_leiden, cluster_louvain])
def test_communities_by_number_and_by_resolution(find):
    slices, labels = planted_embedding()
    resolution = find(slices, N_DOMAINS, key_added="by_number")
    assert adjusted_rand_score(labels, found_in(slices, "by_number")) > 0.95
    assert find(slices, resolution=resolution, key_added="by_resolution") == resolution
    np.testing.assert_array_equal(
        found_in(slices, "by_number"), found_in(slices, "by_resolution")
    )  # same seed, same resolution, same domains
    assert slices[0].uns["genot"]["by_number"]["resolution"] == resolution


@pytest.mark.parametrize("find", [cluster_leiden, cluster_louvain])
def test_number_or_resolution_but_not_both(find):
    slices, _ = planted_embedding()
    for given in ({}, {"n_domains": 4, "resolution": 1.0}):
        with pytest.raises(ValueError, match="either n_domains or resolution"):
            find(slices, **given)
    assert "genot_domain" not in slices[0].obs


def test_a_number_that_no_resolution_gives_names_the_closest():
    slices, _ = planted_embedding(distance=100.0)  # four islands cannot be two communities
    with pytest.raises(ValueError, match=r"gives exactly 2 communities.*closest: 4"):
        cluster_louvain(slices, 2)


# --- R's mclust --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mclust():
    """Return a function that gives the log-likelihood of R's mclust; or skip with a reason."""
    try:
        import rpy2.robjects as robjects
        from rpy2.robjects import numpy2ri

        robjects.r("suppressPackageStartupMessages(library(mclust))")
    except Exception as problem:  # rpy2 raises several kinds, depending on what is missing
        pytest.skip(f"needs R with mclust, and rpy2: {problem!r}")

    def log_likelihood(points, n_domains):
        with (robjects.default_converter + numpy2ri.converter).context() as conversion:
            points = conversion.py2rpy(points)
        fit = robjects.r["Mclust"](points, G=n_domains, modelNames="EEE", verbose=False)
        return float(fit.rx2("loglik")[0])

    return log_likelihood


@pytest.mark.usefixtures("mclust")
def test_mclust_and_our_mixture_find_the_same_partition():
    slices, labels = planted_embedding()
    cluster_mclust(slices, N_DOMAINS, key_added="with_r")
    cluster_mixture(slices, N_DOMAINS, neighbour_weight=0, n_starts=8, key_added="ours")
    assert adjusted_rand_score(found_in(slices, "with_r"), found_in(slices, "ours")) == 1.0
    assert adjusted_rand_score(found_in(slices, "with_r"), labels) > 0.98
    assert slices[0].uns["genot"]["with_r"]["method"] == "mclust EEE"


@pytest.mark.parametrize("seed", range(3))
def test_our_best_mixture_is_at_least_as_likely_as_that_of_mclust(mclust, seed):
    """Same model, overlapping domains: many starts must not lose to one hierarchical start."""
    slices, _ = planted_embedding(distance=2.5, n_per_domain=60, seed=seed)
    points = np.concatenate([adata.obsm["X_genot"] for adata in slices])
    theirs = mclust(points, N_DOMAINS)
    ours = best_partitions(points, N_DOMAINS, n_starts=40)[0].likelihood * len(points)
    assert ours >= theirs - 1e-3 * len(points)


@pytest.mark.parametrize("missing", ["rpy2", "rpy2.robjects"])
def test_without_r_the_message_says_how_to_get_it(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    slices, _ = planted_embedding()
    with pytest.raises(ImportError, match=r"install\.packages") as caught:
        cluster_mclust(slices, N_DOMAINS)
    for part in ("r-cran-mclust", "conda-forge", "cluster_mixture", missing):
        assert part in str(caught.value)
    assert "genot_domain" not in slices[0].obs


def test_without_the_r_package_the_message_says_how_to_get_it(monkeypatch):
    robjects = pytest.importorskip("rpy2.robjects", reason="needs rpy2 and R", exc_type=Exception)

    def no_such_package(code):
        raise RuntimeError("there is no package called 'mclust'")

    monkeypatch.setattr(robjects, "r", no_such_package)
    slices, _ = planted_embedding()
    with pytest.raises(ImportError, match=r"install\.packages\('mclust'\)"):
        cluster_mclust(slices, N_DOMAINS)


@pytest.mark.usefixtures("mclust")
def test_r_does_not_change_where_later_processes_look_for_libraries():
    """Without R's path of libraries: that of the system may hold another Python's."""
    code = (
        "import os, anndata, numpy\n"
        "from genot_helpers.domains import cluster_mclust\n"
        "points = numpy.random.default_rng(0).normal(size=(60, 2)).astype('float32')\n"
        "points[:30] += 9\n"
        "adata = anndata.AnnData(numpy.ones((60, 1), 'float32'), obsm={'X_genot': points})\n"
        "before = os.environ.get('LD_LIBRARY_PATH')\n"
        "cluster_mclust(adata, 2)\n"
        "assert os.environ.get('LD_LIBRARY_PATH') == before\n"
        "assert adata.obs['genot_domain'].nunique() == 2\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)


@pytest.mark.usefixtures("mclust")
def test_a_model_that_mclust_cannot_fit_is_an_error():
    slices, _ = planted_embedding(n_per_domain=1)
    with pytest.raises(
        ValueError, match="mclust could not fit model VVV with 4 domains to 4 spots"
    ):
        cluster_mclust(slices, N_DOMAINS, model="VVV")
