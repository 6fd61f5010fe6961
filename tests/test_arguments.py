"""Arguments of public functions: wrong kinds and values out of range are refused at once."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import genot_helpers as gh
from genot_helpers.arguments import checked


@checked(n_steps=(1, 100))
def example(
    n_steps: int,
    *,
    weight: float = 1.0,
    name: str | None = None,
    genes: Sequence[str] = (),  # noqa: F821 (annotations are text here)
    seed: int = 0,
    anything: SomeClass = None,  # noqa: F821
) -> str:
    """Return what was given."""
    return f"{n_steps} {weight} {name} {len(genes)}"


def test_what_is_allowed_passes():
    assert example(np.int64(3), weight=2, name="x", genes=["a"], anything=object()) == "3 2 x 1"
    assert example.__name__ == "example" and example.__wrapped__


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_steps": None}, TypeError, "n_steps is None.*whole number"),
        ({"n_steps": True}, TypeError, "n_steps is True .a bool"),
        ({"n_steps": 2.5}, TypeError, "n_steps is 2.5 .a float"),
        ({"n_steps": 10**9}, ValueError, "n_steps is 1000000000; give a number from 1 to 100"),
        ({"n_steps": 1, "weight": float("nan")}, ValueError, "weight is nan; give a finite"),
        ({"n_steps": 1, "weight": "a"}, TypeError, "weight is .a. .a str.*number"),
        ({"n_steps": 1, "name": 3}, TypeError, "name is 3 .an int.*text or None"),
        ({"n_steps": 1, "name": "\udc80"}, ValueError, "surrogates"),
        ({"n_steps": 1, "genes": "SNAP25"}, TypeError, "genes is .SNAP25. .a str.*list"),
        ({"n_steps": 1, "seed": -1}, ValueError, "seed is -1; give a number from 0 to"),
    ],
)
def test_what_is_not_allowed_is_named(arguments, error, message):
    with pytest.raises(error, match=message):
        example(**arguments)


def test_an_infinite_stiffness_means_no_warp_and_is_accepted(make_slice):
    left, right = (make_slice(seed=number) for number in (0, 1))
    prepared = gh.prepare_interpolation(left, right, stiffness=np.inf, mean=False, progress=False)
    assert prepared.warp.stiffness == np.inf
    for bad in (-np.inf, np.nan):
        with pytest.raises(ValueError, match="stiffness"):
            gh.prepare_interpolation(left, right, stiffness=bad, progress=False)


def bare(n_spots: int = 60):
    """Make a slice with counts and positions, in which nothing was found yet."""
    rng = np.random.default_rng(0)
    adata = AnnData(rng.poisson(3, (n_spots, 8)).astype("float32"))
    adata.obsm["spatial"] = rng.random((n_spots, 2))
    return adata


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda a: gh.colour_domains(a), r"obs\['genot_domain'\] is missing.*Find domains first"),
        (lambda a: gh.score_domains(a), r"obs\['genot_domain'\] is missing.*Find domains first"),
        (
            lambda a: gh.plotting.plot_markers(a, ["0"]),
            r"obs\['genot_domain'\] is missing.*Find domains",
        ),
        (
            lambda a: gh.plotting.plot_markers(a, ["0"], key="kind"),
            r"layers\['log1p'\].*Run normalise",
        ),
        (lambda a: gh.plot_domains(a, ["kind"], titles=["one", "two"]), "2 titles are given for 1"),
        (lambda a: gh.normalise([a], section_key="kind"), "normalise: section_key='kind'.*a list"),
        (lambda a: gh.normalise(a, section_key="kid"), r"section_key names.*Near: kind"),
        (lambda a: gh.align(a.to_df(), a), "left is a DataFrame of 60 × 8; needed: an AnnData"),
        (lambda a: gh.plot_series(a, "kind"), "slices is an AnnData of 60 × 8; needed: a dict"),
        (lambda a: gh.normalise(3), r"slices is 3 \(an int\); needed: an AnnData"),
    ],
)
def test_a_message_says_where_what_was_found_and_what_to_do(call, said):
    adata = bare()
    adata.obs["kind"] = pd.Categorical(["a", "b"] * 30)
    with pytest.raises((ValueError, KeyError, TypeError), match=said):
        call(adata)


def test_rivals_that_the_table_lacks_are_named():
    table = pd.DataFrame({"map": [0.5, 0.4]}, index=["genot", "union"])
    with pytest.raises(KeyError, match=r"no row 'copy'.*There: genot, union"):
        gh.beside_rivals(table, ["copy"])
