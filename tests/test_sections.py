"""Several sections in one object: noticed, split, and their results written back."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import genot_helpers as gh
from genot_helpers.slices.geometry import find_joined, looks_like_sections


def section(seed: int, n: int = 225, layout: str = "random") -> ad.AnnData:
    rng = np.random.default_rng(seed)
    side = int(np.sqrt(n))
    row, column = np.divmod(np.arange(n), side)
    if layout == "hexagonal":
        places = np.column_stack([column * 100.0 + 50 * (row % 2), row * 86.6])
        places = places + rng.uniform(-25, 25, 2)
    else:
        places = rng.random((n, 2)) * 1500
    domain = (places[:, 0] > places[:, 0].mean()).astype(int)
    mean = np.random.default_rng(9).gamma(1, 3, 30) + 0.5
    counts = rng.poisson(mean * np.where(domain[:, None], np.linspace(0.3, 2, 30), 1)) + 1
    adata = ad.AnnData(sparse.csr_matrix(counts.astype("float32")))
    adata.obs_names = [f"AAAC{i:05d}" for i in range(n)]
    adata.var_names = [f"G{i}" for i in range(30)]
    adata.obsm["spatial"] = places
    adata.obs["type"] = pd.Categorical(rng.choice(["x", "y", "z"], n))
    adata.obs["half"] = pd.Categorical(domain.astype(str))
    return adata


def joined(column="slice_ID", layout="random", *, shuffled=False, names="-", n_sections=2):
    parts = {chr(65 + i): section(i, layout=layout) for i in range(n_sections)}
    adata = ad.concat(parts, label=column, index_unique=names)
    if names is None:
        adata.obs_names = [f"c{i}" for i in range(adata.n_obs)]
    if shuffled:
        adata = adata[np.random.default_rng(0).permutation(adata.n_obs)].copy()
    return adata


COLUMNS = (
    *("sample", "Sample", "sample_name", "SampleID", "orig.ident", "slide", "Slide", "core"),
    *("library", "library_id", "patient", "section_name", "slice_ID", "donor", "batch", "puck"),
    *("chip", "capture_area", "dataset", "roi", "TMA_core", "Bregma", "biopsy", "specimen_id"),
)


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_of_any_usual_name_tells(column, shuffled):
    adata = joined(column, shuffled=shuffled, names=None)
    with pytest.raises(gh.SliceError, match=rf"several sections.*'{column}'") as caught:
        gh.check_slice(adata)
    assert "split_sections" in str(caught.value)
    assert gh.inspect_slice(adata).loc["several sections", "status"] == "mend"


@pytest.mark.parametrize(
    "column", ["type", "half", "domain", "celltype", "ident", "fov", "cluster"]
)
def test_columns_of_cells_do_not_tell(column):
    assert not looks_like_sections(column)


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("ending", [True, False])
def test_barcodes_tell(shuffled, ending):
    adata = joined(shuffled=shuffled)
    if not ending:
        adata.obs_names = ["_".join(name.split("-")[::-1]) for name in adata.obs_names]
    del adata.obs["slice_ID"]
    with pytest.raises(gh.SliceError, match="the same barcodes occur with 2"):
        gh.check_slice(adata)


def test_the_column_that_tells_is_named_whatever_it_is_called():
    with pytest.raises(gh.SliceError, match=r"2 endings.*\n.*section_key='treatment'"):
        gh.check_slice(joined("treatment"))


def test_sections_in_the_same_places_are_split_not_thinned():
    adata = joined("treatment")
    adata.obsm["spatial"][225:] = adata.obsm["spatial"][:225]
    with pytest.raises(gh.SliceError, match=r"share their position.*\n.*section_key='treatment'"):
        gh.check_slice(adata)


def test_barcodes_made_unique_tell():
    adata = ad.concat([section(0), section(1)])
    adata.obs_names_make_unique()
    with pytest.raises(gh.SliceError, match="several sections"):
        gh.check_slice(adata)


@pytest.mark.parametrize("n_sections", [2, 3])
def test_overlap_in_space_tells(n_sections):
    adata = joined(layout="hexagonal", names=None, n_sections=n_sections)
    del adata.obs["slice_ID"]
    with pytest.raises(gh.SliceError, match=f"{n_sections} blocks that lie over each other"):
        gh.check_slice(adata)


def test_a_column_of_any_name_with_rows_in_blocks_is_warned_about():
    with pytest.warns(UserWarning, match=r"may hold several sections.*obs\['foo'\]"):
        gh.check_slice(joined("foo", names=None))


@pytest.mark.parametrize("layout", ["random", "hexagonal"])
@pytest.mark.parametrize("seed", range(4))
def test_one_section_is_left_alone(layout, seed):
    adata = section(seed, layout=layout)
    order = adata.obs.sort_values("half").index  # rows sorted by domain
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "The '.*' option is deprecated")  # anndata's, of pandas
        gh.check_slice(adata)
        gh.check_slice(adata[order].copy())
    adata.obs["sample"] = "one"
    assert find_joined(adata, adata.obsm["spatial"]) is None


def test_grid_names_are_no_sections():
    row, column = np.divmod(np.arange(400), 20)
    adata = section(0, 400)
    adata.obsm["spatial"] = np.column_stack([column, row]) * 50.0
    for names in ("s_{}_{}", "{}x{}", "{}_{}", "s_008um_{:05d}_{:05d}-1"):
        adata.obs_names = [names.format(i, j) for i, j in zip(row, column, strict=True)]
        assert find_joined(adata, adata.obsm["spatial"]) is None


def test_sections_side_by_side_are_a_line_of_the_checklist():
    one, other = section(0), section(1)
    other.obsm["spatial"] += [5000, 0]
    adata = ad.concat({"A": one, "B": other}, label="sample", index_unique="-")
    gh.check_slice(adata)
    assert gh.inspect_slice(adata).loc["several sections", "status"] == "look"


def test_the_reader_may_overrule():
    adata = joined()
    adata.uns["genot"] = {"one_section": True}
    gh.check_slice(adata)


@pytest.mark.parametrize("shuffled", [False, True])
def test_results_of_sections_are_those_of_two_objects(shuffled):
    parts = [section(0), section(1)]
    for step in (gh.preprocess, gh.spectral_embedding):
        step(parts, **({"n_components": 8} if step is gh.preprocess else {}))
    adata = joined(shuffled=shuffled)
    gh.preprocess(adata, n_components=8, section_key="slice_ID")
    gh.spectral_embedding(adata, section_key="slice_ID")
    for name, part in zip("AB", parts, strict=True):
        here = adata[[f"{spot}-{name}" for spot in part.obs_names]]
        for slot in ("X_pca", "X_genot"):
            np.testing.assert_allclose(here.obsm[slot], part.obsm[slot], atol=1e-3)
        graph = here.obsp["spatial_connectivities"]
        assert (graph != part.obsp["spatial_connectivities"]).nnz == 0
    edges = adata.obsp["spatial_connectivities"].tocoo()
    codes = adata.obs["slice_ID"].to_numpy()
    assert (codes[edges.row] == codes[edges.col]).all()


def test_rows_that_follow_one_another_are_not_copied():
    adata = joined()
    adata.layers["dense"] = adata.X.toarray()
    parts = gh.split_sections(adata, "slice_ID")
    for part in parts.values():
        assert np.shares_memory(part.X.data, adata.X.data)
        assert np.shares_memory(part.layers["dense"], adata.layers["dense"])


@pytest.fixture(scope="module")
def three():
    adata = joined(n_sections=3, shuffled=True)
    gh.preprocess(adata, n_components=8, section_key="slice_ID")
    adata.obs["genot_domain"] = pd.Categorical(adata.obs["half"])
    return adata


def test_the_way_between_two_sections_of_one_object_is_that_of_two_objects(three):
    adata = three[three.obs["slice_ID"] != "C"].copy()
    left, right = gh.split_sections(adata, "slice_ID").values()
    alignment = gh.align(adata, section_key="slice_ID", on_poor="return")
    assert str(alignment) == str(gh.align(left, right, on_poor="return"))
    gh.apply_alignment(adata, alignment, section_key="slice_ID")
    gh.apply_alignment(right, alignment)
    second = (adata.obs["slice_ID"] == "B").to_numpy()
    found = adata.obsm["spatial_aligned"]
    np.testing.assert_array_equal(found[second], right.obsm["spatial_aligned"])
    np.testing.assert_array_equal(found[~second], adata.obsm["spatial"][~second])
    left.obsm["spatial_aligned"] = left.obsm["spatial"]
    options = {"spatial_key": "spatial_aligned", "progress": False}
    one = gh.interpolate(adata, 0.5, section_key="slice_ID", **options)
    other = gh.interpolate(left, right, 0.5, **options)
    np.testing.assert_array_equal(one.to_df(), other.to_df())


def test_two_of_three_sections_are_named(three):
    sections = gh.split_sections(three, "slice_ID")
    wanted = gh.evaluation.domain_agreement(sections["C"], sections["A"])
    assert gh.evaluation.domain_agreement(three, ("C", "A"), section_key="slice_ID") == wanted
    assert (
        gh.evaluation.domain_agreement(one=three, other=["C", "A"], section_key="slice_ID")
        == wanted
    )
    for named in ((), (("A", "Z"),), (three,)):
        with pytest.raises(gh.SliceError, match=r"domain_agreement: .* two sections, .* A, B, C"):
            gh.evaluation.domain_agreement(three, *named, section_key="slice_ID")
    with pytest.raises(TypeError, match="belongs to one AnnData"):
        gh.evaluation.domain_agreement(sections, section_key="slice_ID")
    with pytest.raises(gh.SliceError, match=r"3 sections .* needed: two"):
        gh.apply_alignment(
            three, gh.alignment.SimilarityTransform.identity(), section_key="slice_ID"
        )


def test_names_of_domains_are_written_back(three):
    adata = three.copy()
    second = adata.obs["slice_ID"] == "B"
    adata.obs["genot_domain"] = adata.obs["genot_domain"].astype(object)
    adata.obs.loc[second, "genot_domain"] = adata.obs.loc[second, "half"].map({"0": "u", "1": "v"})
    adata.obs["genot_domain"] = pd.Categorical(adata.obs["genot_domain"])
    gh.evaluation.name_domains_like(adata, ("A", "B"), section_key="slice_ID")
    assert set(adata.obs["genot_domain"]) == {"0", "1"}


def test_a_stack_of_sections_in_one_object(three):
    sections = gh.split_sections(three, "slice_ID")
    wanted = gh.plotting.gene_along_stack(sections, "G1")
    before = dict(three.uns["genot"])
    pd.testing.assert_frame_equal(
        gh.plotting.gene_along_stack(three, "G1", section_key="slice_ID"), wanted
    )
    gh.interpolate_stack(sections=three, positions=[5.0], depths=[0, 10, 20],
                         section_key="slice_ID")  # fmt: skip
    assert three.uns["genot"] == before  # what writes no results writes nothing


def test_each_section_keeps_its_own_image():
    adata = joined()
    library = {"images": {}, "scalefactors": {"tissue_hires_scalef": 1.0}}
    adata.uns["spatial"] = {"A": library, "B": library, "is_single": False}
    parts = gh.split_sections(adata, "slice_ID")
    assert {name: list(part.uns["spatial"]) for name, part in parts.items()} == {
        "A": ["A"],
        "B": ["B"],
    }


def test_load_slices_by_section_key(tmp_path):
    joined(names=None).write_h5ad(tmp_path / "both.h5ad")
    found = gh.load_slices(tmp_path / "both.h5ad", section_key="slice_ID")
    assert list(found) == ["A", "B"]
    assert found["B"].uns["genot"]["name"] == "B"
    one = gh.load_slices(["B"], data_source=tmp_path / "both.h5ad", section_key="slice_ID")
    np.testing.assert_array_equal(one["B"].X.toarray(), found["B"].X.toarray())
    with pytest.raises(ValueError, match="No section is called 'C'"):
        gh.load_slices(["C"], data_source=tmp_path / "both.h5ad", section_key="slice_ID")
    with pytest.raises(gh.SliceError, match=r"slice_id.*Near: slice_ID"):
        gh.load_slices(tmp_path / "both.h5ad", section_key="slice_id")


def test_a_gene_that_a_slice_lacks_is_named_with_its_neighbours():
    adata = joined()
    adata.var_names = ["MBP", "PCP4", *adata.var_names[2:]]
    gh.check_genes(adata, None)
    gh.check_genes({"A": adata}, ["MBP", "PCP4"])
    lacks = adata[:, adata.var_names != "MBP"].copy()
    with pytest.raises(gh.SliceError, match=r"B: var_names, .* has no 'MBP'. First: PCP4"):
        gh.check_genes({"A": adata, "B": lacks}, "MBP")
    with pytest.raises(KeyError, match=r"has no 'Mbp'\. Near: MBP"):  # mouse's name, human slice
        gh.check_genes(adata, "Mbp")
    with pytest.raises(gh.SliceError, match=r"has no '???'. First: MBP, PCP4".replace("?", r"\?")):
        gh.check_genes([adata], "???")


def test_numbers_as_sections_and_gaps():
    adata = joined()
    adata.obs["n"] = np.where(adata.obs["slice_ID"] == "A", 1.0, 2.0)
    assert list(gh.split_sections(adata, "n")) == ["1", "2"]
    adata.obs.loc[adata.obs_names[3], "n"] = np.nan
    with pytest.raises(gh.SliceError, match="is empty for 1 spots"):
        gh.split_sections(adata, "n")
