"""Stacks of slices: what is drawn where and in which colour, and files that are whole and small."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import plotly.io as pio
import pytest
from conftest import OUR_WARNINGS_ARE_ERRORS
from PIL import Image

from genot_helpers import prepare_interpolation
from genot_helpers.plotting import (
    embed_plotly,
    film,
    film_as_html,
    gene_along_stack,
    gene_flow_figure,
    stack_figure,
    write_page,
)
from genot_helpers.plotting.stack_plots import slice_depths, stack_values

pytestmark = OUR_WARNINGS_ARE_ERRORS  # figures must not warn in normal use


@pytest.fixture(scope="module")
def sections():
    """Three sections 50 µm apart."""
    from conftest import plant_slice

    found = []
    for number in range(3):
        adata = plant_slice(seed=number)
        adata.uns["genot"] = {"position_um": 50.0 * number, "micrometres_per_unit": 1.0}
        found.append(adata)
    return found


@pytest.fixture(scope="module")
def gaps(sections):
    """Both gaps between them, prepared."""
    options = {"label_key": "domain_truth", "decode": False, "progress": False}
    return [prepare_interpolation(one, other, **options) for one, other in pairwise(sections)]


@pytest.fixture(scope="module")
def stack(sections, gaps):
    """Put a generated slice into the middle of each gap."""
    return {
        "first": sections[0],
        "generated 1": gaps[0].at(0.5),
        "middle": sections[1],
        "generated 2": gaps[1].at(0.5),
        "last": sections[2],
    }


def spots_of(figure):
    return [trace for trace in figure.data if trace.mode == "markers"]


def outlines_of(figure):
    return [trace for trace in figure.data if trace.mode == "lines"]


def test_each_slice_lies_at_its_depth_and_keeps_its_places(stack):
    figure = stack_figure(stack, "gene0", max_spots=1000)
    traces = spots_of(figure)
    assert [trace.name for trace in traces] == list(stack)
    for trace, adata, depth in zip(traces, stack.values(), (0, 25, 50, 75, 100), strict=True):
        np.testing.assert_allclose(trace.z, depth)
        np.testing.assert_allclose(np.c_[trace.x, trace.y], adata.obsm["spatial"], atol=0.06)


def test_real_and_generated_slices_can_be_told_apart_and_hidden(stack):
    figure = stack_figure(stack, "gene0")
    kinds = [trace.legendgroup for trace in spots_of(figure)]
    assert kinds == [f"{k}" for k in ("real section", "generated slice") * 2] + ["real section"]
    shown = [trace.name for trace in figure.data if trace.showlegend]
    assert shown == ["real section", "generated slice"]  # each once
    assert figure.layout.legend.groupclick == "togglegroup"
    assert {trace.line.dash for trace in outlines_of(figure)} == {None, "dash"}


def test_simulated_sections_say_so(stack):
    told = {name: adata.copy() for name, adata in stack.items()}
    for adata in told.values():
        adata.uns["genot"] = dict(adata.uns["genot"]) | {"simulated": True}
    figure = stack_figure(told, "gene0")
    assert "simulated" in figure.layout.title.text
    assert spots_of(figure)[0].legendgroup == "simulated section"


def test_proportions_are_those_of_the_tissue(stack):
    true = stack_figure(stack, "gene0", exaggeration=1).layout.scene.aspectratio
    width, height = np.ptp(stack["first"].obsm["spatial"], axis=0)
    assert true.y / true.x == pytest.approx(height / width, rel=0.05)
    assert true.z / true.x == pytest.approx(100.0 / width, rel=0.05)
    higher = stack_figure(stack, "gene0", exaggeration=5).layout.scene
    assert higher.aspectratio.z == pytest.approx(5 * true.z)
    assert "5 ×" in higher.zaxis.title.text
    automatic = stack_figure(stack, "gene0").layout.scene.aspectratio
    assert 0.3 < automatic.z / automatic.x <= 0.75


def test_dorsal_stays_up(stack):
    assert stack_figure(stack, "gene0").layout.scene.yaxis.autorange == "reversed"
    upward = {name: adata.copy() for name, adata in stack.items()}
    for adata in upward.values():
        adata.uns["genot"] = dict(adata.uns["genot"]) | {"y_axis": "up"}
    assert stack_figure(upward, "gene0").layout.scene.yaxis.autorange is None


def test_thinning_is_random_but_the_same_each_time(stack):
    one, other = (stack_figure(stack, "gene0", max_spots=50, seed=3) for _ in range(2))
    assert all(len(trace.x) == 50 for trace in spots_of(one))
    assert one.to_json() == other.to_json()
    assert one.to_json() != stack_figure(stack, "gene0", max_spots=50, seed=4).to_json()


def test_figures_are_small(stack):
    assert len(stack_figure(stack, "gene0", max_spots=1500).to_json()) < 150_000


def test_one_scale_for_all_slices(stack):
    values, axis = stack_values(stack, "gene0")
    figure = stack_figure(stack, "gene0", max_spots=1000)
    assert figure.layout.coloraxis.cmax == axis.high
    assert axis.high == pytest.approx(np.quantile(np.concatenate(values), 0.995))
    assert all(trace.marker.coloraxis == "coloraxis" for trace in spots_of(figure))
    np.testing.assert_allclose(spots_of(figure)[1].marker.color, values[1], rtol=1e-5)
    sizes = spots_of(figure)[0].marker.size
    assert sizes[values[0].argmax()] > sizes[values[0].argmin()]


def test_smoothing_averages_over_near_spots(stack):
    rough, smooth = (stack_values(stack, "gene0", n_smooth=n)[0][0] for n in (1, 20))
    points = stack["first"].obsm["spatial"]
    near = np.argsort(np.linalg.norm(points - points[7], axis=1), kind="stable")
    distances = np.linalg.norm(points - points[7], axis=1)[near]
    n = np.flatnonzero(np.diff(distances) > 1e-6)  # ends of rings of equal distance
    ring = n[n + 1 >= 7][0] + 1
    exact = stack_values(stack, "gene0", n_smooth=int(ring))[0][0]
    assert exact[7] == pytest.approx(rough[near[:ring]].mean())
    assert smooth.std() < rough.std()


def test_labels_share_colours_and_generated_slices_show_the_carried_one(stack):
    values, axis = stack_values(stack, "domain_truth")
    assert axis.labels == [f"band {n}" for n in (1, 2, 3, 4)]
    carried = stack["generated 1"].obs["genot_domain"].astype(str)
    assert [axis.name(code) for code in values[1]] == list(carried)
    figure = stack_figure(stack, "domain_truth", max_spots=1000)
    assert list(figure.layout.coloraxis.colorbar.ticktext) == axis.labels
    assert list(spots_of(figure)[1].text) == list(carried)
    low, high = figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax
    steps = figure.layout.coloraxis.colorscale
    for number, colour in enumerate(axis.colours):
        share = (number - low) / (high - low)
        (below, one), (above, other) = next(
            pair for pair in pairwise(steps) if pair[0][0] < share < pair[1][0]
        )
        assert one == other == colour
        assert below == pytest.approx(number / 4) and above == pytest.approx((number + 1) / 4)


def test_unannotated_spots_are_grey(stack):
    first = stack["first"].copy()
    first.obs.loc[first.obs_names[:5], "domain_truth"] = np.nan
    values, axis = stack_values({**stack, "first": first}, "domain_truth")
    assert axis.labels[-1] == "unannotated"
    assert (values[0][:5] == len(axis.labels) - 1).all()


def test_numbers_in_obs_are_shown_as_they_are(stack):
    only = {name: adata for name, adata in stack.items() if "genot_source" in adata.obs}
    values, axis = stack_values(only, "genot_confidence")
    np.testing.assert_array_equal(values[0], only["generated 1"].obs["genot_confidence"])
    assert axis.labels is None


def test_slices_without_depth_are_numbered(stack):
    bare = [adata.copy() for adata in stack.values()]
    del bare[2].uns["genot"]
    assert list(slice_depths(bare)) == [0, 1, 2, 3, 4]
    figure = stack_figure(bare, "gene0")
    assert figure.layout.scene.zaxis.title.text == "number in the stack"


@pytest.mark.parametrize("color", ["no_such_gene", "array_row"])
def test_what_is_missing_is_named(stack, color):
    missing = {name: adata.copy() for name, adata in stack.items()}
    for adata in list(missing.values())[1:]:
        adata.obs = adata.obs.drop(columns=["array_row", "genot_domain"], errors="ignore")
    with pytest.raises(KeyError, match=color):
        stack_figure(missing, color)


def test_bad_numbers_and_empty_stacks_are_refused(stack):
    with pytest.raises(ValueError, match="max_spots"):
        stack_figure(stack, "gene0", max_spots=0)
    with pytest.raises(ValueError, match="no slice"):
        stack_figure({}, "gene0")


def test_slices_are_not_changed(stack):
    before = {name: (list(a.obs), list(a.uns), list(a.layers)) for name, a in stack.items()}
    stack_figure(stack, "gene0", n_smooth=5)
    stack_figure(stack, "domain_truth")
    assert before == {name: (list(a.obs), list(a.uns), list(a.layers)) for name, a in stack.items()}


def test_gene_along_the_stack(stack):
    table = gene_along_stack(stack, "gene0", by="domain_truth")
    assert list(table.index) == [0, 25, 50, 75, 100]
    assert list(table) == [f"band {n}" for n in (1, 2, 3, 4)]
    values, _ = stack_values(stack, "gene0")
    one = (stack["middle"].obs["domain_truth"] == "band 2").to_numpy()
    assert table.loc[50, "band 2"] == pytest.approx(values[2][one].mean())
    whole = gene_along_stack(stack, "gene0")
    assert whole.loc[0].item() == pytest.approx(values[0].mean())


def test_lines_go_from_spot_to_partner(sections, gaps):
    figure = gene_flow_figure(gaps, "gene0", n_lines=40)
    (trace,) = figure.data
    table = np.c_[trace.x, trace.y, trace.z]
    breaks = np.flatnonzero(np.isnan(table[:, 0]))
    lines = np.split(table, breaks)
    lines = [line[~np.isnan(line[:, 0])] for line in lines]
    assert len(lines) == 40
    for line in lines:
        assert (np.diff(line[:, 2]) >= 0).all()  # down the stack, never back
        for depth, adata in zip((0.0, 50.0, 100.0), sections, strict=True):
            here = line[line[:, 2] == depth]
            if len(here):
                away = np.linalg.norm(adata.obsm["spatial"] - here[0, :2], axis=1)
                assert away.min() < 0.1  # a line passes through a spot of each section
    assert np.isfinite(trace.line.color).all()


def test_flow_of_one_gap_and_of_gaps_that_do_not_meet(gaps, planted):
    assert len(gene_flow_figure(gaps[0], "gene0").data) == 1
    other = prepare_interpolation(
        planted[:200].copy(), planted[:200].copy(), decode=False, progress=False
    )
    with pytest.raises(ValueError, match="begin with"):
        gene_flow_figure([gaps[0], other], "gene0")


def test_page_needs_no_network(stack, tmp_path):
    path = write_page(stack_figure(stack, "gene0"), tmp_path / "stack.html")
    text = path.read_text(encoding="utf-8")
    assert "Plotly.newPlot" in text
    assert len(text) > 3e6  # plotly itself is inside ...
    assert "<script src=" not in text  # ... and nothing is fetched
    assert [one.name for one in tmp_path.iterdir()] == ["stack.html"]


def test_figure_is_sound_json(stack):
    for figure in (stack_figure(stack, "gene0"), stack_figure(stack, "domain_truth")):
        assert pio.from_json(figure.to_json()) is not None
        assert "NaN" not in json.dumps(json.loads(figure.to_json())["layout"])


def test_notebook_figures_carry_plotly_where_jupyter_shows_them():
    before = pio.renderers.default
    try:
        pio.renderers.default = "plotly_mimetype"
        embed_plotly()
        assert pio.renderers.default == "plotly_mimetype+notebook"
        assert pio.renderers["notebook"].connected is False
        pio.renderers.default = "json"
        embed_plotly()
        assert pio.renderers.default == "json"
    finally:
        pio.renderers.default = before


def test_film_goes_there_and_back(stack, tmp_path):
    path = film(stack, "gene0", tmp_path / "film.gif", n_smooth=5, width=280)
    with Image.open(path) as picture:
        assert picture.n_frames == 5 + 3
        assert picture.width == 280
        assert picture.info["loop"] == 0
        pauses = []
        for number in range(picture.n_frames):
            picture.seek(number)
            pauses.append(picture.info["duration"])
    assert pauses[0] == 3 * pauses[1]  # sections are held
    assert path.stat().st_size < 1e6
    assert [one.name for one in tmp_path.iterdir()] == ["film.gif"]
    assert "data:image/gif;base64," in film_as_html(path).data


def test_film_of_labels_is_kept_small(stack, tmp_path):
    path = film(stack, "domain_truth", tmp_path / "film.gif", max_megabytes=0.02)
    assert path.stat().st_size < 20_000
    with Image.open(path) as picture:
        assert picture.width < 560


def test_film_of_another_format_is_refused(stack, tmp_path):
    with pytest.raises(ValueError, match="gif"):
        film(stack, "gene0", tmp_path / "film.mp4")
    assert not list(tmp_path.iterdir())
