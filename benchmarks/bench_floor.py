"""How good can a slice of unchanged real spots be? Bounds for bench_interpolation.py.

GENOT_DATA_DIR=<folder> python benchmarks/bench_floor.py   --triple merfish   --seeds 3   --labels

A generated slice is made of spots of the two neighbours. How low *told from real* (c2st) can then
be, and how high map and nearest spots, is asked by choosing spots of the neighbours with the real
section in view, which no method may. Every seed halves the held-out section anew: all rows are
scored against one half, and the choices look at the other half, a fresh sample of the true section,
or at the very half that is scored.

- random: spots of both neighbours, in their places;
- matched: every spot of the half takes a spot of the neighbours to its place, one to one, at the
  smallest sum of squared distances on 30 principal components;
- drawn to the moments: spots of the neighbours, drawn with probabilities that give them the means
  and covariances of the half, which is all that the classifier looks at;
- placed: the search of genot_helpers.interpolation.placement, given what the half itself expects
  around each of its spots. What is left to the ceiling then is due to the spots, not to what is
  expected of them.

With --labels: carried labels by the ways that need no more than what is public.
"""

from __future__ import annotations

import argparse
import os
import sys

import anndata as ad
import numpy as np
import pandas as pd
from bench_interpolation import TRIPLES, load_triple
from scipy.optimize import linear_sum_assignment, minimize
from scipy.spatial.distance import cdist
from scipy.special import expit
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score, recall_score

SCORES = ["map", "knn", "gene_gene", "c2st", "moran"]
N_COMPONENTS = 30
RIDGE = 1.0  # keeps the probabilities from following single spots


def join(left: ad.AnnData, right: ad.AnnData) -> ad.AnnData:
    """Return all spots of both neighbours; obs["source"] says of which."""
    pool = ad.concat({"left": left, "right": right}, label="source", index_unique="-")
    pool.obsm = {"spatial": np.vstack([a.obsm["spatial"] for a in (left, right)])}
    return pool


def components(pool: ad.AnnData, seen: ad.AnnData) -> tuple[np.ndarray, np.ndarray]:
    """Whitened principal components of both together, as the classifier that judges sees them."""
    from genot_helpers.comparable import log_profiles

    profiles = log_profiles(pool, seen, layer=None, max_genes=500)
    model = PCA(N_COMPONENTS, svd_solver="covariance_eigh", whiten=True).fit(np.vstack(profiles))
    # log_profiles gives the real slice first
    seen_values, pool_values = (model.transform(p) for p in profiles)
    return pool_values, seen_values


def matched(pool: ad.AnnData, seen: ad.AnnData) -> ad.AnnData:
    """Give every spot seen the pool's spot that is most like it, one to one, in its place."""
    values = components(pool, seen)
    _, chosen = linear_sum_assignment(cdist(values[1], values[0], "sqeuclidean"))
    result = pool[chosen].copy()
    result.obsm["spatial"] = seen.obsm["spatial"].copy()
    return result


def reweighted(pool: ad.AnnData, seen: ad.AnnData, rng: np.random.Generator) -> ad.AnnData:
    """Draw spots of the pool such that a Gaussian classifier cannot tell them from those seen.

    It looks at means and covariances of the components. So every spot is drawn with a probability
    that is as even as possible while all of them come out right (maximum entropy, as in the
    calibration of samples: Deville & Saerndal 1992, doi 10.1080/01621459.1992.10475217).
    """
    pool_values, seen_values = components(pool, seen)
    one, other = np.triu_indices(N_COMPONENTS)
    features, wanted = (
        np.hstack([values, values[:, one] * values[:, other], np.ones((len(values), 1))])
        for values in (pool_values, seen_values)
    )
    wanted, size = wanted.sum(axis=0), features.std(axis=0) + (features.std(axis=0) == 0)

    def potential(weights):  # convex; its slope is what the drawn spots have too much
        scores = (features / size) @ weights
        chance = expit(scores)
        value = np.logaddexp(0.0, scores).sum() - wanted / size @ weights
        slope = (features / size).T @ chance - wanted / size
        return value + RIDGE / 2 * weights @ weights, slope + RIDGE * weights

    start = np.zeros(features.shape[1])
    start[-1] = np.log(seen.n_obs / (pool.n_obs - seen.n_obs))
    weights = minimize(potential, start, jac=True, method="L-BFGS-B").x
    order = rng.permutation(pool.n_obs)
    ends = np.cumsum(expit((features / size) @ weights)[order])
    marks = (np.arange(seen.n_obs) + rng.random()) * ends[-1] / seen.n_obs
    return pool[order[np.unique(np.searchsorted(ends, marks))]].copy()


def placed(pool: ad.AnnData, seen: ad.AnnData, n_left: int, seed: int) -> ad.AnnData:
    """Let the search place spots where ``seen`` has its own, given what it expects itself."""
    from genot_helpers import spot_spacing
    from genot_helpers.comparable import expression_states, shared_space
    from genot_helpers.interpolation.placement import autocorrelation, place_spots
    from genot_helpers.interpolation.places import local_weights

    space = shared_space(pool, seen)
    states = expression_states(np.vstack([space.left, space.right]), seed=seed)
    points = np.asarray(seen.obsm["spatial"], dtype=float)
    spacing = spot_spacing(points)
    around = local_weights(points, points, 2.0 * spacing, spacing)
    rng, is_right = np.random.default_rng(seed), np.arange(pool.n_obs) >= n_left
    start = np.concatenate([
        rng.choice(np.flatnonzero(side), size, replace=False)
        for side, size in (
            (~is_right, seen.n_obs // 2), (is_right, seen.n_obs - seen.n_obs // 2)
        )
    ])  # fmt: skip
    chosen = place_spots(
        points,
        around @ space.right,
        pool.obsm["spatial"],
        space.left,
        rng.permutation(start),
        pool_slice=is_right.astype(int),
        states=states[: pool.n_obs],
        expected_states=around @ states[pool.n_obs :],
        target=autocorrelation(points, space.right),
        seed=seed,
        progress=False,
    ).chosen
    result = pool[chosen].copy()
    result.obsm["spatial"] = points
    return result


def floor_rows(name: str, seed: int) -> dict[str, dict[str, float]]:
    """Score every row for one halving of the held-out section."""
    from genot_helpers import interpolate, position_between, score_generated
    from genot_helpers.evaluation import baseline_slices
    from genot_helpers.evaluation.generated_scores import halves

    left, right, held_out = load_triple(name)
    t = position_between(left, right, held_out)
    scored, other = (held_out[half].copy() for half in halves(held_out.n_obs, seed))
    pool, rng = join(left, right), np.random.default_rng(seed)
    generated = interpolate(left, right, t, seed=seed, mean=False, progress=False)
    baselines = baseline_slices(
        left, right, held_out, t=t, n_spots=min(scored.n_obs, generated.n_obs), seed=seed
    )
    rows = {
        "ceiling: the other half itself": other,
        "at random": baselines["union"],
        "generated, `X`": generated,
        "matched to the other half": matched(pool, other),
        "matched to the very half that is scored": matched(pool, scored),
        "drawn to the moments of the other half": reweighted(pool, other, rng),
        "drawn to the moments of the very half that is scored": reweighted(pool, scored, rng),
        "placed as the other half expects": placed(pool, other, left.n_obs, seed),
    }
    mean = baselines["neighbour_mean"]
    scores = {
        row: score_generated(adata, scored, n_spots=scored.n_obs, seed=seed)
        for row, adata in rows.items()
    }
    scores["mean of neighbours (no real spots)"] = score_generated(
        mean, scored, layer="mean", seed=seed
    )
    return scores


def label_rows(name: str, seed: int) -> dict[str, dict[str, float]]:
    """Score the carried label, the plain vote, and the label of the placed spot itself."""
    from genot_helpers import position_between, prepare_interpolation
    from genot_helpers.evaluation.generated_scores import halves
    from genot_helpers.evaluation.measures import averaging
    from genot_helpers.interpolation.places import local_weights

    left, right, held_out = load_triple(name)
    t = position_between(left, right, held_out)
    prepared = prepare_interpolation(left, right, seed=seed, mean=False, progress=False)
    generated, carried = prepared.at(t), prepared.labels
    places = generated.obsm["spatial"]
    moved = (
        prepared.warp.move_left(prepared.left_points, t),
        prepared.warp.move_right(prepared.right_points, t),
    )
    shares = sum(
        weight * (local_weights(points, places, carried.bandwidth, prepared.spacing) @ votes)
        for weight, points, votes in zip(carried.weights(t), moved, carried.votes, strict=True)
    )
    own = pd.Series(np.nan, index=generated.obs_names, dtype=object)
    for side, adata in (("left", left), ("right", right)):
        here = (generated.obs["genot_source"] == side).to_numpy()
        spots = generated.obs.loc[here, "genot_source_spot"].astype(object)
        own[here] = adata.obs[carried.key].astype(object).reindex(spots).to_numpy()
    rows = {
        "vote of the surroundings": np.array(carried.names, dtype=object)[shares.argmax(axis=1)],
        "of the placed spot itself": own.to_numpy(),
        "weighed up (as it is)": generated.obs["genot_domain"].astype(object).to_numpy(),
    }
    real = held_out[halves(held_out.n_obs, seed)[0]]
    truth = real.obs[carried.key].astype(object).to_numpy()
    known = pd.notna(truth)
    rarest, scores = (
        str(held_out.obs[carried.key].dropna().astype(str).value_counts().index[-1]),
        {},
    )
    for row, labels in rows.items():
        usable = pd.notna(labels)
        votes = pd.get_dummies(pd.Series(labels[usable]), dtype=float)
        near = averaging(places[usable], real.obsm["spatial"][known], 5)
        found = votes.columns.to_numpy()[(near @ votes.to_numpy()).argmax(axis=1)]
        real_names, found_names = truth[known].astype(str), found.astype(str)
        names = np.unique(real_names)
        recall = recall_score(real_names, found_names, labels=names, average=None)
        scores[row] = {
            "ari": adjusted_rand_score(truth[known], found),
            "accuracy": float((truth[known] == found).mean()),
            "mean recall": float(recall.mean()),
            f"recall of {rarest}": float(recall[names == rarest][0]),
        }
    return scores


def show(tables: list[dict], columns: list[str]) -> None:
    """Print means ± standard deviation over seeds as Markdown."""
    frames = [pd.DataFrame.from_dict(table, orient="index")[columns] for table in tables]
    values = np.array([frame.to_numpy() for frame in frames])
    print("\n| | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for row, mean, sd in zip(frames[0].index, values.mean(axis=0), values.std(axis=0), strict=True):
        cells = (f"{m:.3f} ± {s:.3f}" for m, s in zip(mean, sd, strict=True))
        print(f"| {row} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--triple", default="merfish", choices=list(TRIPLES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--labels", action="store_true", help="carried labels instead")
    chosen = parser.parse_args()
    if "GENOT_DATA_DIR" not in os.environ:
        sys.exit("Set GENOT_DATA_DIR to the folder with the real slices (see data/README.md).")
    score = label_rows if chosen.labels else floor_rows
    tables = [score(chosen.triple, seed) for seed in range(chosen.seeds)]
    show(tables, list(next(iter(tables[0].values()))) if chosen.labels else SCORES)


if __name__ == "__main__":
    main()
