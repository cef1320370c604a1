"""The minimum cut that parts a volume into object and background (Boykov & Jolly 2001).

Each voxel pays for what it is called, and each pair of neighbours for being called differently; the
cheapest labelling of all is found exactly, as a maximum flow.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

Floats = NDArray[np.floating]
Offset = tuple[int, int, int]

_LEVELS = 100_000  # capacities are whole numbers; this many steps up to the largest cost
_DIRECTIONS = 32  # along each edge of a cube


@dataclass(frozen=True, eq=False)
class Link:
    """What it costs to part neighbours.

    Attributes
    ----------
    offset
        From a voxel to its neighbour, ``(Z, Y, X)``; only one of each pair of opposite offsets is given.
    costs
        ≥ 0, of the shape that `pair_views` returns.
    """

    offset: Offset
    costs: Floats


def neighbour_offsets(shape: tuple[int, ...]) -> list[Offset]:
    """Return the 13 offsets to half of the 26 neighbours, without those that leave a thin volume."""
    return [
        (z, y, x)
        for z, y, x in itertools.product((-1, 0, 1), repeat=3)
        if (z, y, x) > (0, 0, 0) and all(abs(o) < n for o, n in zip((z, y, x), shape, strict=True))
    ]


def pair_views(array: NDArray, offset: Offset) -> tuple[NDArray, NDArray]:  # type: ignore[type-arg]
    """Return two views of ``(Z, Y, X)``: voxels that have a neighbour at `offset`, and these neighbours."""
    first = tuple(slice(max(0, -o), n - max(0, o)) for o, n in zip(offset, array.shape, strict=True))
    second = tuple(slice(max(0, o), n - max(0, -o)) for o, n in zip(offset, array.shape, strict=True))
    return array[first], array[second]


def surface_shares(offsets: Sequence[Offset], spacing: tuple[float, float, float]) -> list[float]:
    """Return how much surface the link along each offset stands for.

    With these factors the cost of a cut is about the area of its surface, however it lies and whatever the
    spacing (Boykov & Kolmogorov 2003): a link stands for all directions that are nearer to its own than to
    any other's.  A factor common to all voxel sides changes nothing.
    """
    if not offsets:
        return []
    steps = np.multiply(offsets, spacing)
    lengths = np.linalg.norm(steps, axis=1)
    middles = (np.arange(_DIRECTIONS) + 0.5) / _DIRECTIONS * 2 - 1
    u, v = (each.reshape(-1) for each in np.meshgrid(middles, middles))
    face = np.stack([np.ones_like(u), u, v])  # of a cube, so that no axis is special
    directions = np.concatenate([np.roll(face, axis, axis=0) for axis in range(3)], axis=1)
    distances = np.linalg.norm(directions, axis=0)
    likeness = np.abs(steps / lengths[:, None] @ directions) / distances
    nearest = likeness > likeness.max(0) - 1e-9  # several share a direction between them
    angles = nearest / nearest.sum(0) @ distances**-3
    side = float(np.prod(spacing)) ** (1 / 3)
    shares: list[float] = (angles / angles.mean() * side / lengths).tolist()
    return shares


def cut_graph(object_gain: Floats, links: Sequence[Link]) -> NDArray[np.bool_]:
    """Return the cheapest object.

    Parameters
    ----------
    object_gain
        ``(Z, Y, X)``, finite: the cost of calling a voxel background minus that of calling it object.
    links
        Between neighbours.

    Returns
    -------
    ``(Z, Y, X)``: True for the object; where both are as cheap, background.
    """
    size = object_gain.size
    numbers = np.arange(size, dtype=np.int32).reshape(object_gain.shape)
    most = np.zeros(object_gain.shape)
    ends = []
    for link in links:
        first, second = pair_views(numbers, link.offset)
        for view in pair_views(most, link.offset):
            view += link.costs
        ends.append((first.reshape(-1), second.reshape(-1), np.asarray(link.costs).reshape(-1)))
    # A gain beyond all of a voxel's links decides alone; more would only make the numbers larger.
    most += 0.01 * float(most.max(initial=0)) or 1.0
    gain = np.clip(object_gain, -most, most).reshape(-1)
    largest = max(float(each.max(initial=0)) for each in (np.abs(gain), *(costs for *_, costs in ends)))
    scale = _LEVELS / max(largest, 1e-200)
    source, sink = size, size + 1
    inner = np.arange(size, dtype=np.int32)
    starts, stops, capacities = [np.full(size, source, np.int32), inner], [inner, np.full(size, sink)], [
        np.maximum(gain, 0), np.maximum(-gain, 0)
    ]  # fmt: skip
    for first, second, costs in ends:
        starts += [first, second]
        stops += [second, first]
        capacities += [costs, costs]
    whole = np.rint(np.concatenate(capacities) * scale).astype(np.int32)
    graph = csr_matrix((whole, (np.concatenate(starts), np.concatenate(stops))), shape=(size + 2, size + 2))
    left = graph - maximum_flow(graph, source, sink).flow
    left.eliminate_zeros()
    reached = breadth_first_order(left, source, return_predecessors=False)
    is_object = np.zeros(size + 2, bool)
    is_object[reached] = True
    return is_object[:size].reshape(object_gain.shape)
