"""Two views of pieces around labelled voxels, with the places of these voxels in both."""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sparseseg.networks import Triple, to_triple
from napari_sparseseg.views import distort, draw_places, move
from napari_sparseseg.volume_pool import Place, VolumePool

_LABELLED_SHARE = 0.5
_SPOTS, _SPOTS_IN_ALL = 16, 512
_REMEMBERED = 20_000
_TRIES = 8

_Voxels = dict[int, NDArray[np.intp]]


@dataclass(frozen=True, eq=False)
class SpottedViews:
    """Views with spots in them.

    Attributes
    ----------
    first, second
        ``(B, C, Z, Y, X)`` intensities.
    spots_first, spots_second
        ``(B, N, 3)`` voxels ``(Z, Y, X)`` in either view, which show the same place.
    labels
        ``(B, N)`` what is there: 1 background, 2… classes; below 0 a number of the piece's own, where
        nothing is labelled; 0 where the spot does not count.
    """

    first: Tensor
    second: Tensor
    spots_first: Tensor
    spots_second: Tensor
    labels: Tensor


class LabelledVoxels:
    """Where the labels of pools are; looked for once for each volume in memory."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[VolumePool, dict[int, _Voxels]] = WeakKeyDictionary()

    def find(self, pool: VolumePool) -> dict[int, _Voxels]:
        """Return some voxels ``(N, 3)`` of each value of each volume in memory that has labels."""
        known = self._known.setdefault(pool, {})
        for gone in set(known) - set(pool.resident):
            del known[gone]
        for volume in set(pool.resident) - set(known):
            annotation = pool.annotation(volume)
            known[volume] = {} if annotation is None else _find_voxels(annotation.numpy())
        return {volume: known[volume] for volume in pool.resident if known[volume]}


def _find_voxels(annotation: NDArray[np.uint8]) -> _Voxels:
    voxels = {}
    for value in np.unique(annotation[annotation > 0]).tolist():
        flat = np.flatnonzero(annotation == value)
        if len(flat) > _REMEMBERED:  # the same ones whenever the volume comes back
            flat = flat[np.random.default_rng(0).integers(len(flat), size=_REMEMBERED)]
        voxels[value] = np.stack(np.unravel_index(flat, annotation.shape), axis=1)
    return voxels


def draw_labelled_views(
    pool: VolumePool, random: np.random.Generator, size: Triple, count: int, labelled: LabelledVoxels
) -> SpottedViews:
    """Draw two views of each of `count` pieces, half of them around labelled voxels, classes in balance."""
    known = labelled.find(pool)
    places = draw_places(pool, random, size, count)
    limit = max(1, min(_SPOTS, _SPOTS_IN_ALL // count))
    drawn = [
        _draw_labelled(pool, random, size, known, limit)
        if known and number < count * _LABELLED_SHARE
        else _draw_unlabelled(pool, random, size, place, limit, -1 - number)
        for number, place in enumerate(places)
    ]
    starts = [np.array([[place[which].start] for place, _, _ in drawn]) for which in range(2)]
    spots = np.stack([spot for _, spot, _ in drawn])
    first, second = (
        torch.stack([distort(pool.cut(place[which], size), random) for place, _, _ in drawn])
        for which in range(2)
    )
    labels = torch.from_numpy(np.stack([label for _, _, label in drawn]))
    spots_first, spots_second = (torch.from_numpy(spots - start) for start in starts)
    return SpottedViews(first, second, spots_first, spots_second, labels)


_Drawn = tuple[tuple[Place, Place], NDArray[np.int64], NDArray[np.int64]]
"""Two places, and the spots ``(N, 3)`` of the volume that both show, with their labels."""


def _draw_labelled(
    pool: VolumePool, random: np.random.Generator, size: Triple, known: dict[int, _Voxels], limit: int
) -> _Drawn:
    value = random.choice(sorted(set().union(*known.values())))
    volume = int(random.choice([volume for volume, voxels in known.items() if value in voxels]))
    middle = random.choice(known[volume][value])
    room = np.subtract(pool.image(volume).shape[1:], size)
    place = Place(volume, to_triple(np.clip(middle - np.array(size) // 2, 0, room)))
    for _ in range(_TRIES):
        moved = move(pool, random, place, size)
        low, high = _shared_box(place, moved, size)
        if (low <= middle).all() and (middle < high).all():
            break
    else:
        moved, (low, high) = place, _shared_box(place, place, size)
    annotation = pool.annotation(volume)
    assert annotation is not None
    z, y, x = (slice(a, b) for a, b in zip(low, high, strict=True))
    there = _find_voxels(annotation[z, y, x].numpy())
    values = np.array([value, *random.choice(sorted(there), limit - 1)])
    others = [low + random.choice(there[int(other)]) for other in values[1:]]
    return (place, moved), np.stack([middle, *others]).astype(np.int64), values.astype(np.int64)


def _draw_unlabelled(
    pool: VolumePool, random: np.random.Generator, size: Triple, place: Place, limit: int, own: int
) -> _Drawn:
    moved = move(pool, random, place, size)
    middle = np.sum(_shared_box(place, moved, size), axis=0) // 2
    labels = np.zeros(limit, np.int64)
    labels[0] = own
    return (place, moved), np.tile(middle, (limit, 1)).astype(np.int64), labels


def _shared_box(first: Place, second: Place, size: Triple) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    low = np.maximum(first.start, second.start)
    return low, np.minimum(first.start, second.start) + np.array(size)
