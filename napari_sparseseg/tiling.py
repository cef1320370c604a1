"""Tiles of a volume: how they lie in it, cut out so that nothing but their content says where from."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sparseseg.networks import Triple, to_triple
from napari_sparseseg.pretext import TaskContext
from napari_sparseseg.views import standardise
from napari_sparseseg.volume_pool import Place, VolumePool

_TRIES = 16
_LEAST_CONTRAST = 0.2  # as in a pool
_LEAST_DEVIATION = 1e-3  # of a volume whose own deviation is 1; where a tile is flat


@dataclass(frozen=True)
class Tiling:
    """A grid of cells with gaps between them, and in each a tile that can move a little.

    Attributes
    ----------
    counts
        Cells along each axis ``(Z, Y, X)``.
    side
        Of a tile, in voxels.
    gap
        Between neighbouring cells, in voxels.
    room
        By how many voxels a cell is larger than a tile.
    """

    counts: Triple
    side: Triple
    gap: Triple
    room: Triple

    @property
    def span(self) -> Triple:
        """Size in voxels of the whole grid."""
        return to_triple(map(_span, self.counts, self.side, self.gap, self.room))

    @property
    def cells(self) -> tuple[Triple, ...]:
        """Index ``(Z, Y, X)`` of each cell, the last axis fastest."""
        return tuple(to_triple(index) for index in np.ndindex(self.counts))

    def cut(
        self, pool: VolumePool, place: Place, cells: Sequence[Triple], random: np.random.Generator
    ) -> Tensor:
        """Cut a tile from each of some cells of the grid that begins at `place`, moved at random.

        Returns
        -------
        ``(N, C, Z, Y, X)``, each tile and channel of mean 0 and standard deviation 1.
        """
        moves = random.integers(0, np.array(self.room) + 1, (len(cells), 3))
        steps = np.array(self.side) + self.room + self.gap
        starts = np.array(place.start) + np.array(cells) * steps + moves
        return standardise(
            torch.stack([pool.cut(Place(place.volume, to_triple(start)), self.side) for start in starts]),
            _LEAST_DEVIATION,
        )


def plan_tiling(counts: Triple, context: TaskContext, least: Triple, gap: float, jitter: float) -> Tiling:
    """Choose tiles as large as fit, but not larger than half a crop.

    An axis too short for its number of tiles gets fewer; where only one is left it is as long as the crop.
    Where the tiles fit into `usable_extent` they do not take up more, and never more than the typical volume.

    Parameters
    ----------
    counts
        Tiles along each axis ``(Z, Y, X)``.
    context
        Its extent and shape are what all of them may take up.
    least
        Voxels that a tile has at least where there are several.
    gap, jitter
        Shares of a tile's side: what lies between two cells, and how far a tile moves in its cell; if not
        0, at least one voxel each.
    """
    rows = []
    usable = usable_extent(context)
    whole = to_triple(map(min, context.extent, context.shape))
    for count, *limits, usual, fewest in zip(counts, usable, whole, context.crop, least, strict=True):
        fitting = (
            (tiles, side, _share(gap, side), _share(jitter, side))
            for tiles in range(count, 1, -1)
            for have in limits
            for side in range(max(usual // 2, fewest), fewest - 1, -1)
            if _span(tiles, side, _share(gap, side), _share(jitter, side)) <= have
        )
        rows.append(next(fitting, (1, usual, 0, 0)))
    numbers, sides, gaps, rooms = (to_triple(column) for column in zip(*rows, strict=True))
    return Tiling(numbers, sides, gaps, rooms)


def _share(share: float, side: int) -> int:
    return max(1, round(share * side)) if share else 0


def _span(count: int, side: int, gap: int, room: int) -> int:
    return count * (side + room) + (count - 1) * gap


def usable_extent(context: TaskContext) -> Triple:
    """Return the voxels ``(Z, Y, X)`` that most volumes have without being continued.

    `TaskContext.extent` is rounded up to what the network can halve, and so may be more than they have.
    """
    divisors = [math.prod(level[axis] for level in context.plan.strides) for axis in range(3)]
    return to_triple(
        min(have - d + 1, shape)
        for have, d, shape in zip(context.extent, divisors, context.shape, strict=True)
    )


def draw_inside(pool: VolumePool, random: np.random.Generator, size: Triple, extent: Triple) -> Place:
    """Draw a box of `size` voxels as the pool does, but clear of where a volume is continued if that can be.

    Voxels by which a small volume is continued run straight to its border, and so tell where that is.

    Parameters
    ----------
    extent
        The size to which volumes are continued.
    """
    for _ in range(_TRIES):
        volume = pool.draw_volume(random)
        free = _own_ranges(pool.image(volume), size, extent)
        if all(low <= high for low, high in free):
            place = Place(volume, to_triple(random.integers(low, high + 1) for low, high in free))
            if float(pool.cut(place, size).std()) > _LEAST_CONTRAST:
                return place
    return pool.draw_place(random, size)


def _own_ranges(image: Tensor, size: Triple, extent: Triple) -> list[tuple[int, int]]:
    return [
        _own_range(image, axis, have, want)
        for axis, (have, want) in enumerate(zip(extent, size, strict=True), 1)
    ]


def _own_range(image: Tensor, axis: int, extent: int, size: int) -> tuple[int, int]:
    """Return the first and last voxel where a length of `size` begins without a repeated slice."""
    first, last = 0, image.shape[axis]
    if last == extent:  # only then may it be continued
        while first < last - 1 and torch.equal(image.select(axis, first), image.select(axis, first + 1)):
            first += 1
        while last > first + 1 and torch.equal(image.select(axis, last - 1), image.select(axis, last - 2)):
            last -= 1
    return first, last - size


def lay_out(tiles: NDArray[np.float32], cells: Sequence[Triple], counts: Triple) -> NDArray[np.float32]:
    """Put ``(N, Z, Y, X)`` tiles into cells of an empty grid, a voxel apart, for the eye."""
    side = np.array(tiles.shape[1:])
    canvas = np.full(side * counts + np.array(counts) - 1, tiles.min(), np.float32)
    for tile, cell in zip(tiles, cells, strict=True):
        z, y, x = (
            slice(first, first + n) for first, n in zip(np.array(cell) * (side + 1), side, strict=True)
        )
        canvas[z, y, x] = tile
    return canvas


def neighbours(counts: Triple) -> tuple[Triple, ...]:
    """Return the cells around the middle one of a grid of 3 or 1 along each axis: 26 at most."""
    middle = to_triple(count // 2 for count in counts)
    cells = itertools.product(*(range(count) for count in counts))
    return tuple(to_triple(cell) for cell in cells if to_triple(cell) != middle)


def count_tiles(tiling: Tiling) -> int:
    """Return how many tiles a grid has."""
    return math.prod(tiling.counts)
