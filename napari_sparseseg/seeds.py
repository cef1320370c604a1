"""Labels from cheap hints: seeds from class maps, and balls around points."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.annotation import BACKGROUND, UNLABELLED
from napari_sparseseg.errors import InputError
from napari_sparseseg.image_labels import Presence
from napari_sparseseg.settings import SeedConfig

Triple = tuple[int, int, int]

_FIRST_CLASS = BACKGROUND + 1
_LARGEST_VALUE = 255
_ROUNDING = 1e-6
_MOST_BACKGROUND = 10  # voxels for each one of a class,
_FEW_VOXELS = 1000  # but for so many there is always room


def make_seeds(
    maps: Mapping[int, NDArray[np.floating[Any]]],
    presence: Presence | None,
    config: SeedConfig,
    *,
    certain: bool = True,
) -> NDArray[np.uint8]:
    """Turn class maps into labels of those voxels that they are sure of (Kolesnikov & Lampert 2016).

    Parameters
    ----------
    maps
        Of each mapped class, by its label (2 for the first one after background), ``(Z, Y, X)`` from 0 to 1.
        An all-zero map tells nothing, and counts as not given.
    presence
        What the image-level labels say; None where there are none.
    config
        From which share of a map's largest value, where the class can be, a voxel is the class, and below
        which share of all maps it is background.
    certain
        Whether voxels in which `presence` rules out all mapped classes are background too.

    Returns
    -------
    ``(Z, Y, X)`` annotation: 0 where unsure, 1 background, 2… classes.  Where several classes are seeded the
    larger share wins, and none is seeded where `presence` rules it out.  Nor is background written where an
    unmapped class may be that `presence` says anything of; a class of which nothing is said at all is
    taken to be part of the background.  Of background that is much larger than all classes together, evenly
    spread voxels are written, about ten for each one of a class: more would drown them, and strokes too.

    Raises
    ------
    InputError
        If there is no map that is not all zero, or one is not on the grid of the others, or the
        thresholds leave nothing between them.
    """
    if config.object_threshold <= config.background_threshold:
        raise InputError(
            f"voxels from {config.object_threshold:g} of a map's largest value on would be the class, and "
            f"those below {config.background_threshold:g} background; make the first share the larger one."
        )
    shape = _check_maps(maps, presence)
    told = {label: values for label, values in sorted(maps.items()) if values.any()}
    if not told:
        raise InputError(
            "the class map is zero everywhere, so there is nothing to make seeds of; train the classifier "
            "longer or choose another method."
        )
    seeds = np.full(shape, UNLABELLED, np.uint8)
    best = np.zeros(shape, np.float32)
    background = np.ones(shape, bool)
    share = np.empty(shape, np.float32)
    chosen, other = np.empty(shape, bool), np.empty(shape, bool)  # these run at each move of a slider
    for label, values in told.items():
        possible = np.ones((1, 1, 1), bool) if presence is None else presence.possible(label)
        largest = _find_largest(values, presence, label)
        np.divide(values, largest, out=share, dtype=np.float32)
        np.less(share, config.background_threshold, out=other)
        if certain and presence is not None:
            other |= ~possible
        background &= other
        np.greater_equal(share, config.object_threshold, out=chosen)
        chosen &= np.greater(share, best, out=other)
        chosen &= possible
        np.copyto(seeds, np.uint8(label), where=chosen)
        np.copyto(best, share, where=chosen)
    if presence is not None:
        unmapped = set(range(_FIRST_CLASS, presence.classes + 1)) - set(told)
        for label in filter(presence.is_mentioned, unmapped):
            background &= ~presence.possible(label)
    step = _find_step(int(np.count_nonzero(background)), int(np.count_nonzero(seeds)), shape[2])
    if step == 1:
        np.copyto(seeds, np.uint8(BACKGROUND), where=background)
    else:
        seeds.reshape(-1)[np.flatnonzero(background)[::step]] = BACKGROUND
    return seeds


def _find_step(background: int, seeded: int, row: int) -> int:
    """Return how many voxels of background are passed over so that it does not drown the classes' seeds."""
    step = max(1, background // max(_MOST_BACKGROUND * seeded, _FEW_VOXELS)) if seeded else 1
    while math.gcd(step, row) > 1:  # else the same columns of each slice would be kept
        step += 1
    return step


def grow_points(
    points: Sequence[tuple[Triple, int]], shape: Triple, spacing: tuple[float, float, float], radius_mm: float
) -> NDArray[np.uint8]:
    """Turn clicks into labels: each becomes a ball (Bearman et al. 2016 learn from such points).

    Parameters
    ----------
    points
        Voxel ``(Z, Y, X)`` and value, 1 to 255, of each.
    shape
        Voxels ``(Z, Y, X)``.
    spacing
        mm between voxels along ``(Z, Y, X)``.
    radius_mm
        Voxels whose centre is at most this far from that of the point's voxel belong to it, and this voxel
        always does.

    Returns
    -------
    ``(Z, Y, X)`` values, 0 where no point is near.  Where balls meet the nearest point wins, of equally
    near ones the last.

    Raises
    ------
    InputError
        If a point is not in the volume, or its value cannot be a label.
    """
    values = np.zeros(shape, np.uint8)
    if not points:
        return values
    for voxel, value in points:
        _check_point(voxel, value, shape)
    reach = [int(radius_mm / size + _ROUNDING) for size in spacing]
    places = np.array([voxel for voxel, _ in points])
    start = np.maximum(places.min(axis=0) - reach, 0)
    stop = np.minimum(places.max(axis=0) + reach + 1, shape)
    near = values[tuple(map(slice, start, stop))]
    nearest = np.full(near.shape, np.inf, np.float32)  # squared mm
    for place, (_, value) in zip((places - start).tolist(), points, strict=True):
        ball = tuple(slice(max(p - far, 0), p + far + 1) for p, far in zip(place, reach, strict=True))
        z, y, x = (
            ((np.arange(size)[part] - p) * step) ** 2
            for size, part, p, step in zip(near.shape, ball, place, spacing, strict=True)
        )
        distance = (z[:, None, None] + y[:, None] + x).astype(np.float32)
        won = (distance <= radius_mm**2 * (1 + _ROUNDING)) & (distance <= nearest[ball])
        nearest[ball][won] = distance[won]
        near[ball][won] = value
    return values


def _check_maps(maps: Mapping[int, NDArray[np.floating[Any]]], presence: Presence | None) -> Triple:
    """Return the shape that all maps have; refuse what is no class map."""
    if not maps:
        raise InputError("there is no class map to make seeds of; make one first.")
    shape = presence.shape if presence is not None else next(iter(maps.values())).shape
    last = _LARGEST_VALUE if presence is None else presence.classes
    for label, values in maps.items():
        if not _FIRST_CLASS <= label <= last:
            raise InputError(f"there is no class with the label {label}; give one from 2 to {last}.")
        if values.shape != shape or len(shape) != 3 or not values.size:
            raise InputError(
                f"a class map has the shape {values.shape}, but the volume has {shape}; make it anew."
            )
        if not (values.min() >= 0 and values.max() <= 1 + _ROUNDING):  # also where it is not a number (NaN)
            raise InputError("a class map holds values that are not between 0 and 1; make it anew.")
    return shape[0], shape[1], shape[2]


def _find_largest(values: NDArray[np.floating[Any]], presence: Presence | None, label: int) -> float:
    """Return the largest value ``(Z, Y, X)`` where the class can be; 1 where that is nowhere, or is 0."""
    if presence is None:
        return float(values.max())
    box = presence.hull(label)  # outside of it, the class is known not to be
    return 1.0 if box is None else float((values[box] * presence.possible(label)[box]).max()) or 1.0


def _check_point(voxel: Triple, value: int, shape: Triple) -> None:
    if not all(0 <= place < size for place, size in zip(voxel, shape, strict=True)):
        raise InputError(
            f"the point {voxel} is not in the volume, whose shape is {shape}; place it inside the image."
        )
    if not 1 <= value <= _LARGEST_VALUE:
        raise InputError(f"a point has the value {value}; give one from 1 to {_LARGEST_VALUE}.")
