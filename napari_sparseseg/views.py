"""Two views of one piece: moved a little, and their intensities distorted."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from napari_sparseseg.networks import Triple, to_triple
from napari_sparseseg.volume_pool import Place, VolumePool

LEAST_OVERLAP = 0.4
"""Share of a view that the other view shows too, at the least."""

_TRIES = 8
_APART = 0.1
_GAIN, _OFFSET, _GAMMA, _WIDTH, _NOISE = 0.3, 0.3, 0.4, 1.0, 0.2
_BLURRED = 0.5
_HOLES = 3
_HOLE = (0.125, 0.35)
_FLAT = 0.1  # of the volume's own standard deviation; a piece that varies less is mostly noise


def draw_views(
    pool: VolumePool, random: np.random.Generator, size: Triple, count: int
) -> tuple[Tensor, Tensor]:
    """Draw two views of each of `count` pieces that have as little in common as can be.

    Returns
    -------
    ``(count, C, Z, Y, X)`` each.
    """
    pairs = []
    for place in draw_places(pool, random, size, count):
        moved = move(pool, random, place, size)
        pairs.append([distort(pool.cut(one, size), random) for one in (place, moved)])
    first, second = (torch.stack(views) for views in zip(*pairs, strict=True))
    return first, second


def draw_places(pool: VolumePool, random: np.random.Generator, size: Triple, count: int) -> list[Place]:
    """Draw boxes of `size` voxels that overlap little, for a piece must not be told from itself."""
    places: list[Place] = []
    while len(places) < count:
        nearest = 1.0
        for _ in range(_TRIES):
            place = pool.draw_place(random, size)
            shared = max((overlap(place, other, size) for other in places), default=0.0)
            if shared <= nearest:
                best, nearest = place, shared
            if nearest < _APART:
                break
        places.append(best)
    return places


def move(pool: VolumePool, random: np.random.Generator, place: Place, size: Triple) -> Place:
    """Return a box beside `place` that shares at least `LEAST_OVERLAP` with it, in the same volume.

    How much it shares is drawn first, then how the way is parted among the axes, so that one axis may
    move far while the others stay.
    """
    shape = pool.image(place.volume).shape[1:]
    kept = random.uniform(LEAST_OVERLAP, 1) ** random.dirichlet(np.ones(3))
    ways = np.trunc((1 - kept) * size * random.choice((-1, 1), 3)).astype(int)
    room = np.subtract(shape, size)
    start = np.array(place.start)
    there = (start + ways >= 0) & (start + ways <= room)
    return Place(place.volume, to_triple(np.clip(np.where(there, start + ways, start - ways), 0, room)))


def overlap(first: Place, second: Place, size: Triple) -> float:
    """Return which share of a box of `size` voxels at one place lies in that at the other."""
    if first.volume != second.volume:
        return 0.0
    apart = np.abs(np.subtract(first.start, second.start)) / size
    return float(np.prod(np.maximum(1 - apart, 0)))


def distort(piece: Tensor, random: np.random.Generator) -> Tensor:
    """Return ``(C, Z, Y, X)`` intensities distorted at random, ``piece`` as it was.

    Another gamma, contrast and brightness for each channel, so that two views are not matched by their
    histograms; blur and noise, so that they are not by the grain that they share; blocks cut out, so
    that they are not by one spot.  The anatomy stays upright: left and right differ.

    Parameters
    ----------
    piece
        Normalised intensities, of a deviation near 1.
    """
    image = piece.numpy().copy()
    sharp = random.uniform() >= _BLURRED
    width = random.uniform(0, _WIDTH)
    # Pieces are about as long in all axes in mm, so that thick slices are hardly blurred into each other.
    widths = [width * length / max(image.shape[1:]) for length in image.shape[1:]]
    holes = _draw_holes(random, image.shape[1:])
    for channel in image:
        low, high = float(channel.min()), float(channel.max())
        scale = max(high - low, 1e-6)
        np.power((channel - low) / scale, np.exp(random.uniform(-_GAMMA, _GAMMA)), out=channel)
        channel *= scale * (1 + random.uniform(-_GAIN, _GAIN))
        channel += low + random.uniform(-_OFFSET, _OFFSET)
        if not sharp:
            gaussian_filter(channel, widths, output=channel, truncate=2)
        mean = channel.mean()
        for hole in holes:
            channel[hole] = mean
    image += random.uniform(0, _NOISE) * random.standard_normal(image.shape, dtype=np.float32)
    return torch.from_numpy(image)


def _draw_holes(random: np.random.Generator, shape: Sequence[int]) -> list[tuple[slice, ...]]:
    holes = []
    for _ in range(random.integers(_HOLES + 1)):
        lengths = [max(1, int(random.uniform(*_HOLE) * length)) for length in shape]
        starts = [int(random.integers(n - cut + 1)) for n, cut in zip(shape, lengths, strict=True)]
        holes.append(tuple(slice(s, s + cut) for s, cut in zip(starts, lengths, strict=True)))
    return holes


def standardise(pieces: Tensor, least: float = _FLAT) -> Tensor:
    """Return ``(…, Z, Y, X)`` pieces of mean 0 and deviation 1 each, so that brightness says nothing.

    Parameters
    ----------
    pieces
        Normalised intensities.
    least
        Deviation up to which a piece is not enlarged any further.
    """
    axes = (-3, -2, -1)
    pieces = pieces.float()
    centred = pieces - pieces.mean(axes, keepdim=True)
    deviation = centred.square().mean(axes, keepdim=True).sqrt()
    return centred / deviation.clamp_min(least)
