"""How fast the encoder is, how its cost grows, and how much memory it takes.

    python benchmarks/bench_encoder.py            # everything, about ten minutes on two cores
    python benchmarks/bench_encoder.py --quick    # small slices only, about a minute

Three tables: (1) whole runs against the published model, written here the way it was published:
a dense (n, n) matrix that is turned into a list of edges in every epoch, features gathered and
scattered along the edges hop by hop, a dense readout, a bilinear layer; (2) time per epoch up to
200,000 spots; (3) peak memory of a process that trains on 100,000 spots, imports included.

The published model is timed for a few epochs and multiplied by its 700. Its agreement with the
simulated domains is that of our `paper` configuration, which the tests show to be the same model
(loss and gradient to 1e-5) and which is much faster to run. Scores: best of ten starts of a
Gaussian mixture with common covariance on 16 principal components of the embedding.
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
import time

import numpy as np
import torch
from layers import N_DOMAINS, layered_slice
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from torch.nn import functional

from genot_helpers import peak_memory_mb, spatial_graph, train_encoder
from genot_helpers.encoder.encoder import DEFAULT, PAPER
from genot_helpers.preprocessing import nearest_neighbour_graph

N_COMPONENTS = 200


class Forerunner(torch.nn.Module):
    """The published model, for its cost: nothing is precomputed and the graph is dense."""

    def __init__(self, n_features, n_hidden=64, n_hops=12, dropout=0.3):
        super().__init__()
        self.n_hops, self.dropout = n_hops, dropout
        self.encode = torch.nn.Linear(n_features * (n_hops + 1), n_hidden)
        self.decode = torch.nn.Linear(n_hidden, n_features)
        self.bilinear = torch.nn.Bilinear(n_hidden, n_hidden, 1)

    def convolve(self, edges, weights, features):
        """Graph convolution without weights: normalise, gather, scale, scatter."""
        source, target = edges
        degree = torch.zeros(len(features)).index_add_(0, target, weights)
        scaled = weights * (degree[source] * degree[target]).rsqrt()
        messages = scaled[:, None] * features[source]
        return torch.zeros_like(features).index_add_(0, target, messages)

    def hidden(self, edges, weights, features):
        """Concatenate the features at all hops, mix them, convolve once more."""
        hops = [functional.dropout(features, self.dropout, self.training)]
        for _ in range(self.n_hops):
            hops.append(self.convolve(edges, weights, hops[-1]))
        mixed = functional.linear(torch.cat(hops, dim=1), self.encode.weight)
        return functional.leaky_relu(self.convolve(edges, weights, mixed) + self.encode.bias)

    def loss(self, features, adjacency, neighbourhood):
        """Run one forward pass from the dense (n, n) matrices."""
        edges = adjacency.nonzero(as_tuple=True)
        weights = adjacency[edges]
        own = self.hidden(edges, weights, features)
        other = self.hidden(edges, weights, features[torch.randperm(len(features))])
        decoded = functional.linear(own, self.decode.weight)
        recovered = self.convolve(edges, weights, decoded) + self.decode.bias
        total = 10 * functional.mse_loss(recovered, features)
        labels = torch.tensor([1.0, 0.0]).expand(len(features), 2)
        for first, second in ((own, other), (other, own)):
            mean = (neighbourhood @ first) / neighbourhood.sum(dim=1, keepdim=True)
            summary = torch.sigmoid(functional.normalize(mean, dim=1))
            scores = [self.bilinear(first, summary), self.bilinear(second, summary)]
            total = total + functional.binary_cross_entropy_with_logits(
                torch.cat(scores, dim=1), labels
            )
        return total


def forerunner_epoch_seconds(adata, n_epochs=3):
    """Time one epoch of the published model: median of ``n_epochs`` after one to warm up."""
    nearest_neighbour_graph(adata, n_neighbors=3, key_added="near")
    directed = torch.from_numpy(adata.obsp["near_connectivities"].toarray())
    undirected = torch.maximum(directed, directed.T)
    degree = undirected.sum(dim=1)
    adjacency = undirected / (degree[:, None] * degree).sqrt() + torch.eye(adata.n_obs)
    neighbourhood = directed + torch.eye(adata.n_obs)
    features = torch.from_numpy(adata.obsm["X_pca"])
    model = Forerunner(features.shape[1])
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    seconds = []
    for _ in range(n_epochs + 1):
        start = time.perf_counter()
        optimiser.zero_grad()
        model.loss(features, adjacency, neighbourhood).backward()
        optimiser.step()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[1:]))


def score(adata):
    components = PCA(16, random_state=0).fit_transform(adata.obsm["X_genot"])
    mixture = GaussianMixture(N_DOMAINS, covariance_type="tied", n_init=10, random_state=0)
    return adjusted_rand_score(adata.obs["domain_truth"], mixture.fit_predict(components))


def whole_runs(sizes):
    print("\n1. Whole runs on one simulated slice")
    print(f"{'spots':>8} {'model':<12} {'s/epoch':>9} {'epochs':>7} {'s/run':>9} {'faster':>8} ARI")
    for n_spots in sizes:
        adata = layered_slice(n_spots, N_COMPONENTS)
        epoch = forerunner_epoch_seconds(adata)
        reference = epoch * PAPER.max_epochs
        rows = []
        for name, configuration in (("paper", PAPER), ("default", DEFAULT)):
            training = train_encoder(adata, configuration=configuration)
            rows.append((name, training.seconds, training.n_epochs, score(adata)))
        rows.insert(0, ("forerunner", reference, PAPER.max_epochs, rows[0][3]))
        for name, seconds, n_epochs, ari in rows:
            print(
                f"{n_spots:>8,} {name:<12} {seconds / n_epochs:>9.4f} {n_epochs:>7} "
                f"{seconds:>9.1f} {reference / seconds:>7.1f}x {ari:.3f}",
                flush=True,
            )


def growth(sizes, n_epochs=6):
    print("\n2. Time per epoch, default configuration (hop features and graph made beforehand)")
    print(f"{'spots':>8} {'s/epoch':>9} {'µs/epoch/spot':>14}")
    few = dataclasses.replace(DEFAULT, max_epochs=n_epochs, tolerance=0.0)
    none = dataclasses.replace(few, max_epochs=0)
    train_encoder(
        layered_slice(500, N_COMPONENTS), configuration=few, progress=False
    )  # first use loads modules
    for n_spots in sizes:
        adata = layered_slice(n_spots, N_COMPONENTS)
        spatial_graph(adata)
        setup = train_encoder(adata, configuration=none, progress=False).seconds
        total = train_encoder(adata, configuration=few, progress=False).seconds
        epoch = (total - setup) / n_epochs
        print(f"{n_spots:>8,} {epoch:>9.3f} {epoch / n_spots * 1e6:>14.2f}", flush=True)


def train_once(n_spots, name):
    """Train for a few epochs and print the peak memory before and after."""
    configuration = dataclasses.replace({"default": DEFAULT, "paper": PAPER}[name], max_epochs=5)
    adata = layered_slice(n_spots, N_COMPONENTS)
    before = peak_memory_mb()
    train_encoder(adata, configuration=configuration, progress=False)
    print(f"{before:.0f} {peak_memory_mb():.0f}")


def memory(n_spots):
    print("\n3. Peak memory of a process that does nothing else (MB)")
    print(f"{'spots':>8} {'model':<12} {'imports and data':>17} {'training':>9}")
    for name in ("default", "paper"):
        command = [sys.executable, __file__, "--train-once", str(n_spots), name]
        result = subprocess.run(command, check=True, capture_output=True, text=True)
        before, peak = result.stdout.split()[-2:]
        print(f"{n_spots:>8,} {name:<12} {before:>17} {peak:>9}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small slices only")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--train-once", nargs=2, metavar=("SPOTS", "NAME"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.train_once:
        train_once(int(arguments.train_once[0]), arguments.train_once[1])
        return
    print(f"torch {torch.__version__}, {arguments.threads} threads")
    whole_runs((1000,) if arguments.quick else (3600, 10_000))
    growth(
        (5000, 10_000, 20_000) if arguments.quick else (10_000, 25_000, 50_000, 100_000, 200_000)
    )
    memory(20_000 if arguments.quick else 100_000)


if __name__ == "__main__":
    main()
