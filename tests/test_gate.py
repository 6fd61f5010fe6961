"""Whatever passes the one gate, check_slice, crashes no public function."""

import warnings

import anndata as ad
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from scipy import sparse

import genot_helpers as gh
from genot_helpers.slices.geometry import grid_pitch, micrometres_per_unit, on_visium_grid

matplotlib.use("Agg")

LAYOUTS = {
    "dense": np.asarray,
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "csr_array": sparse.csr_array,
    "csc_array": sparse.csc_array,
}
DTYPES = ["float16", "float32", "float64", "int8", "uint16", "int64", "bool"]
UNS = {
    "nothing": None,
    "cellxgene": {"is_single": True},
    "array": np.zeros((3, 2)),
    "odd": {"lib": {"images": {"hires": np.zeros((4, 4, 3), "uint8")}, "scalefactors": {}}},
    "empty": {},
    "numbers": {"lib": {"images": 5, "scalefactors": {}}},
    "path": {"lib": {"images": {"hires": "a.png"}, "scalefactors": {}}},
}


@st.composite
def slices(draw):
    """Draw a slice, sound or not."""
    n, m = draw(st.integers(8, 60)), draw(st.integers(1, 15))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    values = rng.poisson(draw(st.sampled_from([0.5, 3.0])), (n, m)) + draw(st.integers(0, 1))
    kind = draw(st.sampled_from(["counts", "logarithms", "scaled", "constant"]))
    if kind == "constant":
        values = np.ones((n, m))
    dtype = draw(st.sampled_from(DTYPES if kind in ("counts", "constant") else DTYPES[:3]))
    if kind == "scaled":
        values = values / np.maximum(values.sum(1, keepdims=True), 1) * 100
    values = (np.log1p(values) if kind == "logarithms" else values).astype(dtype)
    layout = draw(st.sampled_from([k for k in LAYOUTS if dtype != "float16" or k == "dense"]))
    adata = ad.AnnData(LAYOUTS[layout](values))
    places = {
        "random": rng.random((n, 2)) * 100,
        "line": np.column_stack([np.arange(n), np.zeros(n)]),
        "grid": np.column_stack(np.divmod(np.arange(n), 7)),
        "huge": rng.random((n, 2)) * 1e9,
        "three": rng.random((n, 3)),
    }[draw(st.sampled_from(["random", "line", "grid", "huge", "three"]))]
    if draw(st.booleans()):
        places = places.astype(draw(st.sampled_from(["float32", "int64", "float64"])))
    adata.obsm["spatial"] = places
    if draw(st.integers(0, 5)) == 0:
        adata.obsm["spatial"] = pd.DataFrame(places, index=adata.obs_names)
    columns = draw(st.sampled_from(["none", "zeros", "fifties", "grid", "text"]))
    row, column = np.divmod(np.arange(n), 7)
    if columns != "none":
        numbers = {"zeros": (0, 0), "fifties": (row * 50, column * 50), "grid": (row, column)}
        for name, values in zip(("row", "col"), numbers.get(columns, ("a", "b")), strict=True):
            adata.obs[f"array_{name}"] = values
    labels = draw(st.sampled_from(["none", "category", "gaps", "one", "numbers"]))
    if labels != "none":
        groups = rng.integers(0, 3, n)
        adata.obs["domain_truth"] = {
            "category": pd.Categorical(groups.astype(str)),
            "gaps": np.where(groups == 0, np.nan, groups),
            "one": pd.Categorical(["x"] * n),
            "numbers": groups,
        }[labels]
    stored = UNS[draw(st.sampled_from(list(UNS)))]
    if stored is not None:
        adata.uns["spatial"] = stored
    return adata


def steps(adata):
    """Name the steps that a reader takes with a slice."""
    fewest = min(adata.n_obs, adata.n_vars)
    key = "domain_truth" if "domain_truth" in adata.obs else None
    yield "inspect_slice", lambda: gh.inspect_slice(adata)
    yield "micrometres_per_unit", lambda: micrometres_per_unit(adata)
    yield "load_slice", lambda: gh.load_slice(adata)
    yield "preprocess", lambda: gh.preprocess(adata, n_components=min(5, fewest))
    yield "smooth_components", lambda: gh.smooth_components(adata)
    yield "spectral_embedding", lambda: gh.spectral_embedding(adata)
    yield "select_by_moran", lambda: gh.preprocessing.select_by_moran(adata, n_genes=3)
    yield "plot_depth", lambda: gh.plotting.plot_depth(adata)
    yield "plot_genes", lambda: gh.plot_genes(adata, [adata.var_names[0]], layer=None)
    if key:
        yield "plot_domains", lambda: gh.plot_domains(adata, key, image=True)
    yield "align", lambda: gh.align(adata, adata.copy(), on_poor="return")


@settings(
    max_examples=40, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(adata=slices())
def test_what_passes_the_gate_crashes_no_function(adata):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gh.inspect_slice(adata)  # never raises
        try:
            gh.check_slice(adata)
        except gh.SliceError as error:
            assert error.problems
            return
        for name, step in steps(adata):
            try:
                step()
            except ValueError as error:  # a sentence about the data or an argument
                assert len(str(error)) > 20, name
            except Exception as error:
                raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error
            finally:
                plt.close("all")


# --- grids that positions bear out ----------------------------------------------------------------


def grid(n=8, *, hexagonal=True, turn=0.0, noise=0.0, warp=0.0):
    row, column = np.divmod(np.arange(n * n), n)
    index = np.column_stack([row, 2 * column + row % 2 if hexagonal else column])
    places = index[:, ::-1] * ([50.0, 86.6] if hexagonal else [100.0, 100.0])
    places = places @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    places = places + warp * np.sin(places[:, ::-1] / 300)
    return index, places + np.random.default_rng(0).normal(0, noise, places.shape)


@pytest.mark.parametrize("turn", [0.0, 0.5, 2.0])
@pytest.mark.parametrize(("noise", "warp"), [(0, 0), (3, 0), (0, 20)])
def test_true_grids_are_believed(turn, noise, warp):
    index, places = grid(turn=turn, noise=noise, warp=warp)
    assert grid_pitch(*index.T, places) == pytest.approx(100, rel=0.06)


@pytest.mark.parametrize("wrong", ["zeros", "fifties", "square", "shuffled", "random", "stretched"])
def test_numbers_that_positions_do_not_bear_out_are_not_believed(wrong):
    index, places = grid(hexagonal=wrong != "square")
    rng = np.random.default_rng(1)
    if wrong == "zeros":
        index = index * 0
    elif wrong == "fifties":
        index = np.column_stack(np.divmod(np.arange(64), 8)) * 50
    elif wrong == "square":
        index = index * 2
    elif wrong == "shuffled":
        places = rng.permutation(places)
    elif wrong == "random":
        places = rng.random(places.shape) * 800
    else:
        places = places * [1, 3]
    adata = ad.AnnData(np.ones((64, 3), "float32"))
    adata.obsm["spatial"] = places
    adata.obs["array_row"], adata.obs["array_col"] = index.T
    assert not on_visium_grid(adata)
    assert micrometres_per_unit(adata) is None


@pytest.mark.parametrize("known", [True, False])
def test_bins_of_hd_have_their_own_unit(known):
    index, places = grid(20, hexagonal=False)
    adata = ad.AnnData(np.ones((400, 3), "float32"))
    adata.obsm["spatial"] = places * 0.29
    adata.obs["array_row"], adata.obs["array_col"] = index.T
    factors = {"microns_per_pixel": 8 / 29.0, "bin_size_um": 8.0} if known else {}
    adata.uns["spatial"] = {"hd": {"images": {}, "scalefactors": factors}}
    found = micrometres_per_unit(adata)
    assert found == pytest.approx(8 / 29.0) if known else found is None


def test_exchanged_x_and_y_are_seen_in_the_checklist():
    index, places = grid()
    adata = ad.AnnData(np.ones((64, 3), "float32"))
    adata.obs["array_row"], adata.obs["array_col"] = index.T
    for turned, status in ((places, "ok"), (places[:, ::-1], "look")):
        adata.obsm["spatial"] = turned
        assert gh.inspect_slice(adata).loc["positions", "status"] == status


# --- labels and tissue ----------------------------------------------------------------------------


def test_labels_1_and_1_0_are_one():
    adata = ad.AnnData(np.ones((20, 3), "float32"))
    adata.obsm["spatial"] = np.random.default_rng(0).random((20, 2))
    adata.obs["cluster"] = [1.0, np.nan] + [2.0] * 18
    read = gh.load_slice(adata, check=False)
    assert read.uns["genot"]["label_key"] == "cluster"
    assert list(read.obs["domain_truth"].cat.categories) == ["1", "2"]
    adata.obs["cluster"] = ["1", "1.0", "2"] + ["2.0"] * 17
    read = gh.load_slice(adata, check=False)
    assert list(read.obs["domain_truth"].cat.categories) == ["1", "2"]


@pytest.mark.parametrize("column", ["in_tissue", "In_Tissue", "in.tissue", "under_tissue"])
@pytest.mark.parametrize("values", [(0, 1), (False, True), ("0", "1"), ("False", "True")])
def test_glass_is_left_out_and_said(column, values):
    adata = ad.AnnData(np.random.default_rng(0).poisson(3, (40, 5)).astype("float32") + 1)
    adata.obsm["spatial"] = np.random.default_rng(0).random((40, 2))
    adata.obs[column] = [values[0]] * 10 + [values[1]] * 30
    assert gh.inspect_slice(adata).loc["tissue", "status"] == "look"
    read = gh.load_slice(adata)
    gaps = adata.obs[column].astype(object).copy()
    gaps.iloc[-3:] = np.nan  # not known: kept
    with_gaps = adata.copy()
    with_gaps.obs[column] = gaps
    assert gh.load_slice(with_gaps).n_obs == read.n_obs == 30
    assert "10 spots beside the tissue" in read.uns["genot"]["dropped"]


@pytest.mark.parametrize("n", [8191, 8192])
def test_communities_of_larger_slices(n):
    rng = np.random.default_rng(0)
    domain = np.arange(n) * 3 // n
    adata = ad.AnnData(sparse.csr_matrix((n, 3), dtype="float32"))
    adata.obsm["X_genot"] = rng.normal(size=(n, 3)) + 12 * np.eye(3)[domain]
    gh.domains.cluster_leiden(adata, resolution=0.05)
    assert adata.obs["genot_domain"].nunique() == 3


def test_a_missing_slot_is_an_error_of_the_slice_and_of_the_name(planted):
    found = planted.copy()
    found.obs["genot_domain"] = pd.Categorical(["1"] * found.n_obs)
    del found.obsm["spatial"]
    for kind in (gh.SliceError, KeyError):
        with pytest.raises(kind, match=r'^refine_domains: adata, obsm\["spatial"\]: there are no'):
            gh.refine_domains(found)
        with pytest.raises(kind, match=r"^plot_genes: argument layer is 'counts', but no slice"):
            gh.plot_genes(found, [found.var_names[0]], layer="counts")


def test_what_has_no_place_is_not_drawn(planted):
    bare, torn = planted.copy(), planted.copy()
    del bare.obsm["spatial"]
    torn.obsm["spatial"] = torn.obsm["spatial"].astype(float)
    torn.obsm["spatial"][3, 0] = np.nan
    gene = planted.var_names[0]
    for bad, words in ((bare, "there are no coordinates"), (torn, "1 of .* infinite coordinates")):
        with pytest.raises(gh.SliceError, match=words):
            gh.plotting.plot_depth(bad)
        with pytest.raises(gh.SliceError, match=words):
            gh.plot_generated(planted, bad, planted, color=gene)
        with pytest.raises(gh.SliceError, match=words):
            gh.plotting.stack_figure([planted, bad], gene)
    with pytest.raises(gh.SliceError, match="a single spot"):
        gh.plotting.plot_depth(planted[:1].copy())
    with pytest.raises(ValueError, match="color is empty"):
        gh.plot_generated(planted, planted, planted, color=[])
    assert not plt.get_fignums()
