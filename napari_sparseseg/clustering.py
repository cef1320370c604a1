"""Grouping features: whitening, k-means, empty clusters, and parting equally by optimal transport."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_FLAT = 1e-4  # directions along which features vary less, as a share of the most, are noise of float32
_STARTS = 4
_APART = 1e-3
_TOLERANCE = 1e-6
_COARSEST = 1.0


@dataclass(frozen=True, eq=False)
class Whitening:
    """A linear map after which features have no common mean and the same variance in all directions.

    Attributes
    ----------
    centre
        ``(F,)``: what is subtracted.
    directions
        ``(F, K)``: what is then multiplied by; columns of 0 where the features did not vary.
    """

    centre: Floats
    directions: Floats

    def project(self, features: Floats) -> Floats:
        """Return ``(N, K)`` whitened features of ``(N, F)``."""
        return (features - self.centre) @ self.directions

    def __call__(self, features: Floats) -> Floats:
        """Return ``(N, K)`` whitened features of ``(N, F)``, each of length 1."""
        whitened = self.project(features)
        length = np.linalg.norm(whitened, axis=1, keepdims=True)
        return np.asarray(whitened / np.maximum(length, np.finfo(np.float64).tiny))


def whiten(features: Floats, components: int) -> Whitening:
    """Return the whitening of features along their principal components.

    As before the k-means of Caron et al. (2018), Deep clustering for unsupervised learning of visual
    features.

    Parameters
    ----------
    features
        ``(N, F)``.
    components
        Directions to keep, those of the most variance first; what N and F do not allow is filled with 0.
    """
    centre = features.mean(0)
    _, lengths, axes = np.linalg.svd(features - centre, full_matrices=False)
    kept = min(components, int((lengths > _FLAT * max(lengths[0], _FLAT)).sum()))
    directions = np.zeros((features.shape[1], components))
    directions[:, :kept] = axes[:kept].T * (np.sqrt(len(features) - 1) / lengths[:kept])
    return Whitening(centre, directions)


def find_clusters(features: Floats, clusters: int, random: np.random.Generator) -> tuple[Indices, Floats]:
    """Part features by k-means.

    Returns
    -------
    The cluster ``(N,)`` of each of the features ``(N, F)``, and the centroids ``(clusters, F)``.  Clusters
    are empty where fewer features differ than there are clusters; see `refill_empty`.
    """
    search = KMeans(clusters, n_init=_STARTS, random_state=int(random.integers(2**31)))
    # Several threads would add in any order; whether fewer differ than there are clusters is seen below.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = search.fit(np.asarray(features, np.float64))
    return found.labels_.astype(np.int64), found.cluster_centers_


def refill_empty(
    assignments: Indices, centroids: Floats, features: Floats, random: np.random.Generator
) -> tuple[Indices, Floats, int]:
    """Fill each empty cluster with half of the largest one, as Caron et al. (2018) do.

    The largest is cut in the middle along a direction drawn at random, and its two centroids are moved
    apart along it, so that they differ even where all features are the same.

    Parameters
    ----------
    assignments
        ``(N,)``: the cluster of each feature.
    centroids
        ``(clusters, F)``.
    features
        ``(N, F)``.

    Returns
    -------
    New assignments and centroids, and how many clusters were empty.
    """
    assignments, centroids = assignments.copy(), centroids.copy()
    empty = np.flatnonzero(np.bincount(assignments, minlength=len(centroids)) == 0)
    for cluster in empty:
        sizes = np.bincount(assignments, minlength=len(centroids))
        largest = int(sizes.argmax())
        if sizes[largest] < 2:
            break
        direction = random.standard_normal(features.shape[1:])
        direction /= np.linalg.norm(direction)
        members = np.flatnonzero(assignments == largest)
        members = members[np.argsort(features[members] @ direction, kind="stable")]
        lower, upper = np.array_split(members, 2)
        assignments[upper] = cluster
        centroids[largest] = features[lower].mean(0) - _APART * direction
        centroids[cluster] = features[upper].mean(0) + _APART * direction
    return assignments, centroids, len(empty)


def balanced_shares(assignments: Indices) -> Floats:
    """Return how often to draw each input, ``(N,)`` with sum 1, so that all clusters come alike often.

    The inverse of the size of its cluster, without which the largest are learnt and the others are not
    (Caron et al. 2018).
    """
    weights = 1 / np.bincount(assignments)[assignments]
    return np.asarray(weights / weights.sum())


def column_potentials(log_probabilities: Floats, sharpness: float, iterations: int = 100) -> Floats:
    """Return what to add to log-probabilities so that the groups become equally large.

    Sinkhorn & Knopp's algorithm, which parts things equally at the highest probability, as Asano, Rupprecht &
    Vedaldi (2020), Self-labelling via simultaneous clustering and representation learning, use it; in the
    domain of logarithms, after Cuturi (2013), Sinkhorn distances.

    Parameters
    ----------
    log_probabilities
        ``(N, K)``: of each of N things to belong to each of K groups.
    sharpness
        Entropy weight of the transport; at 0 each thing would go to one group alone.
    iterations
        At most so many for each of the weights that are gone through: from 1 down to `sharpness` by halves,
        since small ones converge only from a good start.

    Returns
    -------
    ``(K,)``: the transport plan is the softmax of ``(log_probabilities + potentials) / sharpness`` over the
    groups; columns then have the sum N / K as nearly as `iterations` allow.  It labels things that were not
    there, too.
    """
    things, groups = log_probabilities.shape
    potentials = np.zeros(groups)
    weight: float = max(_COARSEST, sharpness)
    while True:
        for _ in range(iterations):
            sizes = logsumexp(_log_plan(log_probabilities, potentials, weight), axis=0)
            excess = sizes - np.log(things / groups)
            if np.abs(excess).max() < _TOLERANCE:
                break
            potentials = potentials - weight * excess
        if weight <= sharpness:
            return np.asarray(potentials - potentials.mean())
        weight = max(weight / 2, sharpness)


def _log_plan(log_probabilities: Floats, potentials: Floats, weight: float) -> Floats:
    scores = (log_probabilities + potentials) / weight
    return np.asarray(scores - logsumexp(scores, axis=1, keepdims=True))
