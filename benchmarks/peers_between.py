"""The slice in between, by other packages and by ours: one function each, two slices in, one out.

Run by `bench_peers.py` with the Python of the peers' environment; see there. Beside the left slice
lie `right.h5ad` and `held_out.h5ad`, which holds the places of the held-out slice and nothing else
(FEAST alone asks for them). All slices are in the frame of the left one. The answer holds
expression in `X` of the kind given, `obsm["spatial"]`, and `obs["genot_domain"]`: the label that
the method carries, or else that of most of the ten nearest spots of both slices.
Settings: `t`, `n_spots`, `seed`, `niche_key` (column of cell types, or None), `spatialz` (folder).
"""

from __future__ import annotations

import sys
from pathlib import Path

import anndata as ad
import numpy as np
from peers_exchange import import_peer, read_exchange, serve
from scipy import sparse
from scipy.spatial import cKDTree

LABEL = "domain_truth"  # of left and right; that of the held-out slice is nowhere here
N_VOTES = 10
MAX_BARYCENTER = 1500  # spots; the published way needs minutes and gigabytes beyond


def beside(name: str) -> ad.AnnData:
    """Read another file of the folder in which the left slice lies."""
    return read_exchange(Path(sys.argv[2]).with_name(f"{name}.h5ad"))[0]


def near_labels(places: np.ndarray, left: ad.AnnData, right: ad.AnnData, key: str) -> np.ndarray:
    """Return the label of most of the ten spots of both slices nearest to each place."""
    from sklearn.neighbors import KNeighborsClassifier

    points = np.vstack([left.obsm["spatial"], right.obsm["spatial"]])
    labels = np.concatenate([left.obs[key].astype(str), right.obs[key].astype(str)])
    return KNeighborsClassifier(N_VOTES).fit(points, labels).predict(places)


def answer(
    values: object, places: np.ndarray, ends: tuple[ad.AnnData, ad.AnnData], obs: dict[str, object]
) -> ad.AnnData:
    """Return a generated slice: values of the genes of the ends, places, labels.

    Where the ends hold counts and the values are none, the values go to layers["mean"], which is
    scored as a denoised product; X holds the nearest real spots then, and is not looked at.
    """
    made = ad.AnnData(sparse.csr_matrix(values, dtype=np.float32), var=ends[0].var[[]].copy())
    made.obsm["spatial"] = np.asarray(places, dtype=np.float64)
    for key, column in obs.items():
        made.obs[key] = np.asarray(column).astype(str)
    made.obs_names = [f"made_{number}" for number in range(made.n_obs)]
    real = sparse.vstack([end.X for end in ends], format="csr")
    if whole(real) and not whole(made.X):
        near = cKDTree(np.vstack([end.obsm["spatial"] for end in ends])).query(places)[1]
        made.layers["mean"], made.X = made.X, sparse.csr_matrix(real[near])
    return made


def whole(values: object) -> bool:
    """Say whether all values of a matrix are whole numbers."""
    data = sparse.csr_matrix(values).data
    return bool(np.array_equal(data, np.rint(data)))


def labelled(
    values: object, places: np.ndarray, left: ad.AnnData, right: ad.AnnData, settings: dict
) -> ad.AnnData:
    """Return a generated slice whose labels and cell types are those of the nearest spots."""
    keys = {"genot_domain": LABEL} | {key: key for key in [settings["niche_key"]] if key}
    obs = {name: near_labels(places, left, right, key) for name, key in keys.items()}
    return answer(values, places, (left, right), obs)


def thinned(adata: ad.AnnData, n_spots: int, seed: int) -> ad.AnnData:
    """Draw spots where there are more than n_spots."""
    if adata.n_obs <= n_spots:
        return adata
    chosen = np.random.default_rng(seed).choice(adata.n_obs, n_spots, replace=False)
    return adata[np.sort(chosen)].copy()


def placed_spots(left: ad.AnnData, settings: dict) -> ad.AnnData:
    """Place real spots, as the project does."""
    import genot_helpers as gh

    options = dict(seed=settings["seed"], progress=False, n_spots=settings["n_spots"])
    made = gh.interpolate(left, beside("right"), settings["t"], **options)
    made.layers.clear()  # the expectation is a row of its own elsewhere
    made.uns.clear()
    return made


def barycenters(left: ad.AnnData, settings: dict) -> ad.AnnData:
    """Follow the published way: barycenters of places and of the trained embedding; a decoder."""
    import genot_helpers as gh

    seed, t = settings["seed"], settings["t"]
    left, right = (thinned(adata, MAX_BARYCENTER, seed) for adata in (left, beside("right")))
    slices = {"left": left, "right": right}
    gh.preprocess(slices, n_genes=3000, n_components=30)
    gh.train_encoder(slices, configuration="default", seed=seed, progress=False)
    inputs = [adata.obsm[key] for key in ("spatial", "X_genot") for adata in (left, right)]
    found = gh.fused_gromov_wasserstein_barycenter(
        *inputs, t, max_spots=MAX_BARYCENTER, max_iterations=200, seed=seed
    )
    decoder = gh.train_decoder(slices, use_rep="X_genot", seed=seed, progress=False)
    values = decoder.predict(found.embedding, slice_weights=(1 - t, t))
    return labelled(values, found.points, left, right, settings)


def knn_mean(left: ad.AnnData, settings: dict) -> ad.AnnData:
    """Average the five nearest spots of each slice, at places drawn from both slices.

    This is how GraphST's neighbours and several pipelines fill a gap: no transport, no real spots.
    """
    from sklearn.neighbors import NearestNeighbors

    right, t = beside("right"), settings["t"]
    rng = np.random.default_rng(settings["seed"])
    n_right = round(t * settings["n_spots"])
    sizes = (settings["n_spots"] - n_right, n_right)
    places = np.vstack([
        adata.obsm["spatial"][rng.choice(adata.n_obs, n, replace=n > adata.n_obs)]
        for adata, n in zip((left, right), sizes, strict=True)
    ])  # fmt: skip
    values = 0
    for adata, weight in ((left, 1 - t), (right, t)):
        near = NearestNeighbors(n_neighbors=5).fit(adata.obsm["spatial"]).kneighbors(places)[1]
        shape = (len(places), adata.n_obs)
        mean = sparse.csr_matrix(
            (np.full(near.size, 0.2), near.ravel(), np.arange(0, near.size + 1, 5)), shape
        )
        values = values + weight * (mean @ adata.X)
    return labelled(values, places, left, right, settings)


def paste(left: ad.AnnData, settings: dict) -> ad.AnnData:
    """Run PASTE: places of the left slice, expression of the factors of its centre slice."""
    import ot
    import paste as pst

    solve = ot.optim.cg

    def solve_with_older_search(*args, **named):  # PASTE 1.4 was written for POT 0.9.5 or older
        *args, search = args

        def searched(cost, plan, change, prices, value, _, **options):
            return *search(cost, plan, change, prices, value, **options), None

        return solve(*args, searched, **named)

    ot.optim.cg = solve_with_older_search
    right = beside("right")
    slices = [adata.copy() for adata in (left, right)]
    for adata in slices:
        adata.X = adata.X.toarray().astype(np.float64)
    weights = [1 - settings["t"], settings["t"]]
    seed = settings["seed"]
    centre, _ = pst.center_align(slices[0].copy(), slices, weights, random_seed=seed)
    return labelled(np.asarray(centre.X), left.obsm["spatial"], left, right, settings)


def moscot(left: ad.AnnData, settings: dict) -> ad.AnnData:
    """Run moscot: entropic fused Gromov–Wasserstein coupling; pairs drawn from it, mixed by t."""
    import pandas as pd
    import scanpy as sc
    from moscot.problems.spatiotemporal import SpatioTemporalProblem

    right, t = beside("right"), settings["t"]
    both = ad.concat({"left": left, "right": right}, index_unique="-")
    values = both.X.copy()
    sc.pp.normalize_total(both, target_sum=1e4)
    sc.pp.log1p(both)
    sc.tl.pca(both, n_comps=min(30, both.n_vars - 1), random_state=settings["seed"])
    both.obs["time"] = pd.Categorical(np.repeat([0.0, 1.0], [left.n_obs, right.n_obs]))
    problem = SpatioTemporalProblem(both)
    problem.prepare(time_key="time", spatial_key="spatial", joint_attr="X_pca")
    problem.solve(alpha=0.5, epsilon=1e-3)
    plan = np.asarray(problem[0.0, 1.0].solution.transport_matrix, dtype=np.float64)
    rng = np.random.default_rng(settings["seed"])
    masses = plan.sum(axis=1)
    rows = rng.choice(left.n_obs, settings["n_spots"], p=masses / masses.sum())
    levels = np.cumsum(plan[rows], axis=1)
    drawn = rng.uniform(size=(len(rows), 1)) * levels[:, -1:]
    columns = np.minimum((levels < drawn).sum(axis=1), right.n_obs - 1)
    mixed = (1 - t) * values[: left.n_obs][rows] + t * values[left.n_obs :][columns]
    places = (1 - t) * left.obsm["spatial"][rows] + t * right.obsm["spatial"][columns]
    return labelled(mixed, places, left, right, settings)


def deepspatial(left: ad.AnnData, settings: dict) -> ad.AnnData:
    """Run DeepSpatial by its defaults; of the volume, take the spots nearest to t."""
    import torch

    ds = import_peer("deepspatial")
    torch.manual_seed(settings["seed"])
    np.random.seed(settings["seed"])  # noqa: NPY002, the generator it draws from
    torch.set_num_threads(1)
    right, key = beside("right"), settings["niche_key"] or LABEL
    for adata, depth in ((left, 0.0), (right, 1.0)):
        adata.obs["z_coord"] = depth
    model = ds.DeepSpatial()
    model.setup_data([left, right], label_key=key, num_workers=0)
    model.build_model()
    model.fit(max_epochs=100, accelerator="cpu", devices=1)
    thickness = 0.1  # ten times as many spots as a slice, of which a tenth lies nearest to t
    volume = model.reconstruct_full_volume([left, right], thickness, device="cpu")
    distance = np.abs(volume.obs["z_coord"].to_numpy(dtype=float) - settings["t"])
    made = volume[np.argsort(distance)[: settings["n_spots"]]]
    obs = {"genot_domain": made.obs[LABEL]} | {k: made.obs[k] for k in [settings["niche_key"]] if k}
    return answer(made.X, made.obsm["spatial"], (left, right), obs)


def feast(left: ad.AnnData, settings: dict) -> ad.AnnData:
    """Run FEAST at the places of the held-out slice, which no other row sees: an upper bound."""
    from FEAST import SliceBlueprint, simulate_local_references

    right, places = beside("right"), beside("held_out").obsm["spatial"]
    key = settings["niche_key"] or LABEL
    depths = {"left": 0.0, "right": 1.0}
    for name, adata in (("left", left), ("right", right)):
        adata.uns["reference_name"] = name
    blueprint = SliceBlueprint(places, domain_map=near_labels(places, left, right, key))
    made = simulate_local_references(
        [left, right],
        blueprint,
        label_key=key,
        n_references=2,
        reference_z=depths,
        target_z=settings["t"],
        random_seed=settings["seed"],
    )
    made = made[:, left.var_names]
    return labelled(made.X, places, left, right, settings)


def _spatialz(left: ad.AnnData, settings: dict, n_steps: int, mode: str) -> ad.AnnData:
    """Run SpatialZ from its folder; put back the names that newer packages lack."""
    import types

    sys.path.insert(0, settings["spatialz"])
    if mode == "fast":  # which makes no use of it
        sys.modules.setdefault("MENDER", types.ModuleType("MENDER"))
    import SpatialZ as method

    made = method.AnnData
    method.AnnData = lambda *args, dtype=None, **named: made(*args, **named)
    ad.AnnData.concatenate = lambda self, *others, batch_key="batch", **_: ad.concat(
        [self, *(o for other in others for o in (other if isinstance(other, list) else [other]))],
        label=batch_key, index_unique="-",
    )  # fmt: skip
    right, key = beside("right"), settings["niche_key"] or LABEL
    columns = [LABEL] if key != LABEL else []
    for adata in (left, right):
        adata.X = adata.X.toarray()
    found = method.Generate_spatialz(
        left.copy(), right.copy(), alpha=1 - settings["t"], device="cpu",
        n_cell=settings["n_spots"], nb_iter_max=n_steps, seed=settings["seed"], cell_type_key=key,
        syn_mode=mode, add_obs_list=columns, verbose=False,
    )  # fmt: skip
    obs = {"genot_domain": found.obs[LABEL]} | {
        k: found.obs[k] for k in [settings["niche_key"]] if k
    }
    return answer(found.X, found.obsm["spatial"], (left, right), obs)


def spatialz(left: ad.AnnData, settings: dict) -> ad.AnnData:
    """Run SpatialZ by its defaults: 3,000 steps."""
    return _spatialz(left, settings, 3000, "default")


def spatialz_fast(left: ad.AnnData, settings: dict) -> ad.AnnData:
    """Run SpatialZ with 200 of its 3,000 steps and its fast way of drawing expression."""
    return _spatialz(left, settings, 200, "fast")


PEERS = {
    "placed_spots": placed_spots,
    "barycenters": barycenters,
    "knn_mean": knn_mean,
    "paste": paste,
    "moscot": moscot,
    "deepspatial": deepspatial,
    "feast": feast,
    "spatialz": spatialz,
    "spatialz_fast": spatialz_fast,
}

if __name__ == "__main__":
    serve(PEERS)
