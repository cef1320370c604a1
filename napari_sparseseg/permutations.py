"""Sets of orders in which tiles can be laid out, and how far their orders are apart."""

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.errors import InputError

_ALL_TILES = 8  # up to these every order is a candidate, 40,320 of them
_SAMPLED = 10_000
_FAR = 1_000_000  # outweighs any sum of distances of a set


def choose_permutations(tiles: int, count: int, seed: int) -> NDArray[np.int64]:
    """Choose orders far apart from each other: each as far as possible from those chosen before.

    Greedily, as Noroozi & Favaro (2016), Unsupervised learning of visual representations by solving jigsaw
    puzzles.  They take the candidate of the largest mean Hamming distance to the set; here the least
    distance to it comes first and the mean decides among equals, so that no two orders are nearly alike.
    For more than 8 tiles the candidates are a random sample.

    Parameters
    ----------
    tiles
        How many tiles are laid out.
    count
        How many orders; at most ``tiles!``.
    seed
        Chooses the first order and the sample.

    Returns
    -------
    ``(count, tiles)``, each row a permutation of ``0 … tiles - 1``; all differ.

    Raises
    ------
    InputError
        If there are not that many orders.
    """
    _check(tiles, count)
    candidates = _candidates(tiles, count, np.random.default_rng(seed))
    columns = np.ascontiguousarray(candidates.T)
    least = np.full(len(candidates), tiles, np.int64)
    total = np.zeros(len(candidates), np.int64)
    chosen = [0]
    for _ in range(count - 1):
        apart = (columns != columns[:, chosen[-1]][:, None]).sum(0, dtype=np.uint8)
        np.minimum(least, apart, out=least)
        total += apart
        # a candidate chosen before has the least distance 0, any other 2 or more
        chosen.append(int(np.argmax(least * _FAR + total)))
    return candidates[chosen].astype(np.int64)


def near_permutations(tiles: int, count: int, seed: int) -> NDArray[np.int64]:
    """Choose as many orders as `choose_permutations` does, near to each other: few tiles change places.

    These make the puzzle ambiguous; they serve to show that the distance matters.
    """
    _check(tiles, count)
    first = itertools.islice(itertools.permutations(range(tiles)), count)  # only the last tiles move
    names = np.random.default_rng(seed).permutation(tiles)
    orders = np.empty((count, tiles), np.int64)
    orders[:, names] = names[np.array(list(first))]
    return orders


def mean_hamming(permutations: NDArray[np.int64]) -> float:
    """Return in how many places two different orders of a set ``(N, tiles)`` differ on average."""
    count, tiles = permutations.shape
    # a pair agrees in a place where both have one tile there: counted by place and tile, without the pairs
    shares = [np.bincount(column, minlength=tiles) for column in permutations.T]
    alike = sum(int((n * (n - 1)).sum()) for n in shares)
    return float(tiles - alike / (count * (count - 1)))


def _check(tiles: int, count: int) -> None:
    if not 1 < count <= math.factorial(tiles):
        raise InputError(
            f"{tiles} tiles can be laid out in {math.factorial(tiles)} orders, of which {count} are asked "
            "for; ask for 2 or more, but not for more than there are."
        )


def _candidates(tiles: int, count: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """Return ``(N, tiles)`` different orders in random order, N at least `count`."""
    if tiles <= _ALL_TILES:
        every = np.array(list(itertools.permutations(range(tiles))), np.uint8)
        return every[random.permutation(len(every))]
    wanted = max(_SAMPLED, 2 * count)
    drawn = random.permuted(np.tile(np.arange(tiles, dtype=np.uint8), (wanted, 1)), axis=1)
    _, first = np.unique(drawn, axis=0, return_index=True)
    return drawn[np.sort(first)]
