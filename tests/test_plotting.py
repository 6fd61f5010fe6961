"""Figures: the right panels and colours, spots that touch, scale bars that tell the truth."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from conftest import OUR_WARNINGS_ARE_ERRORS
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib_scalebar.scalebar import ScaleBar
from PIL import Image

from genot_helpers import (
    PALETTE,
    colour_domains,
    normalise,
    plot_confidence,
    plot_domains,
    plot_genes,
    plot_recall,
    recall_per_domain,
    save_figure,
)
from genot_helpers.plotting import plot_eigenvalues, plot_loss
from genot_helpers.plotting.plotting import UNANNOTATED

pytestmark = OUR_WARNINGS_ARE_ERRORS  # figures must not warn in normal use


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture
def found(planted):
    """Give the planted slice found domains: the planted ones, renumbered, and some noise."""
    names = planted.obs["domain_truth"].cat.rename_categories(["3", "1", "4", "2"]).astype(str)
    rng = np.random.default_rng(0)
    noise = pd.Series(rng.choice(["1", "2", "3", "4"], planted.n_obs), index=names.index)
    found = names.where(rng.random(planted.n_obs) < 0.9, noise)
    planted.obs["genot_domain"] = pd.Categorical(found, categories=["1", "2", "3", "4"])
    planted.obs["genot_confidence"] = rng.random(planted.n_obs).astype(np.float32)
    normalise(planted)
    return planted


def panels(figure):
    """Axes with a slice in them, so neither colour bars nor empty places."""
    return [ax for ax in figure.axes if ax.get_title()]


def spots_of(ax):
    return ax.collections[0]


def spot_colours(ax):
    return np.array([to_hex(colour) for colour in spots_of(ax).get_facecolor()]).astype(str)


def with_image(adata, factor=0.1):
    """Give a slice a tissue image in the way Space Ranger's readers do, low resolution only."""
    width, height = np.ceil(adata.obsm["spatial"].max(axis=0) * factor).astype(int) + 20
    adata.uns["spatial"] = {
        "section": {
            "images": {"lowres": np.full((height, width, 3), 0.9)},
            "scalefactors": {
                "spot_diameter_fullres": 55.0,
                "tissue_hires_scalef": 0.5,
                "tissue_lowres_scalef": factor,
            },
        }
    }
    return adata


# --- panels ------------------------------------------------------------------------------------


def test_one_panel_for_each_column(found):
    figure = plot_domains(found, titles=["Annotated", "Found"])
    assert isinstance(figure, Figure)
    assert [ax.get_title() for ax in panels(figure)] == ["Annotated", "Found"]
    assert len(panels(plot_domains(found, "genot_domain"))) == 1
    four = plot_domains(found, ["domain_truth", "genot_domain"] * 2)  # three to a row
    assert len(panels(four)) == 4
    assert len(four.axes) == 6


def test_other_figures_have_their_panels(found):
    confidence = plot_confidence(found)
    assert [ax.get_title() for ax in panels(confidence)] == ["Confidence"]
    assert spots_of(panels(confidence)[0]).get_clim() == (0.0, 1.0)
    loss = plot_loss({"total": [3.0, 2.0, 1.0], "reconstruction": [1.0, 0.5, 0.2]})
    assert len(loss.axes[0].lines) == 2
    np.testing.assert_array_equal(loss.axes[0].lines[0].get_xdata(), [1, 2, 3])
    assert len(plot_eigenvalues([0.9, 0.5, 0.1]).axes[0].patches) == 3
    table = recall_per_domain(found)
    recall = plot_recall({"baseline": table, "GenOT": table})
    assert len(recall.axes[0].patches) == 2 * 4
    np.testing.assert_allclose(
        [bar.get_height() for bar in recall.axes[0].containers[0]], table["recall"]
    )


def test_genes_that_are_not_measured_are_left_out(found):
    figure = plot_genes(found, ["gene3", "nowhere", "gene5"])
    assert [ax.get_title() for ax in panels(figure)] == ["gene3", "gene5"]
    drawn = spots_of(panels(figure)[1]).get_array()
    np.testing.assert_allclose(drawn, found[:, "gene5"].layers["log1p"].toarray().ravel())
    counts = plot_genes(found, ["gene5"], layer=None)
    drawn = spots_of(panels(counts)[0]).get_array()
    np.testing.assert_allclose(drawn, found[:, "gene5"].X.toarray().ravel())


def test_a_gene_with_the_name_of_a_column_is_the_gene(found):
    found.obs["gene5"] = "not the gene"
    drawn = spots_of(panels(plot_genes(found, ["gene5"]))[0]).get_array()
    np.testing.assert_allclose(drawn, found.layers["log1p"][:, 5].toarray().ravel())


def test_what_cannot_be_drawn_is_named(found):
    with pytest.raises(ValueError, match=r"None of the genes \['gen3'\].*Near: .*gene3"):
        plot_genes(found, ["gen3"])
    with pytest.raises(KeyError, match=r"no slice has layers\['other'\].*log1p"):
        plot_genes(found, ["gene3"], layer="other")
    with pytest.raises(KeyError, match=r"no obs column \['other'\].*domain_truth"):
        plot_domains(found, ["domain_truth", "other"])
    with pytest.raises(KeyError, match=r"obs\['other'\]"):
        plot_confidence(found, "other")
    del found.obs["domain_truth"], found.obs["genot_domain"]
    with pytest.raises(KeyError, match="find_domains"):
        plot_domains(found)
    assert not plt.get_fignums()  # no empty figure is left to be shown


# --- colours -----------------------------------------------------------------------------------


def test_found_domains_wear_the_colour_of_their_annotated_partner(found):
    truth = colour_domains(found, key="domain_truth")
    ours = colour_domains(found)
    assert truth == {f"band {k + 1}": PALETTE[k] for k in range(4)}
    partner = {"3": "band 1", "1": "band 2", "4": "band 3", "2": "band 4"}
    assert ours == {name: truth[partner[name]] for name in ["1", "2", "3", "4"]}
    assert found.uns["genot_domain_colors"] == list(ours.values())


def test_drawn_colours_are_the_chosen_ones(found):
    left, right = panels(plot_domains(found))
    for ax, key in ((left, "domain_truth"), (right, "genot_domain")):
        chosen = dict(zip(found.obs[key].cat.categories, found.uns[f"{key}_colors"], strict=True))
        wanted = found.obs[key].astype(str).map(chosen).str.lower()
        np.testing.assert_array_equal(spot_colours(ax), wanted.to_numpy().astype(str))


def test_a_slice_clustered_together_wears_the_colours_of_the_other(found):
    other = found.copy()
    turned = {"band 1": "band 4", "band 4": "band 1", "band 2": "band 2", "band 3": "band 3"}
    annotated = other.obs["domain_truth"].astype(str).map(turned)
    other.obs["domain_truth"] = pd.Categorical(annotated)  # coloured otherwise alone
    assert colour_domains(other) != colour_domains(found)
    (ax,) = panels(plot_domains(other, "genot_domain", like=found))
    wanted = other.obs["genot_domain"].astype(str).map(colour_domains(found)).str.lower()
    np.testing.assert_array_equal(spot_colours(ax), wanted.to_numpy().astype(str))


def test_colours_of_a_slice_that_was_not_clustered_together_are_refused(found):
    other = found.copy()
    other.obs["genot_domain"] = pd.Categorical(["9"] * other.n_obs)
    with pytest.raises(ValueError, match=r"holds \['9'\].*[Cc]luster both slices together"):
        plot_domains(other, "genot_domain", like=found)
    del found.obs["genot_domain"]
    with pytest.raises(KeyError, match=r"no obs\['genot_domain'\]"):
        plot_domains(other, "genot_domain", like=found)
    assert not plt.get_fignums()


def test_domains_without_a_partner_get_a_colour_of_their_own(found):
    codes = found.obs["genot_domain"].astype(str).to_numpy()
    codes[:5] = "5"
    codes[5:8] = "6"
    found.obs["genot_domain"] = pd.Categorical(codes)
    colours = colour_domains(found)
    assert len(set(colours.values())) == 6
    assert {colours["5"], colours["6"]} == {PALETTE[4], PALETTE[5]}


def test_without_annotation_colours_come_in_order(found):
    in_order = {name: PALETTE[k] for k, name in enumerate(["1", "2", "3", "4"])}
    assert colour_domains(found, truth=None) == in_order
    assert colour_domains(found, truth="no such column") == in_order
    found.obs["domain_truth"] = np.nan
    assert colour_domains(found) == in_order  # nobody is annotated


def test_unannotated_spots_are_grey_and_said_to_be_unannotated(found):
    found.obs.loc[found.obs_names[:20], "domain_truth"] = np.nan
    left, _ = panels(plot_domains(found))
    assert (spot_colours(left)[:20] == UNANNOTATED.lower()).all()
    assert (spot_colours(left)[20:] != UNANNOTATED.lower()).all()
    assert [text.get_text() for text in left.get_legend().get_texts()][-1] == "unannotated"


def test_a_slice_without_annotation_shows_its_domains_only(found):
    del found.obs["domain_truth"]
    assert [ax.get_title() for ax in panels(plot_domains(found))] == ["genot_domain"]


def test_a_domain_that_is_not_in_this_slice_shifts_no_colour(found):
    """Slices that were clustered together share their domains; some have none of one."""
    bands = found.obs["genot_domain"]
    part = found[(bands != "1").to_numpy()].copy()
    part.obs["genot_domain"] = pd.Categorical(
        part.obs["genot_domain"].astype(str), categories=["1", "2", "3", "4"]
    )
    (ax,) = panels(plot_domains(part, "genot_domain", truth=None))
    wanted = part.obs["genot_domain"].astype(str).map({str(k + 1): PALETTE[k] for k in range(4)})
    np.testing.assert_array_equal(spot_colours(ax), wanted.str.lower().to_numpy().astype(str))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["2", "3", "4"]


def test_domains_may_be_numbers(found):
    found.obs["genot_domain"] = found.obs["genot_domain"].astype(int)
    colours = colour_domains(found)
    assert set(colours.values()) == set(PALETTE[:4])
    plot_domains(found)


def test_drawing_leaves_the_slice_as_it_was(found):
    before = found.copy()
    plot_domains(found)
    plot_confidence(found)
    plot_genes(found, ["gene1"])
    pd.testing.assert_frame_equal(found.obs, before.obs)
    assert set(found.uns) - set(before.uns) == {"domain_truth_colors", "genot_domain_colors"}
    np.testing.assert_array_equal(found.obsm["spatial"], before.obsm["spatial"])


# --- geometry ----------------------------------------------------------------------------------


def test_spots_touch_without_overlap_and_the_picture_is_not_distorted(found):
    for ax in panels(plot_domains(found)):
        diameters = [path.get_extents().width for path in spots_of(ax).get_paths()]
        np.testing.assert_allclose(diameters, 100.0, rtol=0.01)  # µm, the distance of neighbours
        assert ax.get_aspect() == 1.0
        assert ax.yaxis_inverted()
        assert not ax.xaxis_inverted()


def test_legends_lie_outside_the_tissue_and_off_the_next_panel(found):
    found.obs["domain_truth"] = found.obs["domain_truth"].cat.rename_categories(
        lambda name: f"a domain with a long name, {name}"
    )
    figure = plot_domains(found, ["domain_truth", "genot_domain", "domain_truth"])
    figure.canvas.draw()
    axes = panels(figure)
    for ax, following in zip(axes, [*axes[1:], None], strict=True):
        legend = ax.get_legend().get_window_extent()
        assert legend.x0 >= ax.get_window_extent().x1
        if following is not None:
            assert legend.x1 <= following.get_window_extent().x0


@pytest.mark.parametrize("unit", [1.0, 0.37])
def test_scale_bar_knows_that_visium_spots_are_100_micrometres_apart(found, unit):
    found.obsm["spatial"] = found.obsm["spatial"] * unit  # pixels of a slide scanner, say
    (ax,) = panels(plot_domains(found, "genot_domain"))
    (bar,) = (artist for artist in ax.artists if isinstance(artist, ScaleBar))
    assert bar.dx == pytest.approx(1.0 / unit, rel=1e-3)
    assert bar.units == "um"


def test_scale_bar_only_where_the_unit_is_known(found):
    found.obs = found.obs.drop(columns=["array_row", "array_col"])
    for facts, dx in (
        ({}, None),
        ({"micrometres_per_unit": 0.5}, 0.5),
        ({"spatial_unit": "µm"}, 1.0),
    ):
        found.uns["genot"] = facts
        (ax,) = panels(plot_domains(found, "genot_domain"))
        bars = [artist.dx for artist in ax.artists if isinstance(artist, ScaleBar)]
        assert bars == ([] if dx is None else [dx])


def test_scale_bar_and_label_lie_below_the_tissue(found):
    found.uns["genot"] = {"simulated": True}
    (ax,) = panels(plot_domains(found, "genot_domain"))
    assert ax.get_ylim()[0] > found.obsm["spatial"][:, 1].max() + 100.0
    assert "simulated tissue" in [text.get_text() for text in ax.texts]


def test_the_tissue_image_is_drawn_where_there_is_one(found):
    with_image(found, factor=0.1)
    (ax,) = panels(plot_domains(found, "genot_domain", image=True))
    assert len(ax.images) == 1
    drawn = np.array(
        [path.get_extents().get_points().mean(axis=0) for path in spots_of(ax).get_paths()]
    )
    np.testing.assert_allclose(drawn, found.obsm["spatial"] * 0.1, atol=1e-6)
    widths = [path.get_extents().width for path in spots_of(ax).get_paths()]
    assert max(widths) < 0.9 * 100.0 * 0.1  # gaps let the image show
    (bar,) = (artist for artist in ax.artists if isinstance(artist, ScaleBar))
    assert bar.dx == pytest.approx(10.0, rel=1e-3)
    assert ax.get_xlim()[1] < ax.images[0].get_array().shape[1]  # cropped to the tissue
    assert ax.yaxis_inverted()


def test_an_image_that_is_asked_for_and_not_there_is_no_error(found):
    assert not panels(plot_domains(found, "genot_domain", image=True))[0].images
    found.uns["spatial"] = {"section": {"images": {}, "scalefactors": {}}}
    assert not panels(plot_domains(found, "genot_domain", image=True))[0].images


# --- files -------------------------------------------------------------------------------------


def test_figures_are_written_whole_or_not_at_all(found, tmp_path, monkeypatch):
    figure, path = plot_confidence(found), tmp_path / "confidence.png"
    assert save_figure(figure, path) is None  # or a notebook cell would print the path
    whole = path.read_bytes()
    assert whole.startswith(b"\x89PNG")

    def disk_full(self, file, **options):
        file.write(b"\x89PNG, and then")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", disk_full)
    with pytest.raises(OSError, match="No space left"):
        save_figure(figure, path)
    assert path.read_bytes() == whole
    assert [file.name for file in tmp_path.iterdir()] == ["confidence.png"]


def test_a_large_figure_takes_less_room_and_looks_the_same(tmp_path):
    figure, ax = plt.subplots(figsize=(9.0, 9.0))
    ax.scatter(*np.random.default_rng(0).random((2, 40_000)), c=np.arange(40_000), s=4)
    exact, path = tmp_path / "exact.png", tmp_path / "figure.png"
    figure.savefig(exact, dpi=150, bbox_inches="tight")
    save_figure(figure, path)
    assert path.stat().st_size < 0.6 * exact.stat().st_size
    with Image.open(exact) as wanted, Image.open(path) as drawn:
        assert wanted.size == drawn.size
        pixels = [np.asarray(one.convert("RGB"), dtype=float) for one in (wanted, drawn)]
    assert np.abs(pixels[0] - pixels[1]).mean() < 4  # of 255


def test_no_domain_is_black_before_all_other_colours_are_used():
    assert PALETTE[-1] == "#000000"
    assert len(set(PALETTE)) == len(PALETTE) == 24


@pytest.mark.real_data
def test_a_real_section_is_drawn_on_its_image(real_data_dir):
    from genot_helpers import load_slice

    section = load_slice("151673", data_source="local", data_dir=real_data_dir)
    (ax,) = panels(plot_domains(section, "domain_truth", image=True))
    assert len(ax.images) == 1
    (bar,) = (artist for artist in ax.artists if isinstance(artist, ScaleBar))
    across = np.ptp(ax.get_xlim()) * bar.dx / 1000.0
    assert 5.0 < across < 7.0  # mm; the capture area of a Visium slide is 6.5 mm wide


def test_spots_that_lie_irregularly_fill_the_tissue(found):
    found.obsm["spatial"] = np.random.default_rng(0).random((found.n_obs, 2)) * 1000.0
    spots = panels(plot_domains(found, "genot_domain"))[0].collections[0]
    radii = [np.ptp(path.vertices[:, 0]) / 2 for path in spots.get_paths()]
    assert 0.4 < found.n_obs * np.pi * np.median(radii) ** 2 / 1000.0**2 < 0.8


def test_tissue_whose_y_grows_upwards_stands_upright(found):
    assert plot_confidence(found).axes[0].yaxis_inverted()
    found.uns["genot"] = {**found.uns.get("genot", {}), "y_axis": "up"}
    assert not plot_confidence(found).axes[0].yaxis_inverted()


def test_an_organ_keeps_its_colour_at_all_stages():
    stages = (["Brain", "Liver", "Somite"], ["Brain", "Gut", "Heart", "Lung", "Somite"])
    slices = [
        AnnData(obs=pd.DataFrame({"domain_truth": pd.Categorical(organs)}, index=organs))
        for organs in stages
    ]
    first, second = (colour_domains(one, key="domain_truth") for one in slices)
    assert first["Brain"] == second["Brain"]
    assert first["Somite"] == second["Somite"]
    assert len(set(second.values())) == 5


def test_a_note_is_drawn_and_stays_in_the_figure(tmp_path):
    figure, _ = plt.subplots()
    save_figure(figure, tmp_path / "without.png")
    assert not figure.texts
    save_figure(figure, tmp_path / "with.png", note="simulated tissue")
    assert [text.get_text() for text in figure.texts] == ["simulated tissue"]
    plt.close(figure)
    with (
        Image.open(tmp_path / "with.png") as noted,
        Image.open(tmp_path / "without.png") as bare,
    ):
        assert noted.height > bare.height
