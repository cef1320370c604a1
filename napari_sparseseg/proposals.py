"""The region that fits a box best, from a hierarchy of regions that follow the image's edges.

In place of MCG (Arbeláez et al. 2014), from which Khoreva et al. 2017 ("Simple Does It") take the proposal
that fits each box best. Supervoxels (a watershed of the edges) are merged greedily where they differ least;
each region that comes up, and each pair of neighbouring large ones, is a proposal.
"""

import heapq
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import csr_matrix
from skimage.segmentation import watershed

from napari_sparseseg.box_geometry import Box, inner_box
from napari_sparseseg.edges import find_edges, typical_spread
from napari_sparseseg.work_grid import Scene, WorkGrid, run_to_end

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]
Bools = NDArray[np.bool_]
Spacing = tuple[float, float, float]

_FINE_SCALE = 1.0  # of the edges that supervoxels follow, in units of the finest spacing
_MIDDLE_SHARE = 0.3  # of the box's volume, most of it the object
# Contrast damped beyond so many spreads, and the share of the supervoxels asked for.
_HIERARCHIES = ((1.0, 1.0), (2.0, 0.5), (2.0, 1.0), (2.0, 2.0), (4.0, 1.0))
_NEAR_TIE = 0.02
_LARGEST = 400_000  # voxels of a box that is searched on its own grid
_PAIRED_NODES = 200  # the last ones to be merged, thus the largest


@dataclass(frozen=True, eq=False)
class Proposal:
    """The region chosen for a box.

    Attributes
    ----------
    mask
        ``(Z, Y, X)`` of the crop, False outside of the box; empty where there is nothing to propose.
    overlap
        Intersection over union of the whole region's bounding box with the user's box, 0 to 1.
    """

    mask: Bools
    overlap: float


@dataclass(frozen=True, eq=False)
class RegionGraph:
    """Which supervoxels touch, and how much they differ.

    Attributes
    ----------
    pairs
        ``(P, 2)`` numbers of supervoxels that share a face, the smaller one first; each pair once.
    areas
        ``(P,)`` shared surface in mm².
    strengths
        ``(P,)`` mean edge strength on the shared surface.
    sizes
        ``(N,)`` voxels of each supervoxel.
    means
        ``(N, C)`` mean intensities.
    """

    pairs: Integers
    areas: Floats
    strengths: Floats
    sizes: Floats
    means: Floats


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """A binary tree of regions: nodes 0 to N - 1 are supervoxels, node N + i is made by merge i.

    Attributes
    ----------
    children
        ``(N - 1, 2)``: the nodes that each merge joins.
    costs
        ``(N - 1,)``: how much they differed.
    borders
        ``(2N - 1, 2)``: each node's surface in mm² inside the crop, and the edge strength summed over it.
    members
        ``(2N - 1, N)``: the supervoxels of each node; the last node is everything.
    """

    children: Integers
    costs: Floats
    borders: Floats
    members: Bools


@dataclass(frozen=True, eq=False)
class ProposalList:
    """All proposals for a box.

    Attributes
    ----------
    nodes
        ``(K, 2)``: the two nodes of a pair, or twice the same one.
    overlaps
        ``(K,)``: IoU of the proposal's bounding box with the user's.
    fits
        ``(K,)``: Dice with the ellipsoid that fills the user's box.
    borders
        ``(K,)``: mean edge strength along the border.
    """

    nodes: Integers
    overlaps: Floats
    fits: Floats
    borders: Floats

    def best(self) -> int:
        """Return the proposal with the highest product of overlap and fit.

        Of those within 0.02 of it, the one with the strongest border.
        """
        ranks = self.overlaps * self.fits
        near = np.flatnonzero(ranks >= ranks.max() - _NEAR_TIE)
        return int(near[np.argmax(self.borders[near])])


def find_best_proposal(
    image: NDArray[np.floating], spacing: Spacing, box: Box, supervoxels: int = 600
) -> Proposal:
    """Return the proposal that fits a box best: `search_proposal` in one go."""
    return run_to_end(search_proposal(image, spacing, box, supervoxels))


def search_proposal(
    image: NDArray[np.floating], spacing: Spacing, box: Box, supervoxels: int = 600
) -> Generator[float, None, Proposal]:
    """Search the proposal that fits a box best.

    The paper takes the proposal of MCG with the highest IoU with the box. MCG proposes few regions, and
    only object-like ones; among all regions of a hierarchy, many that fill the box's sides are scraps of
    background round the object. So the IoU of the bounding boxes counts together with the Dice of the
    region with the ellipsoid that fills the box. As MCG joins several segmentations, this is done for five
    hierarchies of different contrast and fineness; of their best proposals, the one most like the others
    wins. A box of more than 400,000 voxels is searched on a coarser grid.

    Parameters
    ----------
    image
        ``(C, Z, Y, X)``, finite: the volume round the box.
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    box
        In voxels of the crop.
    supervoxels
        How many there are at most in the middle one of the hierarchies; 1/2 to 2 times as many in the others.

    Yields
    ------
    The share of the work that is done, once before the first hierarchy and once after each.
    """
    shape = (image.shape[1], image.shape[2], image.shape[3])
    inside = box.clipped(shape)
    yield 0.0
    nothing = Proposal(np.zeros(shape, bool), 0.0)
    if not inside.volume:
        return nothing
    grid = WorkGrid(Scene(image, spacing, inside, np.zeros(shape, bool)), _LARGEST)
    scene = grid.scene
    proposals = []
    for step, (reach, share) in enumerate(_HIERARCHIES, start=1):
        stretched = stretch_contrast(scene.image, scene.box, reach)
        proposal = _best_of_hierarchy(stretched, scene.spacing, scene.box, round(supervoxels * share))
        if proposal is not None:
            proposals.append(proposal)
        yield step / len(_HIERARCHIES)
    if not proposals:
        return nothing
    agreement = [sum(_dice(one.mask, other.mask) for other in proposals) for one in proposals]
    best = proposals[int(np.argmax(agreement))]
    if scene.image is not image:
        back = grid.bring_back(best.mask.astype(np.float32))
        nothing.mask[inside.region] = back[inside.region] > 0.5
        best = Proposal(nothing.mask, best.overlap)
    return best


def _best_of_hierarchy(image: Floats, spacing: Spacing, box: Box, number: int) -> Proposal | None:
    labels = make_supervoxels(image, spacing, number)
    if not image.any() or not labels.any():
        return None
    graph = build_graph(labels, find_edges(image, spacing), image, spacing)
    tree = merge_regions(graph)
    proposals = list_proposals(labels, graph, tree, box)
    best = proposals.best()
    whole = tree.members[proposals.nodes[best]].any(0)[labels]
    mask = np.zeros_like(whole)
    mask[box.region] = whole[box.region]
    return Proposal(mask, float(proposals.overlaps[best]))


def _dice(first: Bools, second: Bools) -> float:
    together = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / max(1, together)


def stretch_contrast(image: NDArray[np.floating], box: Box, reach: float) -> Floats:
    """Damp contrast more than `reach` spreads from the box's middle: air and bone must not dwarf the rest.

    Returns
    -------
    ``(C, Z, Y, X)`` in -1 to 1; 0 for a constant channel.
    """
    middle = inner_box(box, _MIDDLE_SHARE).region
    stretched = np.zeros(image.shape)
    for channel, target in zip(image.astype(np.float64), stretched, strict=True):
        deviation = float(channel.std())
        if deviation <= 1e-6 * float(np.abs(channel).max()):
            continue
        centre = float(np.median(channel[middle]))
        spread = typical_spread(channel[middle], centre, deviation)
        target[...] = np.tanh((channel - centre) / (reach * spread))
    return stretched


def make_supervoxels(image: Floats, spacing: Spacing, number: int) -> Integers:
    """Part ``(C, Z, Y, X)`` into at most `number` connected regions of about equal extent in mm.

    A watershed of the fine edges, from the faintest edge near each point of an even grid; if there are
    no more voxels than `number`, each voxel is a region.

    Returns
    -------
    ``(Z, Y, X)`` numbers from 0 on.
    """
    shape = image.shape[1:]
    size = int(np.prod(shape))
    if size <= number:
        return np.arange(size).reshape(shape)
    edges = find_edges(image, spacing, (_FINE_SCALE * min(spacing),))
    counts = _grid_counts(shape, spacing, max(1, number))
    markers = np.zeros(shape, np.int32)
    reach = [length // count // 3 for length, count in zip(shape, counts, strict=True)]
    for index, cell in enumerate(np.ndindex(*counts), start=1):
        middle = [(2 * c + 1) * n // (2 * k) for c, n, k in zip(cell, shape, counts, strict=True)]
        window = tuple(slice(max(0, m - r), m + r + 1) for m, r in zip(middle, reach, strict=True))
        lowest = np.unravel_index(np.argmin(edges[window]), edges[window].shape)
        markers[tuple(edge.start + low for edge, low in zip(window, lowest, strict=True))] = index
    return np.asarray(watershed(edges, markers) - 1, np.int64)


def _grid_counts(shape: tuple[int, ...], spacing: Spacing, number: int) -> list[int]:
    """Points of the finest even grid with at most `number` points, along each axis."""
    step = min(spacing)
    while True:
        counts = [max(1, min(n, round(n * mm / step))) for n, mm in zip(shape, spacing, strict=True)]
        if np.prod(counts) <= number:
            return counts
        step *= 1.02


def build_graph(labels: Integers, edges: Floats, image: Floats, spacing: Spacing) -> RegionGraph:
    """Describe the regions of `labels` ``(Z, Y, X)``, numbered from 0 on, and the surfaces between them."""
    number = int(labels.max()) + 1
    keys, areas, sums = [], [], []
    for axis in range(3):
        numbers = np.moveaxis(labels, axis, 0)
        first, second = numbers[:-1], numbers[1:]
        values = np.moveaxis(edges, axis, 0)
        parted = first != second
        area = float(np.prod(spacing)) / spacing[axis]
        low, high = np.minimum(first, second)[parted], np.maximum(first, second)[parted]
        keys.append(low.astype(np.int64) * number + high)
        areas.append(np.full(len(low), area))
        sums.append(area * (values[:-1][parted] + values[1:][parted]) / 2)
    unique, inverse = np.unique(np.concatenate(keys), return_inverse=True)
    total = np.asarray(np.bincount(inverse, np.concatenate(areas), len(unique)), np.float64)
    strengths = np.bincount(inverse, np.concatenate(sums), len(unique)) / total
    flat = labels.reshape(-1)
    sizes = np.bincount(flat, minlength=number).astype(np.float64)
    means = [np.bincount(flat, channel.reshape(-1), number) / sizes for channel in image]
    return RegionGraph(
        np.stack([unique // number, unique % number], -1), total, strengths, sizes, np.stack(means, -1)
    )


def merge_regions(graph: RegionGraph) -> Hierarchy:
    """Merge neighbours, the least different first, until one region is left.

    Two regions differ by the mean edge strength on their surface (as in Arbeláez 2006) and by the distance
    of their mean intensities in standard deviations; both times the root of ab / (a + b) for sizes a and b
    (Ward 1963), without which scraps at strong edges outlast objects.
    """
    number = len(graph.sizes)
    forest = _Forest(graph)
    heap = [(forest.cost(a, b), a, b) for a, b in graph.pairs.tolist()]
    heapq.heapify(heap)
    children, costs, borders = [], [], [*forest.borders()]
    while heap:
        cost, a, b = heapq.heappop(heap)
        if not (forest.near[a] and b in forest.near[a]):
            continue
        shared = forest.near[a][b]
        children.append((a, b))
        costs.append(cost)
        borders.append(borders[a] + borders[b] - 2 * np.array(shared))
        new = forest.join(a, b)
        for other in forest.near[new]:
            heapq.heappush(heap, (forest.cost(other, new), other, new))
    members = np.zeros((2 * number - 1, number), bool)
    np.fill_diagonal(members, True)
    for node, (a, b) in enumerate(children, start=number):
        members[node] = members[a] | members[b]
    return Hierarchy(np.array(children, int).reshape(-1, 2), np.array(costs), np.array(borders), members)


class _Forest:
    """The regions while they are merged: who touches whom, sizes and mean intensities."""

    def __init__(self, graph: RegionGraph) -> None:
        self.sizes: list[float] = graph.sizes.tolist()
        self.means = list(graph.means)
        self.near: list[dict[int, tuple[float, float]]] = [{} for _ in self.sizes]
        for (a, b), area, strength in zip(
            graph.pairs.tolist(), graph.areas.tolist(), graph.strengths.tolist(), strict=True
        ):
            self.near[a][b] = self.near[b][a] = (area, area * strength)
        self._total = float(graph.sizes.sum())
        spread = graph.means - np.average(graph.means, axis=0, weights=graph.sizes)
        self._deviation = float(np.sqrt((spread**2).sum(1) @ graph.sizes / self._total)) or 1.0

    def cost(self, a: int, b: int) -> float:
        area, summed = self.near[a][b]
        difference = float(np.linalg.norm(self.means[a] - self.means[b])) / self._deviation
        weight = self.sizes[a] * self.sizes[b] / (self.sizes[a] + self.sizes[b]) / self._total
        return float((summed / area + difference) * weight**0.5)

    def borders(self) -> Iterator[Floats]:
        for near in self.near:
            yield np.array(list(near.values())).reshape(-1, 2).sum(0)

    def join(self, a: int, b: int) -> int:
        """Make one region of two and return its number; their own entries are emptied."""
        new = len(self.sizes)
        size = self.sizes[a] + self.sizes[b]
        self.means.append((self.means[a] * self.sizes[a] + self.means[b] * self.sizes[b]) / size)
        self.sizes.append(size)
        joined: dict[int, tuple[float, float]] = {}
        for old in (a, b):
            for other, (area, summed) in self.near[old].items():
                if other not in (a, b):
                    before = joined.get(other, (0.0, 0.0))
                    joined[other] = (before[0] + area, before[1] + summed)
                    del self.near[other][old]
            self.near[old] = {}
        for other, surface in joined.items():
            self.near[other][new] = surface
        self.near.append(joined)
        return new


def list_proposals(labels: Integers, graph: RegionGraph, tree: Hierarchy, box: Box) -> ProposalList:
    """Measure how each node but the whole, and each pair of neighbours among the largest 200, fits a box."""
    number = len(graph.sizes)
    bounds = node_bounds(labels, tree)
    filled = np.bincount(labels[box.region].reshape(-1), _ellipsoid(box.shape).reshape(-1), number)
    # Per node: voxels, voxels in the ellipsoid, surface, edge strength summed over the surface.
    sums = np.concatenate([tree.members @ np.stack([graph.sizes, filled], -1), tree.borders], axis=1)
    single = np.arange(2 * number - 2)
    pairs, shared = _neighbours(graph, tree)
    nodes = np.concatenate([np.stack([single, single], -1), pairs])
    first, second = nodes.T
    sums = np.concatenate([sums[single], sums[pairs].sum(1)])
    sums[len(single) :, 2:] -= 2 * shared
    starts = np.minimum(bounds[first, :3], bounds[second, :3])
    stops = np.maximum(bounds[first, 3:], bounds[second, 3:])
    fits = 2 * sums[:, 1] / (sums[:, 0] + filled.sum())
    borders = sums[:, 3] / np.maximum(sums[:, 2], 1e-9 * tree.borders[:, 0].max())
    whole = np.isclose(sums[:, 0], graph.sizes.sum())  # of two, the pair below the root
    return ProposalList(nodes[~whole], _overlaps(starts, stops, box)[~whole], fits[~whole], borders[~whole])


def node_bounds(labels: Integers, tree: Hierarchy) -> Integers:
    """Return the first voxel and the one after the last of each node, ``(2N - 1, 6)``."""
    number = tree.members.shape[1]
    bounds = np.empty((len(tree.members), 6), int)
    for index, (z, y, x) in enumerate(ndimage.find_objects(labels.astype(np.int32) + 1)):
        bounds[index] = z.start, y.start, x.start, z.stop, y.stop, x.stop
    for node, (a, b) in enumerate(tree.children, start=number):
        bounds[node, :3] = np.minimum(bounds[a, :3], bounds[b, :3])
        bounds[node, 3:] = np.maximum(bounds[a, 3:], bounds[b, 3:])
    return bounds


def _neighbours(graph: RegionGraph, tree: Hierarchy) -> tuple[Integers, Floats]:
    """Return pairs of large nodes that touch without overlapping, and their shared surface and edge sum."""
    number = len(graph.sizes)
    nodes = np.arange(max(0, 2 * number - 2 - _PAIRED_NODES), 2 * number - 2)
    members = tree.members[nodes].astype(np.float64)
    first, second = graph.pairs.T
    surfaces = []
    for values in (graph.areas, graph.areas * graph.strengths):
        half = csr_matrix((values, (first, second)), shape=(number, number))
        surfaces.append((half + half.T).dot(members.T).T @ members.T)
    apart = members @ members.T == 0
    a, b = np.nonzero(np.triu(apart & (surfaces[0] > 1e-9 * tree.borders[:, 0].max()), 1))
    return np.stack([nodes[a], nodes[b]], -1), np.stack([surface[a, b] for surface in surfaces], -1)


def _ellipsoid(shape: tuple[int, int, int]) -> Floats:
    """1 for voxels in the ellipsoid that fills a box of `shape`, else 0."""
    z, y, x = np.ogrid[tuple(slice(1 / n - 1, 1, 2 / n) for n in shape)]
    return np.asarray(z**2 + y**2 + x**2 <= 1, np.float64)


def _overlaps(starts: Integers, stops: Integers, box: Box) -> Floats:
    common = np.maximum(0, np.minimum(stops, box.stop) - np.maximum(starts, box.start)).prod(1)
    return np.asarray(common / ((stops - starts).prod(1) + box.volume - common), np.float64)
