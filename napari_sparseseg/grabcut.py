"""GrabCut in 3D: from a box to the object in it, by intensity models and a graph cut in turn.

Methods: Rother, Kolmogorov & Blake 2004, "GrabCut"; GrabCut+ (borders at the image's edges) and its vote of
perturbed runs: Khoreva et al. 2017, "Simple Does It".
"""

import math
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from napari_sparseseg.box_geometry import Box
from napari_sparseseg.edges import find_edges
from napari_sparseseg.graph_cut import Link, cut_graph, neighbour_offsets, pair_views, surface_shares
from napari_sparseseg.settings import BoxConfig
from napari_sparseseg.work_grid import Scene, WorkGrid

Floats = NDArray[np.floating]

_SAMPLES = 4000  # voxels that a mixture is fitted to
_LARGEST_DRAFT = 30_000  # voxels of a box that is cut again and again
_LARGEST_CUT = 250_000  # voxels of one that is cut once
_LARGEST_VOTE = 15_000  # voxels of each of many cuts
_STRENGTH = 4.0  # what parting a voxel from all its neighbours costs at smoothness 1, in nats
_EDGE = 0.5  # strength of an edge at which parting costs a third of what it costs in flat parts
_CHEAPEST = 0.3  # an edge makes it no cheaper than this share: noise is full of edges
_MOST_GAIN = 12.0
_EXTENT = 3.0  # nats by which the middle of the box is rather object, falling with the distance from it
_RADIUS = 0.85  # where that is 0, as a share of the ellipsoid that touches the box's faces
_SMALLEST_SHARE = 0.002  # of the box; what is less is nothing
_FEWEST = 2  # voxels that a mixture can be fitted to


def cut_out(
    scene: Scene, config: BoxConfig, random: np.random.Generator, *, edges: bool
) -> Generator[float, None, NDArray[np.bool_]]:
    """Find the object in a box by GrabCut, or with `edges` by GrabCut+.

    Intensity mixtures of object and background are fitted, and the cheapest cut is found, in turn, until
    the object stays as it is.  The background is learnt from the margin round the box, and nothing
    outside the box is object.  A large box is drafted so on a coarse grid, and then cut once more on its own
    (if it has more than 250,000 voxels, on one of these).

    Yields
    ------
    The share of the work that is done.

    Returns
    -------
    ``(Z, Y, X)`` of the scene; empty where there is no contrast, or nothing round the box to learn from.
    """
    draft, grid = WorkGrid(scene, _LARGEST_DRAFT), WorkGrid(scene, _LARGEST_CUT)
    cutter = _Cutter(draft.scene, config.smoothness, edges=edges)
    found = np.zeros(draft.scene.others.shape, bool)
    for done, inside in enumerate(cutter.iterate(config.components, config.iterations, random), start=1):
        found = inside
        yield done / (config.iterations + 2)
    if found.shape != grid.scene.others.shape and found.any():
        cutter = _Cutter(grid.scene, config.smoothness, edges=edges)
        start = grid.take(draft.bring_back(found.astype(np.float32))) > 0.5
        for inside in cutter.iterate(config.components, 1, random, start):
            found = inside
            yield (config.iterations + 1) / (config.iterations + 2)
    bring_back = draft.bring_back if found.shape == draft.scene.others.shape else grid.bring_back
    return _within(scene.box, bring_back(found.astype(np.float32)) > 0.5)


def vote(
    scene: Scene, config: BoxConfig, random: np.random.Generator
) -> Generator[float, None, NDArray[np.float32]]:
    """Let GrabCut+ of many moved and resized boxes vote (GrabCut+ⁱ).

    The number of Gaussians and the smoothness vary from run to run too, as in the paper.  Each run is made
    on a grid of at most 15,000 voxels.

    Yields
    ------
    The share of the work that is done.

    Returns
    -------
    ``(Z, Y, X)`` of the scene: the share of the runs that call a voxel the object.
    """
    grid = WorkGrid(scene, _LARGEST_VOTE)
    cutter = _Cutter(grid.scene, config.smoothness, edges=True)
    votes = np.zeros(grid.scene.others.shape, np.float32)
    for run in range(config.runs):
        moved = _jitter_box(grid.scene.box, grid.scene.others.shape, config.jitter, random)
        components = int(random.integers(max(1, config.components - 2), config.components + 3))
        varied = cutter.varied(moved, config.smoothness * float(random.uniform(0.7, 1.4)))
        cuts = list(varied.iterate(components, config.iterations, random))
        if cuts:
            votes += cuts[-1]
        yield (run + 1) / config.runs
    shares = grid.bring_back(votes / np.float32(config.runs))
    return np.where(_within(scene.box, np.ones(shares.shape, bool)), shares, np.float32(0))


class _Cutter:
    """What all cuts of one scene share: standardised features, edges, links."""

    def __init__(self, scene: Scene, smoothness: float, *, edges: bool) -> None:
        self._scene = scene
        self._smoothness = smoothness
        self._features = _describe(scene.image)
        ridges = _thin(find_edges(scene.image, scene.spacing)) if edges else None
        self._offsets = neighbour_offsets(scene.others.shape)
        contrasts = [self._contrast(offset, ridges) for offset in self._offsets]
        # So that smoothness means the same in all images; a single voxel has no neighbours.
        mean = float(np.mean([each.mean() for each in contrasts] or [1.0]))
        shares = surface_shares(self._offsets, scene.spacing)
        self._costs = [
            _STRENGTH * share / sum(shares) * each / mean
            for share, each in zip(shares, contrasts, strict=True)
        ]

    def varied(self, box: Box, smoothness: float) -> "_Cutter":
        """Return a cutter of another box in the same scene."""
        other = object.__new__(_Cutter)
        other.__dict__ |= self.__dict__
        other._scene, other._smoothness = replace(self._scene, box=box), smoothness
        return other

    def iterate(
        self,
        components: int,
        iterations: int,
        random: np.random.Generator,
        start: NDArray[np.bool_] | None = None,
    ) -> Iterator[NDArray[np.bool_]]:
        """Yield the object, better each time; nothing at all where there is nothing to learn from.

        It begins with `start`, or with the ellipsoid that touches the box's faces.
        """
        box = self._scene.box
        free = _within(box, np.ones(self._scene.others.shape, bool))
        outside = ~free & ~self._scene.others
        inside = free & (_distance(box, free.shape) <= 1 if start is None else start)
        if min(outside.sum(), inside.sum()) < _FEWEST or not self._features.any():
            return
        links, pull = self._links(box), self._pull(box)
        extent = _RADIUS - _distance(box, free.shape)[box.region]
        least = max(_FEWEST, components, _SMALLEST_SHARE * box.volume)
        seed = int(random.integers(2**31))
        for _ in range(iterations):
            background = outside | (free & ~inside)
            gain = self._score(inside, components, random, seed) - self._score(
                background, components, random, seed
            )
            inner = np.clip(gain[box.region], -_MOST_GAIN, _MOST_GAIN) + _EXTENT * extent
            cut = np.zeros_like(inside)
            cut[box.region] = cut_graph(inner - pull, links)
            if cut.sum() < least:
                yield np.zeros_like(cut)
                return
            changed = float((cut != inside).mean())
            inside = cut
            yield inside
            if changed < 1e-4:
                return

    def _score(
        self, where: NDArray[np.bool_], components: int, random: np.random.Generator, seed: int
    ) -> Floats:
        """Return the log-likelihood ``(Z, Y, X)`` of the box's voxels by a mixture of those `where`."""
        voxels = np.flatnonzero(where)
        if len(voxels) > _SAMPLES:
            voxels = random.choice(voxels, _SAMPLES, replace=False)
        rows = self._features.reshape(len(self._features), -1).T
        mixture = GaussianMixture(
            min(components, max(1, len(voxels) // 10)),
            reg_covar=1e-3,
            max_iter=50,
            tol=1e-2,
            random_state=seed,
        )
        region = self._scene.box.region
        asked = self._features[(slice(None), *region)]
        scores = np.zeros(where.shape, np.float32)
        with _quiet():
            mixture.fit(rows[voxels])
            scores[region] = mixture.score_samples(asked.reshape(len(asked), -1).T).reshape(asked.shape[1:])
        return scores

    def _contrast(self, offset: tuple[int, int, int], edges: Floats | None) -> Floats:
        """Return how alike neighbours are: 1 in flat parts, towards 0 where intensity jumps or an edge is."""
        squares = sum(np.square(np.subtract(*pair_views(channel, offset))) for channel in self._features[::2])
        mean = float(np.mean(squares))
        alike: Floats = np.exp(-np.asarray(squares) / (2 * mean)) if mean else np.ones(np.shape(squares))
        if edges is not None:
            first, second = pair_views(edges, offset)
            alike = alike * (_CHEAPEST + (1 - _CHEAPEST) * np.exp(-(((first + second) / 2 / _EDGE) ** 2)))
        return alike

    def _links(self, box: Box) -> list[Link]:
        """Return the links between voxels of the box."""
        links = []
        for offset, costs in zip(self._offsets, self._costs, strict=True):
            z, y, x = (slice(a, b - abs(o)) for a, b, o in zip(box.start, box.stop, offset, strict=True))
            if all(abs(o) < n for o, n in zip(offset, box.shape, strict=True)):
                links.append(Link(offset, self._smoothness * costs[z, y, x]))
        return links

    def _pull(self, box: Box) -> Floats:
        """Return what the voxels on the box's faces pay for being object: beyond them is background."""
        pull = np.zeros(self._scene.others.shape)
        is_inside = _within(box, np.ones(pull.shape, bool))
        for offset, costs in zip(self._offsets, self._costs, strict=True):
            first, second = pair_views(is_inside, offset)
            for view in pair_views(pull, offset):
                view += self._smoothness * costs * (first != second)
        return pull[box.region]


def _describe(image: Floats) -> NDArray[np.float32]:
    """Return intensities and smoothed intensities, each channel of mean 0 and standard deviation 1."""
    features = []
    for channel in image:
        spread = float(channel.std())
        if spread <= 1e-6 * max(1.0, float(np.abs(channel).max())):
            features += [np.zeros_like(channel)] * 2
            continue
        standard = (channel - channel.mean()) / spread
        features += [standard, ndimage.gaussian_filter(standard, 1.0)]
    return np.stack(features).astype(np.float32)


def _thin(edges: Floats) -> Floats:
    """Keep the ridges of an edge map, and weaken their slopes."""
    crest = np.maximum(ndimage.maximum_filter(edges, 3), 1e-6)
    thin: Floats = edges * (edges / crest) ** 2
    return thin


def _distance(box: Box, shape: tuple[int, ...]) -> Floats:
    """Return how far from the box's middle a voxel is: 1 on the ellipsoid that touches the box's faces."""
    squares = [
        ((np.arange(n) + 0.5 - (a + b) / 2) / ((b - a) / 2)) ** 2
        for a, b, n in zip(box.start, box.stop, shape, strict=True)
    ]
    distance: Floats = np.sqrt(squares[0][:, None, None] + squares[1][:, None] + squares[2])
    return distance


def _within(box: Box, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    inside = np.zeros(mask.shape, bool)
    inside[box.region] = mask[box.region]
    return inside


def _jitter_box(box: Box, shape: tuple[int, ...], jitter: float, random: np.random.Generator) -> Box:
    """Move each face of a box by up to `jitter` of its sides, rounded at random: small boxes move too."""
    start, stop = [], []
    for a, b, length in zip(box.start, box.stop, shape, strict=True):
        reach = jitter * (b - a)
        first = math.floor(a + random.uniform(-reach, reach) + random.random())
        last = math.floor(b + random.uniform(-reach, reach) + random.random())
        first = min(max(0, first), length - 1)
        start.append(first)
        stop.append(min(length, max(first + 1, last)))
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]), box.label)


@contextmanager
def _quiet() -> Iterator[None]:
    """Let mixtures that have not converged be good enough; the next iteration fits them anew."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield
