"""Arguments of public functions: wrong kinds and values out of range are refused at once."""

from __future__ import annotations

import numpy as np
import pytest

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
        ({"n_steps": 1, "name": 3}, TypeError, "name is 3 .a int.*text or None"),
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
