"""Every public function under attack: clear errors, nothing that hangs or kills the interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from attack import damaged, tissue

import genot_helpers as gh

HERE = Path(__file__).parent


def attacked(every: int, seconds: float) -> dict[tuple[str, str, str], dict]:
    """Run the attack in a process of its own, and return the end of each call."""
    command = [sys.executable, HERE / "attack.py", str(every)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(
        command, cwd=HERE.parent, env=environment, capture_output=True, text=True, timeout=seconds
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    ends = {(row["function"], row["argument"], row["value"]): row for row in rows}
    assert done.returncode == 0, f"ended after {list(ends)[-1:]}: {done.stderr[-2000:]}"
    return ends


def judge(ends: dict[tuple[str, str, str], dict]) -> None:
    """No crash and no hang; at most one call in a hundred ends in a raw error."""
    counts = Counter(row["end"] for row in ends.values())
    unclear = ("raw", "hang", "crash")
    raw = [f"{key}: {row['message']}" for key, row in ends.items() if row["end"] in unclear]
    assert counts["hang"] == counts["crash"] == 0, raw
    assert counts["raw"] <= 0.01 * len(ends), "\n".join(raw)


def test_one_bad_value_in_forty():
    judge(attacked(every=41, seconds=300))


@pytest.mark.slow
def test_all_bad_values():
    judge(attacked(every=1, seconds=3000))


@pytest.mark.parametrize(
    ("part", "change"), [("indices", 10**6), ("indices", -4), ("indptr", 0), ("indptr", 10**6)]
)
def test_a_damaged_matrix_never_reaches_compiled_code(part, change):
    with pytest.raises(gh.SliceError, match="damaged"):
        gh.normalise(damaged(tissue(), part, change))
    for function in (gh.slices.holds_counts, gh.slices.holds_logarithms, gh.slices.undo_logarithm):
        with pytest.raises(ValueError, match="X is damaged"):
            function(damaged(tissue(), part, change))
    checklist = gh.inspect_slice(damaged(tissue(), part, change))
    assert "damaged" in checklist.loc["values", "found"]


def test_positions_beyond_all_bounds_are_refused():
    far = tissue()
    far.obsm["spatial"] = far.obsm["spatial"] * 1e200
    with pytest.raises(gh.SliceError, match="overflow"):
        gh.score_table(far, tissue(), tissue(seed=1), tissue(seed=2))


def test_scores_of_domains_do_not_depend_on_the_order_of_spots():
    adata = tissue()
    other = adata[np.random.default_rng(0).permutation(adata.n_obs)].copy()
    assert gh.score_domains(adata) == pytest.approx(gh.score_domains(other), abs=1e-12)


def test_the_table_of_scores_does_not_depend_on_the_order_of_spots():
    generated, left, right, held_out = (tissue(120, 20, seed) for seed in range(4))
    before = gh.score_table(generated, left, right, held_out)
    mixed = [
        one[np.random.default_rng(i).permutation(one.n_obs)].copy()
        for i, one in enumerate((generated, left, right, held_out))
    ]
    after = gh.score_table(*mixed)
    np.testing.assert_allclose(before, after, atol=1e-6)
