"""Hiding blocks of a piece, for tasks that fill them in."""

import math

import numpy as np
import torch
from scipy.ndimage import maximum_filter
from torch import Tensor

from napari_sparseseg.networks import Triple, to_triple


def block_size(side: int, spacing: tuple[float, float, float], piece: Triple) -> Triple:
    """Return the size of a block in voxels ``(Z, Y, X)``, about as long in mm along each axis.

    Parameters
    ----------
    side
        Of the block in voxels along the finest axis.
    spacing
        Voxel size in mm ``(Z, Y, X)``.
    piece
        Size in voxels ``(Z, Y, X)``; a block is at most half as long.
    """
    wanted = [side * min(spacing) / length for length in spacing]
    return to_triple(
        max(1, min(round(size), length // 2)) for size, length in zip(wanted, piece, strict=True)
    )


def grid_block_size(side: int, spacing: tuple[float, float, float], piece: Triple) -> Triple:
    """Return the size nearest to `block_size` of blocks that part a piece evenly."""
    wanted = block_size(side, spacing, piece)
    return to_triple(_nearest_divisor(length, size) for length, size in zip(piece, wanted, strict=True))


def _nearest_divisor(length: int, wanted: int) -> int:
    divisors = [n for n in range(1, max(1, length // 2) + 1) if length % n == 0]
    return min(divisors, key=lambda n: abs(math.log(n / wanted)))


def scatter_blocks(
    random: np.random.Generator, count: int, piece: Triple, block: Triple, share: float
) -> Tensor:
    """Hide blocks anywhere in each of `count` pieces; they may overlap, and reach beyond the piece.

    Every place where a block may lie gets a random rank; a voxel's is the highest of the blocks that
    cover it.  The voxels of highest rank then are a union of whole blocks, however many that takes.

    Returns
    -------
    ``(count, 1, Z, Y, X)`` bool; at most `share` of each piece is hidden, but one block in any case.
    """
    hidden = [_scatter(random, piece, block, share) for _ in range(count)]
    return torch.from_numpy(np.stack(hidden)[:, None])


def _scatter(
    random: np.random.Generator, piece: Triple, block: Triple, share: float
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    before = to_triple(length // 2 for length in block)
    places = random.random(np.add(piece, block) - 1, dtype=np.float32)
    ranks = maximum_filter(places, size=block, mode="constant", cval=-1)
    inside = tuple(slice(first, first + length) for first, length in zip(before, piece, strict=True))
    ranks = ranks[inside]
    kept = min(math.ceil((1 - share) * ranks.size), ranks.size - 1)
    threshold = np.partition(ranks, kept - 1, axis=None)[kept - 1]
    hidden: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = ranks > threshold
    return hidden if hidden.any() else ranks == ranks.max()


def draw_grid_blocks(
    random: np.random.Generator, count: int, piece: Triple, block: Triple, share: float
) -> Tensor:
    """Hide some of the blocks that part each of `count` pieces evenly.

    Returns
    -------
    ``(count, 1, Z, Y, X)`` bool; the same number of blocks in each piece, at least one, never all.
    """
    grid = to_triple(length // size for length, size in zip(piece, block, strict=True))
    blocks = math.prod(grid)
    number = min(max(1, round(share * blocks)), blocks - 1)
    ranks = np.argsort(random.random((count, blocks)), axis=1)
    hidden = torch.from_numpy(ranks < number).reshape(count, 1, *grid)
    return spread_blocks(hidden, block)


def spread_blocks(values: Tensor, block: Triple) -> Tensor:
    """Return ``(B, C, Z, Y, X)`` voxels that have their block's value, from ``(B, C, z, y, x)`` blocks."""
    for axis, length in enumerate(block, 2):
        values = values.repeat_interleave(length, axis)
    return values


def block_moments(pieces: Tensor, block: Triple) -> tuple[Tensor, Tensor]:
    """Return mean and variance within each block, ``(B, C, z, y, x)`` each."""
    grid = [length // size for length, size in zip(pieces.shape[2:], block, strict=True)]
    (z, y, x), (depth, height, width) = grid, block
    parted = pieces.reshape(*pieces.shape[:2], z, depth, y, height, x, width)
    variance, mean = torch.var_mean(parted, (3, 5, 7), correction=0)
    return mean, variance
